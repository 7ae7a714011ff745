"""OpenAI's image edits, as its SDK and its guide describe them:
https://developers.openai.com/api/docs/guides/image-generation.

Its base URL ends in `/v1`; here `/openai` takes that place. One image as a form is played: neither JSON, nor several
images, nor streams. The whole image is drawn anew, as by the real models: what the mask keeps is only like it was.
"""

import base64
import io
import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from anyio import to_thread
from PIL import Image, ImageFilter
from pydantic import AfterValidator, Field
from starlette.responses import Response

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Placed
from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, Problem, RejectedError, parse_form

NEWER = (
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-sunburst-2026-09-08",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-flare-2026-09-08",
    "gpt-image-2.6-sunburst",
    "gpt-image-2.6-flare",
    "gpt-image-2",
    "gpt-image-2-2026-04-21",
)
OLDER = ("gpt-image-1.5", "gpt-image-1-mini", "chatgpt-image-latest")
OLDER_SIZES = ("1024x1024", "1536x1024", "1024x1536")
PIXELS = range(655_360, 8_294_400 + 1)
MAX_MASK_BYTES = 4_000_000
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
# Those of the published example, for one image.
INPUT_TOKENS, OUTPUT_TOKENS = 50, 50


def _size(value: str) -> str:
    if value != "auto" and re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", value) is None:
        raise ValueError("must be WIDTHxHEIGHT or auto")
    return value


class Edit(Body):
    model: str
    prompt: str = Field(min_length=1, max_length=32_000)
    size: Annotated[str, AfterValidator(_size)] = "auto"
    quality: Literal["low", "medium", "high", "auto", "xhigh", "max"] = "auto"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(default=100, ge=0, le=100)
    input_fidelity: Literal["high", "low"] | None = None
    n: int = Field(default=1, ge=1, le=10)
    background: Literal["transparent", "opaque", "auto"] = "auto"
    moderation: Literal["auto", "low"] = "auto"
    safety_identifier: str = ""


class OpenAI(Vendor):
    name: ClassVar[str] = "openai"
    key: ClassVar[str] = "sandbox-openai-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    # It keeps no tasks, so these are never shown.
    statuses: ClassVar[Statuses] = Statuses((), "succeeded", "failed")

    def operations(self) -> list[Operation]:
        return [Operation("POST", "/images/edits", self.edit, "submit")]

    def rejection(self, rejected: RejectedError) -> Response:
        code = CODES.get(rejected.status) if rejected.code is None else rejected.code
        kind = "image_generation_user_error" if code == "moderation_blocked" else "invalid_request_error"
        param = rejected.problems[0].path if rejected.problems else None
        error = {"message": rejected.message, "type": kind, "param": param, "code": code}
        return answer_json({"error": error}, rejected.status, {"x-request-id": f"req_{secrets.token_hex(16)}"})

    def insufficient_balance(self, charge: float, available: float) -> RejectedError:
        return RejectedError(429, "You exceeded your current quota", code="insufficient_quota")

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        raise NotImplementedError("there is nothing to poll")

    async def edit(self, call: Call) -> Response:
        order, files = await parse_form(Edit, call.request, ("image", "mask"))
        data = files.get("image")
        if data is None:
            raise RejectedError(400, "image: it is missing", problems=[Problem("image", "missing", "it is missing")])
        _check_model(order)
        source = await self.context.input_images.store(data)
        if source.mime_type not in ("image/png", "image/webp", "image/jpeg"):
            raise RejectedError(400, f"Unsupported file type {source.mime_type!r}")
        own = (source.width, source.height)
        box = (0, 0, *own)
        if (mask := files.get("mask")) is not None:
            box = await to_thread.run_sync(_kept, mask, own)
        width, height = own if order.size == "auto" else map(int, order.size.split("x"))
        if call.failure is not None:
            # Moderation looks at the finished image too; whatever it stops is refused, and there is no task that fails.
            message = call.failure.message or "Your request was rejected by the safety system."
            raise RejectedError(400, message, code=call.failure.code or "moderation_blocked")
        part = await self.context.input_images.store(await to_thread.run_sync(_cropped, data, box))
        frame = _frame(box, own, (width, height))
        images = [Placed.of(part.image, frame, seed) for seed in range(order.n)]
        output = OUTPUT_TOKENS * order.n
        tokens = INPUT_TOKENS + output
        task = self.order(
            call, "outpaint", secrets.token_hex(8), images, order, model=order.model, charge=tokens, instant=True
        )
        drawn = [await self._drawn_anew(image, order.output_format) for image in images]
        answer = {
            "created": int(task.created_at),
            "data": [{"b64_json": base64.b64encode(one).decode()} for one in drawn],
            "background": "opaque",
            "output_format": order.output_format,
            "size": f"{width}x{height}",
            "quality": "high" if order.quality == "auto" else order.quality,
            "usage": {
                "total_tokens": tokens,
                "input_tokens": INPUT_TOKENS,
                "output_tokens": output,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": INPUT_TOKENS - 10},
            },
        }
        return answer_json(answer, headers={"x-request-id": f"req_{secrets.token_hex(16)}"})

    async def _drawn_anew(self, image: Placed, file_format: str) -> bytes:
        data, _ = await self.context.input_images.bytes_of(image)
        return await to_thread.run_sync(_drawn_anew, data, file_format)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(400, str(problems[0]), problems=problems)


