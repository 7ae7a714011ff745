"""Legnext's protocol, as its documentation describes it: https://legnext.ai.

Its base URL ends in `/api`; here `/legnext` takes that place, so the outpaint is `/legnext/v1/outpaint`.
"""

import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import Enlarged, ImageSpec, four_new_scenes, four_outpaints
from outpaint_mcp.sandbox.seeds import GRID, SINGLE, Seed
from outpaint_mcp.sandbox.tasks import Kind, Task, Webhook
from outpaint_mcp.sandbox.vendors import midjourney
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Call, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, RejectedError, Uuid
from outpaint_mcp.sandbox.vendors.unified_task import unified_error, unified_task

POINTS = 80
POINTS_PER_USD = 1000
TASK_TYPES: dict[Kind, str] = {"outpaint": "outpaint", "upscale": "upscale", "imagine": "diffusion"}


class Outpaint(midjourney.Outpaint):
    jobId: Uuid


class Upscale(Body):
    jobId: Uuid
    imageNo: int = Field(ge=0, le=3)
    type: int = Field(ge=0, le=1)
    callback: HttpUrl = ""


class Legnext(Vendor):
    name: ClassVar[str] = "legnext"
    key: ClassVar[str] = "sandbox-legnext-key"
    key_header: ClassVar[str] = "x-api-key"
    statuses: ClassVar[Statuses] = Statuses(("pending", "staged", "processing"), "completed", "failed")
    seeds: ClassVar[tuple[Seed, ...]] = (
        Seed(name, "5eed0005-0000-4000-8000-000000000001", True, GRID),
        Seed(name, "5eed0005-0000-4000-8000-000000000002", False, SINGLE),
    )
    unknown_task: ClassVar[str] = "job not found"

    def __init__(self, context: SandboxContext) -> None:
        super().__init__(context)
        self._ends: deque[float] = deque()

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/outpaint", self.outpaint, "submit"),
            Operation("POST", "/v1/upload-paint", self.upload_paint, "submit"),
            Operation("POST", "/v1/upscale", self.upscale, "upscale"),
            Operation("POST", "/v1/diffusion", self.diffusion, "imagine"),
            Operation("GET", "/v1/job/{id}", self.fetch, "poll"),
            Operation("GET", "/account/balance", self.balance, "balance"),
            Operation("GET", "/account/active_tasks", self.active_tasks, "balance"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        # Three shapes are documented and only the task-shaped one has a known status, so each gets a share.
        code = rejected.status if rejected.code is None else rejected.code
        if rejected.status == 403:
            return self.task_shaped_rejection(403, rejected.message)
        if rejected.status == 401:
            return answer_json({"error": {"code": code, "message": rejected.message}}, 401)
        return answer_json(unified_error(code, rejected.message), rejected.status)

    def task_shaped_rejection(self, status: int, message: str, code: int | str | None = None) -> Response:
        empty: dict[str, Any] = {
            "job_id": "",
            "model": "",
            "task_type": "",
            "status": "failed",
            "config": {"service_mode": "", "webhook_config": {"endpoint": "", "secret": ""}},
            "input": None,
            "output": None,
            "meta": {
                "created_at": "",
                "started_at": "",
                "ended_at": "",
                "usage": {"type": "", "frozen": 0, "consume": 0},
            },
            "detail": None,
            "logs": [],
            "error": unified_error(status if code is None else code, message),
        }
        return answer_json(empty, status)

    async def outpaint(self, call: Call) -> Response:
        body = self.parse(Outpaint, call)
        image = self._image(body.jobId, body.imageNo)
        return self._order(call, "outpaint", four_outpaints(image, body.scale), body, body.callback)

    async def upload_paint(self, call: Call) -> Response:
        body = self.parse(midjourney.UploadPaint, call)
        source = await self.context.input_images.fetch(body.imgUrl)
        images = midjourney.four_upload_paints(body, source.image)
        return self._order(call, "outpaint", images, body, body.callback)

    async def upscale(self, call: Call) -> Response:
        body = self.parse(Upscale, call)
        # Subtle and creative both double the sides.
        image = Enlarged.of(self._image(body.jobId, body.imageNo), 2.0)
        return self._order(call, "upscale", [image], body, body.callback)

    async def diffusion(self, call: Call) -> Response:
        body = self.parse(midjourney.Diffusion, call)
        return self._order(call, "imagine", four_new_scenes(), body, body.callback)

    async def balance(self, call: Call) -> Response:
        points = self.account.available(self.context.now())
        return answer_json(
            {
                "data": {
                    "balance_usd": points / POINTS_PER_USD,
                    "available_credits": points / POINTS_PER_USD,
                    "available_points": points,
                }
            }
        )

    async def active_tasks(self, call: Call) -> Response:
        now = self.context.now()
        active = [task for task in self.tasks.ordered() if not task.stage(now).final]
        return answer_json(
            {
                "total_active": len(active),
                "concurrent_limit": self.context.settings.legnext_concurrency or 0,
                "tasks": [{"job_id": task.id, "status": self.status_of(task, now)} for task in active],
            }
        )

    def start_time(self, now: float) -> float:
        limit = self.context.settings.legnext_concurrency
        if limit is None:
            return now
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        # First come, first served: the task that ends `limit` places ahead makes room.
        start = self._ends[-limit] if len(self._ends) >= limit else now
        self._ends.append(start + self.context.settings.seconds_per_state * len(self.statuses.running))
        return start

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        output: dict[str, Any] = {"image_url": "", "image_urls": None, "seed": "", "available_actions": {}}
        error = unified_error()
        if stage.succeeded:
            usable = list(range(len(task.images)))
            output = {
                "image_url": self.grid_url(task, origin) if task.is_grid else "",
                "image_urls": self.image_urls(task, origin),
                "seed": "42",
                "available_actions": {"outpaint": usable, "upscale": usable, "reroll": task.is_grid},
            }
        elif stage.final:
            error = unified_error(task.failure_code(500), task.failure_message("failed to generate"))
        worked_on = len(task.state_ends) > 1 and at >= task.state_ends[-2]
        return unified_task(
            task,
            at,
            task_id_field="job_id",
            task_type=TASK_TYPES[task.kind],
            status=self.status_of(task, at),
            started_at=iso(task.state_ends[-2]) if worked_on else "",
            input_fields=task.body,
            output=output,
            error=error,
        )

    def _image(self, task_id: str, number: int) -> ImageSpec:
        task = self.succeeded(self.find(task_id), "the job is not finished")
        if number >= len(task.images):
            raise RejectedError(400, f"imageNo {number} is not among available_actions")
        return task.images[number]

    def _order(self, call: Call, kind: Kind, images: Sequence[ImageSpec], body: Body, callback: str) -> Response:
        task = self.order(call, kind, str(uuid.uuid4()), images, body, charge=POINTS, webhook=Webhook.to(callback))
        return self.answer_task(task, call)
