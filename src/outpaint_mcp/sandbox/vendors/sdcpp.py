"""The jobs of stable-diffusion.cpp's sd-server, as its `examples/server/api.md` describes them (August 2026)."""

import base64
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from anyio import to_thread
from pydantic import ConfigDict, Field
from starlette.responses import Response

from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, RejectedError
from outpaint_mcp.sandbox.vendors.masked_canvas import BadMaskError, MaskedCanvas, encoded

EXPIRES_AFTER: Final = 600.0
MAX_QUEUED: Final = 64


class SampleParams(Body):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    sample_steps: int = Field(default=20, ge=1)
    sample_method: str | None = None
    scheduler: str | None = None
    guidance: Mapping[str, float] | None = None


class ImgGen(Body):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    prompt: str = ""
    negative_prompt: str = ""
    width: int = Field(default=512, ge=64)
    height: int = Field(default=512, ge=64)
    strength: float = Field(default=0.75, ge=0, le=1)
    seed: int = -1
    batch_count: int = Field(default=1, ge=1)
    init_image: str | None = None
    mask_image: str | None = None
    sample_params: SampleParams = SampleParams()
    embed_image_metadata: bool = False
    output_format: str = "png"


class Jobs:
    """Below `/sdcpp/v1` of a vendor, if `check` lets it. Nothing that is being drawn can be stopped."""

    def __init__(self, vendor: Vendor, check: Callable[[], None]) -> None:
        self._vendor = vendor
        self._check = check
        self._canvases: OrderedDict[str, MaskedCanvas] = OrderedDict()

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/sdcpp/v1/capabilities", self._capabilities, "about"),
            Operation("POST", "/sdcpp/v1/img_gen", self._order, "submit"),
            Operation("GET", "/sdcpp/v1/jobs/{id}", self._fetch, "poll"),
            Operation("POST", "/sdcpp/v1/jobs/{id}/cancel", self._cancel, "cancel"),
        ]

    async def _capabilities(self, call: Call) -> Response:
        self._check()
        features = {"init_image": True, "mask_image": True}
        return answer_json({"features_by_mode": {"img_gen": features}, "output_formats": ["png", "jpeg"]})

    async def _order(self, call: Call) -> Response:
        vendor = self._vendor
        self._check()
        order = vendor.parse(ImgGen, call)
        now = vendor.context.now()
        if not order.prompt:
            raise RejectedError(400, "prompt required")
        if sum(not task.stage(now).final for task in vendor.tasks.ordered()) >= MAX_QUEUED:
            raise RejectedError(429, "job queue is full")
        try:
            picture, mask = (base64.b64decode(one or "", validate=True) for one in (order.init_image, order.mask_image))
            canvas = await to_thread.run_sync(MaskedCanvas.read, picture, mask)
            canvas = canvas.stretched(order.width, order.height)
            specs = [await canvas.spec(vendor.context.input_images, order.seed + at) for at in range(order.batch_count)]
        except (OSError, ValueError, BadMaskError):
            raise RejectedError(400, "invalid params") from None
        task = vendor.order(call, "outpaint", f"job_{secrets.token_hex(8)}", specs, order)
        self._canvases[task.id] = canvas
        while len(self._canvases) > MAX_QUEUED:
            self._canvases.popitem(last=False)
        told = {name: self.shown(task, now)[name] for name in ("id", "kind", "status", "created")}
        return answer_json(told | {"poll_url": f"/sdcpp/v1/jobs/{task.id}"}, 202)

    def shown(self, task: Task, at: float) -> dict[str, Any]:
        """The job without its result."""
        status = "cancelled" if task.cancelled_at is not None else self._vendor.status_of(task, at)
        error = None
        if status == "failed":
            message = task.failure_message("generate_image returned no results")
            error = {"code": str(task.failure_code("generation_failed")), "message": message}
        return {
            "id": task.id,
            "kind": "img_gen",
            "status": status,
            "created": int(task.created_at),
            "started": None if status == "queued" else int(task.state_ends[0]),
            "completed": int(task.finished_at) if task.stage(at).final else None,
            "queue_position": 0,
            "result": None,
            "error": error,
        }

    def _known(self, call: Call) -> Task:
        self._check()
        task = self._vendor.find(call.task_id)
        if self._vendor.context.now() > task.finished_at + EXPIRES_AFTER:
            raise RejectedError(410, "job expired")
        return task

    async def _fetch(self, call: Call) -> Response:
        task, now = self._known(call), self._vendor.context.now()
        shown = self.shown(task, now)
        if shown["status"] == "completed":
            drawn = [await self._drawn(task, at) for at in range(len(task.images))]
            images = [{"index": at, "b64_json": base64.b64encode(one).decode()} for at, one in enumerate(drawn)]
            shown["result"] = {"output_format": "png", "images": images}
        return answer_json(shown)

    async def _drawn(self, task: Task, at: int) -> bytes:
        image = await self._canvases[task.id].painted(self._vendor.context.input_images, task.images[at])
        return await to_thread.run_sync(encoded, image, "PNG")

    async def _cancel(self, call: Call) -> Response:
        task, now = self._known(call), self._vendor.context.now()
        match self.shown(task, now)["status"]:
            case "generating":
                raise RejectedError(409, "the job is being generated and cannot be interrupted yet")
            case "queued":
                task.cancelled_at = now
        return answer_json(self.shown(task, now))
