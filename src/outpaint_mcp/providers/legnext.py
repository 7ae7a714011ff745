"""Legnext. https://legnext.ai

Takes a grid and an image number as they are; your own image goes through its upload-paint operation.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import outpaint_mcp.providers as api
from outpaint_mcp.providers.upload_paint import paint_operation

PROMPT = api.midjourney_prompt("remixPrompt")
WEBHOOK = api.Argument("http(s); the callback is unsigned", "callback")
OPTIONS = api.midjourney_options("merged into the body")
USD_PER_POINT = 0.001


class _Output(api.Answer):
    image_url: api.Text = ""
    image_urls: api.Urls = ()
    available_actions: Any = None


class _Job(api.Job):
    job_id: api.Text
    output: _Output = _Output()


class _Points(api.Answer):
    available_points: api.Number


class _Account(api.Answer):
    data: _Points


class Legnext(api.HttpProvider):
    name = "legnext"
    title = "Legnext"
    base_url = "https://api.legnext.ai/api"
    key_env = "LEGNEXT_API_KEY"
    auth_header = ("x-api-key", "{key}")
    fetch_path = "/v1/job/{id}"
    webhook_id_field = "job_id"
    account_path = "/account/balance"
    docs_url = "https://legnext.ai"
    note = f"Extends a grid's image directly. Six jobs at a time; more wait at Legnext. {api.NO_V8_ZOOM}"
    price = "80 points ($0.08) per outpaint of a task's image (September 2026); of your own image not published"
    image_lifetime = "temporary; how long is not documented"
    sources = (api.SourceForm.GRID, api.SourceForm.UPSCALED, api.SourceForm.OWN_IMAGE)
    operations: ClassVar = {
        api.SourceKind.TASK: api.Operation(
            "/v1/outpaint",
            source=api.Argument(wire="jobId"),
            zoom=api.Zoom(1.1, 2.0, wire="scale"),
            arguments={
                api.Feature.IMAGE_INDEX: api.Argument("1 to 4", "imageNo", lambda index: index - 1),
                api.Feature.PROMPT: PROMPT,
                api.Feature.WEBHOOK_URL: WEBHOOK,
                api.Feature.PROVIDER_OPTIONS: OPTIONS,
            },
        ),
        api.SourceKind.IMAGE: paint_operation("/v1/upload-paint", prompt=PROMPT, webhook=WEBHOOK, options=OPTIONS),
    }
    first_poll = 10.0
    poll_interval = 5.0
    usual_seconds = 105.0
    usd: ClassVar = {api.StepName.OUTPAINT: 0.08}
    refunds_failures = True
    statuses: ClassVar = api.status_words(
        queued="pending staged", running="processing", succeeded="completed", failed="failed"
    )

    def usd_for(self, order: api.Order) -> Mapping[api.StepName, float]:
        # The 80 points are the outpaint operation's; upload-paint, for your own image, has no known price.
        return {} if isinstance(order.source, api.InputImage) else self.usd

    def parse_account(self, body: Any) -> api.Balance:
        return self.balance(self.read_as(_Account, body).data.available_points, "points", USD_PER_POINT)

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        job = self.read_as(_Job, body)
        urls = job.output.image_urls
        actions = job.output.available_actions
        zooms = bool(actions.get("outpaint")) if isinstance(actions, dict) and any(actions.values()) else None
        return self.update(
            job.status,
            remote_id=job.job_id,
            urls=urls,
            grid_url=job.output.image_url,
            is_grid=False if job.task_type.lower() == "upscale" else None if any(urls) else True,
            failure=self.failure(job.error.text, job.error.code),
            cost=_cost(job),
            zooms=zooms,
            notes=(f"Legnext lists no outpaint among the actions of these images. {api.NO_V8_ZOOM}",)
            * (zooms is False),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        # A rejection can look like a job: failed, nameless, everything else empty; also under HTTP 200.
        if status < 300 and _is_rejection(body):
            return self.rejected(body, api.find_code(body))
        return super().read_error(status, body)


def _is_rejection(body: Any) -> bool:
    return isinstance(body, dict) and not body.get("job_id") and str(body.get("status")).lower() == "failed"


def _cost(job: _Job) -> api.Cost | None:
    usage = job.usage
    # Points are set aside at the order and taken when the job is done; a failure gives them back.
    points = usage.consume if job.status.lower() in ("completed", "failed") else usage.consume or usage.frozen
    return api.usd_cost(points, "points", USD_PER_POINT)
