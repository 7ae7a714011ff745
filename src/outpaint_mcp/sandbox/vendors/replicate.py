"""Replicate's protocol, as its documentation, its SDK and the pages of its models describe it: https://replicate.com/docs.

It has the two models that extend an image.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from starlette.responses import Response

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Extended, ImageSpec, Placed, Upload
from outpaint_mcp.sandbox.image_store import StoredUpload
from outpaint_mcp.sandbox.loopback import is_loopback
from outpaint_mcp.sandbox.tasks import Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Call, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import (
    Body,
    HttpUrl,
    MalformedBodyError,
    Problem,
    RejectedError,
    check_body,
    parse_form,
)
from outpaint_mcp.sandbox.vendors.flux_fill import Preset, by_preset
from outpaint_mcp.sandbox.webhooks import WebhookRequest

# Prices are the models' own and not in the API.
CHARGE_USD = 0.05
MAX_SIDE = 5000
MAX_DATA_URI_BYTES = 256 * 1024
# Inputs, outputs and files.
KEPT_SECONDS = 3600.0
FILES_KEPT = 1_000
SIGNING_SECRET = b"sandbox replicate secret"

Event = Literal["start", "output", "logs", "completed"]
DEFAULT_EVENTS: tuple[Event, ...] = ("output", "completed")


def _https(value: str) -> str:
    # Loopback is let through without TLS: here that is the only place a webhook can go to.
    if not (value.startswith("https://") or is_loopback(value)):
        raise ValueError("must be an HTTPS URL")
    return value


Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class Prediction(Body):
    input: dict[str, Any]
    webhook: Annotated[HttpUrl, AfterValidator(_https)] | None = None
    webhook_events_filter: list[Event] | None = Field(default=None, min_length=1)
    version: str | None = None


class Expand(Body):
    image: str = ""
    image_url: str = ""
    aspect_ratio: Literal["none", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"] = "1:1"
    canvas_size: Pair = Field(default_factory=lambda: [1000, 1000])
    original_image_size: Pair | None = None
    original_image_location: Pair | None = None
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    preserve_alpha: bool = True
    sync: bool = True
    content_moderation: bool = False


class FluxFill(Body):
    image: str
    # Whether it may be left out is not said.
    prompt: str = ""
    # "None" paints what a mask shows: not played.
    outpaint: Preset
    steps: int = Field(default=50, ge=1, le=50)
    guidance: float = Field(default=3, ge=2, le=5)
    safety_tolerance: int = Field(default=2, ge=1, le=6)
    prompt_upsampling: bool = False
    seed: int | None = None
    output_format: Literal["jpg", "png"] = "jpg"


class FileForm(Body):
    """What an upload has beside the file."""

    metadata: str = ""


class Replicate(Vendor):
    name: ClassVar[str] = "replicate"
    key: ClassVar[str] = "r8_sandbox_replicate_key"
    key_env: ClassVar[str] = "REPLICATE_API_TOKEN"
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    statuses: ClassVar[Statuses] = Statuses(
        ("starting", "processing"), "succeeded", "failed", others=("canceled", "aborted")
    )
    image_seconds: ClassVar[float | None] = KEPT_SECONDS
    # "A few."
    webhook_attempts: ClassVar[int] = 3
    unknown_task: ClassVar[str] = "The requested resource could not be found."

    def __init__(self, context: SandboxContext) -> None:
        super().__init__(context)
        self._files: OrderedDict[str, tuple[StoredUpload, float]] = OrderedDict()

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/models/{owner}/{model}/predictions", self.predict, "submit"),
            Operation("POST", "/v1/predictions", self.predict, "submit"),
            Operation("GET", "/v1/predictions/{id}", self.fetch, "poll"),
            Operation("POST", "/v1/predictions/{id}/cancel", self.cancel, "cancel"),
            Operation("POST", "/v1/files", self.upload, "upload"),
            Operation("GET", "/v1/account", self.show_account, "balance"),
            Operation("GET", "/v1/webhooks/default/secret", self.show_secret, "balance"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        title = "Input validation failed" if rejected.problems else "The request was rejected"
        body = {"title": title, "detail": rejected.message, "status": rejected.status}
        return answer_json(body, rejected.status)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, "; ".join(map(str, problems)), problems=problems)

    async def predict(self, call: Call) -> Response:
        order = self.parse(Prediction, call)
        named = call.request.path_params
        if ("owner" in named) is (order.version is not None):
            raise self.malformed([Problem("version", "invalid", "a model is named by the path, or by version")])
        # A version's hash alone is not known here; those of the models are "hidden".
        model = f"{named['owner']}/{named['model']}" if named else (order.version or "").partition(":")[0]
        match model:
            case "bria/expand-image":
                image = await self._expanded(check_body(Expand, order.input), call)
            case "black-forest-labs/flux-fill-pro":
                fill = check_body(FluxFill, order.input)
                image = by_preset(await self._source(fill.image, call), fill.outpaint)
            case _:
                raise RejectedError(404, self.unknown_task)
        webhook = Webhook(order.webhook or "", events=tuple(order.webhook_events_filter or DEFAULT_EVENTS))
        task = self.order(
            call,
            "outpaint",
            base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower(),
            [image],
            order,
            model=model,
            charge=CHARGE_USD,
            webhook=webhook if webhook.url else None,
        )
        return answer_json(self.show(task, self.context.now(), call.origin), 201)

    async def cancel(self, call: Call) -> Response:
        task = self.find(call.task_id)
        now = self.context.now()
        # What happens to a prediction that has ended is not documented: nothing, here.
        if not task.stage(now).final:
            task.cancelled_at = now
        return self.answer_task(task, call)

    async def upload(self, call: Call) -> Response:
        _, files = await parse_form(FileForm, call.request, ("content",))
        if "content" not in files:
            raise MalformedBodyError([Problem("content", "missing", "Field required")])
        stored = await self.context.input_images.store(files["content"])
        file_id = secrets.token_hex(18)
        now = self.context.now()
        self._files[file_id] = stored, now + KEPT_SECONDS
        while len(self._files) > FILES_KEPT:
            self._files.popitem(last=False)
        body = {
            "id": file_id,
            "name": f"image.{stored.mime_type.partition('/')[2]}",
            "content_type": stored.mime_type,
            "size": stored.byte_size,
            "etag": stored.image.key,
            "checksums": {},
            "metadata": {},
            "created_at": iso(now),
            "expires_at": iso(now + KEPT_SECONDS),
            "urls": {"get": self._file_url(file_id, call.origin)},
        }
        return answer_json(body, 201)

    async def show_account(self, call: Call) -> Response:
        return answer_json({"type": "user", "username": "sandbox", "name": "Sandbox", "github_url": None})

    async def show_secret(self, call: Call) -> Response:
        return answer_json({"key": f"whsec_{base64.b64encode(SIGNING_SECRET).decode()}"})

    def uploaded_image(self, upload_id: str) -> Upload | None:
        found = self._files.get(upload_id)
        return found[0].image if found and found[1] > self.context.now() else None

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        removed = stage.final and at > task.finished_at + KEPT_SECONDS
        failed = stage.final and not stage.succeeded and task.cancelled_at is None
        url = f"{origin}/{self.name}/v1/predictions/{task.id}"
        return {
            "id": task.id,
            "model": task.model,
            "version": "hidden",
            "input": {} if removed else task.body["input"],
            "output": self.image_urls(task, origin)[0] if stage.succeeded and not removed else None,
            "logs": "",
            "error": task.failure_message("Prediction failed") if failed else None,
            "status": self.status_of(task, at),
            "created_at": iso(task.created_at),
            "started_at": iso(task.state_ends[0]) if stage.step and task.state_ends else None,
            "completed_at": iso(task.finished_at) if stage.final else None,
            "data_removed": removed,
            "metrics": {"total_time": round(task.finished_at - task.created_at, 3)} if stage.final else {},
            "urls": {"get": url, "cancel": f"{url}/cancel", "web": f"https://replicate.com/p/{task.id}"},
        }

    def status_of(self, task: Task, at: float) -> str:
        cancelled = task.cancelled_at is not None and at >= task.cancelled_at
        return "canceled" if cancelled else super().status_of(task, at)

    def webhook_events(self, task: Task, webhook: Webhook) -> list[tuple[float, str]]:
        due = [(task.state_ends[0] if task.state_ends else task.created_at, "start")]
        if task.failure is None:
            due.append((task.finished_at, "output"))
        due.append((task.finished_at, "completed"))
        return [(at, event) for at, event in due if event in webhook.events]

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        body = json.dumps(self.show(task, at, task.origin)).encode()
        message_id, sent = f"msg_{secrets.token_hex(12)}", str(int(self.context.now()))
        signed = f"{message_id}.{sent}.".encode() + body
        signature = base64.b64encode(hmac.new(SIGNING_SECRET, signed, hashlib.sha256).digest()).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": sent,
            "webhook-signature": f"v1,{signature}",
        }
        return WebhookRequest(headers, body)

    async def _expanded(self, expand: Expand, call: Call) -> ImageSpec:
        """The image on its canvas: as it is placed, or in a ratio, which makes the placing ignored."""
        if bool(expand.image) is bool(expand.image_url):
            raise self.malformed([Problem("input.image", "invalid", "give one of image and image_url")])
        source = await self._source(expand.image or expand.image_url, call)
        if expand.aspect_ratio != "none":
            across, down = expand.aspect_ratio.split(":")
            return Extended.of(source.image, 1.0, (int(across), int(down)))
        size, location = expand.original_image_size, expand.original_image_location
        if size is None or location is None:
            missing = "original_image_size" if size is None else "original_image_location"
            raise self.malformed([Problem(f"input.{missing}", "missing", "needed where aspect_ratio is none")])
        (width, height), (x, y), (wide, tall) = size, location, expand.canvas_size
        # An image that sticks out is cropped there: not played.
        inside = 0 <= x < x + width <= wide <= MAX_SIDE and 0 <= y < y + height <= tall <= MAX_SIDE
        if not inside:
            problem = f"the image must lie on a canvas of at most {MAX_SIDE}x{MAX_SIDE}"
            raise self.malformed([Problem("input.canvas_size", "invalid", problem)])
        return Placed.of(source.image, Frame(wide, tall, x, y, width, height))

    async def _source(self, value: str, call: Call) -> StoredUpload:
        """The image that a model's input names: one of the files uploaded here, or what its URL holds."""
        stored, expires_at = self._files.get(value.removeprefix(self._file_url("", call.origin)), (None, 0.0))
        if stored is not None and expires_at > self.context.now():
            return stored
        if len(value) > MAX_DATA_URI_BYTES and value.startswith("data:"):
            raise self.malformed([Problem("input.image", "invalid", "a data URI of at most 256 KB; upload the file")])
        return await self.context.input_images.read(value)

    def _file_url(self, file_id: str, origin: str) -> str:
        return f"{origin}/{self.name}/v1/files/{file_id}"
