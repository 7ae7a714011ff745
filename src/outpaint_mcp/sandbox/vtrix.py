"""Vtrix's protocol, as its documentation and its command-line tool describe it: https://vtrix.ai/docs."""

import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from outpaint_mcp.sandbox.own_picture import UploadPaint, painted
from outpaint_mcp.sandbox.pictures import Enlarged, Picture, Scene
from outpaint_mcp.sandbox.tasks import Job, Kind, Webhook
from outpaint_mcp.sandbox.vendor import (
    GRID_SEEDS,
    Body,
    Call,
    HttpUrl,
    Problem,
    RefusedError,
    Text,
    Vendor,
    Words,
    answer_json,
    four_outpaints,
    iso,
)

COST_USD = 0.0357
DISCOUNT = 0.7
# The outpaint codes; the documentation writes them with leading zeros, which integers do not have.
JOB_ID_MISSING = 4007001
GENERATION_FAILED = 4007098
FIELD_CODES = {
    ("jobId", "missing"): 4007001,
    ("imageNo", "missing"): 4007002,
    ("imageNo", "invalid"): 4007003,
    ("scale", "missing"): 4007004,
    ("scale", "invalid"): 4007005,
    ("callback", "invalid"): 4007006,
}
# For what has no code of its own the page gives none; the HTTP status stands in.
INSUFFICIENT_BALANCE = 40201
# Type 0 to 3: standard, creative, v5 2x, v5 4x, by how much larger the picture gets.
UPSCALES = (1.0, 2.0, 2.0, 4.0)


class Outpaint(Body):
    jobId: str = Field(min_length=1)
    imageNo: int = Field(ge=0, le=3)
    scale: float = Field(ge=1.1, le=2.0)
    remixPrompt: Text = ""
    callback: HttpUrl = ""


class Diffusion(Body):
    text: Text
    callback: HttpUrl = ""


class Upscale(Body):
    jobId: str = Field(min_length=1)
    imageNo: int = Field(ge=0, le=3)
    type: int = Field(default=0, ge=0, le=3)
    callback: HttpUrl = ""


class Item(Body):
    params: dict[str, Any]


class Generation(Body):
    # The documentation lists the parameters beside `model`; whether that is taken is unknown, so here it is not.
    model: Literal["midjourney_outpaint", "midjourney_diffusion", "midjourney_upscale", "midjourney_uploadpaint"]
    input: list[Item] = Field(min_length=1, max_length=1)


