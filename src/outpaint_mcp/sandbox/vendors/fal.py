"""fal's queue, as its documentation and its Python SDK describe it: https://fal.ai/docs.

Of the models that extend an image those are played whose placing is documented. What a model rejects is rejected at
once, though the vendor may say so only in place of the result.
"""

import base64
import json
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio
from outpaint_mcp.sandbox.image_specs import Placed
from outpaint_mcp.sandbox.loopback import is_http_url
from outpaint_mcp.sandbox.tasks import Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, Problem, RejectedError, located
from outpaint_mcp.sandbox.webhooks import WebhookRequest

BRIA_USD = 0.04
MAX_SIDE = 2560
MAX_PIXELS = 5000 * 5000
LEAST_SHARE = 0.15
USER_ID = "sandbox-user"

Side = Annotated[int, Field(ge=0, le=2048)]
ShortSide = Annotated[int, Field(ge=0, le=700)]
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Size = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class Model(Body):
    """What every model takes."""

    image_url: str = Field(min_length=1)

    @abstractmethod
    def frame(self, width: int, height: int) -> Frame:
        """Where an image of `width` x `height` pixels lies on the canvas.

        Raises:
            RejectedError: the canvas is too large, or the image does not lie on it.
        """

    def usd(self, image_pixels: int, canvas_pixels: int) -> float:
        """The price of an order in USD; 0 where it is not documented."""
        return 0.0

    def count(self) -> int:
        """How many images are wanted."""
        return 1

    def result(self, urls: list[str]) -> dict[str, Any]:
        """The result with the images at `urls`."""
        return {"images": [{"url": url} for url in urls]}


