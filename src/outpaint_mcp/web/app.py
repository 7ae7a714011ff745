"""The HTTP application: MCP over Streamable HTTP and SSE, vendors' callbacks, and health checks.

Every request passes, in this order, the check of its Host and Origin, the check whether the server is open, and for MCP
the check of its bearer token. The token's owner is the client of everything that the request does.
"""

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import AsyncResource
from mcp.server import Server
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
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    OutpaintError,
)
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.tasks.image_links import IMAGES_PATH
from outpaint_mcp.tasks.service import Service
from outpaint_mcp.web.admission import SESSION_IDLE_SECONDS, Admission
from outpaint_mcp.web.auth import ClientVerifier, OAuth
from outpaint_mcp.web.callbacks import CallbackRoute
from outpaint_mcp.web.images import ImageRoute
from outpaint_mcp.web.operators import NOT_OPEN, Operators
from outpaint_mcp.web.refusals import refusal

if TYPE_CHECKING:
    from outpaint_mcp.web.metrics import Metrics

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
STOP_SECONDS = 10.0
"""How long a stop waits for calls to return."""
FLUSH_SECONDS = 2.0
"""How long it then waits for their answers to be sent."""
SSE_FLUSH_SECONDS = 0.3
"""How long it then leaves for answers over SSE to be sent."""

_NOT_ALLOWED: Final = {
    421: ConfigurationError(
        "This server is not known under the host of this URL.", "Have the operator add it to OUTPAINT_ALLOWED_HOSTS."
    ),
    403: ConfigurationError(
        "Web pages of this origin may not use this server.", "Have the operator add it to OUTPAINT_ALLOWED_ORIGINS."
    ),
}
"""By the status with which the SDK refuses a Host or an Origin."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What is served, and to whom.

    Args:
        hosts: the Host headers that are accepted; ``NAME:*`` stands for any port.
        origins: the Origin headers that are accepted, if a browser sends one.
        resource: this server's own URL as clients know it.
        streamable: whether Streamable HTTP is served.
        sse: whether the older HTTP with SSE is served.
        oauth: the authorization server whose tokens are accepted, or None.
        max_body_bytes: the largest request body that is read.
    """

    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    resource: str
    streamable: bool = True
    sse: bool = False
    oauth: OAuth | None = None
    max_body_bytes: int = 16 * 2**20


