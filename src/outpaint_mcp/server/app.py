"""The MCP server: three tools, four resources, and how a task is told to a model. The only module that knows MCP."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    ContentBlock,
    ImageContent,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)
from pydantic import BaseModel

from outpaint_mcp import __version__
from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, RateLimitedError, UnknownTaskError
from outpaint_mcp.domain.provider_info import ProviderInfo
from outpaint_mcp.domain.task import Image, OnProgress, Status, Task
from outpaint_mcp.server.arguments import (
    CheckedArguments,
    GetTaskArguments,
    ListProvidersArguments,
    OutpaintArguments,
    ToolArguments,
    compact_schema,
)
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.subscriptions import TaskSubscriptions
from outpaint_mcp.server.text import providers_text, task_text

logger = logging.getLogger(__name__)

RATE_LIMITED = -32010
"""Our JSON-RPC code for a client that asks too much, where no tool's result can say so."""

INSTRUCTIONS = """\
Extends pictures beyond their borders ("zoom out", outpainting).
Use outpaint with image (the user's picture) or task_id (a finished task). With provider auto a local picture is drawn \
on this machine, free and in seconds; the vendors (list_providers) extend Midjourney tasks and take prompts, and each \
order costs money (usually 5 to 20 US cents) and takes one to two minutes.
If the result says "Not finished", call get_task with its id until it is done. Never call outpaint again to retry: the \
same order gives the same task back and costs nothing, but a changed one is a new order that is paid for.
An error begins with a code in brackets and says what to change. Show the user the image URLs; vendors' URLs expire."""

OUTPAINT = """\
Extend a picture beyond its borders: order it, wait a short while, return a task with image URLs.
Give image or task_id. Free on this machine (provider local, no prompt); with a vendor each order is paid. \
If it is not finished in time the task's id is returned: go on with get_task, do not order again."""

GET_TASK = "The state and the images of a task; with wait_seconds it waits for the end. Free, may be repeated."

LIST_PROVIDERS = "Who can extend pictures: limits, prices, what is configured. Free. Needed only to choose a provider."


@dataclass(frozen=True, slots=True)
class ResultShape:
    """What a result holds besides its text and structure.

    `resource_links`: one link per image; some hosts throw a result away over one. `preview`: one small inline picture.
    """

    resource_links: bool = True
    preview: bool = False


class ProviderList(BaseModel):
    """What `list_providers` returns."""

    providers: list[ProviderInfo]


def create_server(
    late: LazyService,
    shape: "Callable[[], ResultShape] | None" = None,
    *,
    client_of: Callable[[], str] = lambda: "local",
    limits: RateLimits | None = None,
) -> MCPServer[None]:
    """The server over a service.

    Args:
        late: the use cases, opened with the first call or after the first `tools/list` is answered.
        shape: what results hold besides text and structure; asked for with each result.
        client_of: who makes the current call.
        limits: how much one client may ask at once.
    """
    limits = limits or RateLimits()
    tools = _Tools(late, shape or ResultShape, client_of, limits)
    watching = TaskSubscriptions(late, client_of)
    names = {"outpaint", "get_task", "list_providers"}

    async def guard(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call" and (ctx.params or {}).get("name") not in names:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: the tools are {', '.join(sorted(names))}")
        try:
            if ctx.request_id is not None:
                limits.count(client_of())
            with limits.waiting(client_of()) if ctx.method == "subscriptions/listen" else contextlib.nullcontext():
                result = await call_next(ctx)
        except RateLimitedError as error:
            if ctx.method == "tools/call":
                return _refused(error)
            raise MCPError(RATE_LIMITED, str(error), {"retryAfter": error.retry_after}) from error
        if ctx.method == "tools/list":
            late.begin()
        elif ctx.method == "resources/read" and isinstance(result, dict):
            _name_types(result)
        return result

    @contextlib.asynccontextmanager
    async def living(_: MCPServer[None]) -> AsyncIterator[None]:
        async with late.running(), watching.running():
            yield

    hour, five_minutes = CacheHint(ttl_ms=3_600_000, scope="public"), CacheHint(ttl_ms=300_000, scope="public")
    outpaint = _tool(
        tools.outpaint,
        "Extend a picture",
        OUTPAINT,
        OutpaintArguments,
        Task,
        # Destructive: it may spend money. Idempotent: the same order again gives the first task back.
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True),
    )
    server: MCPServer[None] = MCPServer(
        "outpaint-mcp",
        title="Outpaint",
        description="Extends pictures beyond their borders",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        tools=[
            outpaint,
            _tool(
                tools.get_task,
                "State of a task",
                GET_TASK,
                GetTaskArguments,
                Task,
                ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=True),
                # Made once: it is the largest part of building the server.
                outpaint.output_schema,
            ),
            _tool(
                tools.list_providers,
                "Providers",
                LIST_PROVIDERS,
                ListProvidersArguments,
                ProviderList,
                ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
            ),
        ],
        lifespan=living,
        middleware=[guard],
        subscriptions=watching.bus,
        cache_hints={
            "tools/list": hour,
            "resources/templates/list": hour,
            "resources/list": five_minutes,
            "server/discover": hour,
        },
    )
    _add_resources(server, late, client_of)
    watching.serve(server)
    return server


def _tool(
    function: Callable[..., Any],
    title: str,
    description: str,
    arguments: type[ToolArguments],
    result: type[BaseModel],
    annotations: ToolAnnotations,
    schema: dict[str, Any] | None = None,
) -> Tool:
    return Tool(
        fn=function,
        name=function.__name__,
        title=title,
        description=description,
        parameters=compact_schema(arguments),
        fn_metadata=CheckedArguments(arg_model=arguments, output_model=result, output_schema=schema),
        is_async=True,
        context_kwarg="ctx",
        annotations=annotations,
    )


