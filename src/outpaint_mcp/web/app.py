"""Serves the MCP server over HTTP: Streamable HTTP, SSE, vendors' callbacks, and whether it is well.

Every request passes, in this order: the check of its Host and Origin, the check whether the server is open, and for MCP
the check of its bearer token. Who asks is then the client of everything that the request does.
"""

import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from anyio.abc import AsyncResource
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.runner import serve_dual_era_loop
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.tasks.service import Service
from outpaint_mcp.web.auth import ClientVerifier, OAuth
from outpaint_mcp.web.callbacks import MAX_BODY_BYTES, Callbacks

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from outpaint_mcp.web.metrics import Metrics

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
STOP_SECONDS = 10.0
"""How long a stop waits for calls to return."""
LAST_WORDS_SECONDS = 2.0
"""How long it then waits for their answers to be sent."""
SSE_SECONDS = 0.3
"""How long an answer over SSE has to be sent in."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What is served, and to whom.

    Args:
        hosts: the Host headers that are answered; ``NAME:*`` stands for any port.
        origins: the Origin headers that are answered, where a browser sends one.
        resource: this server's own URL as clients know it.
        streamable: whether Streamable HTTP is served.
        sse: whether the older HTTP with SSE is.
        oauth: the authorization server that clients are told of, or None.
        max_body_bytes: the largest request that is read.
    """

    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    resource: str
    streamable: bool = True
    sse: bool = False
    oauth: OAuth | None = None
    max_body_bytes: int = 16 * 2**20


def hosts_of(bound: str, public_url: str | None, more: Sequence[str]) -> tuple[str, ...]:
    """The Host headers under which a server is reached that listens on `bound`.

    Args:
        bound: the address; one that stands for all of a machine's adds nothing.
        public_url: where others reach it, if that is known.
        more: what the operator allows besides, each with its port or with ``:*`` for any.
    """
    hosts = ["127.0.0.1:*", "localhost:*", "[::1]:*", "127.0.0.1", "localhost", "[::1]"]
    address = _address(bound)
    if address is None:
        hosts += [bound, f"{bound}:*"]
    elif not address.is_unspecified and not address.is_loopback:
        shown = f"[{bound}]" if address.version == 6 else bound
        hosts += [shown, f"{shown}:*"]
    if public_url is not None:
        hosts.append(urlsplit(public_url).netloc)
    return (*hosts, *more)


def origins_of(public_url: str | None, more: Sequence[str]) -> tuple[str, ...]:
    """The origins whose pages may ask: this machine's, the server's own, and what the operator allows."""
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in ("127.0.0.1", "localhost", "[::1]")]
    origins += [f"{origin}:*" for origin in origins]
    if public_url is not None:
        parts = urlsplit(public_url)
        origins.append(f"{parts.scheme}://{parts.netloc}")
    return (*origins, *more)


