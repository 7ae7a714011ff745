"""The HTTP server's patience and strictness, over real sockets, with seconds that are short enough for tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.types import Message, Receive, Scope, Send

from outpaint_mcp.web.uvicorn_server import (
    MAX_HEAD_BYTES,
    READ_SECONDS,
    TimeoutProtocol,
    base_url_of,
    listening,
    serving,
)

PATIENCE = 0.3
"""In seconds."""
LATE = 10.0
"""How long a test waits at most for what takes `PATIENCE`."""

LARGE = 20_000_000
"""Bytes: more than lie between two sockets."""


class Impatient(TimeoutProtocol):
    head_seconds = PATIENCE
    body_seconds = PATIENCE
    read_seconds = PATIENCE


class OnlyHeads(TimeoutProtocol):
    head_seconds = PATIENCE


@dataclass
class App:
    """Answers each path in a way of its own, and keeps what was asked."""

    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    go_on: anyio.Event = field(default_factory=anyio.Event)
    left: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        match scope["path"]:
            case "/endless":
                await self._endless(receive, send)
            case "/unread":
                await _answer(send, b"not wanted", 401)
            case "/slow":
                await self.go_on.wait()
                await _answer(send, b"slow")
            case "/large":
                await _answer(send, bytes(LARGE))
            case _:
                body = b""
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        self.left.set()
                        return
                    body += message["body"]
                    if not message["more_body"]:
                        break
                self.bodies.append(body)
                await _answer(send, json.dumps([scope["path"], scope["client"][0], scope["scheme"]]).encode())

    async def _endless(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece: Message = {"type": "http.response.body", "body": bytes(65_536), "more_body": True}
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left.set()
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave)
            while True:
                await send(piece)
                await anyio.lowlevel.checkpoint()


async def _answer(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class Served:
    app: App
    port: int

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[SocketStream]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield stream

    async def patience_is_over(self) -> None:
        """Returns when a client that came now and said nothing has been dropped."""
        async with self.socket() as silent:
            await dropped(silent)


@contextlib.asynccontextmanager
async def served(protocol: type[TimeoutProtocol] = Impatient, **options: Any) -> AsyncIterator[Served]:
    app = App()
    listener = listening("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    async with serving(app, listener, protocol=protocol, **options):
        yield Served(app, port)


async def dropped(stream: SocketStream) -> bytes:
    """What is received until the server closes the connection."""
    received = b""
    with anyio.fail_after(LATE), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


async def drip(stream: SocketStream, piece: bytes) -> None:
    """Send a piece now and then until the connection is gone."""
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await stream.send(piece)
            await anyio.sleep(PATIENCE / 10)


async def asked(stream: SocketStream, path: str = "/", *lines: str, body: bytes = b"") -> bytes:
    """Ask on an open connection; returns the answer's head and body."""
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *lines, "", ""])
    await stream.send(head.encode() + body)
    return await answer_of(stream)