class _Tools:
    """The three tools: from checked arguments to results."""

    def __init__(
        self, late: LazyService, shape: Callable[[], ResultShape], client_of: Callable[[], str], limits: RateLimits
    ) -> None:
        self._late = late
        self._shape = shape
        self._caller_of = client_of
        self._limits = limits

    async def outpaint(
        self, call: OutpaintArguments | InvalidRequestError, ctx: Context
    ) -> Annotated[CallToolResult, Task]:
        try:
            if isinstance(call, InvalidRequestError):
                raise call
            with self._waiting(call.wait_seconds):
                task = await (await self._late.get()).outpaint(
                    call.request(),
                    client=self._caller_of(),
                    wait_seconds=call.wait_seconds,
                    on_progress=_progress(ctx),
                )
            return await self._result(task)
        except OutpaintError as error:
            return _refused(error)

    async def get_task(
        self, call: GetTaskArguments | InvalidRequestError, ctx: Context
    ) -> Annotated[CallToolResult, Task]:
        try:
            if isinstance(call, InvalidRequestError):
                raise call
            task_id, provider = call.named()
            with self._waiting(call.wait_seconds):
                task = await (await self._late.get()).get_task(
                    task_id,
                    provider=provider,
                    client=self._caller_of(),
                    wait_seconds=call.wait_seconds,
                    on_progress=_progress(ctx),
                )
            return await self._result(task)
        except OutpaintError as error:
            return _refused(error)

    async def list_providers(
        self, call: ListProvidersArguments | InvalidRequestError, ctx: Context
    ) -> Annotated[CallToolResult, ProviderList]:
        if isinstance(call, InvalidRequestError):
            return _refused(call)
        try:
            found = ProviderList(providers=(await self._late.get()).list_providers())
        except OutpaintError as error:
            return _refused(error)
        return CallToolResult(
            content=[TextContent(type="text", text=providers_text(found.providers))],
            structured_content=found.model_dump(mode="json"),
        )

    def _waiting(self, seconds: float) -> AbstractContextManager[None]:
        return self._limits.waiting(self._caller_of()) if seconds else contextlib.nullcontext()

    async def _result(self, task: Task) -> CallToolResult:
        content: list[ContentBlock] = [TextContent(type="text", text=task_text(task))]
        if task.status is Status.SUCCEEDED:
            shape = self._shape()
            if shape.resource_links:
                content += [_link(task, image) for image in task.images]
            if shape.preview and (data := await self._preview_of(task)):
                import base64

                content.append(ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/jpeg"))
        return CallToolResult(content=content, structured_content=task.model_dump(mode="json"))

    async def _preview_of(self, task: Task) -> bytes | None:
        return await (await self._late.get()).preview(task.id, client=self._caller_of())


def _refused(error: OutpaintError) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)


def _progress(ctx: Context) -> OnProgress:
    async def report(percent: float, message: str) -> None:
        await ctx.report_progress(percent, 100, message)

    return report


def _link(task: Task, image: Image) -> ResourceLink:
    # A file on this machine cannot be read by a host that runs elsewhere; its resource can.
    uri = image.url if image.url.startswith("https://") else image.resource_uri or image.url
    return ResourceLink(
        type="resource_link",
        uri=uri,
        name=f"{task.id}-{image.index}",
        title=f"Outpainted image {image.index}",
        mime_type=image.mime_type,
    )


def _add_resources(server: MCPServer[None], late: LazyService, client_of: Callable[[], str]) -> None:
    @server.resource(
        "outpaint://providers",
        name="providers",
        title="Providers",
        description="Who can extend pictures, with limits and prices",
        mime_type="application/json",
    )
    async def providers() -> str:
        with _as_resource_errors():
            service = await late.get()
        return ProviderList(providers=service.list_providers()).model_dump_json()

    @server.resource(
        "outpaint://tasks",
        name="tasks",
        title="Recent tasks",
        description="The newest tasks, newest first",
        mime_type="application/json",
    )
    async def tasks() -> str:
        with _as_resource_errors():
            recent = await (await late.get()).recent(client=client_of())
        return "[" + ",".join(task.model_dump_json() for task in recent) + "]"

    @server.resource(
        "outpaint://tasks/{id}",
        name="task",
        title="Task",
        description="One task; can be watched",
        mime_type="application/json",
    )
    async def task(id: str) -> str:  # noqa: A002 (the URI's variable)
        with _as_resource_errors():
            found = await (await late.get()).get_task(id, client=client_of())
        return found.model_dump_json()

    @server.resource(
        "outpaint://tasks/{id}/images/{index}",
        name="image",
        title="Image of a task",
        description="The bytes of one image, also after the provider's URL has died",
        mime_type="image/png",
    )
    async def image(id: str, index: str) -> bytes:  # noqa: A002 (the URI's variable)
        with _as_resource_errors():
            if not (index.isascii() and index.isdigit() and len(index) < 4):
                raise UnknownTaskError("There is no such image.")
            data, _ = await (await late.get()).image(id, int(index), client=client_of())
        return data


@contextlib.contextmanager
def _as_resource_errors() -> Any:
    try:
        yield
    except UnknownTaskError as error:
        raise ResourceNotFoundError(str(error)) from error
    except OutpaintError as error:
        raise ResourceError(str(error)) from error


def _name_types(result: dict[str, Any]) -> None:
    """Give each binary content its true type: the SDK knows only the one that the template was registered with."""
    beginnings = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "UklGR": "image/webp", "R0lGOD": "image/gif"}
    for content in result.get("contents", ()):
        for beginning, mime_type in beginnings.items():
            if str(content.get("blob", "")).startswith(beginning):
                content["mimeType"] = mime_type
