"""Serves a sandbox on a port of this machine, reachable from this machine only."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from outpaint_mcp.domain.errors import ForbiddenUrlError
from outpaint_mcp.sandbox.app import Sandbox
from outpaint_mcp.sandbox.loopback import is_loopback
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.web import uvicorn_server as http_server


@asynccontextmanager
async def serving(sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves `sandbox` while the block runs, and gives its base URL (`http://127.0.0.1:PORT`).

    Port 0 is any free one.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: the port is taken.
    """
    listener = http_server.listening(_loopback(host), port)
    async with (
        http_server.serving(_OnlyLocalHosts(sandbox.app), listener, protocol=_protocol(sandbox), websockets=True),
        anyio.create_task_group() as group,
    ):
        group.start_soon(sandbox.webhooks.run)
        try:
            yield http_server.base_url_of(listener)
        finally:
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


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the sandbox is served on loopback only, not on {host}")
    return address


def _protocol(sandbox: Sandbox) -> type[asyncio.Protocol]:
    class Protocol(http_server.TimeoutProtocol):
        """Tells the sandbox which connections are open: the fault `drop` closes one."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            sandbox.connections.opened(transport)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            sandbox.connections.closed(self.transport)
            super().connection_lost(exc)

    return Protocol


class _OnlyLocalHosts:
    """Rejects requests whose Host is not this machine: a web page could otherwise reach in by DNS rebinding."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not is_loopback(f"http://{Headers(scope=scope).get('host', '')}"):
            if scope["type"] == "websocket":
                await WebSocketClose()(scope, receive, send)
                return
            refused = ForbiddenUrlError("The sandbox answers on loopback only.", "Call it at 127.0.0.1 or localhost.")
            await PlainTextResponse(str(refused), 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)
