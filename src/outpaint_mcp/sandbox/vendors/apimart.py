"""APIMart's protocol, as its documentation describes it: https://apimart.ai."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import ImageSpec, four_new_scenes, four_outpaints
from outpaint_mcp.sandbox.seeds import GRID, SINGLE, Seed
from outpaint_mcp.sandbox.tasks import Kind, Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, RejectedError

ZOOM_USD = 0.055
TURBO_USD = 0.10
# Not documented; the page gives dollars, and credits beside them.
CREDITS_PER_USD = 100
KEPT_SECONDS = 3 * 24 * 3600.0
UPSCALED_NEEDED = "This action requires an upscaled task, please upscale one image of the grid first"

ACTIONS: dict[Kind, str] = {"outpaint": "ZOOM", "upscale": "UPSCALE", "imagine": "IMAGINE"}

Speed = Literal["relax", "fast", "turbo"]
# The documentation does not forbid a ratio of 0 or less, which is no zoom.
Ratio = Annotated[float, Field(gt=0)]


class Zoom(Body):
    task_id: str = Field(min_length=1)
    custom_id: str = Field(default="", min_length=1)
    index: int = Field(default=1, ge=1, le=4)
    zoom_ratio: Ratio = 2.0
    speed: Speed = "fast"
    metadata: dict[str, Any] = Field(default_factory=dict)


class Upscale(Body):
    task_id: str = Field(min_length=1)
    custom_id: str = Field(default="", min_length=1)
    # 0: none was given.
    index: int = Field(default=0, ge=1, le=4)
    speed: Speed = "fast"
    metadata: dict[str, Any] = Field(default_factory=dict)


class Imagine(Body):
    # The page ends this list with an ellipsis, so what else is sent cannot be called unknown.
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    prompt: str = Field(min_length=1, max_length=8192)
    speed: Speed = "fast"
    size: str = "1:1"
    version: str = ""


class APIMart(Vendor):
    name: ClassVar[str] = "apimart"
    key: ClassVar[str] = "sandbox-apimart-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    # As `/v1/midjourney/{id}` names them. MODAL never comes by itself: a zoom has no modal step.
    statuses: ClassVar[Statuses] = Statuses(
        ("NOT_START", "SUBMITTED", "IN_PROGRESS"),
        "SUCCESS",
        "FAILURE",
        ("MODAL", "submitted", "pending", "processing", "completed", "failed", "cancelled"),
    )
    seeds: ClassVar[tuple[Seed, ...]] = (
        Seed(name, "task_5eed0004grid", True, GRID),
        Seed(name, "task_5eed0004single", False, SINGLE),
        Seed(name, "task_5eed0004foreign", False, "somebody else's task: 403", foreign=True),
    )
    image_seconds: ClassVar[float | None] = 72 * 3600.0

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/midjourney/generations/zoom", self.zoom, "submit"),
            Operation("POST", "/v1/midjourney/generations/upscale", self.upscale, "upscale"),
            Operation("POST", "/v1/midjourney/generations", self.imagine, "imagine"),
            Operation("GET", "/v1/midjourney/{id}", self.fetch, "poll"),
            Operation("GET", "/v1/tasks/{id}", self.fetch_task, "poll"),
            Operation("GET", "/v1/balance", self.balance, "balance"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        # The other documented shapes, each used under a status whose shape is not documented.
        if rejected.status == 403 and rejected.code is None:
            return answer_json({"success": False, "message": rejected.message}, 403)
        if rejected.status == 404 and rejected.code is None:
            return answer_json({"code": 404, "message": rejected.message}, 404)
        kinds = {401: "authentication_error", 402: "insufficient_balance"}
        error = {
            "message": rejected.message,
            "type": kinds.get(rejected.status, "invalid_request_error" if rejected.status < 500 else "server_error"),
            "code": rejected.status if rejected.code is None else rejected.code,
            "param": rejected.problems[0].path if rejected.problems else None,
        }
        return answer_json({"error": error}, rejected.status)

    async def zoom(self, call: Call) -> Response:
        body = self.parse(Zoom, call)
        parent = self._parent(body.task_id)
        if parent.is_grid:
            raise RejectedError(400, UPSCALED_NEEDED)
        # A ratio between those of the two buttons is rounded down, and the answer does not say so.
        ratio = 1.5 if body.zoom_ratio < 2 else 2.0
        if body.custom_id:
            label = self._label(parent, body.custom_id)
            if not label.startswith("Zoom Out"):
                raise RejectedError(400, "custom_id is none of the task's Zoom buttons")
            ratio = 1.5 if label.endswith("1.5x") else 2.0
        return self._order(call, "outpaint", four_outpaints(parent.images[0], ratio), body, body.speed)

    async def upscale(self, call: Call) -> Response:
        body = self.parse(Upscale, call)
        parent = self._parent(body.task_id)
        if not parent.is_grid:
            raise RejectedError(400, "the task is no grid")
        index = body.index
        if body.custom_id:
            label = self._label(parent, body.custom_id)
            if not label.startswith("U"):
                raise RejectedError(400, "custom_id is none of the task's Upscale buttons")
            index = int(label[1:])
        if index == 0:
            raise RejectedError(400, "index or custom_id is required")
        # Done within milliseconds: the image is there already.
        return self._order(call, "upscale", [parent.images[index - 1]], body, body.speed, instant=True)

    async def imagine(self, call: Call) -> Response:
        body = self.parse(Imagine, call)
        return self._order(call, "imagine", four_new_scenes(), body, body.speed)

    async def fetch_task(self, call: Call) -> Response:
        task = self.find(call.task_id)
        now = self.context.now()
        stage = task.stage(now)
        failed = stage.final and not stage.succeeded
        expires_at = int(task.finished_at + KEPT_SECONDS)
        images = [{"url": [url], "expires_at": expires_at} for url in self.image_urls(task, call.origin)]
        status = ("submitted", "pending", "processing")[stage.step] if not stage.final else "completed"
        data = {
            "id": task.id,
            "status": "failed" if failed else status,
            "progress": round(stage.progress * 100),
            "result": {"images": images} if stage.succeeded else None,
            "created": int(task.created_at),
            "completed": int(task.finished_at) if stage.final else 0,
            "estimated_time": round(len(self.statuses.running) * self.context.settings.seconds_per_state),
            "actual_time": round(task.finished_at - task.created_at) if stage.final else 0,
            "cost": 0 if failed else task.charge,
            "credits_cost": 0 if failed else task.charge * CREDITS_PER_USD,
            "error": {
                "message": task.failure_message("generation failed"),
                "code": task.failure_code("generation_failed"),
            }
            if failed
            else None,
        }
        return answer_json({"code": 200, "data": data})

    async def balance(self, call: Call) -> Response:
        usd = self.account.available(self.context.now())
        return answer_json({"remain_balance": usd, "remain_credits": usd * CREDITS_PER_USD})

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        failed = stage.final and not stage.succeeded
        shown = self.shows_images(task, at)
        return {
            "id": task.id,
            "status": self.status_of(task, at),
            "action": ACTIONS[task.kind],
            "progress": f"{round(stage.progress * 100)}%",
            "grid_image_url": self.grid_url(task, origin) if shown and task.is_grid else "",
            "image_urls": self.image_urls(task, origin) if shown else [],
            "buttons": self._buttons(task) if stage.succeeded else [],
            "prompt": task.body.get("prompt", ""),
            "fail_reason": task.failure_message("generation failed") if failed else "",
            "cost": 0 if failed else task.charge,
            "credits_cost": 0 if failed else task.charge * CREDITS_PER_USD,
        }

    def shows_images(self, task: Task, at: float) -> bool:
        # Images can be there before SUCCESS; here they are once the work has begun.
        stage = task.stage(at)
        early = task.failure is None and not stage.final and stage.step == len(self.statuses.running) - 1
        return stage.succeeded or early

    def find(self, task_id: str, status: int = 404) -> Task:
        task = super().find(task_id, status)
        if not task.seeded and self.context.now() > task.created_at + KEPT_SECONDS:
            raise RejectedError(status, self.unknown_task)
        if task.foreign:
            raise RejectedError(403, "the task belongs to somebody else")
        return task

    def _parent(self, task_id: str) -> Task:
        return self.succeeded(self.find(task_id), "the source task is not finished")

    def _order(
        self, call: Call, kind: Kind, images: Sequence[ImageSpec], body: Body, speed: Speed, *, instant: bool = False
    ) -> Response:
        charge = TURBO_USD if speed == "turbo" else ZOOM_USD
        task_id = f"task_{secrets.token_hex(12)}"
        task = self.order(call, kind, task_id, images, body, charge=charge, instant=instant)
        return answer_json({"code": 200, "data": [{"status": "submitted", "task_id": task.id}]})

    def _label(self, task: Task, custom_id: str) -> str:
        buttons = {button["customId"]: button["label"] for button in self._buttons(task)}
        return buttons.get(custom_id, "")

    @staticmethod
    def _buttons(task: Task) -> list[dict[str, str]]:
        labels = ("U1", "U2", "U3", "U4") if task.is_grid else ("Zoom Out 1.5x", "Zoom Out 2x")
        return [{"customId": f"{task.id}::{label.replace(' ', '_')}", "label": label} for label in labels]
