"""The program as its users run it: real processes, the sandbox's vendors behind them, and clients of each kind.

The vendors' clock stands still until a test moves it: an order is finished when the test says so, and not before.
"""

import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import anyio.abc
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CallToolResult, TextContent, TextResourceContents

from outpaint_mcp.sandbox import Fault, ManualClock, Order, PlainPainter, Sandbox, SandboxSettings, environment, serving
from outpaint_mcp.sandbox import seed_id as seed_id

START_SECONDS = 60.0
"""How long a process may take until it serves; about one second on an idle machine."""
STOP_SECONDS = 15.0
"""How long a process may take from a signal to its end."""
DOORS = ("http", "http-legacy", "sse")


# The vendors


@dataclass(frozen=True, slots=True)
class Vendors:
    """The sandbox, in this process, on a clock that is moved by hand."""

    sandbox: Sandbox
    clock: ManualClock
    base_url: str

    def finish(self) -> None:
        """Let everything that was ordered so far be finished."""
        self.clock.advance(1000)

    def fault(self, on: str, fault: str, **more: Any) -> None:
        self.sandbox.faults.add(Fault.model_validate({"vendor": "legnext", "on": on, "fault": fault, **more}))

    def orders(self, prompt: str) -> list[Order]:
        """The orders that Legnext took with this prompt, oldest first."""
        return [order for order in self.sandbox.orders("legnext") if order.body.get("remixPrompt") == prompt]

    def polls(self, remote_id: str) -> int:
        """How often a vendor was asked for a task."""
        return sum(one.path.endswith(f"/{remote_id}") for one in self.sandbox.requests(action="poll"))

    async def taken(self, prompt: str) -> Order:
        """The order with this prompt, once the vendor has taken it."""
        await until(lambda: bool(self.orders(prompt)))
        return self.orders(prompt)[0]


@contextlib.asynccontextmanager
async def open_vendors() -> AsyncIterator[Vendors]:
    clock = ManualClock(time.time())
    settings = SandboxSettings(seconds_per_state=1.0, clock=clock, painter=PlainPainter(), legnext_concurrency=None)
    sandbox = Sandbox(settings)
    try:
        async with serving(sandbox) as base_url:
            yield Vendors(sandbox, clock, base_url)
    finally:
        sandbox.close()


def an_order(*, grid: bool = True) -> dict[str, Any]:
    """Arguments of an order at Legnext that nobody has placed before."""
    order = {"task_id": seed_id("legnext", grid=grid), "provider": "legnext", "zoom": 1.5, "prompt": uuid.uuid4().hex}
    return {**order, "image_index": 2} if grid else order


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: it does not within `seconds`.
    """
    with anyio.fail_after(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            # What another process does gives no sign here.
            await anyio.sleep(0.02)


# Server processes


def variables(folder: Path, vendors: Vendors, **changes: str) -> dict[str, str]:
    """The environment of a server whose data lie in `folder`; the tests' own settings and keys are not in it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OUTPAINT_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    return {
        **inherited,
        **environment(vendors.base_url),
        "OUTPAINT_POLL_SECONDS": "0.05,0.05",
        "OUTPAINT_DATA_DIR": str(folder / "data"),
        # Callers over HTTP share the vendors' keys here and may extend the seeded tasks.
        "OUTPAINT_ADOPT": "true",
        **changes,
    }


@dataclass(slots=True)
class HttpServer:
    """A server process that listens on loopback."""

    process: anyio.abc.Process
    log: bytearray = field(default_factory=bytearray)
    ended: anyio.Event = field(default_factory=anyio.Event)

    @property
    def paths(self) -> dict[str, str]:
        """The URL of each path that it says it serves."""
        lines = self.log.decode().splitlines()
        urls = [line.rpartition(" ")[2] for line in lines if line.startswith("outpaint-mcp serves MCP on ")]
        return {"/" + url.rpartition("/")[2]: url for url in urls}

    @property
    def base_url(self) -> str:
        return self.paths["/mcp"].removesuffix("/mcp")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """How the process ended.

        Raises:
            TimeoutError: it has not after `STOP_SECONDS`.
        """
        with anyio.fail_after(STOP_SECONDS):
            code = await self.process.wait()
            await self.ended.wait()
        return code

    def client(self, door: str = "http", *, token: str | None = None, **options: Any) -> "Clients":
        """A client of one of `DOORS`, with a bearer token if one is given."""
        return client_at(self.paths["/sse" if door == "sse" else "/mcp"], door, token, options)


