"""What belongs to one client is to every other as if it did not exist: the same words, and silence.

The vendors are the sandbox's. Its clock stands still until a test moves it.
"""

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.server.subscriptions import ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    BlobResourceContents,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
)

from ..tasks_client import TASKS, TasksClient, ask, handle_of
from ..transports.processes import (
    DOORS,
    HttpServer,
    Vendors,
    an_order,
    called,
    http_server,
    open_vendors,
    read,
    seed_id,
    text_of,
    until,
    variables,
)
from .target import Target, refusal, tokens_of

CAP = 4
NAMES = 60


@dataclass(slots=True)
class House:
    """A server with many clients, of whom each test takes its own."""

    server: HttpServer
    vendors: Vendors
    unused: Iterator[str]

    @property
    def target(self) -> Target:
        return Target(httpx2.URL(self.server.base_url).port or 0)

    @contextlib.asynccontextmanager
    async def two(self, door: str = "http", **options: Any) -> AsyncIterator[tuple[Client, Client]]:
        """A client who has something, and another one."""
        async with (
            self.server.client(door, token=next(self.unused)) as owner,
            self.server.client(door, token=next(self.unused), **options) as other,
        ):
            yield owner, other

    def order(self) -> dict[str, Any]:
        """An order at Legnext that anybody can place: adoption is off here, so it is for a picture by its URL."""
        seed = seed_id("legnext", grid=False)
        order = an_order(grid=False)
        del order["task_id"]
        return {**order, "image": f"{self.vendors.base_url}/images/legnext/{seed}/0.png", "wait_seconds": 0}


