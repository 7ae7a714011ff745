"""Legnext's protocol, as its documentation describes it: https://legnext.ai.

Its base URL ends in `/api`; here the mount stands for that, so the outpaint is `/legnext/v1/outpaint`.
"""

import secrets
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from outpaint_mcp.sandbox.own_picture import UploadPaint, painted
from outpaint_mcp.sandbox.pictures import Enlarged, Picture, Scene
from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.tasks import Job, Kind, Webhook
from outpaint_mcp.sandbox.vendor import (
    GRID_SEEDS,
    Body,
    Call,
    Desk,
    HttpUrl,
    RefusedError,
    Text,
    Uuid,
    Vendor,
    Words,
    answer_json,
    four_outpaints,
    iso,
)

POINTS = 80
POINTS_PER_USD = 1000


class Outpaint(Body):
    jobId: Uuid
    imageNo: int = Field(ge=0, le=3)
    scale: float = Field(ge=1.1, le=2.0)
    remixPrompt: Text = ""
    callback: HttpUrl = ""


class Diffusion(Body):
    text: Text
    callback: HttpUrl = ""


class Upscale(Body):
    jobId: Uuid
    imageNo: int = Field(ge=0, le=3)
    type: int = Field(ge=0, le=1)
    callback: HttpUrl = ""


