"""A server on loopback that answers with exactly the bytes it is told to, right or wrong."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream, Listener
from anyio.streams.tls import TLSListener

Answer = bytes | Callable[[ByteStream], Awaitable[None]]


@dataclass
class RawServer:
    """Where it listens, and the head of every request that came."""

    port: int
    requests: list[str] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def ok(body: bytes, *headers: str) -> bytes:
    lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@asynccontextmanager
async def serving(answers: Mapping[str, Answer], context: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve `answers` by path, anything else as 404; the connection is closed after each."""
    listeners = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener: Listener[ByteStream] = listeners
    server = RawServer(listeners.extra(anyio.abc.SocketAttribute.local_port))
    if context is not None:
        listener = TLSListener(listeners, context, standard_compatible=False, handshake_timeout=5)

    async def handle(stream: ByteStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive()
                server.requests.append(head.decode("latin-1"))
                answer = answers.get(head.split()[1].decode(), b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")
                if isinstance(answer, bytes):
                    await stream.send(answer)
                else:
                    await answer(stream)

    async with anyio.create_task_group() as tasks, listeners:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()
