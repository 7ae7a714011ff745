"""PiAPI, its older Midjourney routes (``/mj/v2``); answers of the newer, unified ones are read as well. https://piapi.ai

PiAPI's site says that its Midjourney service is no longer offered; gateways that speak this protocol remain.
"""

import re
from typing import Any, ClassVar
from urllib.parse import urlsplit

import outpaint_mcp.providers as api

SOURCE = api.Argument(wire="origin_task_id")
RATIO = "any; needed with a zoom other than 1.5 and 2; with zoom 1 only 1:1 (make square)"


class _Submitted(api.Answer):
    task_id: api.Id


class _Output(api.Answer):
    image_url: api.Text = ""
    image_urls: api.Urls = ()
    temporary_image_urls: api.Urls = ()
    discord_image_url: api.Text = ""
    progress: api.Number = None
    task_progress: api.Number = None
    actions: list[Any] | None = None
    message: api.Text = ""
    error_messages: Any = None
    quota_used: api.Number = None


class _Task(api.Job):
    """A task of either generation: `output` is of the unified one, `task_result` of the older."""

    output: _Output | None = None
    task_result: _Output | None = None
    message: api.Text = ""


class Piapi(api.HttpProvider):
    name = "piapi"
    title = "PiAPI"
    base_url = "https://api.piapi.ai"
    key_env = "PIAPI_API_KEY"
    auth_header = ("X-API-Key", "{key}")
    fetch_path = "/mj/v2/fetch"
    fetch_field = "task_id"
    envelope = "data"
    # The header x-webhook-secret is the client's own secret sent back: it proves nothing that the API key could check.
    webhook_id_field = "task_id"
    docs_url = "https://piapi.ai"
    note = (
        "PiAPI's site says that Midjourney is no longer offered and points to Legnext; for gateways that speak this "
        f"protocol. Extends an upscaled image; one of a grid is upscaled first. {api.NO_V8_ZOOM} {api.MEASURED_BUTTON}"
    )
    price = "unknown"
    image_lifetime = "not documented; its predecessor kept images about 5 days"
    sources = (api.SourceForm.UPSCALED,)
    operations: ClassVar = {
        api.SourceKind.TASK: api.Operation(
            "/mj/v2/outpaint",
            source=SOURCE,
            # A string; all its digits, since it is not to be rounded.
            zoom=api.Zoom(wire="zoom_ratio", encode=lambda zoom: str(zoom).removesuffix(".0")),
            arguments={
                api.Feature.ASPECT_RATIO: api.Argument(RATIO, "aspect_ratio", str),
                api.Feature.IMAGE_INDEX: api.Argument("1 to 4; upscales that image first"),
                api.Feature.PROMPT: api.midjourney_prompt("prompt"),
                api.Feature.WEBHOOK_URL: api.Argument("a domain, or port 443", "webhook_endpoint"),
                api.Feature.WEBHOOK_SECRET: api.Argument("comes back as the header x-webhook-secret", "webhook_secret"),
                api.Feature.PROVIDER_OPTIONS: api.midjourney_options(
                    "merged into the body, for example skip_prompt_check"
                ),
            },
        )
    }
    upscale = api.Operation(
        "/mj/v2/upscale",
        source=SOURCE,
        arguments={api.Feature.IMAGE_INDEX: api.Argument(wire="index", encode=str)},
    )
    first_poll = 10.0
    poll_interval = 5.0
    usual_seconds = 60.0
    statuses: ClassVar = api.status_words(
        queued="pending staged", running="processing", succeeded="finished completed", failed="failed"
    )

    def check_webhook_url(self, url: str) -> None:
        super().check_webhook_url(url)
        parts = urlsplit(url)
        # Documented: "a domain, or port 443 only".
        is_address = re.fullmatch(r"[0-9.]+|.*:.*", parts.hostname or "") is not None
        if parts.port not in (None, 443) or (is_address and parts.scheme.lower() != "https"):
            raise api.InvalidRequestError(
                "PiAPI pushes to port 443 only, and to an IP address by https only.",
                "Give a domain's URL.",
            )

    def check(self, request: api.OutpaintRequest, kind: api.SourceKind) -> None:
        super().check(request, kind)
        zoom, ratio = request.zoom, str(request.aspect_ratio or "")
        # Where no ratio is given PiAPI takes 1:1 and says nothing (documentation of aspect_ratio).
        if (zoom == 1 and ratio != "1:1") or (zoom not in (1.5, 2.0) and not ratio):
            needed = "the aspect_ratio 1:1 (make square)" if zoom == 1 else "an aspect_ratio"
            raise api.InvalidRequestError(
                f"With PiAPI a zoom of {zoom:g} needs {needed}.", f"Give {needed}, or a zoom of 1.5 or 2."
            )

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        return api.TaskUpdate(api.Status.QUEUED, self.read_as(_Submitted, body).task_id)

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        task = self.read_as(_Task, body)
        output = task.output or task.task_result or _Output()
        is_grid = False if task.task_type.lower() == "upscale" else None
        if is_grid is None and output.actions:
            # A grid has an action to upscale each of its images.
            is_grid = any(re.fullmatch("upscale[1-4]", str(action)) for action in output.actions)
        # Which actions a single image lists is not documented, so that none says nothing of its zoom.
        told = output.error_messages
        reasons = "; ".join(map(str, told)) if isinstance(told, list) else str(told or "")
        return self.update(
            task.status,
            urls=output.temporary_image_urls if any(output.temporary_image_urls) else output.image_urls,
            grid_url=output.image_url or output.discord_image_url,
            is_grid=is_grid,
            progress=output.task_progress if output.progress is None else output.progress,
            failure=self.failure(task.error.text or reasons or output.message or task.message, task.error.code),
            cost=api.usd_cost(task.usage.consume, "points", None) or api.usd_cost(output.quota_used, "quota", None),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        if status >= 300 or not isinstance(body, dict):
            return super().read_error(status, body)
        code = body.get("code", 200)
        # The unified routes reject under HTTP 200, by a code in the body; the older ones by a status without an id.
        if isinstance(code, int) and code not in (0, 200):
            return self.rejected(body, code)
        nameless = str(body.get("status")).lower() in ("failed", "error") and body.get("task_id") == ""
        return self.rejected(body) if nameless else None
