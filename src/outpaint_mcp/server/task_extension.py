"""The extension `io.modelcontextprotocol/tasks`: a call of outpaint is answered with a handle that the client polls.

The SDK does not know the extension; its low-level server takes the methods, and lets a foreign `resultType` through on
modern connections. The handle is our own task id, so it outlives the process and any client's state.
Specification: https://modelcontextprotocol.github.io/ext-tasks/specification/2026-07-28/tasks.html (November 2026).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, UnknownTaskError
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.server.client_profiles import TASKS, profile_for
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.text import state_text

if TYPE_CHECKING:
    from outpaint_mcp.tasks.service import Service

Context = ServerRequestContext[Any, Any]
ToolHandler = Callable[[Context, CallToolRequestParams], Awaitable[HandlerResult]]

LEAST_POLL_SECONDS: Final = 1.0
"""How often a client is told to poll at most, however quick the provider is: each poll is a request that is counted."""
METHODS: Final = ("tasks/get", "tasks/update", "tasks/cancel")


class TaskParams(RequestParams):
    """What all three methods take; the answers that `tasks/update` brings besides are to no question of ours."""

    task_id: str


class TaskExtension:
    """Serves the extension's methods, and answers a call of outpaint with a task's handle.

    Args:
        lazy: the service.
        result_of: the tool's result for a task as it stands.
        client_of: who makes the current request; another client's task is answered like one that there is not.
    """

    def __init__(
        self,
        lazy: LazyService,
        result_of: Callable[[Context, Task], Awaitable[CallToolResult]],
        client_of: Callable[[], str],
    ) -> None:
        self._lazy = lazy
        self._result_of = result_of
        self._client_of = client_of

    def add_to(self, server: Server[None]) -> None:
        """Serve the methods on a server that has its tools already."""
        server.add_request_handler("tasks/get", TaskParams, self.get)
        server.add_request_handler("tasks/update", TaskParams, self.acknowledge)
        server.add_request_handler("tasks/cancel", TaskParams, self.acknowledge)
        server.middleware.append(check_request)

    def around(self, call: ToolHandler) -> ToolHandler:
        """A handler of `tools/call` that turns the result of an order that is not finished into the task's handle."""

        async def handle(ctx: Context, params: CallToolRequestParams) -> HandlerResult:
            result = await call(ctx, params)
            if params.name != "outpaint" or not isinstance(result, CallToolResult) or result.is_error:
                return result
            task = Task.model_validate(result.structured_content)
            # An order whose fate is unknown ends the wait at once: the result says what to do, and a handle would not.
            if not profile_for(ctx).tasks or task.status.ends_a_wait:
                return result
            return {"resultType": "task", **described(task, await self._lazy.get())}

        return handle

    async def get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        """`tasks/get`: the task, with the tool's result once there is nothing to wait for."""
        service, task = await self._find(params.task_id)
        shown = described(task, service)
        if shown["status"] == "completed":
            result = await self._result_of(ctx, task)
            shown["result"] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        return shown

    async def acknowledge(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        """`tasks/cancel` and `tasks/update`: an empty answer, if there is such a task.

        A paid order is never cancelled, which the specification allows: it asks for the acknowledgement alone, and the
        task's statusMessage says what is true. Nor is anything ever asked that an update could answer.
        """
        await self._find(params.task_id)
        return {}

    async def _find(self, task_id: str) -> "tuple[Service, Task]":
        try:
            service = await self._lazy.get()
            task = await service.get_task(task_id, client=self._client_of())
            if task.id != task_id:
                raise UnknownTaskError(f"There is no task {task_id[:80]!r}.", "Give the taskId as it was returned.")
        except (UnknownTaskError, InvalidRequestError) as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except OutpaintError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        return service, task


def described(task: Task, service: "Service") -> dict[str, Any]:
    """A task as the extension describes it, without its result."""
    keep, interval = service.following.keep_seconds, service.following.poll_seconds(task)
    return {
        "taskId": task.id,
        "status": _STATUSES[task.status],
        "statusMessage": _message(task),
        "createdAt": task.created_at.isoformat(),
        "lastUpdatedAt": task.updated_at.isoformat(),
        # Kept at least so long, since the days are counted from when it was finished.
        "ttlMs": None if keep is None else int(keep * 1000),
        "pollIntervalMs": int(max(interval, LEAST_POLL_SECONDS) * 1000),
    }


_STATUSES: Final[Mapping[Status, str]] = {
    Status.QUEUED: "working",
    Status.RUNNING: "working",
    Status.SUCCEEDED: "completed",
    # The tool ran and says how its task ended. The extension's `failed` is for a JSON-RPC error, after which a client
    # may well make the call again.
    Status.FAILED: "completed",
    Status.CANCELLED: "cancelled",
    # Whether the order was taken is not known, and may never be. `working` would have the client wait for a day or for
    # ever; `failed` and `cancelled` tell it that there is nothing, so that it orders again and pays twice. `completed`
    # hands over our result, whose text says how to check and that ordering again may pay twice.
    Status.UNKNOWN: "completed",
}


def _message(task: Task) -> str:
    said = f"{state_text(task)}."
    if not task.status.ends_a_wait:
        return f"{said} It goes on after tasks/cancel: an order that was placed is not taken back."
    return f"{said} {task.next}" if task.status is Status.CANCELLED else said


def missing_capability() -> MCPError:
    """The error for a client that did not declare the extension in this request."""
    wanted = InvalidRequestError(
        "This needs the tasks extension.", f"Declare {TASKS} in the request's client capabilities, or call get_task."
    )
    required: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, str(wanted), required)


async def check_request(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware that refuses the extension's requests where they were not declared or are misrouted."""
    params = ctx.params or {}
    if ctx.method in METHODS:
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
        if not profile_for(ctx).tasks:
            raise missing_capability()
        _check_name(ctx, params)
    elif ctx.method == "subscriptions/listen" and not profile_for(ctx).tasks:
        notifications = params.get("notifications")
        if isinstance(notifications, Mapping) and notifications.get("taskIds"):
            raise missing_capability()
    return await call_next(ctx)


def _check_name(ctx: Context, params: Mapping[str, Any]) -> None:
    """Over HTTP the header by which requests are routed names the task, as the SDK checks it for tools and prompts."""
    headers = getattr(ctx.request, "headers", None)
    task_id = params.get("taskId")
    if headers is None or not isinstance(task_id, str):
        return
    if decode_header_value(headers.get(MCP_NAME_HEADER)) != task_id:
        wrong = InvalidRequestError("The Mcp-Name header is not the request's taskId.", "Send the taskId in it.")
        raise MCPError(HEADER_MISMATCH, str(wrong))
