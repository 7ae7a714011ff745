"""Stability AI's outpaint, as its REST document describes it: https://platform.stability.ai/docs/api-reference.

The answer is the image, as bytes or within JSON. What its filter stops comes as a 200 with an image that is blurred.
"""

import base64
import io
import secrets
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal

from anyio import to_thread
from PIL import Image, ImageFilter
from pydantic import Field
from starlette.responses import Response

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Placed
from outpaint_mcp.sandbox.image_store import StoredUpload
from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, RejectedError, parse_form

# Of a text of 2024-25.
CREDITS = 4
# "A request larger than 10 MiB": the number is from memory.
MAX_REQUEST_BYTES = 10 * 1024 * 1024
PIXELS = range(4_096, 9_437_184 + 1)
Growth = Annotated[int, Field(ge=0, le=2000)]


class Outpaint(Body):
    left: Growth = 0
    right: Growth = 0
    up: Growth = 0
    down: Growth = 0
    creativity: float = Field(default=0.5, ge=0, le=1)
    prompt: str = Field(default="", max_length=10_000)
    seed: int = Field(default=0, ge=0, le=4_294_967_294)
    output_format: Literal["png", "jpeg", "webp"] = "png"
    # One of 17 words, of which two are known here.
    style_preset: str | None = Field(default=None, pattern="^[a-z0-9]+(-[a-z0-9]+)*$")


class Stability(Vendor):
    name: ClassVar[str] = "stability"
    key: ClassVar[str] = "sandbox-stability-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    # It keeps no tasks, so these are never shown.
    statuses: ClassVar[Statuses] = Statuses((), "succeeded", "failed")

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v2beta/stable-image/edit/outpaint", self.outpaint, "submit"),
            Operation("GET", "/v1/user/balance", self.balance, "balance"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        status = rejected.status
        # Two of these names are documented, bad_request and the moderation's.
        name = rejected.code or ("content_moderation" if status == 403 else HTTPStatus(status).name.lower())
        told: dict[str, Any] = {"errors": [str(problem) for problem in rejected.problems] or [rejected.message]}
        if status in (401, 402):
            # In which shape these come is not documented: here it is that of the older routes.
            told = {"message": rejected.message}
        return answer_json({"id": secrets.token_hex(16), "name": name, **told}, status)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        raise NotImplementedError("there is nothing to poll")

    async def outpaint(self, call: Call) -> Response:
        if len(call.raw) > MAX_REQUEST_BYTES:
            raise RejectedError(413, "The request is larger than 10 MiB")
        accepted = call.request.headers.get("accept", "*/*")
        if accepted not in ("*/*", "image/*", "application/json"):
            raise RejectedError(400, "accept: must be image/* or application/json")
        order, files = await parse_form(Outpaint, call.request, ("image",))
        if "image" not in files:
            raise RejectedError(400, "image: is required")
        source = await self.context.input_images.store(files["image"])
        frame = _frame(order, source)
        image = Placed.of(source.image, frame, order.seed % 1000)
        task = self.order(call, "outpaint", secrets.token_hex(8), [image], order, charge=CREDITS, instant=True)
        data, mime_type = await self.image_bytes(task)
        reason = "SUCCESS"
        if task.failure is not None:
            data, reason = await to_thread.run_sync(_blurred, data), "CONTENT_FILTERED"
        seed = order.seed or 1 + secrets.randbelow(4_294_967_294)
        if accepted == "application/json":
            return answer_json({"image": base64.b64encode(data).decode(), "finish_reason": reason, "seed": seed})
        headers = {"finish-reason": reason, "seed": str(seed), "x-request-id": secrets.token_hex(16)}
        return Response(data, media_type=mime_type, headers=headers)

    async def balance(self, call: Call) -> Response:
        return answer_json({"credits": self.account.available(self.context.now())})


def _frame(order: Outpaint, source: StoredUpload) -> Frame:
    """Where the image lies.

    Raises:
        RejectedError: the image is none that can be extended, or there is nothing to paint.
    """
    width, height = source.width, source.height
    problems = {
        "image: must be jpeg, png or webp": source.mime_type not in ("image/png", "image/webp", "image/jpeg"),
        "image: each side must have at least 64 pixels": min(width, height) < 64,
        "image: must have 4,096 to 9,437,184 pixels": width * height not in PIXELS,
        "image: its ratio must be between 1:2.5 and 2.5:1": max(width, height) > 2.5 * min(width, height),
        "left, right, up, down: at least one must be above 0": not (
            order.left or order.right or order.up or order.down
        ),
    }
    for problem, found in problems.items():
        if found:
            raise RejectedError(400, problem)
    return Frame(order.left + width + order.right, order.up + height + order.down, order.left, order.up, width, height)


def _blurred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.filter(ImageFilter.GaussianBlur(max(image.size) / 20)).save(buffer, "PNG")
    return buffer.getvalue()