def is_loopback(host: str) -> bool:
    """Whether an address that is listened on is reached from this machine alone."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_unspecified(host: str) -> bool:
    """Whether an address stands for all of a machine's."""
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class HttpApp:
    """The ASGI application over one MCP server.

    Args:
        server: what is served.
        late: its service; it is opened when this is, and an error in the settings shows then.
        door: what is served, and to whom.
        verifier: tells whose token it is; None asks nobody for one.
        public_url: where vendors can call back; None has them asked.

    `asgi` is what to serve, `paths` is where in it MCP clients find the server.
    """

    def __init__(
        self,
        server: MCPServer[None],
        late: LazyService,
        door: HttpOptions,
        *,
        verifier: ClientVerifier | None = None,
        public_url: str | None = None,
    ) -> None:
        # The SDK has a public way to all of these that enters the server's lifespan once for every SSE connection.
        self._inner = server._lowlevel_server
        self._late = late
        self._door = door
        self._verifier = verifier
        self._public_url = public_url
        self._webhooks: Callbacks | None = None
        self._open = False
        self._posts = 0
        self._no_posts = anyio.Event()
        # The answers' side of each SSE connection; closing it ends the connection in good order.
        self._streams: set[AsyncResource] = set()
        self.paths = ((MCP_PATH,) if door.streamable else ()) + ((SSE_PATH,) if door.sse else ())
        self._security = TransportSecuritySettings(allowed_hosts=list(door.hosts), allowed_origins=list(door.origins))
        self._sessions = StreamableHTTPSessionManager(
            self._inner, security_settings=self._security, max_request_body_size=door.max_body_bytes
        )
        self._sse = SseServerTransport(
            MESSAGES_PATH, security_settings=self._security, max_request_body_size=door.max_body_bytes
        )
        guard = TransportSecurityMiddleware(self._security)
        routes = Starlette(routes=self._routes())

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            refusal = await guard.validate_request(Request(scope))
            if refusal is None and not self._open and scope["path"] not in ("/healthz", "/readyz"):
                refusal = PlainTextResponse("Not open", 503, {"Retry-After": "5"})
            if refusal is not None or scope["method"] != "POST":
                await (refusal or routes)(scope, receive, send)
                return
            self._posts += 1
            try:
                await routes(scope, receive, send)
            finally:
                self._posts -= 1
                if not self._posts:
                    self._no_posts.set()
                    self._no_posts = anyio.Event()

        self.asgi: ASGIApp = app

    def for_operators(self, metrics: "Metrics") -> ASGIApp:
        """The application for a port that only the operator reaches: metrics, and whether the server is well."""

        async def page(_: Request) -> Response:
            try:
                return Response(await metrics.page(await self._late.get()), media_type=metrics.content_type)
            except OutpaintError as error:
                return PlainTextResponse(error.code, 503)

        return Starlette(
            routes=[Route("/metrics", page), Route("/healthz", self._healthz), Route("/readyz", self._readyz)]
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While requests are answered; before and after it they are told to come again.

        Raises:
            OutpaintError: the service cannot be opened: a setting is wrong.
        """
        refusal: OutpaintError | None = None
        async with self._sessions.run():
            try:
                service = await self._late.get()
            except OutpaintError as error:
                # Carried out of the SDK's task group by hand: it would wrap it.
                refusal = error
            else:
                async with self._answering(service):
                    yield
        if refusal is not None:
            raise refusal

    @contextlib.asynccontextmanager
    async def _answering(self, service: Service) -> AsyncIterator[None]:
        if self._public_url is not None:
            self._webhooks = Callbacks(self._public_url, service)
            service.call_back_to(self._webhooks.callback_for)
        self._open = True
        try:
            yield
        finally:
            # Whoever waits is answered before the doors close.
            with anyio.CancelScope(shield=True):
                await service.stop(STOP_SECONDS)
                self._open = False
                self._end_subscriptions()
                with anyio.move_on_after(LAST_WORDS_SECONDS):
                    if self._posts:
                        await self._no_posts.wait()
                if self._streams:
                    # What was answered there is on its way; nothing says when it has been handed over.
                    await anyio.sleep(SSE_SECONDS)
                    for stream in list(self._streams):
                        await stream.aclose()

    def _end_subscriptions(self) -> None:
        entry = self._inner.get_request_handler("subscriptions/listen")
        if entry is not None and isinstance(entry.handler, ListenHandler):
            entry.handler.close()

    def _routes(self) -> list[BaseRoute]:
        door = self._door
        routes: list[BaseRoute] = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/webhooks/{provider}/{token}", self._webhook, methods=["POST"]),
        ]
        if door.streamable:
            routes.append(Route(MCP_PATH, _ToCallers(self._sessions.handle_request, door, self._verifier)))
        if door.sse:
            routes.append(Route(SSE_PATH, _ToCallers(self._serve_sse, door, self._verifier), methods=["GET"]))
            routes.append(Mount(MESSAGES_PATH, _ToCallers(self._sse.handle_post_message, door, self._verifier)))
        if door.oauth is not None:
            routes += create_protected_resource_routes(
                AnyHttpUrl(door.resource),
                [AnyHttpUrl(door.oauth.issuer)],
                list(door.oauth.scopes) or None,
                resource_name="outpaint-mcp",
            )
        return routes

    async def _serve_sse(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._sse.connect_sse(scope, receive, send) as (read, write):
            self._streams.add(write)
            try:
                await serve_dual_era_loop(
                    self._inner,
                    read,
                    write,
                    lifespan_state=None,
                    init_options=self._inner.create_initialization_options(),
                )
            finally:
                self._streams.discard(write)

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        """Whether orders are taken now: the service is open, the store answers, nobody has asked it to stop."""
        if not self._open:
            return PlainTextResponse("not open", 503)
        try:
            service = await self._late.get()
            await service.check()
        except OutpaintError as error:
            return PlainTextResponse(error.code, 503)
        return PlainTextResponse("stopping", 503) if service.stopping else PlainTextResponse("ready")

    async def _webhook(self, request: Request) -> Response:
        """Every call that is not genuine gets the same answer, whatever is wrong with it."""
        unknown = PlainTextResponse("Not found", 404)
        if self._webhooks is None:
            return unknown
        try:
            body = b""
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    return PlainTextResponse("Too large", 413, {"Connection": "close"})
        except ClientDisconnect:
            return unknown
        heeded = await self._webhooks.receive(
            request.path_params["provider"], request.path_params["token"], request.headers, body
        )
        return PlainTextResponse("ok") if heeded else unknown


class _ToCallers:
    """Lets a request through to `app` if its bearer token is somebody's, who is then its client.

    A class, since a route takes a function for something else than an ASGI application.
    """

    def __init__(self, app: ASGIApp, door: HttpOptions, verifier: ClientVerifier | None) -> None:
        self._app = app
        if verifier is None:
            return
        resource = AnyHttpUrl(door.resource)
        required = RequireAuthMiddleware(
            AuthContextMiddleware(app),
            list(door.oauth.scopes) if door.oauth is not None else [],
            build_resource_metadata_url(resource) if door.oauth is not None else None,
        )
        self._app = AuthenticationMiddleware(
            required, backend=BearerAuthBackend(verifier, resource_server_url=resource)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
