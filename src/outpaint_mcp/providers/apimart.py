"""APIMart. https://apimart.ai

Extends an upscaled image by one of two zoom buttons. A task is asked for at the Midjourney route, which tells a grid
from a single image, and at the general one where that does not know it.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, Status, TaskUpdate
from outpaint_mcp.providers.answers import Answer, Id, Number, Text, Urls, parent_of, path_segment, with_options
from outpaint_mcp.providers.base import Features, ZoomLimits, Zooms
from outpaint_mcp.providers.http_client import ApiCall
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.rejections import ERRORS_BY_STATUS, find_code, find_message, refusal


class _Ordered(Answer):
    task_id: Id


class _Submitted(Answer):
    data: list[_Ordered] = Field(min_length=1)


class _Image(Answer):
    url: Urls = ()
    expires_at: Any = None


class _Result(Answer):
    images: list[_Image] | None = None


class _Button(Answer):
    customId: Text = ""
    label: Text = ""


class _Task(Answer):
    """Both routes' answers: `result` is of the general one, the other images of the Midjourney one."""

    status: Text
    action: Text = ""
    progress: Number = None
    result: _Result | None = None
    grid_image_url: Text = ""
    image_urls: Urls = ()
    buttons: list[_Button] | None = None
    fail_reason: Text = ""
    error: Any = None
    cost: Number = None
    credits_cost: Number = None


