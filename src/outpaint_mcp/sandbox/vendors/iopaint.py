"""IOPaint, as version 1.6.0 answered on a CPU (November 2026): one synchronous call, no tasks, no key.

It runs one model for everybody. An erase model paints without prompt and seed; a switch to a model that it does not
have breaks every call until a known one is switched to.
"""

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from anyio import to_thread
from pydantic import ConfigDict, Field
from starlette.responses import Response

from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, Problem, RejectedError
from outpaint_mcp.sandbox.vendors.masked_canvas import BadMaskError, MaskedCanvas, encoded

MODELS = {
    "cv2": "inpaint",
    "lama": "inpaint",
    "runwayml/stable-diffusion-inpainting": "diffusers_sd_inpaint",
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "diffusers_sdxl_inpaint",
}
SAMPLERS = ("DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "DDIM", "UniPC", "LCM")


class Inpaint(Body):
    """The fields that are known here; others are ignored, as there."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    image: str | None = None
    mask: str | None = None
    prompt: str = ""
    negative_prompt: str = ""
    sd_seed: int = 42
    sd_steps: int = 50
    sd_guidance_scale: float = 7.5
    sd_strength: Annotated[float, Field(le=1.0)] = 1.0
    sd_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    sd_sampler: str = "UniPC"
    sd_mask_blur: int = 11
    sd_keep_unmasked_area: bool = True
    use_extender: bool = False
    # Whatever word it is.
    hd_strategy: str = "Crop"
    cv2_flag: Literal["INPAINT_NS", "INPAINT_TELEA"] = "INPAINT_NS"


class Switch(Body):
    name: str


class IOPaint(Vendor):
    name: ClassVar[str] = "iopaint"
    # It keeps no tasks, so these are never shown.
    statuses: ClassVar[Statuses] = Statuses((), "succeeded", "failed")

    def __init__(self, context: SandboxContext) -> None:
        super().__init__(context)
        self._model = context.settings.iopaint_model

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/api/v1/server-config", self.config, "about"),
            Operation("GET", "/api/v1/model", self.model, "about"),
            Operation("GET", "/api/v1/samplers", self.samplers, "about"),
            Operation("POST", "/api/v1/model", self.switch, "about"),
            Operation("POST", "/api/v1/inpaint", self.inpaint, "submit"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        if rejected.problems:
            listed = [
                {"type": one.kind, "loc": ["body", *one.path.split(".")], "msg": one.message}
                for one in rejected.problems
            ]
            return answer_json({"detail": listed}, 422)
        if rejected.status in (404, 405):
            return answer_json({"detail": "Not Found"}, 404)
        if rejected.status >= 500:
            told = {"error": str(rejected.code or "RuntimeError"), "detail": "", "body": "", "errors": rejected.message}
            return answer_json(told, rejected.status)
        errors = f"{rejected.status}: {rejected.message}"
        told = {"error": "HTTPException", "detail": rejected.message, "body": "", "errors": errors}
        return answer_json(told, rejected.status)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        raise NotImplementedError("there is nothing to poll")

    async def config(self, call: Call) -> Response:
        listed = [_info(name) for name in MODELS]
        return answer_json({"plugins": [], "modelInfos": listed, "samplers": SAMPLERS, "disableModelSwitch": False})

    async def model(self, call: Call) -> Response:
        self._check_model()
        return answer_json(_info(self._model))

    async def samplers(self, call: Call) -> Response:
        return answer_json(list(SAMPLERS))

    async def switch(self, call: Call) -> Response:
        self._model = self.parse(Switch, call).name
        self._check_model()
        return answer_json(_info(self._model))

    def _check_model(self) -> None:
        if self._model not in MODELS:
            raise RejectedError(500, repr(self._model), code="KeyError")

    async def inpaint(self, call: Call) -> Response:
        order = self.parse(Inpaint, call)
        self._check_model()
        canvas = await to_thread.run_sync(_read, order)
        paints_prompts = MODELS[self._model] != "inpaint"
        seed = secrets.randbelow(2**31) if order.sd_seed == -1 else order.sd_seed
        if paints_prompts and order.use_extender:
            raise RejectedError(500, "the extender is not played here", code="AssertionError")
        try:
            spec = await canvas.spec(self.context.input_images, seed if paints_prompts else 0)
        except BadMaskError as error:
            raise RejectedError(500, str(error), code="AssertionError") from None
        await self.context.settings.sleep(self.context.settings.seconds_per_state)
        if call.failure is not None:
            raise RejectedError(
                500,
                call.failure.message or "CUDA out of memory. Tried to allocate 2.00 GiB.",
                code=call.failure.code or "OutOfMemoryError",
            )
        drawn = await canvas.painted(self.context.input_images, spec)
        self.order(call, "outpaint", secrets.token_hex(8), [spec], order, model=self._model, instant=True)
        data = await to_thread.run_sync(encoded, drawn, canvas.file_format)
        return Response(data, media_type=f"image/{canvas.file_format.lower()}", headers={"x-seed": str(seed)})

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, str(problems[0]), problems=problems)


def _info(name: str) -> dict[str, Any]:
    kind = MODELS[name]
    diffuses = kind != "inpaint"
    return {
        "name": name,
        "path": name,
        "model_type": kind,
        "is_single_file_diffusers": False,
        "need_prompt": diffuses,
        "controlnets": [],
        "brushnets": [],
        "support_strength": diffuses,
        "support_outpainting": diffuses,
        "support_lcm_lora": diffuses,
        "support_controlnet": diffuses,
        "support_brushnet": False,
        "support_powerpaint_v2": False,
    }


def _read(order: Inpaint) -> MaskedCanvas:
    """The canvas of an order.

    Raises:
        RejectedError: the image or its mask is missing or no image, or they do not fit together.
    """
    try:
        if order.image is None or order.mask is None:
            raise RejectedError(500, "'NoneType' object has no attribute 'startswith'", code="AttributeError")
        return MaskedCanvas.read(*(base64.b64decode(one.rpartition(",")[2]) for one in (order.image, order.mask)))
    except BadMaskError as error:
        raise RejectedError(400, str(error)) from None
    except (OSError, ValueError):
        message = "cannot identify image file <_io.BytesIO object>"
        raise RejectedError(500, message, code="UnidentifiedImageError") from None
