"""PiAPI's protocol, both generations, as its documentation describes it: https://piapi.ai.

Without text to image, whose route is not in the documentation that this was written from; use the seeded grid instead.
"""

import json
import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import Enlarged, ImageSpec, four_outpaints
from outpaint_mcp.sandbox.loopback import is_loopback
from outpaint_mcp.sandbox.seeds import GRID, SINGLE, Seed
from outpaint_mcp.sandbox.tasks import Kind, Task, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, iso
from outpaint_mcp.sandbox.vendors.base import Action, Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, RejectedError, check_body
from outpaint_mcp.sandbox.vendors.unified_task import unified_error, unified_task
from outpaint_mcp.sandbox.webhooks import WebhookRequest

# What an order costs is not documented; the field is, so it holds something.
POINTS = 10
GRID_INDEXES = ("1", "2", "3", "4")
# How an upscaled image is upscaled again, and how many times larger it gets ("subtle" and "creative" double it).
SINGLE_INDEXES = {"light": 1.0, "beta": 1.0, "2x": 2.0, "4x": 4.0, "subtle": 2.0, "creative": 2.0}
BUTTONS = (1.5, 2.0)


def _zoom(value: str) -> str:
    if not re.fullmatch(r"\d(\.\d+)?", value) or not 1.0 <= float(value) <= 2.0:
        raise ValueError("must be a number from 1 to 2, as a string")
    return value


def _ratio(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,3}:[1-9]\d{0,3}", value):
        raise ValueError("must be W:H")
    return value


def _endpoint(value: str) -> str:
    # Loopback is let through with any port: here that is the only place a webhook can go to.
    if value and not is_loopback(value) and re.search(r":(?!443(/|$))\d+(/|$)", value.partition("://")[2] or value):
        raise ValueError("only port 443 is allowed")
    return value