class Legnext(Vendor):
    name: ClassVar[str] = "legnext"
    key: ClassVar[str] = "sandbox-legnext-key"
    key_header: ClassVar[str] = "x-api-key"
    words: ClassVar[Words] = Words(("pending", "staged", "processing"), "completed", "failed")

    def __init__(self, desk: Desk, seeds: Sequence[Seed]) -> None:
        super().__init__(desk, seeds)
        self._ends: deque[float] = deque()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/outpaint", self.endpoint(self.outpaint), methods=["POST"]),
            Route("/v1/upload-paint", self.endpoint(self.upload_paint), methods=["POST"]),
            Route("/v1/upscale", self.endpoint(self.upscale), methods=["POST"]),
            Route("/v1/diffusion", self.endpoint(self.diffusion), methods=["POST"]),
            Route("/v1/job/{id}", self.endpoint(self.fetch), methods=["GET"]),
            Route("/account/balance", self.endpoint(self.balance), methods=["GET"]),
            Route("/account/active_tasks", self.endpoint(self.active_tasks), methods=["GET"]),
        ]

    def classify(self, method: str, path: str, body: Any) -> str | None:
        if path.startswith("/v1/job/"):
            return "poll"
        return {
            "/v1/outpaint": "submit",
            "/v1/upload-paint": "submit",
            "/v1/upscale": "upscale",
            "/v1/diffusion": "imagine",
            "/account/balance": "balance",
            "/account/active_tasks": "balance",
        }.get(path)

    def refuse(self, refused: RefusedError) -> Response:
        # Three shapes are known and only the job-shaped one has a known status, so each gets a share.
        code = refused.status if refused.code is None else refused.code
        if refused.status == 403:
            return self.refuse_job_shaped(403, refused.message)
        if refused.status == 401:
            return answer_json({"error": {"code": code, "message": refused.message}}, 401)
        flat = {"code": code, "message": refused.message, "raw_message": refused.message, "detail": None}
        return answer_json(flat, refused.status)

    def refuse_job_shaped(self, status: int, message: str) -> Response:
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
            "error": {"code": status, "raw_message": message, "message": message, "detail": None},
        }
        return answer_json(empty, status)

    async def outpaint(self, call: Call) -> Response:
        body = self.parse(Outpaint, call)
        picture = self._image(body.jobId, body.imageNo)
        return self._order(call, "outpaint", four_outpaints(picture, body.scale), body, body.callback)

    async def upload_paint(self, call: Call) -> Response:
        body = self.parse(UploadPaint, call)
        source = await self.fetch_picture(body.imgUrl)
        return self._order(call, "outpaint", painted(body, source.picture), body, body.callback)

    async def upscale(self, call: Call) -> Response:
        body = self.parse(Upscale, call)
        # Subtle and creative both double the sides.
        picture = Enlarged.of(self._image(body.jobId, body.imageNo), 2.0)
        return self._order(call, "upscale", [picture], body, body.callback)

    async def diffusion(self, call: Call) -> Response:
        body = self.parse(Diffusion, call)
        scenes = [Scene.of(100 + secrets.randbelow(1000)) for _ in GRID_SEEDS]
        return self._order(call, "imagine", scenes, body, body.callback)

    async def fetch(self, call: Call) -> Response:
        job_id = call.request.path_params["id"]
        job = self.tasks.get(job_id)
        if job is None:
            raise RefusedError(404, "job not found")
        return answer_json(self.show(job, self.desk.now(), call.origin))

    async def balance(self, call: Call) -> Response:
        points = self.account.available(self.desk.now())
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
        now = self.desk.now()
        active = [job for job in self.tasks.ordered() if not job.stage(now).final]
        return answer_json(
            {
                "total_active": len(active),
                "concurrent_limit": self.desk.settings.legnext_concurrency or 0,
                "tasks": [{"job_id": job.id, "status": self.word(job, now)} for job in active],
            }
        )

    def start_time(self, now: float) -> float:
        limit = self.desk.settings.legnext_concurrency
        if limit is None:
            return now
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        # First come, first served: the job that ends `limit` places ahead makes room.
        start = self._ends[-limit] if len(self._ends) >= limit else now
        self._ends.append(start + self.desk.settings.seconds_per_state * len(self.words.running))
        return start

    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        output: dict[str, Any] = {"image_url": "", "image_urls": None, "seed": "", "available_actions": {}}
        error: dict[str, Any] = {"code": 0, "raw_message": "", "message": "", "detail": None}
        if stage.succeeded:
            usable = list(range(len(job.pictures)))
            output = {
                "image_url": self.grid_url(job, origin) if job.is_grid else "",
                "image_urls": self.image_urls(job, origin),
                "seed": "42",
                "available_actions": {"outpaint": usable, "upscale": usable, "reroll": job.is_grid},
            }
        elif stage.final:
            code = job.failure.code if job.failure else None
            message = (job.failure.message if job.failure else None) or "failed to generate"
            error = {"code": 500 if code is None else code, "raw_message": message, "message": message, "detail": None}
        return {
            "job_id": job.id,
            "model": "midjourney",
            "task_type": _TASK_TYPES[job.kind],
            "status": self.word(job, at),
            "config": {
                "service_mode": "",
                "webhook_config": {"endpoint": job.webhook.url if job.webhook else "", "secret": ""},
            },
            "input": job.body,
            "output": output,
            "meta": {
                "created_at": iso(job.created_at),
                "started_at": iso(job.marks[-2]) if len(job.marks) > 1 and at >= job.marks[-2] else "",
                "ended_at": iso(job.finished_at if stage.final else None),
                "usage": {
                    "type": "point",
                    "frozen": 0 if stage.final else job.charge,
                    "consume": job.charge if stage.succeeded else 0,
                },
            },
            "detail": None,
            "logs": [],
            "error": error,
        }

    def _image(self, job_id: str, number: int) -> Picture:
        job = self.tasks.get(job_id)
        if job is None:
            raise RefusedError(404, "job not found")
        if not job.stage(self.desk.now()).succeeded:
            raise RefusedError(400, "the job is not finished")
        if number >= len(job.pictures):
            raise RefusedError(400, f"imageNo {number} is not among available_actions")
        return job.pictures[number]

    def _order(self, call: Call, kind: Kind, pictures: Sequence[Picture], body: Body, callback: str) -> Response:
        job = self.order(
            call,
            kind,
            str(uuid.uuid4()),
            pictures,
            body,
            charge=POINTS,
            webhook=Webhook(callback) if callback else None,
        )
        return answer_json(self.show(job, self.desk.now(), call.origin))


_TASK_TYPES: dict[Kind, str] = {"outpaint": "outpaint", "upscale": "upscale", "imagine": "diffusion"}
