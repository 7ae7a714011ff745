"""Apiframe's protocol, version 2, as its documentation and its OpenAPI text describe it: https://apiframe.ai."""

import hashlib
import hmac
import json
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import ImageSpec, Upload, four_new_scenes, four_outpaints
from outpaint_mcp.sandbox.image_store import StoredUpload
from outpaint_mcp.sandbox.loopback import is_loopback
from outpaint_mcp.sandbox.seeds import GRID, Seed
from outpaint_mcp.sandbox.tasks import Kind, Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Action, Call, Handler, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, Problem, RejectedError, Uuid, json_or_none
from outpaint_mcp.sandbox.vendors.flux_fill import Preset, by_preset
from outpaint_mcp.sandbox.vendors.idempotency import IdempotencyKeys
from outpaint_mcp.sandbox.webhooks import WebhookRequest

OUTPAINT_CREDITS = 16
UPSAMPLE_CREDITS = 4
GENERATE_CREDITS = 10
# Not documented for the edit; an outpaint's.
EDIT_CREDITS = 16
UPLOADS_KEPT = 1_000

Event = Literal["progress", "completed", "failed"]
DEFAULT_EVENTS: tuple[Event, ...] = ("completed", "failed")


def _https(value: str) -> str:
    # Loopback is let through without TLS: here that is the only place a webhook can go to.
    if not (value.startswith("https://") or is_loopback(value)):
        raise ValueError("must be an HTTPS URL")
    return value


class OrderBody(Body):
    webhookUrl: Annotated[HttpUrl, AfterValidator(_https)] = ""
    webhookEvents: list[Event] | None = Field(default=None, min_length=1)

    def webhook(self) -> Webhook | None:
        if not self.webhookUrl:
            return None
        return Webhook(self.webhookUrl, events=tuple(self.webhookEvents or DEFAULT_EVENTS))


class Outpaint(OrderBody):
    parentJobId: Uuid
    action: Literal["outpaint"]
    zoomRatio: float

    @property
    def is_offered(self) -> bool:
        return self.zoomRatio in (1.5, 2.0)


class Upsample(OrderBody):
    parentJobId: Uuid
    action: Literal["upsample"]
    index: int = Field(ge=1, le=4)


class MidjourneyParams(Body):
    aspect_ratio: str = Field(default="1:1", pattern=r"^[1-9]\d*:[1-9]\d*$")


class Generate(OrderBody):
    model: Literal["midjourney"]
    prompt: str = Field(min_length=1, max_length=2000)
    midjourneyParams: MidjourneyParams = MidjourneyParams()


class FluxFillParams(Body):
    image: HttpUrl
    # Whether it may be left out is not said.
    prompt: str = ""
    mode: Literal["outpaint"]
    outpaint: Preset


class Edit(OrderBody):
    model: Literal["flux-fill-pro"]
    fluxFillParams: FluxFillParams


