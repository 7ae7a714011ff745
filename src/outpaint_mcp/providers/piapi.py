"""PiAPI, its older Midjourney routes (``/mj/v2``); answers of the newer, unified ones are read as well. https://piapi.ai

PiAPI's site says that its Midjourney service is no longer offered; gateways that speak this protocol remain.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, ProviderUnavailableError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import AspectRatio, Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, Status, TaskUpdate
from outpaint_mcp.providers.answers import (
    Answer,
    Code,
    Id,
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
from outpaint_mcp.providers.rejections import ERRORS_BY_STATUS, refusal

BUTTONS = (1.5, 2.0)


class _Submitted(Answer):
    task_id: Id


class _Output(Answer):
    image_url: Text = ""
    image_urls: Urls = ()
    temporary_image_urls: Urls = ()
    discord_image_url: Text = ""
    progress: Number = None
    task_progress: Number = None
    actions: list[Any] | None = None
    message: Text = ""
    error_messages: Any = None
    quota_used: Number = None


class _Usage(Answer):
    consume: Number = None


class _Meta(Answer):
    usage: _Usage | None = None


class _Error(Answer):
    code: Code = None
    message: Text = ""
    raw_message: Text = ""


class _Task(Answer):
    """A task of either generation: `output` is of the unified one, `task_result` of the older."""

    status: Text
    task_type: Text = ""
    output: _Output | None = None
    task_result: _Output | None = None
    meta: _Meta | None = None
    error: _Error | None = None
    message: Text = ""


class Piapi(HttpProvider):
    name = "piapi"
    title = "PiAPI"
    base_url = "https://api.piapi.ai"
    key_env = "PIAPI_API_KEY"
    docs_url = "https://piapi.ai"
    note = (
        "PiAPI's site says that Midjourney is no longer offered and points to Legnext; for gateways that speak this "
        "protocol. Extends an upscaled image; one of a grid is upscaled first."
    )
    price = "unknown"
    image_lifetime = "not documented; its predecessor kept images about 5 days"
    sources = (SourceForm.UPSCALED,)
    features: ClassVar[Features] = {
        SourceKind.TASK: {
            Feature.ASPECT_RATIO: "any; needed with a zoom other than 1.5 and 2; with zoom 1 only 1:1 (make square)",
            Feature.IMAGE_INDEX: "1 to 4; upscales that image first",
            Feature.PROMPT: "any",
            Feature.WEBHOOK_URL: "a domain, or port 443",
            Feature.WEBHOOK_SECRET: "comes back as the header x-webhook-secret",
            Feature.PROVIDER_OPTIONS: "merged into the body, for example skip_prompt_check",
        }
    }
    zoom: ClassVar[Zooms] = {SourceKind.TASK: ZoomLimits()}
    first_poll = 10.0
    poll_interval = 5.0
    usual_seconds = 60.0
    reserved_options: ClassVar[Mapping[str, str]] = {
        "origin_task_id": "task_id",
        "task_id": "task_id",
        "index": "image_index",
        "zoom_ratio": "zoom",
        "aspect_ratio": "aspect_ratio",
        "prompt": "prompt",
        "webhook_endpoint": "webhook_url",
        "webhook_secret": "webhook_secret",
    }
    image_hosts = ("img.theapi.app", "img.midjourneyapi.xyz", "cdn.discordapp.com")
    statuses: ClassVar[Mapping[str, Status]] = {
        "pending": Status.QUEUED,
        "staged": Status.QUEUED,
        "processing": Status.RUNNING,
        "finished": Status.SUCCEEDED,
        "completed": Status.SUCCEEDED,
        "failed": Status.FAILED,
    }

    def auth_headers(self, key: str) -> dict[str, str]:
        return {"X-API-Key": key}

    def check_webhook_url(self, url: str) -> None:
        """Documented: "a domain, or port 443 only"."""
        super().check_webhook_url(url)
        parts = urlsplit(url)
        if parts.port not in (None, 443):
            raise InvalidRequestError("PiAPI pushes to no other port than 443.", "Leave the port out.")
        try:
            ipaddress.ip_address(parts.hostname or "")
        except ValueError:
            return
        if parts.scheme.lower() != "https":
            raise InvalidRequestError(
                "PiAPI pushes to an address without a name by https only.", "Give a domain's URL."
            )

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        if request.zoom == 1 and request.aspect_ratio != AspectRatio(1, 1):
            raise InvalidRequestError("With PiAPI a zoom of 1 goes with the aspect_ratio 1:1 only (make square).")
        # Where no ratio is given PiAPI takes 1:1 and says nothing (documentation of aspect_ratio).
        if request.zoom not in BUTTONS and request.aspect_ratio is None:
            raise InvalidRequestError(
                f"With PiAPI a zoom of {request.zoom:g} needs an aspect_ratio.", "Give one, or a zoom of 1.5 or 2."
            )

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        body = {
            "origin_task_id": parent_of(order).remote_id,
            # A string; all its digits, since it is not to be rounded.
            "zoom_ratio": str(order.zoom).removesuffix(".0"),
            "aspect_ratio": order.aspect_ratio and str(order.aspect_ratio),
            "prompt": order.prompt,
            "webhook_endpoint": order.webhook and order.webhook.url,
            "webhook_secret": order.webhook and order.webhook.secret,
        }
        return ApiCall("POST", "/mj/v2/outpaint", json=with_options(order.options, body))

    def build_upscale(self, order: Order) -> ApiCall:
        parent = parent_of(order)
        # Without the webhook: the client waits for the outpaint.
        body = {"origin_task_id": parent.remote_id, "index": str(parent.index)}
        return ApiCall("POST", "/mj/v2/upscale", json=body)

    def build_fetch(self, remote_id: str) -> ApiCall:
        path_segment(self.title, remote_id)
        return ApiCall("POST", "/mj/v2/fetch", json={"task_id": remote_id})

    def parse_submit(self, body: Any) -> TaskUpdate:
        return TaskUpdate(Status.QUEUED, self.read_as(_Submitted, _unwrapped(body)).task_id)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        task = self.read_as(_Task, _unwrapped(body))
        output = task.output or task.task_result or _Output()
        error = task.error or _Error()
        urls = output.temporary_image_urls if any(output.temporary_image_urls) else output.image_urls
        whole = output.image_url or output.discord_image_url
        is_grid = _is_grid(task, output)
        if is_grid is False and not any(urls):
            urls = (whole,)
        return self.update(
            task.status,
            urls=urls,
            grid_url="" if is_grid is False else whole,
            is_grid=is_grid,
            progress=output.task_progress if output.progress is None else output.progress,
            failure=self.failure(
                error.message or error.raw_message or _joined(output.error_messages) or output.message or task.message,
                error.code,
            ),
            cost=_cost(task, output),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        refused = super().read_error(status, body)
        if refused is not None or status >= 300 or not isinstance(body, dict):
            return refused
        code = body.get("code", 200)
        # The unified routes refuse under HTTP 200, by a code in the body; the older ones by a status without an id.
        if isinstance(code, int) and code not in (0, 200):
            kind = ProviderUnavailableError if code >= 500 else ERRORS_BY_STATUS.get(code, InvalidRequestError)
            return super().read_error(400, body) or refusal(kind, self.title, body)
        if str(body.get("status")).lower() in ("failed", "error") and body.get("task_id") == "":
            return super().read_error(400, body) or refusal(InvalidRequestError, self.title, body)
        return None

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        # x-webhook-secret is the client's own secret sent back, so it proves nothing that the API key could check.
        return webhook_id(self.title, _unwrapped(webhook_json(self.title, body)).get("task_id"))


def _unwrapped(body: Any) -> Any:
    """A task without the unified routes' envelope."""
    inner = body.get("data") if isinstance(body, dict) else None
    return inner if isinstance(inner, dict) else body


def _is_grid(task: _Task, output: _Output) -> bool | None:
    """Whether the task's result is a grid; None where the answer does not tell."""
    if task.task_type.lower() == "upscale":
        return False
    # A grid has an action to upscale each of its images.
    return any(re.fullmatch("upscale[1-4]", str(action)) for action in output.actions) if output.actions else None


def _joined(messages: Any) -> str:
    return "; ".join(map(str, messages)) if isinstance(messages, list) else str(messages or "")


def _cost(task: _Task, output: _Output) -> Cost | None:
    usage = (task.meta and task.meta.usage) or _Usage()
    if usage.consume is not None:
        return usd_cost(usage.consume, "points", None)
    return None if output.quota_used is None else usd_cost(output.quota_used, "quota", None)
