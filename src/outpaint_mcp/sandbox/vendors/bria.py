"""Bria's protocol, as its documentation and its SDK describe it: https://docs.bria.ai.

Its base URL ends in `/v2`; here `/bria` takes that place. Bria's own SDK adds `/v2` to the address that it is given, so
each path is served with and without it.
"""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence
from fractions import Fraction
from http.client import responses
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Extended, ImageSpec, Placed
from outpaint_mcp.sandbox.image_store import StoredUpload
from outpaint_mcp.sandbox.tasks import Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, Problem, RejectedError
from outpaint_mcp.sandbox.webhooks import WebhookRequest

MAX_PIXELS = 5000 * 5000
IMAGE_SECONDS = 3 * 24 * 3600.0
# Bria's own price list is not known; a reseller takes 4 cents.
CENTS = 4
FORMATS = frozenset({"image/jpeg", "image/png", "image/webp"})

Size = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]
Ratio = Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"]


class Expand(Body):
    image: Annotated[str, Field(min_length=1)]
    aspect_ratio: Ratio | Annotated[float, Field(ge=0.5, le=3.0)] | None = None
    canvas_size: Size = Field(default=[1000, 1000])
    original_image_size: Size | None = None
    original_image_location: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    preserve_alpha: bool = True
    sync: bool = False
    prompt_content_moderation: bool = False
    visual_input_content_moderation: bool = False
    visual_output_content_moderation: bool = False
    webhook_url: Annotated[HttpUrl, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_placed(self) -> Self:
        if self.aspect_ratio is None and (self.original_image_size is None or self.original_image_location is None):
            raise ValueError("aspect_ratio, or original_image_size and original_image_location must be given")
        if self.canvas_size[0] * self.canvas_size[1] > MAX_PIXELS:
            raise ValueError("canvas_size must not exceed 5000x5000 pixels in area")
        return self


class Bria(Vendor):
    name: ClassVar[str] = "bria"
    key: ClassVar[str] = "sandbox-bria-token"
    key_env: ClassVar[str] = "BRIA_API_TOKEN"
    key_header: ClassVar[str] = "api_token"
    # FAILED is what Bria's skills call ERROR.
    statuses: ClassVar[Statuses] = Statuses(("IN_PROGRESS",), "COMPLETED", "ERROR", ("FAILED", "UNKNOWN"))
    image_seconds: ClassVar[float | None] = IMAGE_SECONDS
    webhook_attempts: ClassVar[int] = 5
    unknown_task: ClassVar[str] = "Request not found"

    def operations(self) -> list[Operation]:
        return [
            operation
            for version in ("", "/v2")
            for operation in (
                Operation("POST", f"{version}/image/edit/expand", self.expand, "submit"),
                Operation("GET", f"{version}/status/{{id}}", self.fetch, "poll"),
            )
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        return answer_json({"request_id": str(uuid.uuid4()), "error": _error(rejected)}, rejected.status)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, "; ".join(map(str, problems)), problems=problems)

    async def expand(self, call: Call) -> Response:
        order = self.parse(Expand, call)
        if order.image.startswith("data:"):
            raise RejectedError(400, "The image's base64 goes without a prefix")
        source = await self.context.input_images.read(order.image, bare=True)
        if source.mime_type not in FORMATS:
            raise RejectedError(415, f"{source.mime_type} is not among JPEG, PNG and WEBP")
        task = self.order(
            call,
            "outpaint",
            str(uuid.uuid4()),
            [_expanded(order, source)],
            order,
            charge=CENTS,
            webhook=Webhook.to(order.webhook_url or ""),
            instant=order.sync,
        )
        if order.sync:
            shown = self.show(task, self.context.now(), call.origin)
            return answer_json({name: shown[name] for name in ("request_id", "result", "error") if name in shown})
        status_url = f"{call.origin}/{self.name}/v2/status/{task.id}"
        return answer_json({"request_id": task.id, "status_url": status_url}, 202)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        shown: dict[str, Any] = {"request_id": task.id, "status": self.status_of(task, at)}
        if stage.succeeded:
            prompt = task.body.get("prompt") or "a wide view of the scene"
            shown["result"] = {"image_url": self.image_urls(task, origin)[0], "seed": 1, "prompt": prompt}
        elif stage.final:
            told = task.failure_message("Generation failed")
            shown["error"] = {"code": task.failure_code(500), "message": told, "details": ""}
        return shown

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        body = json.dumps(self.show(task, at, task.origin)).encode()
        key = hmac.new(self.key.encode(), b"bria-webhook-signing-v1", hashlib.sha256).digest()
        sent_at = str(int(at))
        signature = hmac.new(key, f"{task.id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "content-type": "application/json",
            "Bria-Webhook-Id": task.id,
            "Bria-Webhook-Timestamp": sent_at,
            "Bria-Webhook-Signature": f"v1={base64.b64encode(signature).decode()}",
        }
        return WebhookRequest(headers, body)


def _error(rejected: RejectedError) -> dict[str, Any]:
    """Bria names the HTTP status, and says only in `details` what is wrong."""
    return {"code": rejected.status, "message": responses.get(rejected.status, "Error"), "details": rejected.message}


def _expanded(order: Expand, source: StoredUpload) -> ImageSpec:
    """
    Raises:
        RejectedError: the image does not lie wholly on the canvas, which Bria would crop; that is not played.
    """
    ratio = order.aspect_ratio
    if ratio is not None:
        # Where the canvas is then laid is not documented; in the middle.
        exact = Fraction(ratio.replace(":", "/")) if isinstance(ratio, str) else Fraction(ratio).limit_denominator(100)
        return Extended.of(source.image, 1.0, (exact.numerator, exact.denominator))
    width, height = order.canvas_size
    wide, tall = order.original_image_size or (source.width, source.height)
    x, y = order.original_image_location or (0, 0)
    if min(x, y) < 0 or x + wide > width or y + tall > height:
        raise RejectedError(422, "The sandbox does not crop: the image must lie wholly on the canvas")
    return Placed.of(source.image, Frame(width, height, x, y, wide, tall))