class Apiframe(Vendor):
    name: ClassVar[str] = "apiframe"
    key: ClassVar[str] = "afk_sandbox_apiframe_key"
    key_header: ClassVar[str] = "x-api-key"
    statuses: ClassVar[Statuses] = Statuses(("QUEUED", "PROCESSING"), "COMPLETED", "FAILED", ("CANCELLED",))
    seeds: ClassVar[tuple[Seed, ...]] = (
        Seed(name, "5eed0003-0000-4000-8000-000000000001", True, GRID),
        Seed(name, "5eed0003-0000-4000-8000-000000000002", False, "a finished upsample (the grid's first image)"),
    )
    image_seconds: ClassVar[float | None] = 24 * 3600.0
    unknown_task: ClassVar[str] = "Job not found"

    def __init__(self, context: SandboxContext) -> None:
        super().__init__(context)
        self._idempotency_keys = IdempotencyKeys(self.tasks, context.now, context.settings.max_tasks)
        self._uploads: OrderedDict[str, StoredUpload] = OrderedDict()

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v2/images/midjourney/action", partial(self._once, self._action), _action_of_body),
            Operation("POST", "/v2/images/generate", partial(self._once, self._generate), "imagine"),
            Operation("POST", "/v2/images/edit", partial(self._once, self._edit), "submit"),
            Operation("POST", "/v2/uploads", self.upload, "upload"),
            Operation("GET", "/v2/jobs/{id}", self.fetch, "poll"),
            Operation("GET", "/v2/me", self.me, "balance"),
        ]

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Every answer has an `x-request-id`."""
        endpoint = super().endpoint(handler)

        async def answer(request: Request) -> Response:
            response = await endpoint(request)
            response.headers.setdefault("x-request-id", str(uuid.uuid4()))
            return response

        return answer

    def rejection(self, rejected: RejectedError) -> Response:
        body: dict[str, Any] = {"error": rejected.message, **rejected.extra}
        if rejected.problems:
            details: dict[str, list[str]] = {}
            for problem in rejected.problems:
                details.setdefault(problem.path, []).append(problem.message)
            body["details"] = details
        return answer_json(body, rejected.status, {"x-request-id": str(uuid.uuid4())})

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(400, "Validation failed", problems=problems)

    def insufficient_balance(self, charge: float, available: float) -> RejectedError:
        extra = {"creditsRequired": int(charge), "creditsAvailable": int(available)}
        return RejectedError(402, "Insufficient credits", extra=extra)

    def as_bare_string(self, body: Any) -> Any:
        # Older answers held one URL in place of the whole result.
        if isinstance(body, dict) and isinstance(body.get("result"), dict):
            return {**body, "result": body["result"]["images"][0]}
        return body

    async def upload(self, call: Call) -> Response:
        try:
            async with call.request.form(max_files=1, max_fields=8) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise self.malformed([Problem("file", "missing", "Required")])
                data = await file.read()
        except MultiPartException as error:
            raise self.malformed([Problem("file", "invalid", error.message)]) from None
        stored = await self.context.input_images.store(data)
        upload_id = str(uuid.uuid4())
        self._uploads[upload_id] = stored
        while len(self._uploads) > UPLOADS_KEPT:
            self._uploads.popitem(last=False)
        suffix = stored.mime_type.partition("/")[2]
        body = {
            "id": upload_id,
            "url": f"{call.origin}/images/{self.name}/{upload_id}/upload.{suffix}",
            "kind": "image",
            "contentType": stored.mime_type,
            "byteSize": stored.byte_size,
            "expiresAt": iso(self.context.now() + 24 * 3600),
        }
        return answer_json(body, 201)

    async def fetch(self, call: Call) -> Response:
        try:
            uuid.UUID(call.task_id)
        except ValueError:
            raise self.malformed([Problem("id", "invalid", "Invalid uuid")]) from None
        return await super().fetch(call)

    async def me(self, call: Call) -> Response:
        return answer_json({"team": {"credits": int(self.account.available(self.context.now()))}})

    def uploaded_image(self, upload_id: str) -> Upload | None:
        stored = self._uploads.get(upload_id)
        return stored.image if stored else None

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        failed = stage.final and not stage.succeeded
        return {
            "id": task.id,
            "status": self.status_of(task, at),
            "model": task.model,
            "progress": round(stage.progress * 100),
            "result": self._result(task, origin) if stage.succeeded else None,
            "error": task.failure_message("Generation failed") if failed else None,
            "creditCost": 0 if failed else int(task.charge),
            "webhookStatus": task.webhook_status,
            "createdAt": iso(task.created_at),
            "completedAt": iso(task.finished_at) if stage.final else None,
            "expired": self.is_expired(task, at),
            "input": task.body,
        }

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        shown = self.show(task, at, task.origin)
        fields = {
            "completed": ("status", "progress", "result", "model", "creditCost", "completedAt"),
            "failed": ("status", "error", "model"),
            "progress": ("status", "progress", "model"),
        }[event]
        body = json.dumps({"event": event, "jobId": task.id} | {field: shown[field] for field in fields}).encode()
        signature = hmac.new(hashlib.sha256(self.key.encode()).digest(), body, hashlib.sha256).hexdigest()
        return WebhookRequest(
            {
                "content-type": "application/json",
                "x-webhook-event": event,
                "x-webhook-signature": f"sha256={signature}",
            },
            body,
        )

    def webhook_events(self, task: Task, webhook: Webhook) -> list[tuple[float, str]]:
        due = [(end, "progress") for end in task.state_ends[:-1]] + super().webhook_events(task, webhook)
        return [(at, event) for at, event in due if event in webhook.events]

    async def _once(self, place_order: Callable[[Call], Awaitable[Task]], call: Call) -> Response:
        """Places an order, unless its `Idempotency-Key` came with the same order before."""
        key = call.request.headers.get("idempotency-key")
        if key is None:
            task, is_new = await place_order(call), True
        else:
            task, is_new = await self._idempotency_keys.order_once(key, call.path, call.raw, lambda: place_order(call))
        status = self.statuses.running[0] if is_new else self.status_of(task, self.context.now())
        return answer_json({"jobId": task.id, "status": status}, 202)

    async def _action(self, call: Call) -> Task:
        order = self._which_action(call)
        parent = self.tasks.get(order.parentJobId)
        if parent is None:
            raise RejectedError(404, "Parent job not found")
        self.succeeded(parent, "Parent job is not completed", status=409)
        if isinstance(order, Upsample):
            if not parent.is_grid or parent.model != "midjourney":
                raise RejectedError(409, "upsample needs a completed generation or variation grid")
            return self._order(call, "upscale", [parent.images[order.index - 1]], order, UPSAMPLE_CREDITS)
        if not order.is_offered:
            raise self.malformed([Problem("zoomRatio", "invalid", "zoomRatio must be 1.5 or 2")])
        if parent.is_grid or parent.model != "midjourney":
            status = self.context.settings.apiframe_wrong_parent_status
            raise RejectedError(status, "outpaint needs a completed upsample job as its parent")
        return self._order(call, "outpaint", four_outpaints(parent.images[0], order.zoomRatio), order, OUTPAINT_CREDITS)

    def _which_action(self, call: Call) -> Outpaint | Upsample:
        if _action_of_body(json_or_none(call.raw)) == "upscale":
            return self.parse(Upsample, call)
        return self.parse(Outpaint, call)

    async def _generate(self, call: Call) -> Task:
        order = self.parse(Generate, call)
        return self._order(call, "imagine", four_new_scenes(), order, GENERATE_CREDITS)

    async def _edit(self, call: Call) -> Task:
        order = self.parse(Edit, call)
        params = order.fluxFillParams
        source = await self._source(params.image, call.origin)
        return self._order(call, "outpaint", [by_preset(source, params.outpaint)], order, EDIT_CREDITS, "flux-fill-pro")

    async def _source(self, url: str, origin: str) -> StoredUpload:
        prefix = f"{origin}/images/{self.name}/"
        if url.startswith(prefix):
            known = self._uploads.get(url.removeprefix(prefix).partition("/")[0])
            if known is not None:
                return known
        return await self.context.input_images.fetch(url)

    def _order(
        self,
        call: Call,
        kind: Kind,
        images: Sequence[ImageSpec],
        order: OrderBody,
        charge: int,
        model: str = "midjourney",
    ) -> Task:
        return self.order(
            call, kind, str(uuid.uuid4()), images, order, model=model, charge=charge, webhook=order.webhook()
        )

    def _result(self, task: Task, origin: str) -> dict[str, Any]:
        result: dict[str, Any] = {"images": self.image_urls(task, origin)}
        if task.is_grid:
            result["gridUrl"] = self.grid_url(task, origin)
        return result


def _action_of_body(body: Any) -> Action:
    return "upscale" if isinstance(body, dict) and body.get("action") == "upsample" else "submit"