Clients = AbstractAsyncContextManager[Client]


@contextlib.asynccontextmanager
async def client_at(
    url: str, door: str, token: str | None = None, options: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[Client]:
    """See `HttpServer.client`; `url` is the endpoint's."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    mode = "auto" if door == "http" else "legacy"
    if door == "sse":
        async with Client(sse_client(url, headers=headers), mode=mode, **options) as client:
            yield client
        return
    async with (
        create_mcp_http_client(headers=headers) as session,
        Client(streamable_http_client(url, http_client=session), mode=mode, **options) as client,
    ):
        yield client


Start = Callable[[Sequence[str], Mapping[str, str]], Awaitable[anyio.abc.Process]]
"""Starts a process of the program with arguments and an environment; its stderr is read, nothing else is."""


async def open_program(arguments: Sequence[str], environment: Mapping[str, str]) -> anyio.abc.Process:
    """Start the program as its users do."""
    command = [sys.executable, "-m", "outpaint_mcp", *arguments]
    return await anyio.open_process(command, env=environment, stdin=None, stdout=None)


@contextlib.asynccontextmanager
async def http_server(
    environment: Mapping[str, str], *options: str, port: int = 0, start: Start = open_program
) -> AsyncIterator[HttpServer]:
    """A server of Streamable HTTP and SSE, from when it listens; it is killed in the end unless it has ended."""
    command = ("serve", "--transport", "http", "--with-sse", "--port", str(port), *options)
    async with _program(start(command, environment), lambda server: len(server.paths) == 2) as server:
        yield server


@contextlib.asynccontextmanager
async def worker(
    environment: Mapping[str, str], *options: str, start: Start = open_program
) -> AsyncIterator[HttpServer]:
    """A worker, from when it works; it is killed in the end unless it has ended."""
    started = start(("worker", *options), environment)
    async with _program(started, lambda one: one.log.endswith((b"polls\n", b"at a time\n"))) as found:
        yield found


@contextlib.asynccontextmanager
async def _program(
    started: Awaitable[anyio.abc.Process], is_ready: Callable[[HttpServer], bool]
) -> AsyncIterator[HttpServer]:
    async with anyio.create_task_group() as tasks:
        process = await started
        server = HttpServer(process)
        tasks.start_soon(_read_on, server)
        try:
            await until(lambda: is_ready(server) or server.ended.is_set(), START_SECONDS)
            assert not server.ended.is_set(), server.log.decode()
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
                await server.ended.wait()
                await process.aclose()


async def _read_on(server: HttpServer) -> None:
    """Keep what the server writes to stderr; a full pipe would hold it up."""
    assert server.process.stderr is not None
    with anyio.CancelScope(shield=True):
        async for piece in server.process.stderr:
            server.log += piece
    server.ended.set()


@contextlib.asynccontextmanager
async def stdio_server(environment: Mapping[str, str], **options: Any) -> AsyncIterator[Client]:
    """A server process over stdio and its client."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "outpaint_mcp"], env=dict(environment))
    async with Client(stdio_client(server), **options) as client:
        yield client


# What clients see


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to reach a running server.

    `client` is a client of it; `another` connects a further one, which over stdio starts a further process on the same
    data.
    """

    name: str
    client: Client
    another: Callable[..., Clients]
    folder: Path

    @property
    def over_http(self) -> bool:
        return self.name != "stdio"

    @property
    def is_modern(self) -> bool:
        return self.name in ("stdio", "http")


def text_of(result: CallToolResult) -> str:
    (first, *_) = result.content
    assert isinstance(first, TextContent)
    return first.text


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The task that a call returns, which must be no refusal; one that says to make the call again is heeded."""
    result = await client.call_tool(tool, arguments)
    while result.is_error and text_of(result).startswith("[not_ready] "):
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def read(client: Client, uri: str) -> str:
    (contents,) = (await client.read_resource(uri)).contents
    assert isinstance(contents, TextResourceContents)
    return contents.text


async def readiness(server: HttpServer) -> tuple[int, str]:
    """What `/readyz` answers."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{server.base_url}/readyz")
        return answer.status_code, answer.text
