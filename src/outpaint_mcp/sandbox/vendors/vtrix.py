"""Vtrix's protocol, as its documentation and its command-line tool describe it: https://vtrix.ai/docs."""

import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import Enlarged, ImageSpec, four_new_scenes, four_outpaints
from outpaint_mcp.sandbox.seeds import GRID, SINGLE, Seed
from outpaint_mcp.sandbox.tasks import Kind, Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Action, Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, Problem, RejectedError, check_body
from outpaint_mcp.sandbox.vendors.midjourney import Diffusion, Outpaint, UploadPaint, four_upload_paints

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
# What the documentation gives no code for is answered with the HTTP status as code.
INSUFFICIENT_BALANCE = 40201
# Type 0 to 3: standard, creative, v5 2x, v5 4x, by how much larger the image gets on each side.
UPSCALES = (1.0, 2.0, 2.0, 4.0)


class Upscale(Body):
    jobId: str = Field(min_length=1)
    imageNo: int = Field(ge=0, le=3)
    type: int = Field(default=0, ge=0, le=3)
    callback: HttpUrl = ""


class Item(Body):
    params: dict[str, Any]


class Generation(Body):
    # The documentation lists the parameters beside `model`; whether that works is unknown, so it is rejected here.
    model: Literal["midjourney_outpaint", "midjourney_diffusion", "midjourney_upscale", "midjourney_uploadpaint"]
    input: list[Item] = Field(min_length=1, max_length=1)


