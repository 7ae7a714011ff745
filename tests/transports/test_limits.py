"""What one client may ask of a server at once, and that the others do not notice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import SERVER_INFO_META_KEY, CallToolResult

from outpaint_mcp.sandbox import environment
from outpaint_mcp.server.app import RATE_LIMITED
from outpaint_mcp.web.token_file import add_token

from .processes import DOORS, HttpServer, Vendors, an_order, called, http_server, text_of, variables

PER_MINUTE = 60
WAITS = 2


@dataclass(frozen=True, slots=True)
class Customer:
    """A client with two tokens, and Legnext's id of a finished grid of theirs."""

    token: str
    other_token: str
    grid: str

    def order(self) -> dict[str, Any]:
        return {**an_order(), "task_id": self.grid}


@dataclass(frozen=True, slots=True)
class Counter:
    """A server that counts what its clients ask: two that any test may use, and some that have asked nothing yet."""

    server: HttpServer
    ann: Customer
    bob: Customer
    strangers: list[Customer]


@pytest.fixture(scope="module")
async def counter(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Counter]:
    folder = tmp_path_factory.mktemp("limits")
    tokens = folder / "tokens"

    def customer(name: str, grid: str = "") -> Customer:
        return Customer(add_token(tokens, name), add_token(tokens, name, another=True), grid)

    ann, bob = [customer(name, await a_grid(vendors)) for name in ("ann", "bob")]
    strangers = [customer(f"stranger-{number}") for number in range(10)]
    settings = variables(
        folder,
        vendors,
        OUTPAINT_TOKENS_FILE=str(tokens),
        OUTPAINT_MAX_REQUESTS_PER_MINUTE=str(PER_MINUTE),
        OUTPAINT_MAX_WAITS=str(WAITS),
    )
    async with http_server(settings) as server:
        yield Counter(server, ann, bob, strangers)


async def a_grid(vendors: Vendors) -> str:
    """A finished grid that no client has named yet: whoever does first has it alone."""
    found = environment(vendors.base_url)
    headers = {"x-api-key": found["LEGNEXT_API_KEY"]}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as client:
        answer = await client.post(f"{found['LEGNEXT_BASE_URL']}/v1/diffusion", json={"text": "a lake"})
    vendors.finish()
    made: str = answer.raise_for_status().json()["job_id"]
    return made


async def use_up(client: Client) -> CallToolResult:
    """Ask until that is too much; the answer to the request that was."""
    for asked in range(5 * PER_MINUTE):
        result = await client.call_tool("get_task", {"task_id": "op-unknown"})
        if not text_of(result).startswith("[unknown_task]"):
            # The others were the client's own, as it connected; while they are made, some become free again.
            assert asked > PER_MINUTE / 2
            return result
    raise AssertionError("nothing was too much")


async def asked_until_too_much(client: Client) -> str:
    """What is said when it is too much once more: on a slow machine another request has become free meanwhile."""
    for _ in range(PER_MINUTE):
        said = text_of(await client.call_tool("get_task", {"task_id": "op-unknown"}))
        if not said.startswith("[unknown_task]"):
            return said
    raise AssertionError("nothing was too much")


async def read_until_too_much(client: Client) -> MCPError:
    for _ in range(PER_MINUTE):
        try:
            await client.read_resource("outpaint://tasks")
        except MCPError as error:
            return error
    raise AssertionError("nothing was too much")


@pytest.mark.parametrize("door", DOORS)
async def test_a_caller_who_asks_too_much_is_told_so_and_the_others_do_not_notice(counter: Counter, door: str) -> None:
    hasty, calm = counter.strangers.pop(), counter.bob
    async with counter.server.client(door, token=hasty.token) as client:
        result = await use_up(client)
        assert result.is_error
        assert text_of(result).startswith(f"[rate_limited] More than {PER_MINUTE} requests ")
        assert "Call again in " in text_of(result)
        assert (SERVER_INFO_META_KEY in (result.meta or {})) is (door == "http"), "as in every answer of its era"
        refused = await read_until_too_much(client)
        assert refused.error.code == RATE_LIMITED
        assert 0 < refused.error.data["retryAfter"] <= 60 / PER_MINUTE
        async with counter.server.client(door, token=calm.token) as other:
            await called(other, "get_task", task_id=calm.grid, provider="legnext")


