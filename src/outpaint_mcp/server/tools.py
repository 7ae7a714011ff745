"""The three tools: their descriptions and schemas, and the way from checked arguments to results."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    ResourceLink,
    TextContent,
    Tool,
    ToolAnnotations,
)

from outpaint_mcp.domain.errors import InternalError, InvalidRequestError, NotReadyError, OutpaintError
from outpaint_mcp.domain.task import Image, OnProgress, Status, Task
from outpaint_mcp.server.arguments import (
    GetTaskArguments,
    ListProvidersArguments,
    OutpaintArguments,
    ToolArguments,
    checked,
    input_schema,
    output_schema,
)
from outpaint_mcp.server.client_profiles import ClientProfile, profile_for
from outpaint_mcp.server.confirmation import ConfirmationWanted, asker
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.text import ProviderList, providers_text, task_text
from outpaint_mcp.server.view import TOOL_META

if TYPE_CHECKING:
    from outpaint_mcp.tasks.order_taker import Ask
    from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

OPENING_SECONDS: Final = 3.5
"""How long a call waits for the service to be opened, even one that waits for nothing else."""
PREVIEW_SECONDS: Final = 0.4
"""How much longer than that, or than its wait, a call may take for a preview; then it does without."""

OUTPAINT: Final = """\
Extend an image beyond its borders. Places the order, waits up to wait_seconds and returns a task with image URLs.
Give image or task_id. Free on this machine (provider local, no prompt); a vendor charges for each order. \
If the task is not finished in time, its id is returned: call get_task with it; do not order again."""

GET_TASK: Final = "Status and images of a task; wait_seconds waits for it to finish. Free, can be repeated."

LIST_PROVIDERS: Final = (
    "Which providers can extend images: limits, prices, whether configured. Free. Needed only to choose one."
)


@dataclass(frozen=True, slots=True)
class ResultShape:
    """What a result holds besides its text and structure.

    `resource_links`: one link per image; some hosts throw a result away over one, and ``auto`` sends them to those that
    are known not to. `preview`: one small inline image; ``auto`` where the client's user sees it and no view.
    """

    resource_links: bool | Literal["auto"] = "auto"
    preview: bool | Literal["auto"] = "auto"


class Tools:
    """Lists and calls the tools.

    Args:
        lazy: the service.
        shape: what results hold besides text and structure; called for each result.
        client_of: who makes the current request.
        limits: how many calls of one client may wait at once.
        paths: whether an image can be given by its path.
    """

    def __init__(
        self,
        lazy: LazyService,
        shape: Callable[[], ResultShape],
        client_of: Callable[[], str],
        limits: RateLimits,
        *,
        paths: bool = True,
    ) -> None:
        self._lazy = lazy
        self._shape = shape
        self._client_of = client_of
        self._limits = limits
        # Made once: it is the largest part of building the server.
        task_schema = output_schema(Task)
        self._tools = [
            Tool(
                name="outpaint",
                title="Extend an image",
                description=OUTPAINT,
                _meta=TOOL_META,
                input_schema=input_schema(OutpaintArguments, paths=paths),
                output_schema=task_schema,
                # Destructive: it may spend money. Idempotent: the same order again gives the first task back.
                annotations=ToolAnnotations(
                    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
                ),
            ),
            Tool(
                name="get_task",
                title="Status of a task",
                description=GET_TASK,
                _meta=TOOL_META,
                input_schema=input_schema(GetTaskArguments),
                output_schema=task_schema,
                annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=True),
            ),
            Tool(
                name="list_providers",
                title="Providers",
                description=LIST_PROVIDERS,
                input_schema=input_schema(ListProvidersArguments),
                output_schema=output_schema(ProviderList),
                annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
            ),
        ]

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """The schema of a tool's arguments; None if there is no such tool."""
        return next((tool.input_schema for tool in self._tools if tool.name == name), None)

    async def list(self, _: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        """The tools; the service is opened a moment after."""
        self._lazy.begin()
        return ListToolsResult(tools=self._tools)

    async def call(
        self, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """The result of a tool. What a better call could have avoided is a result that says so.

        Raises:
            MCPError: there is no such tool.
        """
        arguments = params.arguments or {}
        try:
            match params.name:
                case "outpaint":
                    return await self._outpaint(checked(OutpaintArguments, arguments), ctx, asker(ctx, params))
                case "get_task":
                    return await self._get_task(checked(GetTaskArguments, arguments), ctx)
                case "list_providers":
                    return await self._list_providers(checked(ListProvidersArguments, arguments))
                case _:
                    names = ", ".join(sorted(tool.name for tool in self._tools))
                    raise MCPError(
                        INVALID_PARAMS, str(InvalidRequestError("There is no such tool.", f"The tools are {names}."))
                    )
        except OutpaintError as error:
            return error_result(str(error))
        except ConfirmationWanted as wanted:
            return wanted.result
        except MCPError:
            raise
        except Exception:
            logger.exception("the tool %s failed", params.name)
            return error_result(str(InternalError(f"The tool {params.name} failed.")))

    async def _outpaint(
        self, call: OutpaintArguments, ctx: ServerRequestContext[Any, Any], ask: "Ask | None"
    ) -> CallToolResult:
        profile = profile_for(ctx)
        wait = call.wait_seconds
        if wait is None:
            # With the tasks extension the client waits by itself, and for the task, not for the call.
            wait = 0 if profile.tasks else profile.wait_seconds
        until = _latest(wait)
        with self._waiting(wait):
            service, left = await self._service(wait)
            task = await service.outpaint(
                call.request(),
                client=self._client_of(),
                wait_seconds=left,
                advised_wait=wait or profile.wait_seconds,
                on_progress=_progress(ctx),
                ask=ask,
            )
        return await self._result(task, profile, until)

    async def _get_task(self, call: GetTaskArguments, ctx: ServerRequestContext[Any, Any]) -> CallToolResult:
        profile = profile_for(ctx)
        task_id, provider = call.named()
        until = _latest(call.wait_seconds)
        with self._waiting(call.wait_seconds):
            service, left = await self._service(call.wait_seconds)
            task = await service.get_task(
                task_id,
                provider=provider,
                client=self._client_of(),
                wait_seconds=left,
                advised_wait=call.wait_seconds or profile.wait_seconds,
                on_progress=_progress(ctx),
            )
        return await self._result(task, profile, until)

    async def result_of(self, ctx: ServerRequestContext[Any, Any], task: Task) -> CallToolResult:
        """The result of a call that found this task."""
        return await self._result(task, profile_for(ctx), _latest(0))

    async def _service(self, wait: float) -> "tuple[Service, float]":
        """The service, and what is left of a call's wait once it is open: the first call opens it."""
        began = time.monotonic()
        with anyio.move_on_after(max(wait, OPENING_SECONDS)):
            service = await self._lazy.get()
            return service, max(0.0, wait - (time.monotonic() - began))
        raise NotReadyError("The server is still starting.", "Nothing was ordered. Make the same call again.")

    async def _list_providers(self, _call: ToolArguments) -> CallToolResult:
        service, _ = await self._service(0)
        found = ProviderList(providers=await service.list_providers())
        return CallToolResult(
            content=[TextContent(type="text", text=providers_text(found.providers))],
            structured_content=found.model_dump(mode="json"),
        )

    def _waiting(self, seconds: float) -> AbstractContextManager[None]:
        return self._limits.waiting(self._client_of()) if seconds else contextlib.nullcontext()

    async def _result(self, task: Task, profile: ClientProfile, until: float) -> CallToolResult:
        content: list[ContentBlock] = [TextContent(type="text", text=task_text(task))]
        if task.status is Status.SUCCEEDED:
            shape = self._shape()
            if profile.resource_links if shape.resource_links == "auto" else shape.resource_links:
                content += [_link(task, image) for image in task.images]
            wanted = profile.preview if shape.preview == "auto" else shape.preview
            if wanted and (data := await self._preview_of(task, until)):
                import base64

                content.append(ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/jpeg"))
        return CallToolResult(content=content, structured_content=task.model_dump(mode="json"))

    async def _preview_of(self, task: Task, until: float) -> bytes | None:
        with anyio.move_on_after(until - anyio.current_time()):
            return await (await self._lazy.get()).preview(task.id, client=self._client_of())
        return None


def error_result(text: str) -> CallToolResult:
    """The result of a call that was refused or failed."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _latest(wait: float) -> float:
    """When a call is answered at the latest that begins now, on the event loop's clock."""
    return anyio.current_time() + max(wait, OPENING_SECONDS) + PREVIEW_SECONDS


def _progress(ctx: ServerRequestContext[Any, Any]) -> OnProgress:
    async def report(percent: float, message: str) -> None:
        await ctx.session.report_progress(percent, 100, message)

    return report


def _link(task: Task, image: Image) -> ResourceLink:
    # A file on this machine cannot be read by a host that runs elsewhere; its resource can.
    is_link = image.url.startswith("https://") or image.url == image.copy_url
    uri = image.url if is_link else image.resource_uri or image.url
    return ResourceLink(
        type="resource_link",
        uri=uri,
        name=f"{task.id}-{image.index}",
        title=f"Outpainted image {image.index}",
        mime_type=image.mime_type,
    )