class Vtrix(Vendor):
    name: ClassVar[str] = "vtrix"
    key: ClassVar[str] = "sandbox-vtrix-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    # One page shows only in_progress while a task runs, another pending and processing: here it is all three.
    words: ClassVar[Words] = Words(("pending", "processing", "in_progress"), "completed", "failed")

    def routes(self) -> list[Route]:
        return [
            Route("/model/v1/generation", self.endpoint(self.generate), methods=["POST"]),
            Route("/model/v1/generation/task/{id}", self.endpoint(self.fetch), methods=["GET"]),
        ]

    def classify(self, method: str, path: str, body: Any) -> str | None:
        if path.startswith("/model/v1/generation/task/"):
            return "poll"
        if path != "/model/v1/generation":
            return None
        model = body.get("model") if isinstance(body, dict) else None
        return {"midjourney_diffusion": "imagine", "midjourney_upscale": "upscale"}.get(str(model), "submit")

    def refuse(self, refused: RefusedError) -> Response:
        if refused.code == INSUFFICIENT_BALANCE:
            # One of the shapes that were seen, and the one in which this code comes.
            status = {"code": refused.status, "message": refused.message, "error_code": refused.code}
            return answer_json({"status": status}, refused.status)
        if refused.code is None and refused.status in _OTHER_SHAPES:
            return answer_json(_OTHER_SHAPES[refused.status](refused.message), refused.status)
        code = refused.status if refused.code is None else refused.code
        return answer_json({"error": {"code": code, "error_message": refused.message}}, refused.status)

    def refuse_in_200(self, message: str) -> Response:
        return answer_json({"error": {"code": GENERATION_FAILED, "error_message": message}})

    def as_bare_string(self, body: Any) -> Any:
        # Here it is the error that is sometimes a plain string.
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            return {**body, "error": body["error"].get("error_message", "")}
        return body

    def cannot_pay(self, charge: float, available: float) -> RefusedError:
        return RefusedError(403, "insufficient balance", code=INSUFFICIENT_BALANCE)

    def malformed(self, problems: Sequence[Problem]) -> RefusedError:
        first = problems[0]
        code = FIELD_CODES.get((first.field, first.kind))
        return RefusedError(400, str(first), code=code, problems=problems)

    async def generate(self, call: Call) -> Response:
        generation = self.parse(Generation, call)
        params = generation.input[0].params
        match generation.model:
            case "midjourney_outpaint":
                job = self._outpaint(call, generation, self.check(Outpaint, params))
            case "midjourney_diffusion":
                diffusion = self.check(Diffusion, params)
                scenes = [Scene.of(100 + secrets.randbelow(1000)) for _ in GRID_SEEDS]
                job = self._order(call, "imagine", generation, scenes, diffusion.callback)
            case "midjourney_upscale":
                upscale = self.check(Upscale, params)
                enlarged = Enlarged.of(self._image(upscale.jobId, upscale.imageNo), UPSCALES[upscale.type])
                job = self._order(call, "upscale", generation, [enlarged], upscale.callback)
            case "midjourney_uploadpaint":
                asked = self.check(UploadPaint, params)
                source = await self.fetch_picture(asked.imgUrl)
                job = self._order(call, "outpaint", generation, painted(asked, source.picture), asked.callback)
        # The state at first is in_progress here, whatever the first look at the task says.
        return answer_json(
            {"id": job.id, "created_at": int(job.created_at), "status": "in_progress", "model": job.model}
        )

    async def fetch(self, call: Call) -> Response:
        job = self.tasks.get(call.request.path_params["id"])
        if job is None:
            raise RefusedError(404, "task not found")
        return answer_json(self.show(job, self.desk.now(), call.origin))

    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        content: list[dict[str, Any]] = []
        if stage.succeeded:
            content = [{"type": "image", "url": url} for url in self.image_urls(job, origin)]
            for item in content:
                if job.remote_id:
                    item["jobId"] = job.remote_id
        error = None
        if stage.final and not stage.succeeded:
            code = job.failure.code if job.failure else None
            message = job.failure.message if job.failure else None
            error = {
                "code": GENERATION_FAILED if code is None else code,
                "error_message": message or "generation failed",
            }
        return {
            "id": job.id,
            "created_at": int(job.created_at),
            "status": self.word(job, at),
            "model": job.model,
            "progress": round(stage.progress, 2),
            "output": [{"content": content}] if content else [],
            "usage": {"cost": f"{job.charge:.4f}" if stage.succeeded else "0", "discount": DISCOUNT},
            "metadata": {
                "in_queue_at": iso(job.created_at),
                "upload_at": iso(job.finished_at) if stage.succeeded else "",
                "completed_at": iso(job.finished_at) if stage.final else "",
            },
            "error": error,
        }

    def _outpaint(self, call: Call, generation: Generation, asked: Outpaint) -> Job:
        picture = self._image(asked.jobId, asked.imageNo)
        return self._order(call, "outpaint", generation, four_outpaints(picture, asked.scale), asked.callback)

    def _image(self, job_id: str, number: int) -> Picture:
        job = self.tasks.by_remote_id(job_id)
        if job is None:
            # The gateway's own id goes only where the output names no other.
            own = self.tasks.get(job_id)
            job = own if own is not None and not own.remote_id else None
        if job is None:
            raise RefusedError(400, "job not found", code=JOB_ID_MISSING)
        if not job.stage(self.desk.now()).succeeded:
            raise RefusedError(400, "the job is not finished")
        if number >= len(job.pictures):
            raise RefusedError(400, "invalid image number", code=FIELD_CODES["imageNo", "invalid"])
        return job.pictures[number]

    def _order(self, call: Call, kind: Kind, generation: Generation, pictures: Sequence[Picture], callback: str) -> Job:
        return self.order(
            call,
            kind,
            secrets.token_hex(10),
            pictures,
            generation,
            model=generation.model,
            charge=COST_USD,
            webhook=Webhook(callback) if callback else None,
            remote_id=str(uuid.uuid4()),
        )


# The page's other shapes, each shown under a status whose shape it does not say.
_OTHER_SHAPES: dict[int, Callable[[str], dict[str, Any]]] = {
    401: lambda message: {"message": message},
    404: lambda message: {"error": message},
    429: lambda message: {"error": {"message": message}},
}
