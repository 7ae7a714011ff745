"""Apiframe's protocol, version 2, as its documentation and its OpenAPI text describe it: https://apiframe.ai."""

import hashlib
import hmac
import json
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import anyio
from pydantic import AfterValidator, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outpaint_mcp.sandbox.pictures import Box, Extended, Picture, Placed, Scene, Upload
from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.tasks import Job, Kind, Webhook
from outpaint_mcp.sandbox.vendor import (
    GRID_SEEDS,
    MAX_PICTURE_BYTES,
    Body,
    Call,
    Desk,
    HttpUrl,
    Problem,
    RefusedError,
    Uuid,
    Vendor,
    Words,
    answer_json,
    four_outpaints,
    iso,
)
from outpaint_mcp.sandbox.webhooks import Push, is_loopback

OUTPAINT_CREDITS = 16
UPSAMPLE_CREDITS = 4
GENERATE_CREDITS = 10
# Not documented for the edit; an outpaint's.
EDIT_CREDITS = 16
IDEMPOTENCY_SECONDS = 24 * 3600.0
IDEMPOTENCY_KEY_LENGTH = 255
# How far one side grows is not documented; half the picture, as a zoom of 1.5 adds in all.
SIDE_SHARE = 0.5
UPLOADS_KEPT = 1_000

Event = Literal["progress", "completed", "failed"]
DEFAULT_EVENTS: tuple[Event, ...] = ("completed", "failed")


def _https(value: str) -> str:
    # Loopback is let through without TLS: here that is the only place a webhook can go to.
    if not (value.startswith("https://") or is_loopback(value)):
        raise ValueError("must be an HTTPS URL")
    return value


class Order(Body):
    webhookUrl: Annotated[HttpUrl, AfterValidator(_https)] = ""
    webhookEvents: list[Event] | None = Field(default=None, min_length=1)

    def webhook(self) -> Webhook | None:
        if not self.webhookUrl:
            return None
        return Webhook(self.webhookUrl, events=tuple(self.webhookEvents or DEFAULT_EVENTS))


class Outpaint(Order):
    parentJobId: Uuid
    action: Literal["outpaint"]
    zoomRatio: float

    @property
    def is_offered(self) -> bool:
        return self.zoomRatio in (1.5, 2.0)


class Upsample(Order):
    parentJobId: Uuid
    action: Literal["upsample"]
    index: int = Field(ge=1, le=4)


class MidjourneyParams(Body):
    aspect_ratio: str = Field(default="1:1", pattern=r"^[1-9]\d*:[1-9]\d*$")


class Generate(Order):
    model: Literal["midjourney"]
    prompt: str = Field(min_length=1, max_length=2000)
    midjourneyParams: MidjourneyParams = MidjourneyParams()


Side = Literal[
    "Zoom out 1.5x", "Zoom out 2x", "Make square", "Left outpaint", "Right outpaint", "Top outpaint", "Bottom outpaint"
]


class FluxFillParams(Body):
    image: HttpUrl
    # Whether it may be left out is not said.
    prompt: str = ""
    mode: Literal["outpaint"]
    outpaint: Side


class Edit(Order):
    model: Literal["flux-fill-pro"]
    fluxFillParams: FluxFillParams


