"""Black Forest Labs' protocol, as its OpenAPI document describes it: https://docs.bfl.ai.

What is above 4 MP is drawn at 4 MP, as a reseller reports. The image is placed as large as it is.
"""

import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence
from math import sqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Placed, scaled_frame
from outpaint_mcp.sandbox.tasks import Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, Problem, RejectedError, located
from outpaint_mcp.sandbox.webhooks import WebhookRequest

# What an order costs is published nowhere; a reseller takes $0.10 per megapixel of output, rounded up.
CREDITS_PER_MEGAPIXEL = 10
MAX_PIXELS = 4_000_000
IMAGE_SECONDS = 600.0
MODERATION = ("Request Moderated", "Content Moderated")


class Outpainting(Body):
    input_image: Annotated[str, Field(min_length=1)]
    width: int = Field(ge=64)
    height: int = Field(ge=64)
    reference_offset_x: int | None = None
    reference_offset_y: int | None = None
    auto_crop: bool = False
    prompt: str | None = None
    mode: Literal["high", "fast"] = "high"
    disable_pup: bool = False
    safety_tolerance: int = Field(default=2, ge=0, le=5)
    output_format: Literal["jpeg", "png", "webp"] = "png"
    webhook_url: Annotated[HttpUrl, Field(min_length=1, max_length=2083)] | None = None
    webhook_secret: str | None = None


class Bfl(Vendor):
    name: ClassVar[str] = "bfl"
    key: ClassVar[str] = "sandbox-bfl-key"
    key_header: ClassVar[str] = "x-key"
    statuses: ClassVar[Statuses] = Statuses(("Pending", "Reasoning", "Generating"), "Ready", "Error", MODERATION)
    image_seconds: ClassVar[float | None] = IMAGE_SECONDS
    unknown_task: ClassVar[str] = "Task not found"

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/flux-tools/outpainting-v1", self.outpaint, "submit"),
            Operation("GET", "/v1/get_result", self.fetch, "poll"),
            Operation("GET", "/v1/credits", self.credits, "balance"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        detail: Any = rejected.message
        if rejected.problems:
            detail = located(rejected.problems)
        return answer_json({"detail": detail}, rejected.status)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, "; ".join(map(str, problems)), problems=problems)

    async def outpaint(self, call: Call) -> Response:
        order = self.parse(Outpainting, call)
        source = await self.context.input_images.read(order.input_image, bare=True)
        frame = self._frame(order, source.width, source.height)
        pixels = order.width * order.height
        drawn = scaled_frame(frame, min(1.0, sqrt(MAX_PIXELS / pixels)))
        task = self.order(
            call,
            "outpaint",
            str(uuid.uuid4()),
            [Placed.of(source.image, drawn)],
            order,
            charge=CREDITS_PER_MEGAPIXEL * _megapixels(min(pixels, MAX_PIXELS)),
            webhook=Webhook.to(order.webhook_url or "", order.webhook_secret or ""),
        )
        answer: dict[str, Any] = {
            "id": task.id,
            "cost": task.charge,
            "input_mp": _megapixels(source.width * source.height),
            "output_mp": _megapixels(pixels),
        }
        if order.webhook_url:
            answer |= {"status": self.statuses.running[0], "webhook_url": order.webhook_url}
        else:
            answer["polling_url"] = f"{call.origin}/{self.name}/v1/get_result?id={task.id}"
        return answer_json(answer)

    def _frame(self, order: Outpainting, width: int, height: int) -> Frame:
        """Where the image lies. What sticks out is an error: cropping it is not played.

        Raises:
            RejectedError: it does not lie wholly on the canvas.
        """
        x, y = order.reference_offset_x, order.reference_offset_y
        x = (order.width - width) // 2 if x is None else x
        y = (order.height - height) // 2 if y is None else y
        if min(x, y) < 0 or x + width > order.width or y + height > order.height:
            raise RejectedError(422, "The image sticks out of the canvas")
        return Frame(order.width, order.height, x, y, width, height)

    async def fetch(self, call: Call) -> Response:
        task = self.tasks.get(call.request.query_params.get("id", ""))
        if task is None:
            return answer_json({"id": "", "status": "Task not found", "result": None}, 404)
        return self.answer_task(task, call)

    async def credits(self, call: Call) -> Response:
        return answer_json({"credits": self.account.available(self.context.now())})

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        failed = stage.final and not stage.succeeded
        result = None
        if stage.succeeded:
            result = {"sample": self.image_urls(task, origin)[0], "prompt": task.body.get("prompt"), "seed": 1}
        return {
            "id": task.id,
            "status": task.failure_code("Error") if failed else self.status_of(task, at),
            "result": result,
            "progress": round(stage.progress, 2),
            "details": {"message": task.failure_message("Generation failed")} if failed else None,
            "preview": None,
        }

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        shown = self.show(task, at, task.origin)
        told = {"id": task.id, "status": shown["status"], "timestamp": iso(at)}
        if shown["result"]:
            told["result"] = shown["result"]
        else:
            told |= {"error": "generation_failed", "message": shown["details"]["message"]}
        body = json.dumps(told).encode()
        headers = {"content-type": "application/json"}
        if webhook.secret:
            signature = hmac.new(webhook.secret.encode(), body, hashlib.sha256).hexdigest()
            headers["x-bfl-signature"] = f"sha256={signature}"
        return WebhookRequest(headers, body)


def _megapixels(pixels: int) -> int:
    """Megapixels, rounded up."""
    return -(-pixels // 1_000_000)