def _check_model(order: Edit) -> None:
    """What a model paints.

    Raises:
        RejectedError: there is no such model, or it cannot do what is asked.
    """
    newer = order.model in NEWER
    if not newer and order.model not in OLDER:
        raise RejectedError(400, f"The model {order.model!r} does not exist")
    problems = {
        "size": order.size != "auto" and not (_painted(order.size) if newer else order.size in OLDER_SIZES),
        "quality": order.quality in ("xhigh", "max") and not order.model.startswith("gpt-image-2.5"),
        "input_fidelity": order.input_fidelity is not None and order.model != "gpt-image-1.5",
    }
    for name, wrong in problems.items():
        if wrong:
            problem = Problem(name, "invalid", f"the model {order.model!r} does not take this")
            raise RejectedError(400, str(problem), problems=[problem])


def _painted(size: str) -> bool:
    width, height = map(int, size.split("x"))
    return (
        width % 16 == height % 16 == 0
        and max(width, height) <= min(3840, 3 * min(width, height))
        and width * height in PIXELS
    )


def _kept(mask: bytes, own: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in which the mask keeps the image.

    Raises:
        RejectedError: it is no mask of the image, or nothing is kept.
    """
    try:
        with Image.open(io.BytesIO(mask), formats=["PNG"]) as opened:
            if opened.size != own or "A" not in opened.getbands() or len(mask) >= MAX_MASK_BYTES:
                raise RejectedError(400, "The mask must be a PNG with alpha below 4 MB, of the image's size")
            box = opened.getchannel("A").point(lambda alpha: 255 if alpha else 0).getbbox()
    except (OSError, ValueError, SyntaxError):
        raise RejectedError(400, "The mask is no PNG") from None
    if box is None:
        raise RejectedError(400, "The mask leaves nothing of the image; that is not played here")
    return box


def _cropped(data: bytes, box: tuple[int, int, int, int]) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.crop(box).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _drawn_anew(data: bytes, file_format: str) -> bytes:
    """The image a little softer and brighter."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(1))
        soft.point(lambda level: level + 6).save(buffer, file_format)
    return buffer.getvalue()


def _frame(box: tuple[int, int, int, int], own: tuple[int, int], canvas: tuple[int, int]) -> Frame:
    """Where what is kept lies on a canvas that may be larger or smaller than the image was."""
    left, top, right, bottom = (round(edge * canvas[axis % 2] / own[axis % 2]) for axis, edge in enumerate(box))
    return Frame(*canvas, left, top, max(1, right - left), max(1, bottom - top))