@pytest.fixture(scope="module")
async def house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    file, tokens = tokens_of(folder, *(f"client-{number}" for number in range(NAMES)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    async with open_vendors() as vendors:
        environment = variables(folder, vendors, OUTPAINT_TOKENS_FILE=str(file), OUTPAINT_MAX_ORDERS_PER_DAY=str(CAP))
        del environment["OUTPAINT_ADOPT"]
        public = f"http://127.0.0.1:{port}"
        async with http_server(environment, "--public-url", public, port=port) as server:
            yield House(server, vendors, iter(tokens))


async def finished(house: House, client: Client) -> dict[str, Any]:
    task = await called(client, "outpaint", **house.order())
    house.vendors.finish()
    done = await called(client, "get_task", task_id=task["id"], wait_seconds=45)
    assert done["status"] == "succeeded"
    return done


def unlike(task_id: str) -> str:
    """An id of the same kind that nobody has."""
    return task_id[:3] + task_id[3:].swapcase()


async def error_of(client: Client, uri: str) -> str:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    return caught.value.error.model_dump_json()


# Tasks


@pytest.mark.parametrize("door", DOORS)
async def test_another_callers_task_is_answered_like_one_that_there_is_not(house: House, door: str) -> None:
    async with house.two(door) as (ann, bob):
        task = await finished(house, ann)
        mine, nobodys = task["id"], unlike(task["id"])
        assert mine != nobodys
        calls: list[tuple[str, dict[str, Any]]] = [
            ("get_task", {}),
            ("get_task", {"wait_seconds": 45}),
            ("get_task", {"provider": "legnext"}),
            ("outpaint", {"zoom": 1.5}),
            ("outpaint", {"zoom": 1.5, "provider": "legnext", "image_index": 1}),
            ("outpaint", {"zoom": 1.5, "provider": "local", "image_index": 1, "wait_seconds": 45}),
        ]
        for tool, arguments in calls:
            refused = await refusal(bob, tool, task_id=mine, **arguments)
            unknown = await refusal(bob, tool, task_id=nobodys, **arguments)
            assert refused.startswith("[unknown_task] ")
            assert refused.replace(mine, nobodys) == unknown
        for address in ("outpaint://tasks/{}", "outpaint://tasks/{}/images/1", "`{}`"):
            refused = await refusal(bob, "outpaint", image=address.format(mine), zoom=1.5)
            unknown = await refusal(bob, "outpaint", image=address.format(nobodys), zoom=1.5)
            assert refused.startswith("[unknown_task] ")
            assert refused.replace(mine, nobodys) == unknown
        for uri in ("outpaint://tasks/{}", "outpaint://tasks/{}/images/1", "outpaint://tasks/{}/images/1/screen"):
            refused = await error_of(bob, uri.format(mine))
            assert refused.replace(mine, nobodys) == await error_of(bob, uri.format(nobodys))
        assert mine not in await read(bob, "outpaint://tasks")
        assert json.loads(await read(bob, "outpaint://tasks")) == []
        assert mine in await read(ann, "outpaint://tasks")
        template = ResourceTemplateReference(type="ref/resource", uri="outpaint://tasks/{id}")
        offered = [await client.complete(template, {"name": "id", "value": mine[:9]}) for client in (ann, bob)]
        assert [one.completion.values for one in offered] == [[mine], []]
        (contents,) = (await ann.read_resource(f"outpaint://tasks/{mine}/images/1")).contents
        assert isinstance(contents, BlobResourceContents)


async def test_another_callers_task_handle_is_answered_like_one_that_there_is_not(house: House) -> None:
    async with house.two(extensions=[TasksClient()]) as (ann, bob):
        mine = (await called(ann, "outpaint", **house.order()))["id"]
        nobodys = unlike(mine)
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            told = []
            for task_id in (mine, nobodys):
                with pytest.raises(MCPError) as caught:
                    await ask(bob, method, task_id)
                assert caught.value.error.code == INVALID_PARAMS
                told.append(caught.value.error.model_dump_json())
            assert told[0].replace(mine, nobodys) == told[1]


async def test_a_request_about_a_task_that_is_routed_as_another_is_refused(house: House) -> None:
    token = next(house.unused)
    async with house.server.client(token=token, extensions=[TasksClient()]) as client:
        task_id = (await handle_of(client, "outpaint", **house.order()))["taskId"]
        assert (await ask(client, "tasks/get", task_id))["taskId"] == task_id
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
    routed = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tasks/get"}
    for name in ({}, {"Mcp_Name": unlike(task_id)}, {"Mcp_Name": task_id}):
        answer = await house.target.ask(json=body, token=token, **routed, **name)
        if name.get("Mcp_Name") == task_id:
            assert json.loads(answer.text)["result"]["taskId"] == task_id
        else:
            assert (answer.status, json.loads(answer.text)["error"]["code"]) == (400, HEADER_MISMATCH)


async def test_another_callers_remote_id_is_answered_like_one_that_there_is_not(house: House) -> None:
    async with house.two() as (ann, bob):
        task = await finished(house, ann)
        mine = task["remote_id"]
        nobodys = mine[:-4] + "9999"
        for tool, arguments in (("get_task", {}), ("outpaint", {"zoom": 1.5, "image_index": 1})):
            refused = await refusal(bob, tool, task_id=mine, provider="legnext", **arguments)
            unknown = await refusal(bob, tool, task_id=nobodys, provider="legnext", **arguments)
            assert refused.startswith("[unknown_task] ")
            assert refused.replace(mine, nobodys) == unknown
        assert (await called(ann, "get_task", task_id=mine, provider="legnext"))["id"] == task["id"]


async def test_a_task_made_elsewhere_is_not_taken_in_and_not_even_asked_for(house: House) -> None:
    async with house.two() as (ann, _):
        for vendor in ("legnext", "vtrix", "piapi", "apiframe", "apimart"):
            seed = seed_id(vendor, grid=True)
            for tool in ("get_task", "outpaint"):
                assert (await refusal(ann, tool, task_id=seed, provider=vendor)).startswith("[unknown_task] ")
            assert house.vendors.polls(seed) == 0


@pytest.mark.parametrize("door", DOORS)
async def test_the_same_order_of_two_callers_is_two_orders(house: House, door: str) -> None:
    async with house.two(door) as (ann, bob):
        order = house.order()
        tasks = [await called(client, "outpaint", **order) for client in (ann, bob, ann, bob)]
        assert tasks[0]["id"] == tasks[2]["id"] != tasks[1]["id"] == tasks[3]["id"]
        assert tasks[0]["remote_id"] != tasks[1]["remote_id"]
        assert len(house.vendors.orders(order["prompt"])) == 2


async def test_a_caller_who_has_spent_a_days_budget_has_spent_nobody_elses(house: House) -> None:
    async with house.two() as (ann, bob):
        for _ in range(CAP):
            await called(ann, "outpaint", **house.order())
        order = house.order()
        assert (await refusal(ann, "outpaint", **order)).startswith("[budget_exceeded] ")
        assert not house.vendors.orders(order["prompt"])
        await called(bob, "outpaint", **order)
        assert len(house.vendors.orders(order["prompt"])) == 1


# TaskSubscriptions


async def test_a_subscription_to_another_callers_task_is_refused_like_one_to_none(house: House) -> None:
    async with house.two("http-legacy") as (ann, bob):
        task = await called(ann, "outpaint", **house.order())
        uri = f"outpaint://tasks/{task['id']}"
        told = []
        for one in (uri, uri.replace(task["id"], unlike(task["id"]))):
            with pytest.warns(MCPDeprecationWarning), pytest.raises(MCPError) as caught:
                await bob.subscribe_resource(one)
            told.append(caught.value.error.model_dump_json())
            with pytest.warns(MCPDeprecationWarning):
                await bob.unsubscribe_resource(one)
        assert told[0].replace(task["id"], unlike(task["id"])) == told[1]


@pytest.mark.parametrize("door", ["http-legacy", "sse"])
async def test_nobody_ends_another_callers_subscription(house: House, door: str) -> None:
    into, heard = anyio.create_memory_object_stream[str](100)

    async def handle(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            into.send_nowait(message.params.uri)

    async with into, heard, house.two(door, message_handler=handle) as (bob, ann):
        task = await called(ann, "outpaint", **house.order())
        uri = f"outpaint://tasks/{task['id']}"
        with pytest.warns(MCPDeprecationWarning):
            await ann.subscribe_resource(uri)
        with pytest.warns(MCPDeprecationWarning):
            await bob.unsubscribe_resource(uri)
        house.vendors.finish()
        with anyio.fail_after(30):
            assert await heard.receive() == uri


async def test_a_listener_hears_nothing_of_another_callers_task_though_the_owner_does(house: House) -> None:
    async with house.two() as (ann, bob):
        anns = await called(ann, "outpaint", **house.order())
        # Bob's comes later, so that what he hears of it in the end comes after all that Ann hears of hers.
        house.vendors.clock.advance(1.5)
        bobs = await called(bob, "outpaint", **house.order())
        uris = [f"outpaint://tasks/{task['id']}" for task in (anns, bobs)]
        with anyio.fail_after(60):
            async with (
                ann.listen(resource_subscriptions=uris) as to_ann,
                bob.listen(resource_subscriptions=[*uris, f"outpaint://tasks/{unlike(anns['id'])}"]) as to_bob,
            ):
                status = ""
                while status != "succeeded":
                    house.vendors.clock.advance(0.5)
                    status = (await called(ann, "get_task", task_id=anns["id"], wait_seconds=0.3))["status"]
                heard = {"ann": await heard_until_the_end(ann, to_ann, uris[0])}
                house.vendors.finish()
                heard["bob"] = await heard_until_the_end(bob, to_bob, uris[1])
        assert heard == {"ann": {uris[0]}, "bob": {uris[1]}}


async def heard_until_the_end(client: Client, events: AsyncIterator[ServerEvent], uri: str) -> set[str]:
    """Of what there were events, until the client's own task is done."""
    heard = set()
    async for event in events:
        assert isinstance(event, ResourceUpdated)
        heard.add(event.uri)
        if json.loads(await read(client, uri))["status"] == "succeeded":
            break
    return heard


# Sessions


async def opened(house: House, token: str) -> str:
    answer = await house.target.ask(token=token)
    assert answer.status == 200
    return answer.headers["mcp-session-id"]


async def test_another_callers_session_is_answered_like_one_that_there_is_not(house: House) -> None:
    ann, bob = next(house.unused), next(house.unused)
    mine = await opened(house, ann)
    nobodys = "0" * len(mine)
    tools = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    for method in ("POST", "GET", "DELETE"):
        answers = [
            await house.target.ask(method=method, json=tools, token=bob, Mcp_Session_Id=session)
            for session in (mine, nobodys)
        ]
        assert answers[0].status == 404
        assert answers[0].text == answers[1].text
        assert set(answers[0].headers) == set(answers[1].headers)
    assert (await house.target.ask(json=tools, token=ann, Mcp_Session_Id=mine)).status == 200, "nobody ended it"


async def test_another_callers_sse_session_is_answered_like_one_that_there_is_not(house: House) -> None:
    ann, bob = next(house.unused), next(house.unused)
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("GET", f"{house.server.base_url}/sse", headers={"Authorization": f"Bearer {ann}"}) as answer,
    ):
        lines = answer.aiter_lines()
        while not (found := re.match(r"data: (/messages/\?session_id=(\w+))", await anext(lines))):
            pass
        path, mine = found[1], found[2]
        told = [await house.target.ask(path.replace(mine, session), token=bob) for session in (mine, "0" * len(mine))]
        assert [one.status for one in told] == [404, 404]
        assert told[0].text == told[1].text
        assert (await house.target.ask(path, token=ann)).status == 202
        async for line in lines:
            if line.startswith("data: "):
                assert "serverInfo" in line, "only the owner's message was heeded"
                break


# Callbacks


async def test_a_callback_about_another_callers_task_is_answered_like_any_that_is_not_genuine(house: House) -> None:
    async with house.two() as (ann, bob):
        orders = [house.order(), house.order()]
        tasks = [await called(client, "outpaint", **order) for client, order in zip((ann, bob), orders, strict=True)]
        paths = [httpx2.URL((await house.vendors.taken(order["prompt"])).body["callback"]).path for order in orders]
        anns, bobs = ({"job_id": task["remote_id"], "status": "completed"} for task in tasks)
        nobodys = {**anns, "job_id": "0" * 36}
        told = [
            await house.target.ask(path, json=body)
            for path, body in (
                (paths[1], anns),
                (paths[0], bobs),
                (paths[0], nobodys),
                (paths[0][:-1], anns),
                (paths[0] + "0", anns),
                (paths[0].replace("legnext", "vtrix"), anns),
                (paths[0].replace("legnext", "nobody"), anns),
                (paths[0], []),
                (paths[0], "x"),
                ("/webhooks/legnext/" + "0" * 64, anns),
                ("/webhooks/legnext/%C3%A9", anns),
            )
        ]
        assert len({(one.status, one.text) for one in told}) == 1
        assert told[0].status == 404
        assert (await house.target.ask(paths[0], json=anns)).status == 200
        shown = [
            text_of(await client.call_tool("get_task", {"task_id": task["id"]}))
            for client, task in zip((ann, bob), tasks, strict=True)
        ]
        assert not any(path.rpartition("/")[2] in text for path in paths for text in shown), "nobody is told the token"


async def test_a_false_callback_changes_nothing_and_a_true_one_is_only_a_hint(house: House) -> None:
    async with house.two() as (ann, _):
        order = house.order()
        task = await called(ann, "outpaint", **order)
        taken = await house.vendors.taken(order["prompt"])
        path = httpx2.URL(taken.body["callback"]).path
        polls = house.vendors.polls(taken.id)
        lie = {
            "job_id": taken.id,
            "status": "completed",
            "output": {"image_urls": ["http://evil.example/a.png"] * 4},
        }
        assert (await house.target.ask(path, json=lie)).status == 200
        await until(lambda: house.vendors.polls(taken.id) > polls)
        found = await called(ann, "get_task", task_id=task["id"])
        assert found["status"] in ("queued", "running")
        assert "evil.example" not in json.dumps(found)
