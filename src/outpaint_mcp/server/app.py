"""The MCP server over the service: built on the SDK's public low-level `Server`, for both eras of the protocol."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from mcp.server import NotificationOptions, Server
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    SERVER_INFO_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    PromptsCapability,
    ResourcesCapability,
    ServerCapabilities,
    ToolsCapability,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from outpaint_mcp import __version__
from outpaint_mcp.domain.errors import InternalError, RateLimitedError
from outpaint_mcp.domain.events import TaskEvents
from outpaint_mcp.domain.holding import holding
from outpaint_mcp.server.client_profiles import APPS, TASKS
from outpaint_mcp.server.completions import Completions
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.prompts import Prompts
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.resources import Resources
from outpaint_mcp.server.subscriptions import TaskListenHandler, TaskSubscriptions
from outpaint_mcp.server.task_extension import TaskExtension
from outpaint_mcp.server.tools import ResultShape, Tools, error_result

logger = logging.getLogger(__name__)

RATE_LIMITED: Final = -32010
"""Our JSON-RPC code for a client that sends too many requests, where no tool's result can say so."""

INSTRUCTIONS: Final = """\
Extends images beyond their borders ("zoom out", outpainting).
Call outpaint with image (the user's own image) or task_id (a finished task). With provider auto the user's file is \
extended on this machine, free and within seconds. Vendors (list_providers) extend Midjourney tasks, follow prompts; \
each order costs money (usually 5 to 20 US cents) and takes one to two minutes.
If the result says "Not finished", call get_task with its id until it is done. If a call times out or breaks off, make \
exactly the same call again: that is free and finds the task. Any changed argument is a new order that is charged.
An error begins with a code in brackets and says what to change. Show the user the image URLs; vendors' URLs expire."""


def build_server(
    lazy: LazyService,
    shape: Callable[[], ResultShape] = ResultShape,
    *,
    events: TaskEvents | None = None,
    client_of: Callable[[], str] = lambda: "local",
    limits: RateLimits | None = None,
    paths: bool = True,
) -> Server[None]:
    """The server over a service.

    Args:
        lazy: the service, opened with the first call or after the first `tools/list` is answered.
        shape: what results hold besides text and structure; called for each result.
        events: what the service publishes, for clients that watch tasks; None tells them nothing.
        client_of: who makes the current request.
        limits: how much one client may request at once.
        paths: whether clients share this machine's files, so that an image can be given by its path.
    """
    limits = limits or RateLimits()
    tools = Tools(lazy, shape, client_of, limits, paths=paths)
    resources = Resources(lazy, client_of)
    prompts = Prompts(paths=paths)
    events = events or TaskEvents()
    subscriptions = TaskSubscriptions(lazy, events, client_of)

    @contextlib.asynccontextmanager
    async def lifespan(_: Server[None]) -> AsyncIterator[None]:
        async with lazy.running(), subscriptions.running():
            yield

    server = _Server(
        "outpaint-mcp",
        title="Outpaint",
        description="Extends images beyond their borders",
        instructions=INSTRUCTIONS if paths else INSTRUCTIONS.replace("the user's file", "a data: image"),
        version=__version__,
        lifespan=lifespan,
        cache_hints=_CACHE_HINTS,
        # Else the modern HTTP transport runs tools/list, middleware and all, before every call.
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.list,
        on_list_resources=resources.list,
        on_list_resource_templates=resources.list_templates,
        on_read_resource=resources.read,
        on_subscribe_resource=subscriptions.subscribe,
        on_unsubscribe_resource=subscriptions.unsubscribe,
        on_subscriptions_listen=TaskListenHandler(subscriptions.bus, events, client_of, limits),
        on_list_prompts=prompts.list,
        on_get_prompt=prompts.get,
        on_completion=Completions(lazy, client_of).complete,
    )
    server.middleware.append(_RateLimiting(server, limits, client_of))
    extension = TaskExtension(lazy, tools.result_of, client_of)
    extension.add_to(server)
    # Not as `on_call_tool`, whose type knows no handle of a task.
    server.add_request_handler("tools/call", CallToolRequestParams, extension.around(tools.call))
    return server


class _Server(Server[None]):
    """The SDK's server, which promises clients only what there is.

    The SDK derives `listChanged` from `subscriptions/listen`, and some clients open a stream just because it is
    promised; but the lists never change.
    """

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        found = super().get_capabilities(
            notification_options, experimental_capabilities, extensions, protocol_version=protocol_version
        )
        tasks: dict[str, dict[str, Any]] = {TASKS: {}} if protocol_version in MODERN_PROTOCOL_VERSIONS else {}
        return found.model_copy(
            update={
                "extensions": {**(found.extensions or {}), APPS: {}, **tasks},
                "prompts": PromptsCapability(list_changed=False),
                "tools": ToolsCapability(list_changed=False),
                "resources": ResourcesCapability(subscribe=True, list_changed=False),
            }
        )


class _RateLimiting:
    """Middleware that holds each client to its rate limits, and keeps the text of unexpected exceptions from it.

    Args:
        server: whose answers they are.
        limits: the limits.
        client_of: who makes the current request.
    """

    def __init__(self, server: Server[None], limits: RateLimits, client_of: Callable[[], str]) -> None:
        self._server = server
        self._limits = limits
        self._client_of = client_of

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        try:
            self._limits.count(self._client_of())
            with holding():
                return await call_next(ctx)
        except RateLimitedError as error:
            if ctx.method == "tools/call":
                return self._stamped(error_result(str(error)), ctx.protocol_version)
            raise MCPError(RATE_LIMITED, str(error), {"retryAfter": error.retry_after}) from error
        except (MCPError, ValidationError):
            raise
        except Exception as error:
            # In the older protocol the SDK would send the exception's own text.
            logger.exception("%s failed", ctx.method)
            raise MCPError(INTERNAL_ERROR, str(InternalError(f"{ctx.method} failed."))) from error

    def _stamped(self, result: CallToolResult, version: str) -> CallToolResult:
        """A result of the middleware's own, with what the SDK writes into every other answer."""
        if version not in MODERN_PROTOCOL_VERSIONS:
            return result
        return result.model_copy(update={"meta": {SERVER_INFO_META_KEY: self._server.server_info_stamp}})


_HOUR, _FIVE_MINUTES = CacheHint(ttl_ms=3_600_000, scope="public"), CacheHint(ttl_ms=300_000, scope="public")
_CACHE_HINTS: Final[Mapping[Any, CacheHint]] = {
    "tools/list": _HOUR,
    "prompts/list": _HOUR,
    "resources/templates/list": _HOUR,
    "resources/list": _FIVE_MINUTES,
    "server/discover": _HOUR,
}
