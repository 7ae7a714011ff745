"""APIMart. https://apimart.ai

Extends an upscaled image by one of two zoom buttons. A task is polled at the Midjourney route, which tells a grid
from a single image, and at the general one where that does not know it.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

import outpaint_mcp.providers as api

SPEED = api.Argument("relax, fast, turbo", "speed")


class _Ordered(api.Answer):
    task_id: api.Id


class _Submitted(api.Answer):
    data: list[_Ordered] = Field(min_length=1)


class _Image(api.Answer):
    url: api.Urls = ()
    expires_at: api.Moment = None


class _Result(api.Answer):
    images: tuple[_Image, ...] = ()


class _Button(api.Answer):
    customId: api.Text = ""
    label: api.Text = ""


class _Task(api.Answer):
    """Both routes' answers: `result` is of the general one, the other images of the Midjourney one."""

    status: api.Text
    action: api.Text = ""
    progress: api.Number = None
    result: _Result = _Result()
    grid_image_url: api.Text = ""
    image_urls: api.Urls = ()
    buttons: tuple[_Button, ...] = ()
    fail_reason: api.Text = ""
    error: Any = None
    cost: api.Number = None
    credits_cost: api.Number = None


class _Account(api.Answer):
    remain_credits: api.Number


class Apimart(api.HttpProvider):
    name = "apimart"
    title = "APIMart"
    base_url = "https://api.apimart.ai"
    key_env = "APIMART_API_KEY"
    fetch_path = "/v1/midjourney/{id}"
    other_fetch_path = "/v1/tasks/{id}"
    envelope = "data"
    account_path = "/v1/balance"
    docs_url = "https://apimart.ai"
    note = (
        "Extends an upscaled image; one of a grid is upscaled first (about $0.055). "
        f"{api.NO_V8_ZOOM} {api.MEASURED_BUTTON}"
    )
    price = "about $0.055 per outpaint, turbo $0.10; an upscale about the same (September 2026)"
    image_lifetime = "about 72 hours"
    sources = (api.SourceForm.UPSCALED,)
    operations: ClassVar = {
        api.SourceKind.TASK: api.Operation(
            "/v1/midjourney/generations/zoom",
            source=api.Argument(wire="task_id"),
            # Anything below 2 is drawn as 1.5 and nothing says so (documentation of the route), so it is refused here.
            zoom=api.Zoom(values=(1.5, 2.0), wire="zoom_ratio"),
            arguments={
                api.Feature.IMAGE_INDEX: api.Argument("1 to 4; upscales that image first", "index"),
                api.Feature.SPEED: SPEED,
                api.Feature.PROVIDER_OPTIONS: api.midjourney_options(
                    "merged into the body: custom_id (a button, decides in place of zoom), metadata"
                ),
            },
        )
    }
    upscale = api.Operation(
        "/v1/midjourney/generations/upscale",
        source=api.Argument(wire="task_id"),
        arguments={api.Feature.IMAGE_INDEX: api.Argument(wire="index"), api.Feature.SPEED: SPEED},
    )
    first_poll = 3.0
    poll_interval = 3.0
    usual_seconds = 60.0
    usd: ClassVar = {api.StepName.OUTPAINT: 0.055, api.StepName.UPSCALE: 0.055}
    refunds_failures = True
    statuses: ClassVar = api.status_words(
        queued="not_start submitted pending",
        running="in_progress processing modal",
        succeeded="success completed",
        failed="failure failed",
        cancelled="cancelled",
    )

    def usd_for(self, order: api.Order) -> Mapping[api.StepName, float]:
        return dict.fromkeys(self.usd, 0.10) if order.speed == "turbo" else self.usd

    def sends_zoom(self, request: api.OutpaintRequest) -> bool:
        # A button decides in place of the zoom; an empty custom_id names none.
        return not request.provider_options.get("custom_id")

    def notes_for(self, request: api.OutpaintRequest, frame: api.Frame | None = None) -> tuple[str, ...]:
        if self.sends_zoom(request):
            return ()
        return ("custom_id names a button, and the button decides how far to zoom: zoom was not sent.",)

    def parse_account(self, body: Any) -> api.Balance:
        return self.balance(self.read_as(_Account, body).remain_credits, "credits")

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        return api.TaskUpdate(api.Status.QUEUED, self.read_as(_Submitted, body).data[0].task_id)

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        task = self.read_as(_Task, body)
        found = task.result.images
        urls = tuple(url for image in found for url in image.url) or task.image_urls
        error = {"error": task.error}
        is_grid = False if task.action.upper() == "UPSCALE" else None
        if is_grid is None and task.buttons:
            # A grid has buttons to upscale each of its images; a single image has those to zoom.
            is_grid = any("upsample::" in one.customId or re.fullmatch("U[1-4]", one.label) for one in task.buttons)
        words = [f"{one.label} {one.customId}".lower() for one in task.buttons]
        # What the images of a grid have is seen once they are upscaled.
        zooms = any("zoom" in one or "outpaint" in one for one in words) if words and not is_grid else None
        return self.update(
            task.status,
            urls=urls,
            grid_url=task.grid_image_url,
            is_grid=is_grid,
            progress=task.progress,
            failure=self.failure(task.fail_reason or api.find_message(error), api.find_code(error)),
            # That `cost` is in USD is inferred from the price list.
            cost=api.usd_cost(task.cost, "USD", 1) or api.usd_cost(task.credits_cost, "credits", None),
            expires_at=min(filter(None, (image.expires_at for image in found)), default=None),
            zooms=zooms,
            notes=(f"APIMart lists no zoom among the buttons of this image. {api.NO_V8_ZOOM}",) * (zooms is False),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        refused = super().read_error(status, body)
        if refused is not None or not isinstance(body, dict):
            return refused
        if status < 500 and api.find_message(body).lower().startswith("this action requires an upscaled task"):
            advice = "Give image_index to have that image upscaled first, or the task of an upscaled image."
            return api.rejection(api.InvalidRequestError, self.title, body, advice)
        code = body["code"] if isinstance(body.get("code"), int) else 200
        says_no = body.get("success") is False or 400 <= code < 500
        # With no word of a task: one that runs or has failed can have an error and a code as well.
        if status < 300 and says_no and not body.get("data"):
            return self.rejected(body, code)
        return None
