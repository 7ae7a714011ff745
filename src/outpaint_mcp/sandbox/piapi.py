"""PiAPI's protocol, both generations, as its documentation describes it: https://piapi.ai.

Not here: text to image. The pages that this was written from do not give its route; the seeded grid stands in for it.
"""

import json
import re
import uuid
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from starlette.responses import Response
from starlette.routing import Route

from outpaint_mcp.sandbox.pictures import Enlarged, Picture
from outpaint_mcp.sandbox.tasks import Job, Webhook
from outpaint_mcp.sandbox.vendor import Body, Call, RefusedError, Vendor, Words, answer_json, four_outpaints, iso
from outpaint_mcp.sandbox.webhooks import Push, is_loopback

# No page says what an order costs; the field is there, so it holds something.
POINTS = 10
GRID_INDEXES = ("1", "2", "3", "4")
# How an upscaled image is upscaled again, and how many times larger it gets ("subtle" and "creative" double it).
SINGLE_INDEXES = {"light": 1.0, "beta": 1.0, "2x": 2.0, "4x": 4.0, "subtle": 2.0, "creative": 2.0}
MAKE_SQUARE = "1"
BUTTONS = (1.5, 2.0)


def _zoom(value: str) -> str:
    if not re.fullmatch(r"\d(\.\d+)?", value) or not 1.0 <= float(value) <= 2.0:
        raise ValueError("must be a number from 1 to 2, as a string")
    return value


def _ratio(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,3}:[1-9]\d{0,3}", value):
        raise ValueError("must be W:H")
    return value


def _endpoint(value: str) -> str:
    # Loopback is let through with any port: here that is the only place a webhook can go to.
    if value and not is_loopback(value) and re.search(r":(?!443(/|$))\d+(/|$)", value.partition("://")[2] or value):
        raise ValueError("only port 443 is allowed")
    return value


