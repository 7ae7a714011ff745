"""Legnext. https://legnext.ai

Takes a grid and an image number as they are; a picture of one's own goes through its upload-paint operation.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError
from outpaint_mcp.domain.order import InputImage, Order, StepName
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, Status, TaskUpdate
from outpaint_mcp.providers.answers import (
    Answer,
    Code,
    Number,
    Text,
    Urls,
    parent_of,
    path_segment,
    usd_cost,
    webhook_id,
    webhook_json,
    with_options,
)
from outpaint_mcp.providers.base import Features, ZoomLimits, Zooms
from outpaint_mcp.providers.http_client import ApiCall
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.rejections import ERRORS_BY_STATUS, find_code, refusal
from outpaint_mcp.providers.upload_paint import RESERVED, check_paint_image, check_paint_request, paint_fields

USD_PER_POINT = 0.001


class _Output(Answer):
    image_url: Text = ""
    image_urls: Urls = ()


class _Usage(Answer):
    frozen: Number = None
    consume: Number = None


class _Meta(Answer):
    usage: _Usage | None = None


class _Error(Answer):
    code: Code = None
    message: Text = ""
    raw_message: Text = ""


class _Job(Answer):
    job_id: Text
    status: Text
    task_type: Text = ""
    output: _Output | None = None
    meta: _Meta | None = None
    error: _Error | None = None


class Legnext(HttpProvider):
    name = "legnext"
    title = "Legnext"
    base_url = "https://api.legnext.ai/api"
    key_env = "LEGNEXT_API_KEY"
    docs_url = "https://legnext.ai"
    note = "Extends a grid's image directly. Six jobs at a time; more wait at Legnext."
    price = "80 points ($0.08) per outpaint of a task's image (September 2026); of an own picture not published"
    image_lifetime = "temporary; how long is not documented"
    sources = (SourceForm.GRID, SourceForm.UPSCALED, SourceForm.OWN_IMAGE)
    features: ClassVar[Features] = {
        SourceKind.TASK: {
            Feature.IMAGE_INDEX: "1 to 4",
            Feature.PROMPT: "1 to 8192 characters",
            Feature.WEBHOOK_URL: "http(s); the callback is unsigned",
            Feature.PROVIDER_OPTIONS: "merged into the body",
        },
        SourceKind.IMAGE: {
            Feature.ASPECT_RATIO: "any; both sides of the new picture 500 to 4096 pixels",
            Feature.PROMPT: "1 to 8192 characters, required",
            Feature.WEBHOOK_URL: "http(s); the callback is unsigned",
            Feature.PROVIDER_OPTIONS: "merged into the body",
        },
    }
    zoom: ClassVar[Zooms] = {SourceKind.TASK: ZoomLimits(1.1, 2.0), SourceKind.IMAGE: ZoomLimits()}
    first_poll = 10.0
    poll_interval = 5.0
    usual_seconds = 105.0
    usd: ClassVar[Mapping[StepName, float]] = {StepName.OUTPAINT: 0.08}
    refunds_failures = True
    reserved_options: ClassVar[Mapping[str, str]] = {
        "jobId": "task_id",
        "imageNo": "image_index",
        "scale": "zoom",
        "remixPrompt": "prompt",
        "callback": "webhook_url",
        **RESERVED,
    }
    image_hosts = ("cdn.legnext.ai",)
    statuses: ClassVar[Mapping[str, Status]] = {
        "pending": Status.QUEUED,
        "staged": Status.QUEUED,
        "processing": Status.RUNNING,
        "completed": Status.SUCCEEDED,
        "failed": Status.FAILED,
    }

    def auth_headers(self, key: str) -> dict[str, str]:
        return {"x-api-key": key}

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        if kind is SourceKind.IMAGE:
            check_paint_request(self.title, request)

    def check_image(self, request: OutpaintRequest, picture: InputImage) -> None:
        check_paint_image(self.title, request, picture)

    def usd_for(self, request: OutpaintRequest) -> Mapping[StepName, float]:
        # The 80 points are the outpaint operation's; upload-paint, which a picture goes through, has no known price.
        return {} if request.image is not None else self.usd

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        shared = {"remixPrompt": order.prompt, "callback": order.webhook and order.webhook.url}
        if isinstance(order.source, InputImage):
            body = {**paint_fields(self.title, order, order.source), **shared}
            return ApiCall("POST", "/v1/upload-paint", json=with_options(order.options, body))
        parent = parent_of(order)
        body = {"jobId": parent.remote_id, "imageNo": parent.index - 1, "scale": order.zoom, **shared}
        return ApiCall("POST", "/v1/outpaint", json=with_options(order.options, body))

    def build_fetch(self, remote_id: str) -> ApiCall:
        return ApiCall("GET", f"/v1/job/{path_segment(self.title, remote_id)}")

    def parse_submit(self, body: Any) -> TaskUpdate:
        return self.parse_fetch(body)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        job = self.read_as(_Job, body)
        output = job.output or _Output()
        error = job.error or _Error()
        # An upscale has one image, which may stand where other jobs have their grid.
        is_single = job.task_type.lower() == "upscale"
        urls = output.image_urls if any(output.image_urls) or not is_single else (output.image_url,)
        return self.update(
            job.status,
            remote_id=job.job_id,
            urls=urls,
            grid_url="" if is_single else output.image_url,
            is_grid=False if is_single else None if any(urls) else True,
            failure=self.failure(error.message or error.raw_message, error.code),
            cost=_cost(job),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        refused = super().read_error(status, body)
        # A refusal can look like a job: failed, nameless, everything else empty; also under HTTP 200.
        if refused is None and status < 300 and _is_refusal(body):
            code = find_code(body) or ""
            kind = ERRORS_BY_STATUS.get(int(code) if code.isdecimal() else 400, InvalidRequestError)
            refused = super().read_error(400, body) or refusal(kind, self.title, body)
        return refused

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        return webhook_id(self.title, webhook_json(self.title, body).get("job_id"))


def _is_refusal(body: Any) -> bool:
    return isinstance(body, dict) and not body.get("job_id") and str(body.get("status")).lower() == "failed"


def _cost(job: _Job) -> Cost | None:
    usage = (job.meta and job.meta.usage) or _Usage()
    # Points are set aside at the order and taken when the job is done; a failure gives them back.
    points = usage.consume if job.status.lower() in ("completed", "failed") else usage.consume or usage.frozen
    return None if points is None else usd_cost(points, "points", USD_PER_POINT)