class Apimart(HttpProvider):
    name = "apimart"
    title = "APIMart"
    base_url = "https://api.apimart.ai"
    key_env = "APIMART_API_KEY"
    docs_url = "https://apimart.ai"
    note = "Extends an upscaled image; one of a grid is upscaled first (about $0.055)."
    price = "about $0.055 per outpaint, turbo $0.10; an upscale about the same (September 2026)"
    image_lifetime = "about 72 hours"
    sources = (SourceForm.UPSCALED,)
    features: ClassVar[Features] = {
        SourceKind.TASK: {
            Feature.IMAGE_INDEX: "1 to 4; upscales that image first",
            Feature.SPEED: "relax, fast, turbo",
            Feature.PROVIDER_OPTIONS: "merged into the body: custom_id (a button, decides in place of zoom), metadata",
        }
    }
    # Anything below 2 is drawn as 1.5 and nothing says so (documentation of the route), so nothing else is let through.
    zoom: ClassVar[Zooms] = {SourceKind.TASK: ZoomLimits(values=(1.5, 2.0))}
    first_poll = 3.0
    poll_interval = 3.0
    usual_seconds = 60.0
    usd: ClassVar[Mapping[StepName, float]] = {StepName.OUTPAINT: 0.055, StepName.UPSCALE: 0.055}
    turbo_usd: ClassVar[Mapping[StepName, float]] = {StepName.OUTPAINT: 0.10, StepName.UPSCALE: 0.10}
    refunds_failures = True
    reserved_options: ClassVar[Mapping[str, str]] = {
        "task_id": "task_id",
        "index": "image_index",
        "zoom_ratio": "zoom",
        "speed": "speed",
    }
    image_hosts = ("cdn.apimart.ai", "upload.apimart.ai")
    statuses: ClassVar[Mapping[str, Status]] = {
        "not_start": Status.QUEUED,
        "submitted": Status.QUEUED,
        "pending": Status.QUEUED,
        "in_progress": Status.RUNNING,
        "processing": Status.RUNNING,
        "modal": Status.RUNNING,
        "success": Status.SUCCEEDED,
        "completed": Status.SUCCEEDED,
        "failure": Status.FAILED,
        "failed": Status.FAILED,
        "cancelled": Status.CANCELLED,
    }

    def usd_for(self, request: OutpaintRequest) -> Mapping[StepName, float]:
        return self.turbo_usd if request.speed == "turbo" else self.usd

    def sends_zoom(self, request: OutpaintRequest) -> bool:
        return not _names_button(request.provider_options)

    def notes_for(self, request: OutpaintRequest) -> tuple[str, ...]:
        if self.sends_zoom(request):
            return ()
        return ("custom_id names a button, and the button decides how far to zoom: zoom was not sent.",)

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        parent = parent_of(order)
        zoom = None if _names_button(order.options) else order.zoom
        body = {"task_id": parent.remote_id, "index": parent.index, "zoom_ratio": zoom, "speed": order.speed}
        return ApiCall("POST", "/v1/midjourney/generations/zoom", json=with_options(order.options, body))

    def build_upscale(self, order: Order) -> ApiCall:
        # Without the client's options: a button of the outpaint is none of the grid's.
        parent = parent_of(order)
        body = {"task_id": parent.remote_id, "index": parent.index, "speed": order.speed}
        return ApiCall("POST", "/v1/midjourney/generations/upscale", json=with_options({}, body))

    def build_fetch(self, remote_id: str) -> ApiCall:
        return ApiCall("GET", f"/v1/midjourney/{path_segment(self.title, remote_id)}")

    def build_other_fetch(self, remote_id: str) -> ApiCall | None:
        return ApiCall("GET", f"/v1/tasks/{path_segment(self.title, remote_id)}")

    def parse_submit(self, body: Any) -> TaskUpdate:
        return TaskUpdate(Status.QUEUED, self.read_as(_Submitted, body).data[0].task_id)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        inner = body.get("data") if isinstance(body, dict) else None
        task = self.read_as(_Task, inner if isinstance(inner, dict) else body)
        found = (task.result and task.result.images) or []
        urls = tuple(url for image in found for url in image.url) or task.image_urls
        is_grid = _is_grid(task)
        error = {"error": task.error}
        grid_url = task.grid_image_url
        if is_grid is False:
            # The only image of an upscale may stand where other tasks have their grid.
            urls, grid_url = urls if any(urls) else (grid_url,), ""
        return self.update(
            task.status,
            urls=urls,
            grid_url=grid_url,
            is_grid=is_grid,
            progress=task.progress,
            failure=self.failure(task.fail_reason or find_message(error), find_code(error)),
            cost=_cost(task),
            expires_at=min(filter(None, (_time(image.expires_at) for image in found)), default=None),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        refused = super().read_error(status, body)
        if refused is not None or not isinstance(body, dict):
            return refused
        if status < 500 and _NEEDS_UPSCALED.match(find_message(body)):
            advice = "Give image_index to have that image upscaled first, or the task of an upscaled image."
            return refusal(InvalidRequestError, self.title, body, advice)
        code = body["code"] if isinstance(body.get("code"), int) else 200
        says_no = body.get("success") is False or 400 <= code < 500
        # With no word of a task: one that runs or has failed can have an error and a code as well.
        if status < 300 and says_no and not body.get("data"):
            return refusal(ERRORS_BY_STATUS.get(code, InvalidRequestError), self.title, body)
        return None


_NEEDS_UPSCALED = re.compile(r"this action requires an upscaled task", re.IGNORECASE)


def _names_button(options: Mapping[str, Any]) -> bool:
    """Whether `custom_id` decides in place of the zoom; an empty one names no button."""
    return bool(options.get("custom_id"))


def _is_grid(task: _Task) -> bool | None:
    """Whether the task's result is a grid; None where the answer does not tell."""
    if task.action.upper() == "UPSCALE":
        return False
    if task.buttons:
        # A grid has buttons to upscale each of its images; a single image has those to zoom.
        return any("upsample::" in button.customId or re.fullmatch("U[1-4]", button.label) for button in task.buttons)
    return None


def _cost(task: _Task) -> Cost | None:
    # That `cost` is in USD is inferred from the price list.
    if task.cost is not None:
        return Cost(amount=task.cost, unit="USD", usd=task.cost)
    return None if task.credits_cost is None else Cost(amount=task.credits_cost, unit="credits")


def _time(value: Any) -> datetime | None:
    """Unix seconds or ISO 8601; which of them `expires_at` holds is not documented."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