async def answer_of(stream: SocketStream) -> bytes:
    received = bytearray()
    with anyio.fail_after(LATE):
        while b"\r\n\r\n" not in received:
            received += await stream.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        (length,) = (line[16:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
        while len(body) < int(length):
            body += await stream.receive()
    return bytes(head + b"\r\n\r\n" + body)


def move_the_clock(seconds: float) -> None:
    """Let these seconds pass at once for all that waits in this test's event loop."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


# Patience


@pytest.mark.parametrize(
    "beginning", [b"", b"G", b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nX: "]
)
async def test_a_client_that_does_not_finish_its_head_is_dropped(beginning: bytes) -> None:
    async with served() as server, server.socket() as stream:
        if beginning:
            await stream.send(beginning)
        assert await dropped(stream) == b""
    assert server.app.scopes == []


async def test_dripping_a_head_gains_no_time() -> None:
    async with served() as server, server.socket() as stream, anyio.create_task_group() as tasks:
        await stream.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
        tasks.start_soon(drip, stream, b"x")
        assert await dropped(stream) == b""
        tasks.cancel_scope.cancel()
    assert server.app.scopes == []


async def test_a_client_that_does_not_finish_its_body_is_dropped() -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
        assert await dropped(stream) == b""
        with anyio.fail_after(LATE):
            await server.app.left.wait()


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_dripping_a_body_gains_no_time(framing: bytes) -> None:
    async with served() as server, server.socket() as stream, anyio.create_task_group() as tasks:
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n\r\n")
        tasks.start_soon(drip, stream, b"1\r\na\r\n")
        assert await dropped(stream) == b""
        tasks.cancel_scope.cancel()


async def test_a_body_that_nobody_wants_is_not_taken_in_for_ever() -> None:
    async with served() as server, server.socket() as stream, anyio.create_task_group() as tasks:
        await stream.send(b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n")
        tasks.start_soon(drip, stream, b"x" * 100)
        assert (await dropped(stream)).startswith(b"HTTP/1.1 401 ")
        tasks.cancel_scope.cancel()
    assert len(server.app.scopes) == 1


async def test_a_client_that_does_not_read_is_dropped_and_the_application_told() -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        with anyio.fail_after(LATE):
            await server.app.left.wait()


async def test_a_client_that_reads_late_but_in_time_is_not_dropped_later() -> None:
    waiting = []

    class Observed(TimeoutProtocol):
        def pause_writing(self) -> None:
            super().pause_writing()
            waiting.append(self)

    async with served(Observed) as server, server.socket() as late, server.socket() as never:
        await late.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        await never.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        with anyio.fail_after(LATE):
            while len(set(waiting)) < 2:
                await anyio.lowlevel.checkpoint()
        assert len(await answer_of(late)) > LARGE
        await late.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        with anyio.fail_after(LATE):
            while len(server.app.scopes) < 3:
                await anyio.lowlevel.checkpoint()
        move_the_clock(READ_SECONDS)
        with anyio.fail_after(LATE):
            await server.app.left.wait()
        server.app.go_on.set()
        assert (await answer_of(late)).endswith(b"slow")


async def test_an_answer_that_takes_long_is_waited_for() -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(b"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        await server.patience_is_over()
        server.app.go_on.set()
        assert (await answer_of(stream)).endswith(b"slow")


async def test_between_two_requests_a_client_has_the_servers_usual_time() -> None:
    async with served() as server, server.socket() as stream:
        await asked(stream, body=b"abc")
        await server.patience_is_over()
        assert (await asked(stream, body=b"def")).startswith(b"HTTP/1.1 200 ")
    assert server.app.bodies == [b"abc", b"def"]


@pytest.mark.parametrize("beginning", [b"P", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"])
async def test_a_second_request_has_no_more_time_than_the_first(beginning: bytes) -> None:
    async with served(OnlyHeads) as server, server.socket() as stream, anyio.create_task_group() as tasks:
        await asked(stream, body=b"abc")
        await stream.send(beginning)
        tasks.start_soon(drip, stream, b"X" if len(beginning) == 1 else b"X: x\r\n")
        assert await dropped(stream) == b""
        tasks.cancel_scope.cancel()
    assert len(server.app.scopes) == 1


async def test_a_second_body_has_no_more_time_than_the_first() -> None:
    async with served() as server, server.socket() as stream, anyio.create_task_group() as tasks:
        await asked(stream, body=b"abc")
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        tasks.start_soon(drip, stream, b"x")
        assert await dropped(stream) == b""
        tasks.cancel_scope.cancel()
    assert len(server.app.bodies) == 1


async def test_a_head_that_comes_while_the_answer_before_it_is_made_has_its_own_time() -> None:
    async with served(OnlyHeads) as server, server.socket() as stream:
        await stream.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost:")
        await server.patience_is_over()
        server.app.go_on.set()
        assert (await dropped(stream)).endswith(b"slow")
    assert len(server.app.scopes) == 1


async def test_a_client_that_goes_away_is_gone_before_its_time_is_up() -> None:
    async with served() as server:
        for beginning in (b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"):
            async with server.socket() as stream:
                if beginning:
                    await stream.send(beginning)
        await server.patience_is_over()
        async with server.socket() as stream:
            assert (await asked(stream)).startswith(b"HTTP/1.1 200 ")


# Strictness


async def test_a_head_without_end_is_refused() -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * MAX_HEAD_BYTES)
        assert (await dropped(stream)).startswith(b"HTTP/1.1 4")
    assert server.app.scopes == []


SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde",
        b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n",
        b"Content-Length: 0, 60\r\n\r\n",
        b"Content-Length: +5\r\n\r\nabcde",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: 0x5\r\n\r\nabcde",
        b"Content-Length: 5_0\r\n\r\nabcde",
        b"Content-Length : 0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        b"X: a\r\n b: c\rd\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
        b"X\x00: a\r\n\r\n",
        b": a\r\n\r\n",
        b"no colon\r\n\r\n",
    ],
)
async def test_a_request_that_two_servers_could_read_differently_is_refused(request_: bytes) -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + request_ + SMUGGLED)
        answer = await dropped(stream)
        assert answer.startswith(b"HTTP/1.1 4") or not answer
        assert answer.count(b"HTTP/1.1 ") <= 1
    assert "/smuggled" not in {scope["path"] for scope in server.app.scopes}
    assert server.app.bodies == []


async def test_a_length_beside_chunks_does_not_hide_a_second_request() -> None:
    async with served() as server, server.socket() as stream:
        both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n" % (
            5 + len(SMUGGLED)
        )
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + both + SMUGGLED)
        await dropped(stream)
    assert "/smuggled" not in {scope["path"] for scope in server.app.scopes}


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_nothing_of_it_served(nonsense: bytes) -> None:
    async with served() as server, server.socket() as stream:
        await stream.send(nonsense)
        answer = await dropped(stream)
        assert answer.startswith(b"HTTP/1.1 4") or not answer
    assert server.app.scopes == []


async def test_an_upgrade_is_not_made_and_the_request_served_as_it_is() -> None:
    async with served() as server, server.socket() as stream:
        lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
        assert (await asked(stream, "/", *lines)).startswith(b"HTTP/1.1 200 ")
    assert [scope["type"] for scope in server.app.scopes] == ["http"]


async def test_nobody_can_say_that_they_are_somebody_else() -> None:
    said = ("X-Forwarded-For: 8.8.8.8", "X-Forwarded-Proto: https", "Forwarded: for=8.8.8.8;proto=https")
    async with served() as server, server.socket() as stream:
        answer = await asked(stream, "/", *said)
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == ["/", "127.0.0.1", "http"]
    assert b"server:" not in answer.lower(), "what it is made with is nobody's business"


# Sockets


async def test_the_port_is_free_again_when_the_block_ends() -> None:
    async with served() as server, server.socket() as idle:
        await idle.send(b"GET")
    listening("127.0.0.1", server.port).close()


async def test_open_requests_end_with_the_block() -> None:
    with anyio.fail_after(LATE):
        async with served(stop_seconds=1) as server, server.socket() as stream:
            await stream.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await server.patience_is_over()


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    with listening("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(OSError, match="assign"):
        listening("192.0.2.1", 0)


def test_the_base_url_is_what_a_client_can_use() -> None:
    with listening("127.0.0.1", 0) as listener:
        assert base_url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
