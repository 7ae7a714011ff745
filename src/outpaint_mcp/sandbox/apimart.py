"""APIMart's protocol, as its documentation describes it: https://apimart.ai."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Route

from outpaint_mcp.sandbox.pictures import Picture, Scene
from outpaint_mcp.sandbox.tasks import Job, Kind
from outpaint_mcp.sandbox.vendor import (
    GRID_SEEDS,
    Body,
    Call,
    RefusedError,
    Vendor,
    Words,
    answer_json,
    four_outpaints,
)

ZOOM_USD = 0.055
TURBO_USD = 0.10
# Not documented; the page gives dollars, and credits beside them.
CREDITS_PER_USD = 100
KEPT_SECONDS = 3 * 24 * 3600.0
UPSCALED_NEEDED = "This action requires an upscaled task, please upscale one image of the grid first"

Speed = Literal["relax", "fast", "turbo"]
# A ratio of 0 or less is not ruled out by the page; no zoom is meant by it.
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
    # 0 stands for none given.
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
    # The words of `/v1/midjourney/{id}`. MODAL never comes by itself: a zoom has no modal step.
    words: ClassVar[Words] = Words(
        ("NOT_START", "SUBMITTED", "IN_PROGRESS"),
        "SUCCESS",
        "FAILURE",
        ("MODAL", "submitted", "pending", "processing", "completed", "failed", "cancelled"),
    )
    image_seconds: ClassVar[float | None] = 72 * 3600.0

    def routes(self) -> list[Route]:
        return [
            Route("/v1/midjourney/generations/zoom", self.endpoint(self.zoom), methods=["POST"]),
            Route("/v1/midjourney/generations/upscale", self.endpoint(self.upscale), methods=["POST"]),
            Route("/v1/midjourney/generations", self.endpoint(self.imagine), methods=["POST"]),
            Route("/v1/midjourney/{id}", self.endpoint(self.fetch_midjourney), methods=["GET"]),
            Route("/v1/tasks/{id}", self.endpoint(self.fetch_task), methods=["GET"]),
            Route("/v1/balance", self.endpoint(self.balance), methods=["GET"]),
        ]

    def classify(self, method: str, path: str, body: Any) -> str | None:
        if method == "GET":
            return "balance" if path == "/v1/balance" else "poll"
        return {
            "/v1/midjourney/generations/zoom": "submit",
            "/v1/midjourney/generations/upscale": "upscale",
            "/v1/midjourney/generations": "imagine",
        }.get(path)

    def refuse(self, refused: RefusedError) -> Response:
        # The other shapes that the page knows, each shown under a status whose shape it does not say.
        if refused.status == 403 and refused.code is None:
            return answer_json({"success": False, "message": refused.message}, 403)
        if refused.status == 404 and refused.code is None:
            return answer_json({"code": 404, "message": refused.message}, 404)
        kinds = {401: "authentication_error", 402: "insufficient_balance"}
        error = {
            "message": refused.message,
            "type": kinds.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error"),
            "code": refused.status if refused.code is None else refused.code,
            "param": refused.problems[0].path if refused.problems else None,
        }
        return answer_json({"error": error}, refused.status)

    async def zoom(self, call: Call) -> Response:
        body = self.parse(Zoom, call)
        parent = self._parent(body.task_id)
        if parent.is_grid:
            raise RefusedError(400, UPSCALED_NEEDED)
        # Nothing between the two buttons is drawn, and nothing says so.
        ratio = 1.5 if body.zoom_ratio < 2 else 2.0
        if body.custom_id:
            buttons = {button["customId"]: button["label"] for button in self._buttons(parent)}
            label = buttons.get(body.custom_id, "")
            if not label.startswith("Zoom Out"):
                raise RefusedError(400, "custom_id is none of the task's Zoom buttons")
            ratio = 1.5 if label.endswith("1.5x") else 2.0
        return self._order(call, "outpaint", four_outpaints(parent.pictures[0], ratio), body, body.speed)

    async def upscale(self, call: Call) -> Response:
        body = self.parse(Upscale, call)
        parent = self._parent(body.task_id)
        if not parent.is_grid:
            raise RefusedError(400, "the task is no grid")
        index = body.index
        if body.custom_id:
            buttons = {button["customId"]: button["label"] for button in self._buttons(parent)}
            label = buttons.get(body.custom_id, "")
            if not label.startswith("U"):
                raise RefusedError(400, "custom_id is none of the task's Upscale buttons")
            index = int(label[1:])
        if index == 0:
            raise RefusedError(400, "index or custom_id is required")
        # Done within milliseconds: the image is there already.
        return self._order(call, "upscale", [parent.pictures[index - 1]], body, body.speed, instant=True)

    async def imagine(self, call: Call) -> Response:
        body = self.parse(Imagine, call)
        scenes = [Scene.of(100 + secrets.randbelow(1000)) for _ in GRID_SEEDS]
        return self._order(call, "imagine", scenes, body, body.speed)

    async def fetch_midjourney(self, call: Call) -> Response:
        job = self._find(call.request.path_params["id"])
        return answer_json(self.show(job, self.desk.now(), call.origin))

    async def fetch_task(self, call: Call) -> Response:
        job = self._find(call.request.path_params["id"])
        now = self.desk.now()
        stage = job.stage(now)
        failed = stage.final and not stage.succeeded
        expires_at = int(job.finished_at + KEPT_SECONDS)
        images = [{"url": [url], "expires_at": expires_at} for url in self.image_urls(job, call.origin)]
        word = ("submitted", "pending", "processing")[stage.step] if not stage.final else "completed"
        data = {
            "id": job.id,
            "status": "failed" if failed else word,
            "progress": round(stage.progress * 100),
            "result": {"images": images} if stage.succeeded else None,
            "created": int(job.created_at),
            "completed": int(job.finished_at) if stage.final else 0,
            "estimated_time": round(len(self.words.running) * self.desk.settings.seconds_per_state),
            "actual_time": round(job.finished_at - job.created_at) if stage.final else 0,
            "cost": 0 if failed else job.charge,
            "credits_cost": 0 if failed else job.charge * CREDITS_PER_USD,
            "error": {"message": self._reason(job), "code": self._failure_code(job)} if failed else None,
        }
        return answer_json({"code": 200, "data": data})

    async def balance(self, call: Call) -> Response:
        usd = self.account.available(self.desk.now())
        return answer_json({"remain_balance": usd, "remain_credits": usd * CREDITS_PER_USD})

    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        failed = stage.final and not stage.succeeded
        shown = self.shows_images(job, at)
        return {
            "id": job.id,
            "status": self.word(job, at),
            "action": _ACTIONS[job.kind],
            "progress": f"{round(stage.progress * 100)}%",
            "grid_image_url": self.grid_url(job, origin) if shown and job.is_grid else "",
            "image_urls": self.image_urls(job, origin) if shown else [],
            "buttons": self._buttons(job) if stage.succeeded else [],
            "prompt": job.body.get("prompt", ""),
            "fail_reason": self._reason(job) if failed else "",
            "cost": 0 if failed else job.charge,
            "credits_cost": 0 if failed else job.charge * CREDITS_PER_USD,
        }

    def shows_images(self, job: Job, at: float) -> bool:
        # Images can be there before SUCCESS; here they are once the work has begun.
        stage = job.stage(at)
        early = job.failure is None and not stage.final and stage.step == len(self.words.running) - 1
        return stage.succeeded or early

    def _find(self, task_id: str) -> Job:
        job = self.tasks.get(task_id)
        if job is None or (not job.seeded and self.desk.now() > job.created_at + KEPT_SECONDS):
            raise RefusedError(404, "task not found")
        if job.foreign:
            raise RefusedError(403, "the task belongs to somebody else")
        return job

    def _parent(self, task_id: str) -> Job:
        job = self._find(task_id)
        if not job.stage(self.desk.now()).succeeded:
            raise RefusedError(400, "the source task is not finished")
        return job

    def _order(
        self, call: Call, kind: Kind, pictures: Sequence[Picture], body: Body, speed: Speed, *, instant: bool = False
    ) -> Response:
        charge = TURBO_USD if speed == "turbo" else ZOOM_USD
        task_id = f"task_{secrets.token_hex(12)}"
        job = self.order(call, kind, task_id, pictures, body, charge=charge, instant=instant)
        return answer_json({"code": 200, "data": [{"status": "submitted", "task_id": job.id}]})

    @staticmethod
    def _buttons(job: Job) -> list[dict[str, str]]:
        labels = ("U1", "U2", "U3", "U4") if job.is_grid else ("Zoom Out 1.5x", "Zoom Out 2x")
        return [{"customId": f"{job.id}::{label.replace(' ', '_')}", "label": label} for label in labels]

    @staticmethod
    def _reason(job: Job) -> str:
        return (job.failure.message if job.failure else None) or "generation failed"

    @staticmethod
    def _failure_code(job: Job) -> int | str:
        code = job.failure.code if job.failure else None
        return "generation_failed" if code is None else code


_ACTIONS: dict[Kind, str] = {"outpaint": "ZOOM", "upscale": "UPSCALE", "imagine": "IMAGINE"}