async def test_an_order_that_is_one_too_many_is_not_placed(counter: Counter, vendors: Vendors) -> None:
    async with counter.server.client(token=counter.strangers.pop().token) as client:
        await use_up(client)
        for _ in range(PER_MINUTE):
            order = an_order()
            said = text_of(await client.call_tool("outpaint", {**order, "wait_seconds": 0}))
            if said.startswith("[rate_limited] "):
                break
            await asked_until_too_much(client)
    assert said.startswith("[rate_limited] ")
    assert "Nothing was done." in said
    assert vendors.orders(order["prompt"]) == []


async def test_a_caller_has_one_measure_for_all_tokens_and_doors(counter: Counter) -> None:
    hasty = counter.strangers.pop()
    async with (
        counter.server.client("http", token=hasty.token) as client,
        counter.server.client("http-legacy", token=hasty.other_token) as legacy,
        counter.server.client("sse", token=hasty.other_token) as sse,
    ):
        await use_up(client)
        for second in (legacy, sse):
            assert (await asked_until_too_much(second)).startswith("[rate_limited] ")


async def wait_for(order: dict[str, Any], client: Client) -> None:
    assert (await called(client, "outpaint", **order, wait_seconds=45))["status"] == "failed"


async def waiting(
    vendors: Vendors, calls: anyio.abc.TaskGroup, client: Client, customer: Customer, count: int = WAITS
) -> None:
    """Have so many calls wait, each for an order that the vendor has taken and will fail at: nothing is to draw."""
    orders = [customer.order() for _ in range(count)]
    await called(client, "get_task", task_id=customer.grid, provider="legnext")
    vendors.fault("submit", "fail", times=count)
    for order in orders:
        calls.start_soon(wait_for, order, client)
    for order in orders:
        await vendors.taken(order["prompt"])


@pytest.mark.parametrize("door", DOORS)
async def test_only_so_many_calls_of_a_caller_wait_and_the_others_wait_beside_them(
    counter: Counter, vendors: Vendors, door: str
) -> None:
    ann, bob = counter.ann, counter.bob
    one_too_many = ann.order()
    async with (
        counter.server.client(door, token=ann.token) as client,
        counter.server.client(door, token=ann.other_token) as second,
        counter.server.client(door, token=bob.token) as other,
    ):
        async with anyio.create_task_group() as calls:
            await waiting(vendors, calls, client, ann)
            await waiting(vendors, calls, other, bob)
            for one in (client, second):
                result = await one.call_tool("outpaint", {**one_too_many, "wait_seconds": 1})
                assert result.is_error
                assert text_of(result).startswith(f"[rate_limited] {WAITS} of your calls are waiting already.")
            assert vendors.orders(one_too_many["prompt"]) == []
            vendors.fault("submit", "fail")
            task = await called(client, "outpaint", **one_too_many, wait_seconds=0)
            assert task["status"] in ("queued", "running"), "without waiting it can be ordered"
            vendors.finish()
        done = await called(client, "get_task", task_id=task["id"], wait_seconds=45)
    assert done["status"] == "failed", "now that the others have returned, this one may wait"


async def test_watching_is_waiting_too(counter: Counter, vendors: Vendors) -> None:
    ann = counter.ann
    async with counter.server.client(token=ann.token) as client, anyio.create_task_group() as calls:
        await waiting(vendors, calls, client, ann, WAITS - 1)
        async with client.listen(resource_subscriptions=["outpaint://tasks/op-1"]):
            result = await client.call_tool("outpaint", {**ann.order(), "wait_seconds": 1})
            assert text_of(result).startswith("[rate_limited] ")
        with anyio.fail_after(30):
            # The server notices by and by that nobody listens any more.
            while text_of(await client.call_tool("outpaint", {**ann.order(), "wait_seconds": 1})).startswith("["):  # noqa: ASYNC110
                await anyio.sleep(0.5)
        await waiting(vendors, calls, client, ann, 1)
        with pytest.raises(MCPError) as refused:
            async with client.listen(resource_subscriptions=["outpaint://tasks/op-1"]):
                pytest.fail("it is listened to")
        assert refused.value.error.code == RATE_LIMITED
        vendors.finish()