class Vtrix(Vendor):
    name: ClassVar[str] = "vtrix"
    key: ClassVar[str] = "sandbox-vtrix-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    # One page shows only in_progress while a task runs, another pending and processing: here it is all three.
    statuses: ClassVar[Statuses] = Statuses(("pending", "processing", "in_progress"), "completed", "failed")
    seeds: ClassVar[tuple[Seed, ...]] = (
        Seed(
            name,
            "d5eed2grid0000000001",
            True,
            f"{GRID}; its output names the jobId 5eed0002-0000-4000-8000-000000000001",
            "midjourney_diffusion",
            "5eed0002-0000-4000-8000-000000000001",
        ),
        Seed(
            name,
            "d5eed2single00000002",
            False,
            f"{SINGLE}; its output names the jobId 5eed0002-0000-4000-8000-000000000002",
            "midjourney_upscale",
            "5eed0002-0000-4000-8000-000000000002",
        ),
        Seed(
            name,
            "d5eed2plain000000003",
            True,
            f"{GRID} whose output names no jobId: the task's own id is used",
            "midjourney_diffusion",
        ),
    )

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/model/v1/generation", self.generate, _action_of_generation),
            Operation("GET", "/model/v1/generation/task/{id}", self.fetch, "poll"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        if rejected.code == INSUFFICIENT_BALANCE:
            # One of the shapes that were seen, and the one in which this code comes.
            status = {"code": rejected.status, "message": rejected.message, "error_code": rejected.code}
            return answer_json({"status": status}, rejected.status)
        if rejected.code is None and rejected.status in _OTHER_SHAPES:
            return answer_json(_OTHER_SHAPES[rejected.status](rejected.message), rejected.status)
        code = rejected.status if rejected.code is None else rejected.code
        return answer_json({"error": {"code": code, "error_message": rejected.message}}, rejected.status)

    def rejection_in_200(self, message: str) -> Response:
        return answer_json({"error": {"code": GENERATION_FAILED, "error_message": message}})

    def as_bare_string(self, body: Any) -> Any:
        # Here it is the error that is sometimes a plain string.
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            return {**body, "error": body["error"].get("error_message", "")}
        return body

    def insufficient_balance(self, charge: float, available: float) -> RejectedError:
        return RejectedError(403, "insufficient balance", code=INSUFFICIENT_BALANCE)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        first = problems[0]
        code = FIELD_CODES.get((first.field, first.kind))
        return RejectedError(400, str(first), code=code, problems=problems)

    async def generate(self, call: Call) -> Response:
        generation = self.parse(Generation, call)
        params = generation.input[0].params
        match generation.model:
            case "midjourney_outpaint":
                task = self._outpaint(call, generation, check_body(Outpaint, params))
            case "midjourney_diffusion":
                diffusion = check_body(Diffusion, params)
                task = self._order(call, "imagine", generation, four_new_scenes(), diffusion.callback)
            case "midjourney_upscale":
                upscale = check_body(Upscale, params)
                enlarged = Enlarged.of(self._image(upscale.jobId, upscale.imageNo), UPSCALES[upscale.type])
                task = self._order(call, "upscale", generation, [enlarged], upscale.callback)
            case "midjourney_uploadpaint":
                upload_paint = check_body(UploadPaint, params)
                source = await self.context.input_images.fetch(upload_paint.imgUrl)
                images = four_upload_paints(upload_paint, source.image)
                task = self._order(call, "outpaint", generation, images, upload_paint.callback)
        # The status here is always in_progress, whatever the first poll says.
        return answer_json(
            {"id": task.id, "created_at": int(task.created_at), "status": "in_progress", "model": task.model}
        )

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        content: list[dict[str, Any]] = []
        if stage.succeeded:
            content = [{"type": "image", "url": url} for url in self.image_urls(task, origin)]
            for item in content:
                if task.remote_id:
                    item["jobId"] = task.remote_id
        error = None
        if stage.final and not stage.succeeded:
            error = {
                "code": task.failure_code(GENERATION_FAILED),
                "error_message": task.failure_message("generation failed"),
            }
        return {
            "id": task.id,
            "created_at": int(task.created_at),
            "status": self.status_of(task, at),
            "model": task.model,
            "progress": round(stage.progress, 2),
            "output": [{"content": content}] if content else [],
            "usage": {"cost": f"{task.charge:.4f}" if stage.succeeded else "0", "discount": DISCOUNT},
            "metadata": {
                "in_queue_at": iso(task.created_at),
                "upload_at": iso(task.finished_at) if stage.succeeded else "",
                "completed_at": iso(task.finished_at) if stage.final else "",
            },
            "error": error,
        }

    def _outpaint(self, call: Call, generation: Generation, outpaint: Outpaint) -> Task:
        image = self._image(outpaint.jobId, outpaint.imageNo)
        return self._order(call, "outpaint", generation, four_outpaints(image, outpaint.scale), outpaint.callback)

    def _image(self, job_id: str, number: int) -> ImageSpec:
        task = self.tasks.by_remote_id(job_id)
        if task is None:
            # The gateway's own id is accepted only where the output names no other.
            own = self.tasks.get(job_id)
            task = own if own is not None and not own.remote_id else None
        if task is None:
            raise RejectedError(400, "job not found", code=JOB_ID_MISSING)
        self.succeeded(task, "the job is not finished")
        if number >= len(task.images):
            raise RejectedError(400, "invalid image number", code=FIELD_CODES["imageNo", "invalid"])
        return task.images[number]

    def _order(
        self, call: Call, kind: Kind, generation: Generation, images: Sequence[ImageSpec], callback: str
    ) -> Task:
        return self.order(
            call,
            kind,
            secrets.token_hex(10),
            images,
            generation,
            model=generation.model,
            charge=COST_USD,
            webhook=Webhook.to(callback),
            remote_id=str(uuid.uuid4()),
        )


def _action_of_generation(body: Any) -> Action:
    match body:
        case {"model": "midjourney_diffusion"}:
            return "imagine"
        case {"model": "midjourney_upscale"}:
            return "upscale"
        case _:
            return "submit"


# The other documented shapes, each used under a status whose shape is not documented.
_OTHER_SHAPES: dict[int, Callable[[str], dict[str, Any]]] = {
    401: lambda message: {"message": message},
    404: lambda message: {"error": message},
    429: lambda message: {"error": {"message": message}},
}
