"""Puts a sandbox on a real port of this machine, and only of this machine."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from anyio import abc
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from outpaint_mcp.sandbox.app import Sandbox
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.webhooks import is_loopback


@asynccontextmanager
async def serving(sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves `sandbox` while the block runs, and gives its base URL (`http://127.0.0.1:PORT`).

    Port 0 is any free one.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: the port is taken.
    """
    listener = _listen(host, port)
    bound, number = listener.getsockname()[:2]
    shown = f"[{bound}]" if ":" in bound else bound
    config = uvicorn.Config(
        _OnlyLocalHosts(sandbox.app),
        http=_protocol(sandbox),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    async with anyio.create_task_group() as group:
        await group.start(_serve, server, listener)
        group.start_soon(sandbox.webhooks.run)
        try:
            yield f"http://{shown}:{number}"
        finally:
            server.should_exit = True
            group.cancel_scope.cancel()


async def serve_sandbox(
    host: str = "127.0.0.1",
    port: int = 0,
    settings: SandboxSettings | None = None,
    on_ready: Callable[[str], None] = lambda base_url: None,
) -> None:
    """Serves a new sandbox until cancelled; `on_ready` gets the base URL once it answers.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: the port is taken.
    """
    sandbox = Sandbox(settings)
    try:
        async with serving(sandbox, host, port) as base_url:
            on_ready(base_url)
            await anyio.sleep_forever()
    finally:
        sandbox.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the program that the sandbox runs in; it is stopped by cancellation.
        yield


async def _serve(
    server: uvicorn.Server, listener: socket.socket, *, task_status: abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    # uvicorn closes its sockets only if it is asked to stop, not if it is cancelled: hence the shield.
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            # uvicorn gives no other sign.
            while not server.started:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            task_status.started()


def _listen(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the sandbox is served on loopback only, not on {host}")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _protocol(sandbox: Sandbox) -> type[asyncio.Protocol]:
    class Protocol(H11Protocol):
        """Tells the sandbox which connections are open: some faults break one off."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            sandbox.connections.opened(transport)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            sandbox.connections.closed(self.transport)
            super().connection_lost(exc)

    return Protocol


class _OnlyLocalHosts:
    """Refuses requests that name another host: a web page could otherwise reach in under a name of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_loopback(f"http://{Headers(scope=scope).get('host', '')}"):
            await PlainTextResponse("Not a loopback host", 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)
