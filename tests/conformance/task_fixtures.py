"""The suites' tools that make tasks, behind our own checks of the tasks extension's requests.

The tasks of our own tools need a provider; these need none, and know states that ours do not have.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import anyio
from mcp.server.context import HandlerResult
from mcp_types import CallToolRequestParams, InputRequest, InputRequiredResult

from outpaint_mcp.server.client_profiles import profile_for
from outpaint_mcp.server.task_extension import missing_capability

from .fixtures import NAME, NO_ARGUMENTS, WORD, Call, Context, answers_to, question, result, takes, text, told

TERMINAL: Final = ("completed", "failed", "cancelled")


@dataclass(slots=True)
class FixtureTask:
    """A task that ends by itself after so many seconds, once all its questions are answered."""

    seconds: float
    outcome: dict[str, Any]
    asked: dict[str, InputRequest] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.time)
    is_cancelled: bool = False

    @property
    def status(self) -> str:
        if self.is_cancelled:
            return "cancelled"
        if self.asked:
            return "input_required"
        if time.time() < self.created + self.seconds:
            return "working"
        return "failed" if "error" in self.outcome else "completed"

    def shown(self) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.created, UTC).isoformat()
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": at,
            "lastUpdatedAt": at,
            "ttlMs": 60_000,
            "pollIntervalMs": 100,
        }

    def detailed(self) -> dict[str, Any]:
        shown, status = self.shown(), self.status
        if status in ("completed", "failed"):
            shown |= self.outcome
        elif status == "input_required":
            asked = {name: one.model_dump(by_alias=True, exclude_none=True) for name, one in self.asked.items()}
            shown["inputRequests"] = asked
        return shown


def _saying(said: str, *, is_error: bool = False) -> dict[str, Any]:
    found = result(text(said)).model_copy(update={"is_error": is_error})
    return {"result": found.model_dump(by_alias=True, mode="json", exclude_none=True)}


class FixtureTasks:
    """The tasks of the suites, by id, and the tools that make them."""

    def __init__(self) -> None:
        self._tasks: dict[str, FixtureTask] = {}
        self.tools: Mapping[str, tuple[dict[str, Any], Call]] = {
            "greet": (takes(name=WORD), self._greet),
            "slow_compute": (
                {"type": "object", "properties": {"seconds": {"type": "number"}, "label": WORD}},
                self._slow_compute,
            ),
            "failing_job": (NO_ARGUMENTS, self._making(1, _saying("It broke.", is_error=True))),
            "protocol_error_job": (
                NO_ARGUMENTS,
                self._making(0, {"error": {"code": -32603, "message": "Internal error"}}),
            ),
            "confirm_delete": (
                takes(filename=WORD),
                self._making(0, _saying("Deleted."), confirm=question("Delete it?", "confirm", "boolean")),
            ),
            "multi_input": (NO_ARGUMENTS, self._making(0, _saying("Both."), one=NAME, other=NAME)),
            "test_tool_with_task": (NO_ARGUMENTS, self._asks_first),
        }

    def get(self, task_id: str) -> dict[str, Any] | None:
        task = self._tasks.get(task_id)
        return None if task is None else task.detailed()

    def cancel(self, task_id: str) -> dict[str, Any] | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        task.is_cancelled = task.is_cancelled or task.status not in TERMINAL
        return {}

    def update(self, task_id: str, answers: Mapping[str, Any]) -> dict[str, Any] | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        task.asked = {name: one for name, one in task.asked.items() if name not in answers}
        return {}

    def _made(self, task: FixtureTask) -> dict[str, Any]:
        self._tasks[task.id] = task
        return {"resultType": "task", **task.shown()}

    def _making(self, seconds: float, outcome: dict[str, Any], **asked: InputRequest) -> Call:
        """A tool that can be served as a task only."""

        async def call(ctx: Context, _: CallToolRequestParams) -> HandlerResult:
            if not profile_for(ctx).tasks:
                raise missing_capability()
            return self._made(FixtureTask(seconds, outcome, dict(asked)))

        return call

    async def _greet(self, _: Context, params: CallToolRequestParams) -> HandlerResult:
        return result(text(f"Hello, {(params.arguments or {})['name']}!"))

    async def _slow_compute(self, ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        seconds = float((params.arguments or {}).get("seconds", 0))
        if seconds and profile_for(ctx).tasks:
            return self._made(FixtureTask(seconds, _saying("Computed.")))
        await anyio.sleep(seconds)
        return result(text("Computed."))

    async def _asks_first(self, ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        answers = answers_to(params, {"user_name": NAME})
        if answers is None:
            return InputRequiredResult(input_requests={"user_name": NAME})
        return await self._making(0, _saying(f"Hello, {told(answers['user_name'])}!"))(ctx, params)
