"""How a server ends that is asked to: whoever waits is answered, nothing new is ordered, nothing is lost.

Real processes and real signals; the vendors hold their answers back for as long as a test wants.
"""

import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from outpaint_mcp.sandbox import ManualClock, PlainPainter, Sandbox, SandboxSettings, serving

from .processes import (
    DOORS,
    HttpServer,
    Vendors,
    an_order,
    called,
    http_server,
    readiness,
    text_of,
    until,
    variables,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")

PROMPTLY = 8.0
"""Seconds within which a process with nothing to wait for has ended; it takes about two on an idle machine."""


@dataclass(slots=True)
class Gate:
    """What holds the vendors' answers back: a fault that is slow lasts until the test opens it."""

    opened: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, seconds: float) -> None:
        await self.opened.wait()


@contextlib.asynccontextmanager
async def holding_vendors(gate: Gate) -> AsyncIterator[Vendors]:
    clock = ManualClock(time.time())
    settings = SandboxSettings(clock=clock, painter=PlainPainter(), legnext_concurrency=None, sleep=gate)
    sandbox = Sandbox(settings)
    try:
        async with serving(sandbox) as base_url:
            yield Vendors(sandbox, clock, base_url)
    finally:
        gate.opened.set()
        sandbox.close()


@dataclass(slots=True)
class Waiting:
    """A call that waits for its order, and what it was answered."""

    order: dict[str, object]
    result: CallToolResult | MCPError | None = None
    answered: anyio.Event = field(default_factory=anyio.Event)

    async def call(self, client: Client) -> None:
        try:
            self.result = await client.call_tool("outpaint", {**self.order, "wait_seconds": 45})
        except MCPError as error:
            self.result = error
        self.answered.set()

    def task(self) -> dict[str, Any]:
        """The unfinished task that the call was answered with."""
        assert isinstance(self.result, CallToolResult), self.result
        assert not self.result.is_error, text_of(self.result)
        task: dict[str, Any] = self.result.structured_content
        assert task["status"] in ("queued", "running")
        assert f"task_id={task['id']}" in text_of(self.result), "it says how to go on"
        return task

    def task_id(self) -> str:
        found: str = self.task()["id"]
        return found


async def held_order(vendors: Vendors, calls: anyio.abc.TaskGroup, client: Client) -> Waiting:
    """A call whose order the vendor has received, and does not answer until the gate is opened."""
    waiting = Waiting(an_order())
    # The task to extend is known by now, so that what is held is the order.
    await called(client, "get_task", task_id=waiting.order["task_id"], provider="legnext")
    vendors.fault("submit", "slow")
    calls.start_soon(waiting.call, client)
    await until(lambda: bool(vendors.sandbox.requests("legnext", "submit")))
    return waiting


@contextlib.asynccontextmanager
async def clients_of(server: HttpServer, *doors: str) -> AsyncIterator[list[Client]]:
    """Clients that may outlive their server: how their library takes its end is not looked at."""
    async with anyio.create_task_group() as holding:
        yield [await holding.start(_hold, server, door) for door in doors]
        holding.cancel_scope.cancel()


async def _hold(
    server: HttpServer, door: str, *, task_status: anyio.abc.TaskStatus[Client] = anyio.TASK_STATUS_IGNORED
) -> None:
    with contextlib.suppress(Exception):
        async with server.client(door) as client:
            # Else it asks for the tools when it has its first answer, of a server that may be gone by then.
            await client.list_tools()
            task_status.started(client)
            await anyio.sleep_forever()


async def ended_promptly(server: HttpServer) -> int:
    with anyio.fail_after(PROMPTLY):
        return await server.exit_code()


async def stopping(server: HttpServer) -> bool:
    return await readiness(server) == (503, "[not_ready] The server is stopping. Call again in a minute.\n")


@pytest.mark.parametrize(
    ("doors", "number"), [(("http", "sse"), signal.SIGTERM), (("http-legacy",), signal.SIGINT)], ids=["term", "int"]
)
async def test_whoever_waits_is_answered_with_the_task_which_goes_on_after_a_restart(
    vendors: Vendors, tmp_path: Path, doors: tuple[str, ...], number: signal.Signals
) -> None:
    environment = variables(tmp_path, vendors)
    # Several at each: who is answered last must be answered too.
    waiting = {door: [Waiting(an_order()) for _ in range(3)] for door in doors}
    everyone = [one for several in waiting.values() for one in several]
    async with http_server(environment) as server:
        async with clients_of(server, *doors) as clients, anyio.create_task_group() as calls:
            for door, client in zip(doors, clients, strict=True):
                for one in waiting[door]:
                    calls.start_soon(one.call, client)
            for one in everyone:
                await vendors.taken(str(one.order["prompt"]))
            server.signal(number)
            with anyio.fail_after(PROMPTLY):
                for one in everyone:
                    await one.answered.wait()
        ids = [one.task_id() for one in everyone]
        assert await ended_promptly(server) == 0
        assert b"Traceback" not in server.log
    vendors.finish()
    async with http_server(environment) as server, server.client() as client:
        for task_id, one in zip(ids, everyone, strict=True):
            again = await called(client, "outpaint", **one.order, wait_seconds=45)
            assert (again["id"], again["status"]) == (task_id, "succeeded")
            assert len(vendors.orders(str(one.order["prompt"]))) == 1


