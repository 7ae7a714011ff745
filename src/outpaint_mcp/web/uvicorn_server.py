"""Serves an ASGI application on a socket with uvicorn, with timeouts for slow clients.

uvicorn alone waits for ever for a client that sends its request one byte at a time, or does not read the answer.
"""

import asyncio
import contextlib
import ctypes
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""How long a client may take to send a request's head."""
BODY_SECONDS = 60.0
"""How long a client may take to send a request's body."""
READ_SECONDS = 60.0
"""How long a client may leave an answer unread."""
MAX_HEAD_BYTES = 32 * 1024
MAX_CONNECTIONS = 4096
"""How many connections are served at once; beyond them the answer is 503."""
OTHER_FILES = 1024
"""How many files the program may have open besides those connections."""
BACKLOG = 2048
LARGE_BLOCK = 256 * 1024
_M_MMAP_THRESHOLD = -3


class TimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which drops clients that take longer than real ones do."""

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS
    read_seconds = READ_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiving: asyncio.TimerHandle | None = None
        self._in_body = False
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.head_seconds)

    def handle_events(self) -> None:
        super().handle_events()
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            if not self._in_body:
                self._in_body = True
                self._expect(self.body_seconds)
        elif state is h11.IDLE and not self._in_body and self._receiving is not None:
            return
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            # The next request has begun.
            self._in_body = False
            self._expect(self.head_seconds)
        else:
            self._in_body = False
            self._expect(None)

    def _expect(self, seconds: float | None) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
        self._receiving = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._read_on()
        super().connection_lost(exc)

    def _read_on(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address of this machine; port 0 is any free one.

    Raises:
        OSError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where it can see that the socket is TCP's.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def allow_many_files() -> None:
    """Raise this process's soft limit of open files as far as allowed, so that idle connections do not exhaust it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_memory_back() -> None:
    """Have the C library map blocks from `LARGE_BLOCK` on one by one, so that freeing one gives its memory back.

    glibc raises that size by itself to the largest block that was freed. A few large requests, taken apart in a few
    threads, would then leave hundreds of megabytes that nobody uses.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def base_url_of(listener: socket.socket) -> str:
    """The URL of a listening socket, as ``http://HOST:PORT``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    protocol: type[asyncio.Protocol] = TimeoutProtocol,
    stop_seconds: int = 1,
    websockets: bool = False,
) -> AsyncIterator[None]:
    """Serve `app` while the block runs.

    Args:
        app: the application; it gets no lifespan events.
        listener: the listening socket; it is closed at the end.
        protocol: the class that speaks HTTP on each connection.
        stop_seconds: how long open requests may take to end after the block has.
        websockets: whether connections may become WebSockets.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="websockets-sansio" if websockets else "none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=stop_seconds,
    )
    server = _Server(config)
    ready = anyio.Event()
    async with anyio.create_task_group() as group:
        # Not group.start: if cancelled meanwhile, it would wait for ever for the shielded task.
        group.start_soon(_serve, server, listener, ready)
        try:
            await ready.wait()
            yield
        finally:
            server.should_exit = True
            group.cancel_scope.cancel()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are handled by the program, which stops the server by leaving the block.
        yield


async def _serve(server: uvicorn.Server, listener: socket.socket, ready: anyio.Event) -> None:
    # uvicorn closes its sockets only if it is asked to stop, not if it is cancelled: hence the shield.
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            # uvicorn has no other way to tell.
            while not server.started:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            ready.set()