def hosts_of(bound: str, public_url: str | None, more: Sequence[str]) -> tuple[str, ...]:
    """The Host headers that a server which listens on `bound` accepts.

    Args:
        bound: the address; an unspecified one (0.0.0.0, ::) adds nothing.
        public_url: the server's public URL, if it has one.
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
    """The Origin headers that are accepted: this machine's, the server's own, and what the operator allows."""
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in ("127.0.0.1", "localhost", "[::1]")]
    origins += [f"{origin}:*" for origin in origins]
    if public_url is not None:
        parts = urlsplit(public_url)
        origins.append(f"{parts.scheme}://{parts.netloc}")
    return (*origins, *more)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_unspecified(host: str) -> bool:
    """Whether an address stands for all addresses of a machine (0.0.0.0, ::)."""
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
        lazy: its service; it is opened when this is, and an error in the settings shows then.
        options: what is served, and to whom.
        admission: what one client may have open at once.
        verifier: tells whose token it is; None requires none.

    `asgi` is the application to serve, `paths` are the paths of its MCP endpoints.
    """

    def __init__(
        self,
        server: Server[None],
        lazy: LazyService,
        options: HttpOptions,
        admission: Admission,
        *,
        verifier: ClientVerifier | None = None,
    ) -> None:
        # `Server.run` would enter the server's lifespan once for every SSE connection: hence the parts.
        self._server = server
        self._lazy = lazy
        self._options = options
        self._admission = admission
        self._verifier = verifier
        self._open = False
        self._operators = Operators(lazy.get, lambda: self._open)
        self._posts = 0
        self._no_posts = anyio.Event()
        # The sending side of each SSE connection; closing it ends the connection cleanly.
        self._streams: set[AsyncResource] = set()
        self.paths = ((MCP_PATH,) if options.streamable else ()) + ((SSE_PATH,) if options.sse else ())
        self._security = TransportSecuritySettings(
            allowed_hosts=list(options.hosts), allowed_origins=list(options.origins)
        )
        self._sessions = StreamableHTTPSessionManager(
            self._server,
            security_settings=self._security,
            session_idle_timeout=SESSION_IDLE_SECONDS,
            max_request_body_size=options.max_body_bytes,
        )
        self._sse = SseServerTransport(
            MESSAGES_PATH, security_settings=self._security, max_request_body_size=options.max_body_bytes
        )
        guard = TransportSecurityMiddleware(self._security)
        routes = Starlette(routes=self._routes(), exception_handlers={HTTPException: self._no_such_route})

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            refused = await guard.validate_request(Request(scope))
            if refused is not None:
                refused = refusal(refused.status_code, _NOT_ALLOWED[refused.status_code])
            elif not self._open and scope["path"] not in ("/healthz", "/readyz"):
                refused = refusal(503, NOT_OPEN, {"Retry-After": "5"})
            if refused is not None or scope["method"] != "POST":
                await (refused or routes)(scope, receive, send)
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
        """The application for a port that only the operator reaches: metrics and health checks."""
        return self._operators.app(metrics)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests while the block lasts; before and after it the answer is 503.

        Raises:
            OutpaintError: the service cannot be opened: a setting is wrong.
        """
        failure: OutpaintError | None = None
        async with self._sessions.run():
            try:
                service = await self._lazy.get()
            except OutpaintError as error:
                # Raised outside the SDK's task group, which would wrap it in an exception group.
                failure = error
            else:
                async with self._answering(service):
                    yield
        if failure is not None:
            raise failure

    @contextlib.asynccontextmanager
    async def _answering(self, service: Service) -> AsyncIterator[None]:
        self._open = True
        try:
            yield
        finally:
            # Waiting calls are answered before the server closes.
            with anyio.CancelScope(shield=True):
                await service.stop(STOP_SECONDS)
                self._open = False
                self._end_subscriptions()
                with anyio.move_on_after(FLUSH_SECONDS):
                    if self._posts:
                        await self._no_posts.wait()
                if self._streams:
                    # Their answers are on their way; nothing tells when they have been sent.
                    await anyio.sleep(SSE_FLUSH_SECONDS)
                    for stream in list(self._streams):
                        await stream.aclose()

    def _end_subscriptions(self) -> None:
        entry = self._server.get_request_handler("subscriptions/listen")
        if entry is not None and isinstance(entry.handler, ListenHandler):
            entry.handler.close()

    def _routes(self) -> list[BaseRoute]:
        options = self._options
        routes: list[BaseRoute] = [
            *self._operators.routes(),
            Route("/webhooks/{provider}/{token}", CallbackRoute(self._lazy).answer, methods=["POST"]),
            Route(IMAGES_PATH + "/{token}/{name}", ImageRoute(self._lazy).answer),
        ]
        if options.streamable:
            routes.append(
                Route(MCP_PATH, self._to_clients(self._admission.to(self._sessions.handle_request, "streamable")))
            )
        if options.sse:
            connect = self._admission.to(self._serve_sse, "sse")
            routes.append(Route(SSE_PATH, self._to_clients(connect), methods=["GET"]))
            messages = self._admission.to(self._sse.handle_post_message, "messages")
            routes.append(Mount(MESSAGES_PATH, self._to_clients(messages)))
        if options.oauth is not None:
            routes += create_protected_resource_routes(
                AnyHttpUrl(options.resource),
                [AnyHttpUrl(options.oauth.issuer)],
                list(options.oauth.scopes) or None,
                resource_name="outpaint-mcp",
            )
        return routes

    def _to_clients(self, app: ASGIApp) -> "_ToClients":
        return _ToClients(app, self._options, self._verifier)

    async def _serve_sse(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._sse.connect_sse(scope, receive, send) as (read, write):
            self._streams.add(write)
            try:
                await serve_dual_era_loop(
                    self._server,
                    read,
                    write,
                    lifespan_state=None,
                    init_options=self._server.create_initialization_options(),
                )
            finally:
                self._streams.discard(write)

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        status, headers = getattr(error, "status_code", 404), getattr(error, "headers", None) or {}
        served = f"MCP is served at {' and '.join(self.paths)}."
        if status == 405:
            methods = " or ".join(sorted(headers["Allow"].split(", ")))
            wrong = InvalidRequestError(f"{request.method} is not answered here.", f"Use {methods}. {served}")
            return refusal(status, wrong, headers)
        return refusal(status, InvalidRequestError("There is nothing at this path.", served), headers)


class _ToClients:
    """Lets a request through to `app` if its bearer token is somebody's, who is then its client.

    A class, since Starlette's `Route` takes a function to be an endpoint rather than an ASGI application.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions, verifier: ClientVerifier | None) -> None:
        self._app = app
        if verifier is None:
            return
        resource = AnyHttpUrl(options.resource)
        required = RequireAuthMiddleware(
            AuthContextMiddleware(app),
            list(options.oauth.scopes) if options.oauth is not None else [],
            build_resource_metadata_url(resource) if options.oauth is not None else None,
        )
        self._app = AuthenticationMiddleware(
            required, backend=BearerAuthBackend(verifier, resource_server_url=resource)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