class FluxOutpaint(Model):
    expand_top: Side = 0
    expand_bottom: Side = 0
    expand_left: Side = 0
    expand_right: Side = 0
    mode: Literal["high", "fast"] = "high"
    auto_crop: bool = False
    enable_safety_checker: bool = True
    output_format: Literal["jpeg", "png"] = "jpeg"
    sync_mode: bool = False

    def frame(self, width: int, height: int) -> Frame:
        frame = _expanded(self, width, height)
        if max(frame.canvas_width, frame.canvas_height) > MAX_SIDE:
            raise RejectedError(422, f"The canvas is longer than {MAX_SIDE} pixels on a side")
        return frame

    def usd(self, image_pixels: int, canvas_pixels: int) -> float:
        # $0.03 for the first megapixel of output, $0.015 for each further one of input and output, rounded up.
        return 0.03 + 0.015 * (-(-image_pixels // 1_000_000) - (-canvas_pixels // 1_000_000) - 1)


class AppsOutpaint(Model):
    expand_top: ShortSide = 0
    expand_bottom: ShortSide = 400
    expand_left: ShortSide = 0
    expand_right: ShortSide = 0
    zoom_out_percentage: float = Field(default=20, ge=0, le=90)
    prompt: str | None = None
    num_images: int = Field(default=1, ge=1, le=4)
    enable_safety_checker: bool = True
    output_format: Literal["png", "jpeg", "jpg", "webp"] = "png"

    def frame(self, width: int, height: int) -> Frame:
        frame = _expanded(self, width, height)
        # How the percentage is meant is not documented: here the image is that much smaller on the canvas.
        kept = 1 - self.zoom_out_percentage / 100
        inner = (max(1, round(width * kept)), max(1, round(height * kept)))
        x, y = frame.x + (width - inner[0]) // 2, frame.y + (height - inner[1]) // 2
        return Frame(frame.canvas_width, frame.canvas_height, x, y, *inner)

    def count(self) -> int:
        return self.num_images


class Expand(Model):
    """Bria's; where the size or the place is not given, it is here the image's own and the middle."""

    canvas_size: Size
    original_image_size: Size | None = None
    original_image_location: Pair | None = None
    aspect_ratio: Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"] | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    sync_mode: bool = False

    def frame(self, width: int, height: int) -> Frame:
        if self.aspect_ratio is not None:
            return Frame.around(width, height, zoom=1, aspect_ratio=AspectRatio.parse(self.aspect_ratio))
        width, height = self.original_image_size or (width, height)
        canvas_width, canvas_height = self.canvas_size
        x, y = self.original_image_location or ((canvas_width - width) // 2, (canvas_height - height) // 2)
        if canvas_width * canvas_height >= MAX_PIXELS:
            raise RejectedError(422, "The canvas has 25 megapixels or more")
        if min(x, y) < 0 or x + width > canvas_width or y + height > canvas_height:
            raise RejectedError(422, "The image sticks out of the canvas: the sandbox does not crop")
        if width * height <= LEAST_SHARE * canvas_width * canvas_height:
            raise RejectedError(422, "The image fills 15 % of the canvas or less")
        return Frame(canvas_width, canvas_height, x, y, width, height)

    def usd(self, image_pixels: int, canvas_pixels: int) -> float:
        return BRIA_USD

    def result(self, urls: list[str]) -> dict[str, Any]:
        return {"image": {"url": urls[0], "content_type": "image/png"}, "seed": self.seed or 1}


MODELS: dict[str, type[Model]] = {
    "fal-ai/flux-2-pro/outpaint": FluxOutpaint,
    "fal-ai/bria/expand": Expand,
    "bria/fibo-edit-1.5/expand": Expand,
    "fal-ai/image-apps-v2/outpaint": AppsOutpaint,
}


class Fal(Vendor):
    name: ClassVar[str] = "fal"
    key: ClassVar[str] = "sandbox-fal-key"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Key "
    key_env: ClassVar[str] = "FAL_KEY"
    statuses: ClassVar[Statuses] = Statuses(
        ("IN_QUEUE", "IN_PROGRESS"), "COMPLETED", "COMPLETED", ("CANCELLATION_REQUESTED",)
    )
    webhook_attempts: ClassVar[int] = 11

    def __init__(self, context: SandboxContext) -> None:
        super().__init__(context)
        self._signing_key = Ed25519PrivateKey.generate()

    def operations(self) -> list[Operation]:
        request = "/{owner}/{app}/requests/{id}"
        return [
            *(Operation("POST", f"/{model}", partial(self.queue, model), "submit") for model in MODELS),
            Operation("GET", f"{request}/status", self.fetch, "poll"),
            Operation("GET", request, self.result, "poll"),
            Operation("PUT", f"{request}/cancel", self.cancel, "cancel"),
        ]

    def routes(self) -> list[BaseRoute]:
        # The vendor has its keys on another host, for anyone.
        return [*super().routes(), Route("/.well-known/jwks.json", self._public_keys)]

    async def _public_keys(self, request: Request) -> Response:
        x = base64.urlsafe_b64encode(self._signing_key.public_key().public_bytes_raw()).decode().rstrip("=")
        return answer_json({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]})

    def rejection(self, rejected: RejectedError) -> Response:
        detail: Any = rejected.message
        if rejected.problems:
            detail = located(rejected.problems)
        elif rejected.code is not None:
            detail = _detail(rejected.message, rejected.code)
        return answer_json({"detail": detail}, rejected.status, {"x-fal-retryable": "false"})

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, "; ".join(map(str, problems)), problems=problems)

    def insufficient_balance(self, charge: float, available: float) -> RejectedError:
        return RejectedError(403, "The account is locked: its balance is below its credit threshold")

    async def queue(self, model: str, call: Call) -> Response:
        order = self.parse(MODELS[model], call)
        hook = call.request.query_params.get("fal_webhook", "")
        if hook and not is_http_url(hook):
            raise RejectedError(422, "fal_webhook is no http(s) URL")
        source = await self.context.input_images.read(order.image_url)
        frame = order.frame(source.width, source.height)
        task = self.order(
            call,
            "outpaint",
            str(uuid.uuid4()),
            [Placed.of(source.image, frame, seed) for seed in range(order.count())],
            order,
            model=model,
            charge=order.usd(source.width * source.height, frame.canvas_width * frame.canvas_height),
            webhook=Webhook.to(hook),
        )
        url = f"{call.origin}/{self.name}/{_app_of(model)}/requests/{task.id}"
        answer = {
            "request_id": task.id,
            "response_url": url,
            "status_url": f"{url}/status",
            "cancel_url": f"{url}/cancel",
            "status": "IN_QUEUE",
            "queue_position": 0,
        }
        return answer_json({**answer, "gateway_request_id": task.id} if hook else answer)

    def _task(self, call: Call) -> Task:
        task = self.find(call.task_id)
        if _app_of(task.model) != "{owner}/{app}".format(**call.request.path_params):
            raise RejectedError(404, self.unknown_task)
        return task

    async def fetch(self, call: Call) -> Response:
        task, now = self._task(call), self.context.now()
        # Both are known for a request that goes on: 200 and 202.
        return answer_json(self.show(task, now, call.origin), 200 if task.stage(now).final else 202)

    async def result(self, call: Call) -> Response:
        task = self._task(call)
        stage = task.stage(self.context.now())
        if not stage.final:
            raise RejectedError(400, "The request is not completed yet")
        return answer_json(self._result(task, call.origin), 200 if stage.succeeded else 422)

    async def cancel(self, call: Call) -> Response:
        task, now = self._task(call), self.context.now()
        if task.stage(now).final:
            raise RejectedError(400, "The request is completed already")
        task.cancelled_at = now
        return answer_json({"status": "CANCELLATION_REQUESTED"}, 202)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        shown: dict[str, Any] = {"status": self.status_of(task, at), "request_id": task.id}
        if not stage.final:
            return {**shown, "queue_position": 0} if stage.step == 0 else {**shown, "logs": None}
        shown |= {"logs": None, "metrics": {"inference_time": round(task.finished_at - task.created_at, 3)}}
        return shown if stage.succeeded else {**shown, "error": _reason(task), "error_type": _code_of(task)}

    def _result(self, task: Task, origin: str) -> dict[str, Any]:
        """The result of a task that is done: what the model answers, or why there is nothing."""
        if not task.stage(task.finished_at).succeeded:
            return {"detail": _detail(_reason(task), _code_of(task) or "invalid")}
        model = MODELS[task.model].model_construct(**task.body)
        return model.result(self.image_urls(task, origin))

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        failed = task.failure is not None
        told = {
            "request_id": task.id,
            "gateway_request_id": task.id,
            "status": "ERROR" if failed else "OK",
            "payload": self._result(task, task.origin),
            "error": _reason(task) if failed else None,
        }
        body = json.dumps(told).encode()
        signed = [task.id, USER_ID, str(int(at)), sha256(body).hexdigest()]
        headers = {
            "content-type": "application/json",
            "x-fal-webhook-request-id": task.id,
            "x-fal-webhook-user-id": USER_ID,
            "x-fal-webhook-timestamp": signed[2],
            "x-fal-webhook-signature": self._signing_key.sign("\n".join(signed).encode()).hex(),
        }
        return WebhookRequest(headers, body)


def _expanded(sides: FluxOutpaint | AppsOutpaint, width: int, height: int) -> Frame:
    return Frame(
        width + sides.expand_left + sides.expand_right,
        height + sides.expand_top + sides.expand_bottom,
        sides.expand_left,
        sides.expand_top,
        width,
        height,
    )


def _app_of(model: str) -> str:
    """The owner and the app, below which the model's requests are polled."""
    return "/".join(model.split("/")[:2])


def _reason(task: Task) -> str:
    return task.failure_message("The request was cancelled" if task.cancelled_at is not None else "The model failed")


def _code_of(task: Task) -> int | str | None:
    return task.failure.code if task.failure else None


def _detail(message: str, code: int | str) -> list[dict[str, Any]]:
    return [{"loc": ["body"], "msg": message, "type": str(code)}]