Zoom = Annotated[str, AfterValidator(_zoom)]
Ratio = Annotated[str, AfterValidator(_ratio)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Outpaint(Body):
    origin_task_id: str = Field(min_length=1)
    # The page gives no default; 2 is the wider of the two buttons.
    zoom_ratio: Zoom = "2"
    aspect_ratio: Ratio | None = None
    prompt: str = ""
    skip_prompt_check: bool = False


class Upscale(Body):
    origin_task_id: str = Field(min_length=1)
    index: str


class LegacyOutpaint(Outpaint):
    webhook_endpoint: Endpoint = ""
    webhook_secret: str = ""


class LegacyUpscale(Upscale):
    index: Literal["1", "2", "3", "4"]
    webhook_endpoint: Endpoint = ""
    webhook_secret: str = ""


class LegacyFetch(Body):
    task_id: str = Field(min_length=1)


class WebhookConfig(Body):
    endpoint: Endpoint = ""
    secret: str = ""


class Config(Body):
    service_mode: Literal["public", "private", ""] = ""
    webhook_config: WebhookConfig = WebhookConfig()


class Task(Body):
    model: Literal["midjourney"]
    task_type: Literal["outpaint", "upscale"]
    input: dict[str, Any]
    config: Config = Config()


class PiAPI(Vendor):
    name: ClassVar[str] = "piapi"
    key: ClassVar[str] = "sandbox-piapi-key"
    key_header: ClassVar[str] = "x-api-key"
    words: ClassVar[Words] = Words(("pending", "staged", "processing"), "completed", "failed", ("finished", "success"))
    push_attempts: ClassVar[int] = 3

    def routes(self) -> list[Route]:
        return [
            Route("/mj/v2/outpaint", self.endpoint(self.legacy_outpaint), methods=["POST"]),
            Route("/mj/v2/upscale", self.endpoint(self.legacy_upscale), methods=["POST"]),
            Route("/mj/v2/fetch", self.endpoint(self.legacy_fetch), methods=["POST"]),
            Route("/api/v1/task", self.endpoint(self.create), methods=["POST"]),
            Route("/api/v1/task/{id}", self.endpoint(self.fetch), methods=["GET"]),
            Route("/api/v1/task/{id}", self.endpoint(self.cancel), methods=["DELETE"]),
        ]

    def classify(self, method: str, path: str, body: Any) -> str | None:
        if method == "DELETE":
            return "cancel"
        if path.startswith("/api/v1/task/") or path == "/mj/v2/fetch":
            return "poll"
        if path == "/api/v1/task":
            kind = body.get("task_type") if isinstance(body, dict) else None
            return "upscale" if kind == "upscale" else "submit"
        return {"/mj/v2/outpaint": "submit", "/mj/v2/upscale": "upscale"}.get(path)

    def refuse(self, refused: RefusedError) -> Response:
        # The refusals' bodies are not documented. Both generations are known to put the reason into `message`.
        return answer_json({"code": refused.status, "data": None, "message": refused.message}, refused.status)

    def refuse_in_200(self, message: str) -> Response:
        return answer_json({"code": 500, "data": None, "message": message})

    def refuse_job_shaped(self, status: int, message: str) -> Response:
        task = {"task_id": "", "status": "failed", "output": None, "error": {"code": status, "message": message}}
        return answer_json({"code": status, "data": task, "message": message}, status)

    # The legacy generation

    async def legacy_outpaint(self, call: Call) -> Response:
        body = self.parse(LegacyOutpaint, call)
        job = self._outpaint(call, body, body, _hook(body.webhook_endpoint, body.webhook_secret))
        return answer_json({"task_id": job.id, "status": "success", "message": ""})

    async def legacy_upscale(self, call: Call) -> Response:
        body = self.parse(LegacyUpscale, call)
        job = self._upscale(call, body, body, _hook(body.webhook_endpoint, body.webhook_secret))
        return answer_json({"task_id": job.id, "status": "success", "message": ""})

    async def legacy_fetch(self, call: Call) -> Response:
        body = self.parse(LegacyFetch, call)
        # 404 is not among the statuses that the legacy pages list.
        job = self._find(body.task_id, status=400)
        now = self.desk.now()
        word = self.word(job, now)
        output = self._output(job, now, call.origin)
        result = {
            "image_url": output["image_url"],
            "image_urls": output["image_urls"],
            "temporary_image_urls": output.get("temporary_image_urls"),
            "discord_image_url": output["discord_image_url"],
            "task_progress": output["progress"],
            "actions": output["actions"],
            "message": "",
            "error_messages": [self._failure(job)["message"]] if word == self.words.failed else [],
            "quota_used": 0,
            "credit": 0,
        }
        # Only this generation calls a finished task "finished".
        word = "finished" if word == self.words.succeeded else word
        return answer_json({"task_id": job.id, "status": word, "task_result": result})

    # The unified generation

    async def create(self, call: Call) -> Response:
        task = self.parse(Task, call)
        hook = _hook(task.config.webhook_config.endpoint, task.config.webhook_config.secret)
        if task.task_type == "outpaint":
            job = self._outpaint(call, self.check(Outpaint, task.input), task, hook)
        else:
            job = self._upscale(call, self.check(Upscale, task.input), task, hook)
        return self._envelope(job, call)

    async def fetch(self, call: Call) -> Response:
        return self._envelope(self._find(call.request.path_params["id"], status=404), call)

    async def cancel(self, call: Call) -> Response:
        job = self._find(call.request.path_params["id"], status=404)
        now = self.desk.now()
        if self.word(job, now) != "pending":
            raise RefusedError(400, "only a pending task can be cancelled")
        # No state is named for a cancelled task; of the five, "failed" is the only final one without an image.
        job.cancelled_at = now
        if job.failure is None:
            self.account.refund(job.charge, now)
        return self._envelope(job, call)

    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        failed = stage.final and not stage.succeeded
        given = job.body if "task_type" in job.body else {"input": job.body}
        return {
            "task_id": job.id,
            "model": "midjourney",
            "task_type": job.kind,
            "status": self.word(job, at),
            "config": {
                "service_mode": given.get("config", {}).get("service_mode", ""),
                "webhook_config": {
                    "endpoint": job.webhook.url if job.webhook else "",
                    "secret": job.webhook.secret if job.webhook else "",
                },
            },
            "input": given.get("input", {}),
            "output": self._output(job, at, origin),
            "meta": {
                "created_at": iso(job.created_at),
                "started_at": iso(job.created_at if stage.step else None),
                "ended_at": iso(job.finished_at if stage.final else None),
                "usage": {
                    "type": "point",
                    "frozen": 0 if stage.final else job.charge,
                    "consume": job.charge if stage.succeeded else 0,
                },
            },
            "detail": None,
            "logs": [],
            "error": self._failure(job) if failed else {"code": 0, "raw_message": "", "message": "", "detail": None},
        }

    def push(self, job: Job, hook: Webhook, event: str, at: float) -> Push:
        body = {"timestamp": int(at), "data": self.show(job, at, job.origin)}
        return Push({"content-type": "application/json", "x-webhook-secret": hook.secret}, json.dumps(body).encode())

    def events(self, job: Job, hook: Webhook) -> list[tuple[float, str]]:
        # "For some tasks at updates": here for every task, once, when it starts to be worked on.
        started = [(job.marks[-2], "update")] if len(job.marks) > 1 else []
        return started + super().events(job, hook)

    def _outpaint(self, call: Call, asked: Outpaint, body: Body, hook: Webhook | None) -> Job:
        parent = self._parent(asked.origin_task_id)
        if parent.is_grid:
            raise RefusedError(400, "the origin task must be an upscaled image")
        zoom, ratio = float(asked.zoom_ratio), _pair(asked.aspect_ratio)
        if ratio is None and zoom not in BUTTONS:
            # "Make square", and custom zoom whose ratio is 1:1 unless given.
            ratio = (1, 1)
        return self._order(call, "outpaint", four_outpaints(parent.pictures[0], zoom, ratio), body, hook)

    def _upscale(self, call: Call, asked: Upscale, body: Body, hook: Webhook | None) -> Job:
        parent = self._parent(asked.origin_task_id)
        picture: Picture
        if parent.is_grid:
            if asked.index not in GRID_INDEXES:
                raise RefusedError(400, "index must be one of 1, 2, 3, 4 for a grid")
            picture = parent.pictures[int(asked.index) - 1]
        else:
            if asked.index not in SINGLE_INDEXES:
                raise RefusedError(400, f"index must be one of {', '.join(SINGLE_INDEXES)} for an upscaled image")
            picture = Enlarged.of(parent.pictures[0], SINGLE_INDEXES[asked.index])
        return self._order(call, "upscale", [picture], body, hook)

    def _order(
        self,
        call: Call,
        kind: Literal["outpaint", "upscale"],
        pictures: list[Picture],
        body: Body,
        hook: Webhook | None,
    ) -> Job:
        return self.order(call, kind, str(uuid.uuid4()), pictures, body, charge=POINTS, webhook=hook)

    def _find(self, task_id: str, status: int) -> Job:
        job = self.tasks.get(task_id)
        if job is None:
            raise RefusedError(status, "task not found")
        return job

    def _parent(self, task_id: str) -> Job:
        job = self._find(task_id, status=400)
        if not job.stage(self.desk.now()).succeeded:
            raise RefusedError(400, "the origin task is not finished")
        return job

    def _envelope(self, job: Job, call: Call) -> Response:
        return answer_json({"code": 200, "data": self.show(job, self.desk.now(), call.origin), "message": "success"})

    def _failure(self, job: Job) -> dict[str, Any]:
        if job.cancelled_at is not None:
            return {"code": 0, "raw_message": "", "message": "task cancelled", "detail": None}
        failure = job.failure
        message = (failure.message if failure else None) or "failed to generate"
        code = failure.code if failure and failure.code is not None else 10000
        return {"code": code, "raw_message": message, "message": message, "detail": None}

    def _output(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        output: dict[str, Any] = {
            "image_url": "",
            "image_urls": None,
            "discord_image_url": "",
            "actions": [],
            "progress": round(stage.progress * 100),
            "intermediate_image_urls": None,
        }
        if self.desk.settings.piapi_temporary_urls:
            output["temporary_image_urls"] = None
        if stage.succeeded:
            output["image_url"] = self.grid_url(job, origin)
            output["actions"] = _GRID_ACTIONS if job.is_grid else _SINGLE_ACTIONS
            if job.is_grid and "temporary_image_urls" in output:
                output["temporary_image_urls"] = self.image_urls(job, origin)
        return output


_GRID_ACTIONS = ("reroll", *(f"{what}{number}" for what in ("upscale", "variation") for number in range(1, 5)))
_SINGLE_ACTIONS = ("upscale_subtle", "upscale_creative", "outpaint_1.5x", "outpaint_2x", "outpaint_custom")


def _pair(ratio: str | None) -> tuple[int, int] | None:
    if ratio is None:
        return None
    width, _, height = ratio.partition(":")
    return int(width), int(height)


def _hook(url: str, secret: str) -> Webhook | None:
    return Webhook(url, secret) if url else None
