"""Vtrix, on the SeaArt platform. https://vtrix.ai

Takes a grid and an image number as they are, but wants the remote job named, which is found in the parent's own answer.
A picture of one's own goes through its upload-paint model.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    InvalidRequestError,
    OutpaintError,
    ProviderUnavailableError,
)
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.providers.answers import (
    Answer,
    Id,
    Number,
    Text,
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
from outpaint_mcp.providers.rejections import find_code, find_message, refusal
from outpaint_mcp.providers.upload_paint import RESERVED, check_paint_image, check_paint_request, paint_fields


class _Submitted(Answer):
    id: Id
    status: Text = "in_progress"


class _Content(Answer):
    type: Text = "image"
    url: Text = ""
    jobId: Text = ""


class _Output(Answer):
    content: list[_Content] | None = None


class _Usage(Answer):
    cost: Number = None


class _Task(Answer):
    status: Text
    model: Text = ""
    progress: Number = None
    output: list[_Output] | None = None
    usage: _Usage | None = None
    error: Any = None


class Vtrix(HttpProvider):
    name = "vtrix"
    title = "Vtrix"
    base_url = "https://cloud.vtrix.ai"
    key_env = "VTRIX_API_KEY"
    docs_url = "https://vtrix.ai"
    note = "Extends a grid's image directly."
    price = "not published; a task's answer says what it took"
    image_lifetime = "not documented"
    sources = (SourceForm.GRID, SourceForm.UPSCALED, SourceForm.OWN_IMAGE)
    features: ClassVar[Features] = {
        SourceKind.TASK: {
            Feature.IMAGE_INDEX: "1 to 4",
            Feature.PROMPT: "1 to 8192 characters",
            Feature.WEBHOOK_URL: "http(s); what is sent is not documented",
            Feature.PROVIDER_OPTIONS: "merged into the params",
        },
        SourceKind.IMAGE: {
            Feature.ASPECT_RATIO: "any; both sides of the new picture 500 to 4096 pixels",
            Feature.PROMPT: "1 to 8192 characters, required",
            Feature.WEBHOOK_URL: "http(s); what is sent is not documented",
            Feature.PROVIDER_OPTIONS: "merged into the params",
        },
    }
    zoom: ClassVar[Zooms] = {SourceKind.TASK: ZoomLimits(1.1, 2.0), SourceKind.IMAGE: ZoomLimits()}
    first_poll = 5.0
    poll_interval = 3.0
    usual_seconds = 60.0
    reserved_options: ClassVar[Mapping[str, str]] = {
        "jobId": "task_id",
        "imageNo": "image_index",
        "scale": "zoom",
        "remixPrompt": "prompt",
        "callback": "webhook_url",
        **RESERVED,
    }
    image_hosts = ("cdn.vtrix.ai", "image.cdn2.seaart.me")
    statuses: ClassVar[Mapping[str, Status]] = {
        "pending": Status.QUEUED,
        "in_progress": Status.RUNNING,
        "processing": Status.RUNNING,
        "completed": Status.SUCCEEDED,
        "failed": Status.FAILED,
    }
    # The documentation writes 004007001; on the wire they are integers, without the zeros.
    error_codes: ClassVar[Mapping[str, type[OutpaintError]]] = {
        **{str(code): InvalidRequestError for code in range(4007001, 4007007)},
        "4007098": ProviderUnavailableError,
        "4007099": ProviderUnavailableError,
        **{str(code): InsufficientCreditsError for code in range(40201, 40209)},
    }

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        if kind is SourceKind.IMAGE:
            check_paint_request(self.title, request)

    def check_image(self, request: OutpaintRequest, picture: InputImage) -> None:
        check_paint_image(self.title, request, picture)

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        shared = {"remixPrompt": order.prompt, "callback": order.webhook and order.webhook.url}
        if isinstance(order.source, InputImage):
            model, fields = "midjourney_uploadpaint", paint_fields(self.title, order, order.source)
        else:
            parent = parent_of(order)
            job_id = parent.reference or parent.remote_id
            model, fields = "midjourney_outpaint", {"jobId": job_id, "imageNo": parent.index - 1, "scale": order.zoom}
        params = with_options(order.options, {**fields, **shared})
        return ApiCall("POST", "/model/v1/generation", json={"model": model, "input": [{"params": params}]})

    def build_fetch(self, remote_id: str) -> ApiCall:
        return ApiCall("GET", f"/model/v1/generation/task/{path_segment(self.title, remote_id)}")

    def parse_submit(self, body: Any) -> TaskUpdate:
        # Whatever the first answer's state, a finished one's images are the poll's to say.
        answer = self.read_as(_Submitted, body)
        status, notes = self.status_of(answer.status)
        return TaskUpdate(Status.RUNNING if status.is_final else status, answer.id, notes=notes)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        task = self.read_as(_Task, body)
        # Whether four images are four contents or four outputs is not documented: both are gone through.
        contents = [content for output in task.output or [] for content in output.content or []]
        cost = (task.usage or _Usage()).cost
        return self.update(
            task.status,
            urls=tuple(content.url for content in contents if content.type == "image"),
            # One image may be a grid in one picture, unless it is known to be an upscale.
            is_grid=False if task.model == "midjourney_upscale" else None,
            progress=None if task.progress is None else task.progress * 100,
            failure=self.failure(find_message({"error": task.error}), _code({"error": task.error})),
            cost=None if cost is None else usd_cost(cost, "USD", 1),
            reference=next((content.jobId for content in contents if content.jobId), None),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        if not isinstance(body, dict):
            return None
        if status < 300 and (body.get("id") or not find_message(body)):
            return None
        kind = self.error_codes.get(_code(body) or "")
        words = find_message(body).lower()
        if kind is None and status == 403 and any(word in words for word in ("balance", "credit", "insufficient")):
            # There is no 402.
            kind = InsufficientCreditsError
        if kind is None and (refused := super().read_error(400 if status < 300 else status, body)) is not None:
            return refused
        if kind is None and status == 403:
            advice = "The account lacks the permission or the balance: the operator must look. Or use another provider."
            return refusal(AuthenticationError, self.title, body, advice)
        if kind is None and status < 300:
            kind = InvalidRequestError
        return None if kind is None else refusal(kind, self.title, body)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        # What is sent is not documented; a polled task is the likeliest, and the id is only a hint to ask.
        return webhook_id(self.title, webhook_json(self.title, body).get("id"))


def _code(body: Any) -> str | None:
    code = find_code(body)
    return code and code.lstrip("0")