Zoom = Annotated[str, AfterValidator(_zoom)]
Ratio = Annotated[str, AfterValidator(_ratio)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Outpaint(Body):
    origin_task_id: str = Field(min_length=1)
    # The page gives no default; 2 is the wider of the two buttons.
    zoom_ratio: Zoom = "2"
    aspect_ratio: Ratio | None = None
    prompt: str = ""
    skip_prompt_check: bool = False


class Upscale(Body):
    origin_task_id: str = Field(min_length=1)
    index: str


class LegacyOutpaint(Outpaint):
    webhook_endpoint: Endpoint = ""
    webhook_secret: str = ""


class LegacyUpscale(Upscale):
    index: Literal["1", "2", "3", "4"]
    webhook_endpoint: Endpoint = ""
    webhook_secret: str = ""


class LegacyFetch(Body):
    task_id: str = Field(min_length=1)


class WebhookConfig(Body):
    endpoint: Endpoint = ""
    secret: str = ""


class Config(Body):
    service_mode: Literal["public", "private", ""] = ""
    webhook_config: WebhookConfig = WebhookConfig()


class CreateTask(Body):
    model: Literal["midjourney"]
    task_type: Literal["outpaint", "upscale"]
    input: dict[str, Any]
    config: Config = Config()


class PiAPI(Vendor):
    name: ClassVar[str] = "piapi"
    key: ClassVar[str] = "sandbox-piapi-key"
    key_header: ClassVar[str] = "x-api-key"
    statuses: ClassVar[Statuses] = Statuses(
        ("pending", "staged", "processing"), "completed", "failed", ("finished", "success")
    )
    seeds: ClassVar[tuple[Seed, ...]] = (
        Seed(name, "5eed0001-0000-4000-8000-000000000001", True, GRID),
        Seed(name, "5eed0001-0000-4000-8000-000000000002", False, SINGLE),
    )
    webhook_attempts: ClassVar[int] = 3

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/mj/v2/outpaint", self.legacy_outpaint, "submit"),
            Operation("POST", "/mj/v2/upscale", self.legacy_upscale, "upscale"),
            Operation("POST", "/mj/v2/fetch", self.legacy_fetch, "poll"),
            Operation("POST", "/api/v1/task", self.create, _action_of_create),
            Operation("GET", "/api/v1/task/{id}", self.fetch, "poll"),
            Operation("DELETE", "/api/v1/task/{id}", self.cancel, "cancel"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        # The bodies of rejections are not documented. Both generations are known to put the reason into `message`.
        return answer_json({"code": rejected.status, "data": None, "message": rejected.message}, rejected.status)

    def rejection_in_200(self, message: str) -> Response:
        return answer_json({"code": 500, "data": None, "message": message})

    def task_shaped_rejection(self, status: int, message: str, code: int | str | None = None) -> Response:
        code = status if code is None else code
        task = {"task_id": "", "status": "failed", "output": None, "error": {"code": code, "message": message}}
        return answer_json({"code": code, "data": task, "message": message}, status)

    # The legacy generation

    async def legacy_outpaint(self, call: Call) -> Response:
        body = self.parse(LegacyOutpaint, call)
        task = self._outpaint(call, body, body, Webhook.to(body.webhook_endpoint, body.webhook_secret))
        return answer_json({"task_id": task.id, "status": "success", "message": ""})

    async def legacy_upscale(self, call: Call) -> Response:
        body = self.parse(LegacyUpscale, call)
        task = self._upscale(call, body, body, Webhook.to(body.webhook_endpoint, body.webhook_secret))
        return answer_json({"task_id": task.id, "status": "success", "message": ""})

    async def legacy_fetch(self, call: Call) -> Response:
        body = self.parse(LegacyFetch, call)
        # 404 is not among the documented statuses of the legacy generation.
        task = self.find(body.task_id, status=400)
        now = self.context.now()
        status = self.status_of(task, now)
        output = self._output(task, now, call.origin)
        result = {
            "image_url": output["image_url"],
            "image_urls": output["image_urls"],
            "temporary_image_urls": output.get("temporary_image_urls"),
            "discord_image_url": output["discord_image_url"],
            "task_progress": output["progress"],
            "actions": output["actions"],
            "message": "",
            "error_messages": [self._failure(task)["message"]] if status == self.statuses.failed else [],
            "quota_used": 0,
            "credit": 0,
        }
        # Only this generation calls a finished task "finished".
        status = "finished" if status == self.statuses.succeeded else status
        return answer_json({"task_id": task.id, "status": status, "task_result": result})

    # The unified generation

    async def create(self, call: Call) -> Response:
        creation = self.parse(CreateTask, call)
        webhook = Webhook.to(creation.config.webhook_config.endpoint, creation.config.webhook_config.secret)
        if creation.task_type == "outpaint":
            task = self._outpaint(call, check_body(Outpaint, creation.input), creation, webhook)
        else:
            task = self._upscale(call, check_body(Upscale, creation.input), creation, webhook)
        return self.answer_task(task, call)

    async def cancel(self, call: Call) -> Response:
        task = self.find(call.task_id)
        now = self.context.now()
        if self.status_of(task, now) != "pending":
            raise RejectedError(400, "only a pending task can be cancelled")
        # No state is named for a cancelled task; of the five, "failed" is the only final one without an image.
        task.cancelled_at = now
        if task.failure is None:
            self.account.refund(task.charge, now)
        return self.answer_task(task, call)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        failed = stage.final and not stage.succeeded
        given = task.body if "task_type" in task.body else {"input": task.body}
        return unified_task(
            task,
            at,
            task_id_field="task_id",
            task_type=task.kind,
            status=self.status_of(task, at),
            started_at=iso(task.created_at if stage.step else None),
            input_fields=given.get("input", {}),
            output=self._output(task, at, origin),
            error=self._failure(task) if failed else unified_error(),
            service_mode=given.get("config", {}).get("service_mode", ""),
        )

    def answer_task(self, task: Task, call: Call) -> Response:
        shown = self.show(task, self.context.now(), call.origin)
        return answer_json({"code": 200, "data": shown, "message": "success"})

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        body = {"timestamp": int(at), "data": self.show(task, at, task.origin)}
        headers = {"content-type": "application/json", "x-webhook-secret": webhook.secret}
        return WebhookRequest(headers, json.dumps(body).encode())

    def webhook_events(self, task: Task, webhook: Webhook) -> list[tuple[float, str]]:
        # "For some tasks at updates": here for every task, once, when it starts to be worked on.
        started = [(task.state_ends[-2], "update")] if len(task.state_ends) > 1 else []
        return started + super().webhook_events(task, webhook)

    def _outpaint(self, call: Call, params: Outpaint, body: Body, webhook: Webhook | None) -> Task:
        parent = self._parent(params.origin_task_id)
        if parent.is_grid:
            raise RejectedError(400, "the origin task must be an upscaled image")
        zoom, ratio = float(params.zoom_ratio), _pair(params.aspect_ratio)
        if ratio is None and zoom not in BUTTONS:
            # "Make square", and custom zoom whose ratio is 1:1 unless given.
            ratio = (1, 1)
        return self._order(call, "outpaint", four_outpaints(parent.images[0], zoom, ratio), body, webhook)

    def _upscale(self, call: Call, params: Upscale, body: Body, webhook: Webhook | None) -> Task:
        parent = self._parent(params.origin_task_id)
        image: ImageSpec
        if parent.is_grid:
            if params.index not in GRID_INDEXES:
                raise RejectedError(400, "index must be one of 1, 2, 3, 4 for a grid")
            image = parent.images[int(params.index) - 1]
        else:
            if params.index not in SINGLE_INDEXES:
                raise RejectedError(400, f"index must be one of {', '.join(SINGLE_INDEXES)} for an upscaled image")
            image = Enlarged.of(parent.images[0], SINGLE_INDEXES[params.index])
        return self._order(call, "upscale", [image], body, webhook)

    def _order(self, call: Call, kind: Kind, images: Sequence[ImageSpec], body: Body, webhook: Webhook | None) -> Task:
        return self.order(call, kind, str(uuid.uuid4()), images, body, charge=POINTS, webhook=webhook)

    def _parent(self, task_id: str) -> Task:
        return self.succeeded(self.find(task_id, status=400), "the origin task is not finished")

    def _failure(self, task: Task) -> dict[str, Any]:
        if task.cancelled_at is not None:
            return unified_error(0, "task cancelled")
        return unified_error(task.failure_code(10000), task.failure_message("failed to generate"))

    def _output(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        stage = task.stage(at)
        output: dict[str, Any] = {
            "image_url": "",
            "image_urls": None,
            "discord_image_url": "",
            "actions": [],
            "progress": round(stage.progress * 100),
            "intermediate_image_urls": None,
        }
        if self.context.settings.piapi_temporary_urls:
            output["temporary_image_urls"] = None
        if stage.succeeded:
            output["image_url"] = self.grid_url(task, origin)
            output["actions"] = _GRID_ACTIONS if task.is_grid else _SINGLE_ACTIONS
            if task.is_grid and "temporary_image_urls" in output:
                output["temporary_image_urls"] = self.image_urls(task, origin)
        return output


_GRID_ACTIONS = ("reroll", *(f"{what}{number}" for what in ("upscale", "variation") for number in range(1, 5)))
_SINGLE_ACTIONS = ("upscale_subtle", "upscale_creative", "outpaint_1.5x", "outpaint_2x", "outpaint_custom")


def _action_of_create(body: Any) -> Action:
    return "upscale" if isinstance(body, dict) and body.get("task_type") == "upscale" else "submit"


def _pair(ratio: str | None) -> tuple[int, int] | None:
    if ratio is None:
        return None
    width, _, height = ratio.partition(":")
    return int(width), int(height)
