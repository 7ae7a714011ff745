"""A client with the tasks extension, for tests: handles are kept, or followed to the end as a host does."""

from typing import Any, Final, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict

TASKS: Final = "io.modelcontextprotocol/tasks"


class Handle(Result):
    """What a call is answered with whose task is not finished."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"]
    task_id: str


class Answer(Result):
    """Any answer of the extension's methods; `model_extra` holds what came."""

    model_config = ConfigDict(extra="allow")


class TaskRequestParams(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class TaskRequest(Request[TaskRequestParams, str]):
    name_param = "taskId"


class TasksClient(ClientExtension):
    """Declares the extension, and polls a task of which it gets a handle until it is finished."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=self._follow)]

    async def _follow(self, handle: Handle, ctx: ClaimContext) -> CallToolResult:
        while True:
            answer = await _asked(ctx.session, "tasks/get", handle.task_id)
            if answer["status"] != "working":
                return CallToolResult.model_validate(answer["result"])
            await anyio.sleep(0.05)


async def _asked(session: Any, method: str, task_id: str, **params: Any) -> dict[str, Any]:
    request = TaskRequest(method=method, params=TaskRequestParams(task_id=task_id, **params))
    answer: Answer = await session.send_request(request, Answer)
    return answer.model_extra or {}


async def ask(client: Client, method: str, task_id: str, **params: Any) -> dict[str, Any]:
    """What one of the extension's methods answers."""
    return await _asked(client.session, method, task_id, **params)


async def handle_of(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The handle that a call is answered with."""
    handle = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(handle, Handle), handle
    return {"taskId": handle.task_id, **(handle.model_extra or {})}
