"""Apiframe v2. https://apiframe.ai

Extends an upsampled image; a picture of one's own is uploaded and extended by its edit route (another model).
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from outpaint_mcp.domain.errors import (
    InsufficientCreditsError,
    InvalidRequestError,
    NotReadyError,
    OutpaintError,
    UnknownTaskError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import AspectRatio, Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.providers.answers import (
    Answer,
    Id,
    Number,
    Text,
    Urls,
    header,
    parent_of,
    path_segment,
    usd_cost,
    webhook_id,
    webhook_json,
    with_options,
)
from outpaint_mcp.providers.base import Features, ZoomLimits, Zooms
from outpaint_mcp.providers.http_client import ApiCall, UploadFile
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.rejections import refusal

SQUARE = AspectRatio(1, 1)
# "Up to 25 MB"; in which unit is not said. By the smaller one `auto` goes on to another provider where the vendor might
# refuse the upload, after which nobody else would be tried.
MAX_PICTURE_BYTES = 25_000_000
DIRECTIONS = {1.0: "Make square", 1.5: "Zoom out 1.5x", 2.0: "Zoom out 2x"}


class _Submitted(Answer):
    jobId: Id
    status: Text = "QUEUED"


class _Result(Answer):
    images: Urls = ()
    gridUrl: Text = ""


class _Job(Answer):
    status: Text
    model: Text = ""
    progress: Number = None
    result: _Result | str | None = None
    error: Text = ""
    creditCost: Number = None
    expired: bool | None = None


class _Uploaded(Answer):
    url: Text


class Apiframe(HttpProvider):
    name = "apiframe"
    title = "Apiframe"
    base_url = "https://api.apiframe.ai"
    key_env = "APIFRAME_API_KEY"
    docs_url = "https://apiframe.ai"
    note = (
        "Extends an upscaled image; one of a grid is upscaled first (4 credits). "
        "A picture of one's own is extended by another model (flux-fill-pro)."
    )
    price = "16 credits per outpaint, 4 per upscale (September 2026)"
    image_lifetime = "short: 24 hours by one page, 3 months by another"
    sources = (SourceForm.UPSCALED, SourceForm.OWN_IMAGE)
    features: ClassVar[Features] = {
        SourceKind.TASK: {
            Feature.IMAGE_INDEX: "1 to 4; upscales that image first",
            Feature.WEBHOOK_URL: "https; signed with the API key",
            Feature.WEBHOOK_EVENTS: "progress, completed, failed",
            Feature.PROVIDER_OPTIONS: "merged into the body; unknown fields are rejected there",
        },
        SourceKind.IMAGE: {
            Feature.ASPECT_RATIO: "1:1, with zoom 1 (make square)",
            Feature.PROMPT: "any",
            Feature.PROVIDER_OPTIONS: "merged into the body; unknown fields are rejected there",
        },
    }
    zoom: ClassVar[Zooms] = {
        SourceKind.TASK: ZoomLimits(values=(1.5, 2.0)),
        SourceKind.IMAGE: ZoomLimits(values=(1.0, 1.5, 2.0)),
    }
    first_poll = 5.0
    poll_interval = 3.0
    usual_seconds = 40.0
    refunds_failures = True
    idempotent = True
    uploads = True
    reserved_options: ClassVar[Mapping[str, str]] = {
        "parentJobId": "task_id",
        "action": "the tool itself",
        "zoomRatio": "zoom",
        "index": "image_index",
        "webhookUrl": "webhook_url",
        "webhookEvents": "webhook_events",
        "model": "provider",
        "fluxFillParams": "image, prompt and zoom",
    }
    image_hosts = ("cdn2.apiframe.ai", "cdn.apiframe.ai")
    statuses: ClassVar[Mapping[str, Status]] = {
        "queued": Status.QUEUED,
        "processing": Status.RUNNING,
        "completed": Status.SUCCEEDED,
        "failed": Status.FAILED,
        "cancelled": Status.CANCELLED,
    }

    def auth_headers(self, key: str) -> dict[str, str]:
        return {"X-API-Key": key}

    def check_webhook_url(self, url: str) -> None:
        super().check_webhook_url(url)
        if not url.lower().startswith("https:"):
            raise InvalidRequestError("Apiframe pushes to https URLs only.", "Give a webhook_url with https.")

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        if kind is SourceKind.IMAGE and request.aspect_ratio not in (None, SQUARE):
            limits = self.limits(kind)[Feature.ASPECT_RATIO]
            raise UnsupportedFeatureError(
                f"Apiframe cannot make aspect_ratio {request.aspect_ratio} for a picture of one's own: "
                f"its aspect_ratio is {limits}."
            )
        if kind is SourceKind.IMAGE and (request.zoom == 1) != (request.aspect_ratio == SQUARE):
            raise InvalidRequestError("With Apiframe zoom 1 and aspect_ratio 1:1 go together (make square).")

    def check_image(self, request: OutpaintRequest, picture: InputImage) -> None:
        if picture.size > MAX_PICTURE_BYTES:
            raise UnsupportedFeatureError(
                f"Apiframe takes pictures of one's own of up to 25 MB; this one has {picture.size:,} bytes.",
                "Give a smaller picture.",
            )
        if request.zoom == 1 and picture.width == picture.height:
            raise InvalidRequestError("The picture is square already.", "Give a zoom of 1.5 or 2.")

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        if isinstance(order.source, InputImage):
            fill = {
                "image": image_url,
                "prompt": order.prompt,
                "mode": "outpaint",
                "outpaint": DIRECTIONS[order.zoom],
            }
            return _order(order, "edit", {"model": "flux-fill-pro", "fluxFillParams": with_options({}, fill)})
        return _order(
            order,
            "midjourney/action",
            {
                "parentJobId": parent_of(order).remote_id,
                "action": "outpaint",
                "zoomRatio": order.zoom,
                "webhookUrl": order.webhook and order.webhook.url,
                "webhookEvents": list(order.webhook.events) or None if order.webhook else None,
            },
        )

    def build_upscale(self, order: Order) -> ApiCall:
        parent = parent_of(order)
        body = {"parentJobId": parent.remote_id, "action": "upsample", "index": parent.index}
        return ApiCall("POST", "/v2/images/midjourney/action", json=body, headers={"Idempotency-Key": order.key})

    def build_upload(self, picture: InputImage, data: bytes) -> ApiCall:
        name = f"picture.{picture.mime_type.partition('/')[2]}"
        return ApiCall("POST", "/v2/uploads", file=UploadFile("file", name, picture.mime_type, data))

    def parse_upload(self, body: Any) -> str:
        url = self.read_as(_Uploaded, body).url
        if not url:
            raise self.unexpected("the upload has no URL")
        return url

    def build_fetch(self, remote_id: str) -> ApiCall:
        # Its jobs' ids are UUIDs; any other is answered with a 400, as a bad order is, and not with a 404.
        try:
            uuid.UUID(remote_id)
        except ValueError:
            raise UnknownTaskError("Apiframe can have no task of this id: its ids are UUIDs.") from None
        return ApiCall("GET", f"/v2/jobs/{path_segment(self.title, remote_id)}")

    def parse_submit(self, body: Any) -> TaskUpdate:
        answer = self.read_as(_Submitted, body)
        # The answer only says that the job was taken; how it stands, images included, is the poll's to say.
        return TaskUpdate(Status.QUEUED, answer.jobId)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        job = self.read_as(_Job, body)
        # Older answers held a bare URL, of which nobody says whether it is a grid.
        result = _Result(images=(job.result,)) if isinstance(job.result, str) else job.result or _Result()
        told = not isinstance(job.result, str) and len(result.images) == 1
        return self.update(
            job.status,
            urls=result.images,
            grid_url=result.gridUrl,
            is_grid=True if result.gridUrl else False if told else None,
            progress=job.progress,
            failure=self.failure(job.error),
            cost=None if job.creditCost is None else usd_cost(job.creditCost, "credits", None),
            notes=("Apiframe says that the images' URLs have expired.",) if job.expired else (),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        if not isinstance(body, dict):
            return None
        text = str(body.get("error", ""))
        if status == 402:
            error = refusal(InsufficientCreditsError, self.title, body)
            error.message += (
                f" It takes {body.get('creditsRequired')} credits; {body.get('creditsAvailable')} are left."
            )
            return error
        # A grid as the parent is refused with either. A conflict about our own key, or one without a reason, is left to
        # the status: behind these there may be an order that was taken.
        if status in (400, 409) and _PARENT.search(text) and "idempoten" not in text.lower():
            if _UNFINISHED.search(text):
                return refusal(NotReadyError, self.title, body)
            advice = "It extends an upscaled image: give image_index to have one upscaled first, or an upscaled image."
            return refusal(InvalidRequestError, self.title, body, advice)
        if status == 400 and isinstance(body.get("details"), dict):
            found = "; ".join(f"{field}: {problem}" for field, problem in body["details"].items())
            return refusal(InvalidRequestError, self.title, {"error": f"{text} ({found})"})
        return super().read_error(status, body)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        given = (header(headers, "x-webhook-signature") or "").lower().removeprefix("sha256=")
        digest = hashlib.sha256((key or "").encode()).digest()
        # The documented key is the digest itself; the vendor's SDK also accepts its hexadecimal form.
        expected = (hmac.new(form, body, hashlib.sha256).hexdigest() for form in (digest, digest.hex().encode()))
        matches = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
        if not key or not any(matches):
            raise InvalidRequestError("The callback's signature is not Apiframe's.")
        return webhook_id(self.title, webhook_json(self.title, body).get("jobId"))


_PARENT = re.compile(r"upsampl|upscal|\bgrid\b|parent job", re.IGNORECASE)
_UNFINISHED = re.compile(r"not (?:yet )?(?:completed|finished|ready)|still (?:running|processing)", re.IGNORECASE)


def _order(order: Order, path: str, body: Mapping[str, Any]) -> ApiCall:
    headers = {"Idempotency-Key": order.key}
    return ApiCall("POST", f"/v2/images/{path}", json=with_options(order.options, body), headers=headers)