async def test_while_it_stops_it_says_so_and_orders_nothing_more(tmp_path: Path) -> None:
    gate = Gate()
    refused: list[CallToolResult] = []
    async with (
        holding_vendors(gate) as vendors,
        http_server(variables(tmp_path, vendors)) as server,
        clients_of(server, *DOORS) as (http, legacy, sse),
    ):
        assert await readiness(server) == (200, "ready")
        async with anyio.create_task_group() as calls:
            waiting = await held_order(vendors, calls, http)
            server.signal()
            await until(lambda: stopping(server))
            async with server.client("http") as newcomer:
                refused += [await client.call_tool("outpaint", an_order()) for client in (http, legacy, sse, newcomer)]
                same = await legacy.call_tool("get_task", {"task_id": waiting.order["task_id"], "provider": "legnext"})
            assert await stopping(server)
            gate.opened.set()
        assert await ended_promptly(server) == 0
        for result in refused:
            assert result.is_error
            assert text_of(result).startswith("[provider_unavailable] The server is stopping.")
        assert not same.is_error, "what costs nothing is still answered"
        taken = await vendors.taken(str(waiting.order["prompt"]))
        assert waiting.task()["remote_id"] == taken.id, "the vendor's answer was waited for"
        assert len(vendors.sandbox.requests("legnext", "submit")) == 1


async def test_an_order_whose_answer_comes_late_is_written_down_before_the_end(tmp_path: Path) -> None:
    gate = Gate()
    async with holding_vendors(gate) as vendors:
        environment = variables(tmp_path, vendors)
        async with http_server(environment) as server, clients_of(server, "http") as (client,):
            async with anyio.create_task_group() as calls:
                waiting = await held_order(vendors, calls, client)
                server.signal()
                with anyio.fail_after(PROMPTLY):
                    await waiting.answered.wait()
            assert server.process.returncode is None, "it waits for the vendor, though nobody waits for it"
            gate.opened.set()
            assert await ended_promptly(server) == 0
        vendors.finish()
        async with http_server(environment) as server, server.client() as client:
            task = await called(client, "get_task", task_id=waiting.task_id(), wait_seconds=45)
        taken = await vendors.taken(str(waiting.order["prompt"]))
        assert (task["status"], task["remote_id"]) == ("succeeded", taken.id)
        assert len(vendors.sandbox.requests("legnext", "submit")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    gate = Gate()
    async with (
        holding_vendors(gate) as vendors,
        http_server(variables(tmp_path, vendors)) as server,
        clients_of(server, "http") as (client,),
        anyio.create_task_group() as calls,
    ):
        await held_order(vendors, calls, client)
        server.signal()
        await until(lambda: stopping(server))
        server.signal(number)
        # The vendor goes on holding its answer back.
        assert await ended_promptly(server) == -number
        calls.cancel_scope.cancel()


async def test_open_streams_and_slow_clients_do_not_hold_the_end_up(vendors: Vendors, tmp_path: Path) -> None:
    async with (
        http_server(variables(tmp_path, vendors)) as server,
        clients_of(server, *DOORS) as (http, *_),
        await _connected(server) as silent,
        await _connected(server) as half,
    ):
        await half.send(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{")
        task = await called(http, "outpaint", **an_order(), wait_seconds=0)
        with anyio.fail_after(PROMPTLY):
            async with http.listen(resource_subscriptions=[f"outpaint://tasks/{task['id']}"]) as events:
                server.signal()
                assert [event async for event in events] == [], "the watcher is told that there is no more"
        assert await ended_promptly(server) == 0
        with pytest.raises(anyio.EndOfStream):
            await silent.receive()


async def test_the_end_of_open_connections_is_no_fault(vendors: Vendors, tmp_path: Path) -> None:
    async with http_server(variables(tmp_path, vendors)) as server, clients_of(server, *DOORS):
        server.signal()
        assert await ended_promptly(server) == 0
        assert [line for line in server.log.decode().splitlines() if not line.startswith("outpaint-mcp serves")] == []


async def _connected(server: HttpServer) -> anyio.abc.SocketStream:
    address = urlsplit(server.base_url)
    assert address.hostname is not None
    assert address.port is not None
    return await anyio.connect_tcp(address.hostname, address.port)
