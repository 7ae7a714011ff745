"""Vtrix, on the SeaArt platform. https://vtrix.ai

Takes a grid and an image number as they are, but wants the remote job named, which is found in the parent's own answer.
Your own image goes through its upload-paint model.
"""

from dataclasses import replace
from typing import Any, ClassVar

import outpaint_mcp.providers as api
from outpaint_mcp.providers.upload_paint import paint_operation

PATH = "/model/v1/generation"
MODELS = {api.SourceKind.TASK: "midjourney_outpaint", api.SourceKind.IMAGE: "midjourney_uploadpaint"}
PROMPT = api.midjourney_prompt("remixPrompt")
WEBHOOK = api.Argument("http(s); what is sent is not documented", "callback")
OPTIONS = api.midjourney_options("merged into the params")


class _Submitted(api.Answer):
    id: api.Id
    status: api.Text = "in_progress"


class _Content(api.Answer):
    type: api.Text = "image"
    url: api.Text = ""
    jobId: api.Text = ""


class _Output(api.Answer):
    content: list[_Content] | None = None


class _Usage(api.Answer):
    cost: api.Number = None


class _Task(api.Answer):
    status: api.Text
    model: api.Text = ""
    progress: api.Number = None
    output: list[_Output] | None = None
    usage: _Usage | None = None
    error: Any = None


class Vtrix(api.HttpProvider):
    name = "vtrix"
    title = "Vtrix"
    base_url = "https://cloud.vtrix.ai"
    key_env = "VTRIX_API_KEY"
    fetch_path = "/model/v1/generation/task/{id}"
    # What is sent is not documented; a polled task is the likeliest, and the id is only a hint to poll.
    webhook_id_field = "id"
    docs_url = "https://vtrix.ai"
    note = f"Extends a grid's image directly. {api.NO_V8_ZOOM}"
    price = "not published; a task's answer says what it took"
    image_lifetime = "not documented"
    sources = (api.SourceForm.GRID, api.SourceForm.UPSCALED, api.SourceForm.OWN_IMAGE)
    operations: ClassVar = {
        api.SourceKind.TASK: api.Operation(
            PATH,
            source=api.Argument(wire="jobId", encode=lambda parent: parent.reference or parent.remote_id),
            zoom=api.Zoom(1.1, 2.0, wire="scale"),
            arguments={
                api.Feature.IMAGE_INDEX: api.Argument("1 to 4", "imageNo", lambda index: index - 1),
                api.Feature.PROMPT: PROMPT,
                api.Feature.WEBHOOK_URL: WEBHOOK,
                api.Feature.PROVIDER_OPTIONS: OPTIONS,
            },
        ),
        api.SourceKind.IMAGE: paint_operation(PATH, prompt=PROMPT, webhook=WEBHOOK, options=OPTIONS),
    }
    first_poll = 5.0
    poll_interval = 3.0
    usual_seconds = 60.0
    statuses: ClassVar = api.status_words(
        queued="pending", running="in_progress processing", succeeded="completed", failed="failed"
    )
    # The documentation writes 004007001; on the wire they are integers, without the zeros.
    error_codes: ClassVar = {
        **{str(code): api.InvalidRequestError for code in range(4007001, 4007007)},
        "4007098": api.ProviderUnavailableError,
        "4007099": api.ProviderUnavailableError,
        **{str(code): api.InsufficientCreditsError for code in range(40201, 40209)},
    }

    def build_submit(self, order: api.Order, image_url: str | None = None) -> api.ApiCall:
        call = super().build_submit(order, image_url)
        return replace(call, json={"model": MODELS[order.source.kind], "input": [{"params": call.json}]})

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        # Whatever the first answer's state, a finished one's images are the poll's to say.
        answer = self.read_as(_Submitted, body)
        status, notes = self.status_of(answer.status)
        return api.TaskUpdate(api.Status.RUNNING if status.is_final else status, answer.id, notes=notes)

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
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
            failure=self.failure(api.find_message({"error": task.error}), _code({"error": task.error})),
            cost=None if cost is None else api.usd_cost(cost, "USD", 1),
            reference=next((content.jobId for content in contents if content.jobId), None),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        if not isinstance(body, dict):
            return None
        if status < 300 and (body.get("id") or not api.find_message(body)):
            return None
        kind = self.error_codes.get(_code(body) or "")
        if kind is None and (refused := super().read_error(400 if status < 300 else status, body)) is not None:
            return refused
        if kind is None and status == 403:
            advice = "The account lacks the permission or the balance: the operator must look. Or use another provider."
            return api.rejection(api.AuthenticationError, self.title, body, advice)
        if kind is None and status < 300:
            kind = api.InvalidRequestError
        return None if kind is None else api.rejection(kind, self.title, body)


def _code(body: Any) -> str | None:
    code = api.find_code(body)
    return code and code.lstrip("0")