class Apiframe(Vendor):
    name: ClassVar[str] = "apiframe"
    key: ClassVar[str] = "afk_sandbox_apiframe_key"
    key_header: ClassVar[str] = "x-api-key"
    words: ClassVar[Words] = Words(("QUEUED", "PROCESSING"), "COMPLETED", "FAILED", ("CANCELLED",))
    image_seconds: ClassVar[float | None] = 24 * 3600.0

    def __init__(self, desk: Desk, seeds: Sequence[Seed]) -> None:
        super().__init__(desk, seeds)
        self._keyed = anyio.Lock()
        self._replays: OrderedDict[str, tuple[float, bytes, str]] = OrderedDict()
        self._uploads: OrderedDict[str, tuple[Upload, int, int]] = OrderedDict()

    def routes(self) -> list[Route]:
        return [
            Route("/v2/images/midjourney/action", self._tagged(self.action), methods=["POST"]),
            Route("/v2/images/generate", self._tagged(self.generate), methods=["POST"]),
            Route("/v2/images/edit", self._tagged(self.edit), methods=["POST"]),
            Route("/v2/uploads", self._tagged(self.upload), methods=["POST"]),
            Route("/v2/jobs/{id}", self._tagged(self.fetch), methods=["GET"]),
            Route("/v2/me", self._tagged(self.me), methods=["GET"]),
        ]

    def classify(self, method: str, path: str, body: Any) -> str | None:
        if path.startswith("/v2/jobs/"):
            return "poll"
        if path == "/v2/images/midjourney/action":
            action = body.get("action") if isinstance(body, dict) else None
            return "upscale" if action == "upsample" else "submit"
        return {
            "/v2/images/generate": "imagine",
            "/v2/images/edit": "submit",
            "/v2/uploads": "upload",
            "/v2/me": "balance",
        }.get(path)

    def refuse(self, refused: RefusedError) -> Response:
        body: dict[str, Any] = {"error": refused.message, **refused.extra}
        if refused.problems:
            details: dict[str, list[str]] = {}
            for problem in refused.problems:
                details.setdefault(problem.path, []).append(problem.message)
            body["details"] = details
        return answer_json(body, refused.status, _request_id())

    def malformed(self, problems: Sequence[Problem]) -> RefusedError:
        return RefusedError(400, "Validation failed", problems=problems)

    def cannot_pay(self, charge: float, available: float) -> RefusedError:
        extra = {"creditsRequired": int(charge), "creditsAvailable": int(available)}
        return RefusedError(402, "Insufficient credits", extra=extra)

    def as_bare_string(self, body: Any) -> Any:
        # Older answers held one URL in place of the whole result.
        if isinstance(body, dict) and isinstance(body.get("result"), dict):
            return {**body, "result": body["result"]["images"][0]}
        return body

    async def action(self, call: Call) -> Response:
        return await self._once(call, self._action)

    async def generate(self, call: Call) -> Response:
        return await self._once(call, self._generate)

    async def edit(self, call: Call) -> Response:
        return await self._once(call, self._edit)

    async def upload(self, call: Call) -> Response:
        try:
            async with call.request.form(max_files=1, max_fields=8) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise self.malformed([Problem("file", "missing", "Required")])
                data = await file.read()
        except MultiPartException as error:
            raise self.malformed([Problem("file", "invalid", error.message)]) from None
        if len(data) > MAX_PICTURE_BYTES:
            raise RefusedError(400, "The file is larger than 25 MB")
        stored = await self.store_picture(data)
        upload_id = str(uuid.uuid4())
        self._uploads[upload_id] = (stored.picture, stored.width, stored.height)
        while len(self._uploads) > UPLOADS_KEPT:
            self._uploads.popitem(last=False)
        suffix = stored.mime_type.partition("/")[2]
        body = {
            "id": upload_id,
            "url": f"{call.origin}/images/{self.name}/{upload_id}/upload.{suffix}",
            "kind": "image",
            "contentType": stored.mime_type,
            "byteSize": stored.byte_size,
            "expiresAt": iso(self.desk.now() + 24 * 3600),
        }
        return answer_json(body, 201)

    async def fetch(self, call: Call) -> Response:
        job_id = call.request.path_params["id"]
        try:
            uuid.UUID(job_id)
        except ValueError:
            raise self.malformed([Problem("id", "invalid", "Invalid uuid")]) from None
        job = self.tasks.get(job_id)
        if job is None:
            raise RefusedError(404, "Job not found")
        return answer_json(self.show(job, self.desk.now(), call.origin))

    async def me(self, call: Call) -> Response:
        return answer_json({"team": {"credits": int(self.account.available(self.desk.now()))}})

    def uploaded(self, upload_id: str) -> Upload | None:
        known = self._uploads.get(upload_id)
        return known[0] if known else None

    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        stage = job.stage(at)
        failed = stage.final and not stage.succeeded
        return {
            "id": job.id,
            "status": self.word(job, at),
            "model": job.model,
            "progress": round(stage.progress * 100),
            "result": self._result(job, origin) if stage.succeeded else None,
            "error": self._error(job) if failed else None,
            "creditCost": 0 if failed else int(job.charge),
            "webhookStatus": job.webhook_status,
            "createdAt": iso(job.created_at),
            "completedAt": iso(job.finished_at) if stage.final else None,
            "expired": self.is_expired(job, at),
            "input": job.body,
        }

    def push(self, job: Job, hook: Webhook, event: str, at: float) -> Push:
        shown = self.show(job, at, job.origin)
        fields = {
            "completed": ("status", "progress", "result", "model", "creditCost", "completedAt"),
            "failed": ("status", "error", "model"),
            "progress": ("status", "progress", "model"),
        }[event]
        body = json.dumps({"event": event, "jobId": job.id} | {field: shown[field] for field in fields}).encode()
        signature = hmac.new(hashlib.sha256(self.key.encode()).digest(), body, hashlib.sha256).hexdigest()
        return Push(
            {
                "content-type": "application/json",
                "x-webhook-event": event,
                "x-webhook-signature": f"sha256={signature}",
            },
            body,
        )

    def events(self, job: Job, hook: Webhook) -> list[tuple[float, str]]:
        planned = [(mark, "progress") for mark in job.marks[:-1]] + super().events(job, hook)
        return [(at, event) for at, event in planned if event in hook.events]

    def _tagged(self, handler: Callable[[Call], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of `handler`, whose every answer has an `x-request-id`."""
        endpoint = self.endpoint(handler)

        async def answer(request: Request) -> Response:
            response = await endpoint(request)
            response.headers.setdefault("x-request-id", str(uuid.uuid4()))
            return response

        return answer

    async def _once(self, call: Call, take: Callable[[Call], Awaitable[Job]]) -> Response:
        """Takes an order, or gives back the one that was taken under the same `Idempotency-Key`."""
        key = call.request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= IDEMPOTENCY_KEY_LENGTH:
            raise RefusedError(400, "Idempotency-Key must have 1 to 255 characters")
        if key is None:
            return _accepted(await take(call), "QUEUED")
        # Taking an order can wait (a picture is fetched), and a second one under the same key must not slip in.
        async with self._keyed:
            return await self._once_under(key, call, take)

    async def _once_under(self, key: str, call: Call, take: Callable[[Call], Awaitable[Job]]) -> Response:
        now = self.desk.now()
        digest = hashlib.sha256(call.path.encode() + b"\n" + _canonical(call.raw)).digest()
        known = self._replays.get(key)
        if known is not None and now - known[0] < IDEMPOTENCY_SECONDS:
            if known[1] != digest:
                raise RefusedError(409, "Idempotency-Key was already used with a different request body")
            original = self.tasks.get(known[2])
            if original is not None:
                return _accepted(original, self.word(original, now))
        job = await take(call)
        self._replays.pop(key, None)
        self._replays[key] = (now, digest, job.id)
        while len(self._replays) > self.desk.settings.max_tasks:
            self._replays.popitem(last=False)
        return _accepted(job, "QUEUED")

    async def _action(self, call: Call) -> Job:
        asked = self._which_action(call)
        parent = self.tasks.get(asked.parentJobId)
        if parent is None:
            raise RefusedError(404, "Parent job not found")
        if not parent.stage(self.desk.now()).succeeded:
            raise RefusedError(409, "Parent job is not completed")
        if isinstance(asked, Upsample):
            if not parent.is_grid or parent.model != "midjourney":
                raise RefusedError(409, "upsample needs a completed generation or variation grid")
            return self._order(call, "upscale", [parent.pictures[asked.index - 1]], asked, UPSAMPLE_CREDITS)
        if not asked.is_offered:
            raise self.malformed([Problem("zoomRatio", "invalid", "zoomRatio must be 1.5 or 2")])
        if parent.is_grid or parent.model != "midjourney":
            status = self.desk.settings.apiframe_wrong_parent_status
            raise RefusedError(status, "outpaint needs a completed upsample job as its parent")
        return self._order(
            call, "outpaint", four_outpaints(parent.pictures[0], asked.zoomRatio), asked, OUTPAINT_CREDITS
        )

    def _which_action(self, call: Call) -> Outpaint | Upsample:
        try:
            body = json.loads(call.raw)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict) and body.get("action") == "upsample":
            return self.parse(Upsample, call)
        return self.parse(Outpaint, call)

    async def _generate(self, call: Call) -> Job:
        asked = self.parse(Generate, call)
        first = uuid.uuid4().int % 1000
        scenes = [Scene.of(100 + first + number) for number in GRID_SEEDS]
        return self._order(call, "imagine", scenes, asked, GENERATE_CREDITS)

    async def _edit(self, call: Call) -> Job:
        asked = self.parse(Edit, call)
        params = asked.fluxFillParams
        picture, width, height = await self._source(params.image, call.origin)
        return self._order(
            call, "outpaint", [_edited(picture, width, height, params.outpaint)], asked, EDIT_CREDITS, "flux-fill-pro"
        )

    async def _source(self, url: str, origin: str) -> tuple[Upload, int, int]:
        prefix = f"{origin}/images/{self.name}/"
        if url.startswith(prefix):
            known = self._uploads.get(url.removeprefix(prefix).partition("/")[0])
            if known is not None:
                return known
        fetched = await self.fetch_picture(url)
        return fetched.picture, fetched.width, fetched.height

    def _order(
        self,
        call: Call,
        kind: Kind,
        pictures: Sequence[Picture],
        asked: Order,
        charge: int,
        model: str = "midjourney",
    ) -> Job:
        return self.order(
            call, kind, str(uuid.uuid4()), pictures, asked, model=model, charge=charge, webhook=asked.webhook()
        )

    def _result(self, job: Job, origin: str) -> dict[str, Any]:
        result: dict[str, Any] = {"images": self.image_urls(job, origin)}
        if job.is_grid:
            result["gridUrl"] = self.grid_url(job, origin)
        return result

    @staticmethod
    def _error(job: Job) -> str:
        return (job.failure.message if job.failure else None) or "Generation failed"


def _edited(picture: Upload, width: int, height: int, how: Side) -> Picture:
    match how:
        case "Zoom out 1.5x":
            return Extended.of(picture, 1.5)
        case "Zoom out 2x":
            return Extended.of(picture, 2.0)
        case "Make square":
            return Extended.of(picture, 1.0, (1, 1))
    more_x, more_y = max(1, round(width * SIDE_SHARE)), max(1, round(height * SIDE_SHARE))
    if how in ("Left outpaint", "Right outpaint"):
        x = more_x if how == "Left outpaint" else 0
        return Placed.of(picture, Box(width + more_x, height, x, 0, width, height))
    y = more_y if how == "Top outpaint" else 0
    return Placed.of(picture, Box(width, height + more_y, 0, y, width, height))


def _accepted(job: Job, status: str) -> Response:
    return answer_json({"jobId": job.id, "status": status}, 202)


def _canonical(raw: bytes) -> bytes:
    """The body without what does not change its meaning: two spellings of one JSON value are one body."""
    try:
        return json.dumps(json.loads(raw), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return raw


def _request_id() -> dict[str, str]:
    return {"x-request-id": str(uuid.uuid4())}
