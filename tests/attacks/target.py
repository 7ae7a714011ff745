"""What is attacked: the server in this process or in one of its own, on loopback, and what to attack it with.

Attackers write bytes to sockets: a client library would refuse to send most of what is tried here.
"""

import contextlib
import re
import resource
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio import to_thread
from anyio.abc import SocketStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CallToolResult, TextContent

from outpaint_mcp.bootstrap import build_http_app
from outpaint_mcp.settings import Settings
from outpaint_mcp.web.token_file import add_token
from outpaint_mcp.web.uvicorn_server import listening, serving

from ..transports.processes import until

PROMPT_SECONDS = 1.0
"""How soon a good client is answered, whatever others do meanwhile."""
ACCEPT = "application/json, text/event-stream"
INITIALIZE: Mapping[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer as it came."""

    status: int
    headers: httpx2.Headers
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """A server that listens on a port of this machine."""

    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self, path: str = "/mcp", *, method: str = "POST", json: Any = None, token: str | None = None, **headers: str
    ) -> Answer:
        """Ask once. Of an answer that has no end the head is all that is waited for.

        Args:
            path: what to ask for.
            method: how.
            json: what is sent; by default, with POST, what begins a session.
            token: a bearer token.
            headers: further ones, ``_`` for ``-``.
        """
        sent = {"Accept": ACCEPT, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        body = (INITIALIZE if json is None else json) if method == "POST" else None
        async with (
            # Loading the authorities takes a tenth of a second, and plain HTTP needs none.
            httpx2.AsyncClient(trust_env=False, timeout=30, verify=False) as client,
            client.stream(method, f"{self.base_url}{path}", json=body, headers=sent) as answer,
        ):
            endless = answer.headers.get("content-type", "").startswith("text/event-stream") and method == "GET"
            text = "" if endless else (await answer.aread()).decode()
            return Answer(answer.status_code, answer.headers, text)

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[SocketStream]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield stream

    async def says(self, request: bytes) -> bytes:
        """What comes back for some bytes, until the server closes the connection, which they have it do."""
        async with self.socket() as stream:
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.send(request)
            return await rest_of(stream)

    async def took(self, *, token: str | None = None) -> float:
        """How long a good client waits for its answer, in seconds."""
        start = anyio.current_time()
        assert (await self.ask(token=token)).status == 200
        return anyio.current_time() - start

    @contextlib.asynccontextmanager
    async def meanwhile(self, *, token: str | None = None) -> AsyncIterator[list[float]]:
        """A good client that asks again and again while the block runs, and is answered promptly each time.

        Yields how long each answer took, in seconds. On a busy machine it may be more than `PROMPT_SECONDS`: ten times
        what one takes before the block, or ten times what a thread that only sleeps is kept from waking meanwhile.
        """
        took: list[float] = []
        late: list[float] = []
        over = threading.Event()
        calm = max([await self.took(token=token) for _ in range(3)])

        async def ask() -> None:
            while True:
                took.append(await self.took(token=token))
                # A server that is held up for any time that matters is asked within it.
                await anyio.sleep(0.02)

        def sleep() -> None:
            while not over.is_set():
                due = time.monotonic() + 0.02
                over.wait(0.02)
                late.append(time.monotonic() - due)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(to_thread.run_sync, sleep)
            tasks.start_soon(ask)
            try:
                yield took
            finally:
                over.set()
            tasks.cancel_scope.cancel()
        took.append(await self.took(token=token))
        assert max(took) < max(PROMPT_SECONDS, 10 * calm, 10 * max(late, default=0)), (took, calm, late)

    @contextlib.asynccontextmanager
    async def client(self, *, token: str | None = None, mode: str = "auto", **options: Any) -> AsyncIterator[Client]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            create_mcp_http_client(headers=headers) as session,
            Client(streamable_http_client(f"{self.base_url}/mcp", http_client=session), mode=mode, **options) as client,
        ):
            yield client


async def until_asked(times: int, took: list[float]) -> None:
    """Wait until the good client of `Target.meanwhile` has had so many more answers."""
    enough = len(took) + times
    await until(lambda: len(took) >= enough, 60)


@contextlib.asynccontextmanager
async def attacked(
    settings: Settings, *, host: str = "127.0.0.1", transport: str = "http", insecure: bool = False
) -> AsyncIterator[Target]:
    """The server over some settings, in this process."""
    listener = listening(host, 0)
    port: int = listener.getsockname()[1]
    app = build_http_app(settings, host=host, port=port, transport=transport, sse=True, insecure=insecure)
    async with serving(app.asgi, listener), app.running():
        yield Target(port)


def tokens_of(folder: Path, *names: str) -> tuple[Path, list[str]]:
    """A file of tokens, and the tokens of these names."""
    path = folder / "tokens"
    return path, [add_token(path, name) for name in names]


async def rest_of(stream: SocketStream) -> bytes:
    """What is still received, until the other side ends it."""
    received = b""
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


def head(method: str, path: str, *lines: str) -> bytes:
    """A request's head, with whatever is in `lines`."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found is not None, answer[:200]
    return int(found[1])


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """The text of the refusal that a call must be."""
    result: CallToolResult = await client.call_tool(tool, arguments)
    (first, *_) = result.content
    assert isinstance(first, TextContent)
    assert result.is_error, first.text
    return first.text


@dataclass(slots=True)
class Wire:
    """A plain server that answers everything alike and keeps what it was sent.

    Args:
        answer: what every connection gets once it has sent a head.
    """

    answer: bytes
    port: int = 0
    received: list[bytearray] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def wire(
    answer: bytes = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
) -> AsyncIterator[Wire]:
    kept = Wire(answer)

    async def handle(stream: SocketStream) -> None:
        received = bytearray()
        kept.received.append(received)
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                while b"\r\n\r\n" not in received:
                    received += await stream.receive()
                await stream.send(kept.answer)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        kept.port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (not Django's)
        tasks.start_soon(listener.serve, handle)
        yield kept
        tasks.cancel_scope.cancel()


class Memory:
    """How much memory a process has needed at its highest since `reset`, in bytes."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")

    def reset(self) -> int:
        """Forget the highest so far; returns what is in use now."""
        (self._process / "clear_refs").write_text("5")
        return self.highest()

    def highest(self) -> int:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (self._process / "status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@contextlib.contextmanager
def open_files(soft: int) -> Iterator[None]:
    """A block in which this process, and those that it starts, may open so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
