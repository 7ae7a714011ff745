"""Apiframe v2. https://apiframe.ai

Extends an upsampled image; your own image is uploaded and extended by its edit route (another model).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import outpaint_mcp.providers as api

ACTION = "/v2/images/midjourney/action"
OPTIONS = "merged into the body; unknown fields are rejected there"


class _Submitted(api.Answer):
    jobId: api.Id
    status: api.Text = "QUEUED"


class _Result(api.Answer):
    images: api.Urls = ()
    gridUrl: api.Text = ""


class _Job(api.Answer):
    status: api.Text
    model: api.Text = ""
    progress: api.Number = None
    result: _Result | str | None = None
    error: api.Text = ""
    creditCost: api.Number = None
    expired: bool | None = None


class _Uploaded(api.Answer):
    url: api.Text


class _Team(api.Answer):
    credits: api.Number


class _Account(api.Answer):
    team: _Team


class Apiframe(api.HttpProvider):
    name = "apiframe"
    title = "Apiframe"
    base_url = "https://api.apiframe.ai"
    key_env = "APIFRAME_API_KEY"
    auth_header = ("X-API-Key", "{key}")
    idempotency_header = "Idempotency-Key"
    fetch_path = "/v2/jobs/{id}"
    # Any other id is answered with a 400, as a bad order is, and not with a 404.
    id_pattern = r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
    account_path = "/v2/me"
    docs_url = "https://apiframe.ai"
    note = (
        "Extends an upscaled image; one of a grid is upscaled first (4 credits). "
        f"Your own image is extended by another model (flux-fill-pro). {api.NO_V8_ZOOM} {api.MEASURED_BUTTON}"
    )
    price = "16 credits per outpaint, 4 per upscale (September 2026)"
    image_lifetime = "short: 24 hours by one page, 3 months by another"
    sources = (api.SourceForm.UPSCALED, api.SourceForm.OWN_IMAGE)
    operations: ClassVar = {
        api.SourceKind.TASK: api.Operation(
            ACTION,
            source=api.Argument(wire="parentJobId"),
            zoom=api.Zoom(values=(1.5, 2.0), wire="zoomRatio"),
            arguments={
                api.Feature.IMAGE_INDEX: api.Argument("1 to 4; upscales that image first"),
                api.Feature.WEBHOOK_URL: api.Argument("https; signed with the API key", "webhookUrl"),
                api.Feature.WEBHOOK_EVENTS: api.Argument("progress, completed, failed", "webhookEvents"),
                api.Feature.PROVIDER_OPTIONS: api.midjourney_options(OPTIONS),
            },
            constants={"action": "outpaint"},
        ),
        api.SourceKind.IMAGE: api.Operation(
            "/v2/images/edit",
            source=api.Argument(wire="fluxFillParams.image"),
            zoom=api.FLUX_FILL_ZOOM,
            arguments={
                api.Feature.ASPECT_RATIO: api.FLUX_FILL_RATIO,
                api.Feature.PROMPT: api.Argument("any", "fluxFillParams.prompt"),
                api.Feature.PROVIDER_OPTIONS: api.Argument(OPTIONS),
            },
            constants={"model": "flux-fill-pro", "fluxFillParams.mode": "outpaint"},
            frame=api.flux_fill_frame("fluxFillParams.outpaint"),
            # "Up to 25 MB"; in which unit is not said. By the smaller one `auto` goes on to another provider where the
            # vendor might reject the upload, after which nobody else would be tried.
            max_bytes=25_000_000,
        ),
    }
    upscale = api.Operation(
        ACTION,
        source=api.Argument(wire="parentJobId"),
        arguments={api.Feature.IMAGE_INDEX: api.Argument(wire="index")},
        constants={"action": "upsample"},
    )
    first_poll = 5.0
    poll_interval = 3.0
    usual_seconds = 40.0
    refunds_failures = True
    idempotent = True
    uploads = True
    statuses: ClassVar = api.status_words(
        queued="queued", running="processing", succeeded="completed", failed="failed", cancelled="cancelled"
    )

    def check_webhook_url(self, url: str) -> None:
        super().check_webhook_url(url)
        if not url.lower().startswith("https:"):
            raise api.InvalidRequestError("Apiframe pushes to https URLs only.", "Give a webhook_url with https.")

    def build_upload(self, image: api.InputImage, data: bytes) -> api.ApiCall:
        name = f"image.{image.mime_type.partition('/')[2]}"
        return api.ApiCall("POST", "/v2/uploads", files=(api.UploadFile("file", name, image.mime_type, data),))

    def parse_account(self, body: Any) -> api.Balance:
        return self.balance(self.read_as(_Account, body).team.credits, "credits")

    def parse_upload(self, body: Any) -> str:
        url = self.read_as(_Uploaded, body).url
        if not url:
            raise self.unexpected("the upload has no URL")
        return url

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        answer = self.read_as(_Submitted, body)
        # The answer only says that the job was taken; how it stands, images included, is the poll's to say.
        return api.TaskUpdate(api.Status.QUEUED, answer.jobId)

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
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
            cost=None if job.creditCost is None else api.usd_cost(job.creditCost, "credits", None),
            notes=("Apiframe says that the images' URLs have expired.",) if job.expired else (),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        if not isinstance(body, dict):
            return None
        text = str(body.get("error", ""))
        if status == 402:
            error = api.rejection(api.InsufficientCreditsError, self.title, body)
            error.message += (
                f" It takes {body.get('creditsRequired')} credits; {body.get('creditsAvailable')} are left."
            )
            return error
        # A grid as the parent is refused with either. A conflict about our own key, or one without a reason, is left to
        # the status: behind these there may be an order that was taken.
        if status in (400, 409) and _PARENT.search(text) and "idempoten" not in text.lower():
            if _UNFINISHED.search(text):
                return api.rejection(api.NotReadyError, self.title, body)
            advice = "It extends an upscaled image: give image_index to have one upscaled first, or an upscaled image."
            return api.rejection(api.InvalidRequestError, self.title, body, advice)
        if status == 400 and isinstance(body.get("details"), dict):
            found = "; ".join(f"{field}: {problem}" for field, problem in body["details"].items())
            return api.rejection(api.InvalidRequestError, self.title, {"error": f"{text} ({found})"})
        return super().read_error(status, body)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        given = (api.header(headers, "x-webhook-signature") or "").lower().removeprefix("sha256=")
        digest = hashlib.sha256((key or "").encode()).digest()
        # The documented key is the digest itself; the vendor's SDK also accepts its hexadecimal form.
        expected = (hmac.new(form, body, hashlib.sha256).hexdigest() for form in (digest, digest.hex().encode()))
        matches = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
        if not key or not any(matches):
            raise api.InvalidRequestError("The callback's signature is not Apiframe's.")
        return api.webhook_id(self.title, api.webhook_json(self.title, body).get("jobId"))


_PARENT = re.compile(r"upsampl|upscal|\bgrid\b|parent job", re.IGNORECASE)
_UNFINISHED = re.compile(r"not (?:yet )?(?:completed|finished|ready)|still (?:running|processing)", re.IGNORECASE)
