"""fal, which runs many models; some of them extend your own image. https://fal.ai

Facts are from its documentation, the models' pages and its Python SDK (`fal-client` 1.0.3), read in November 2026. The
reframe endpoints are left out: where on the canvas they put the image is not documented.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import outpaint_mcp.providers as api

FLUX, BRIA, FIBO = "fal-ai/flux-2-pro/outpaint", "fal-ai/bria/expand", "bria/fibo-edit-1.5/expand"
APPS = "fal-ai/image-apps-v2/outpaint"
SIDES = ("expand_left", "expand_right", "expand_top", "expand_bottom")
# "Should be more than 15 %": less might be painted badly, and paid for.
LEAST_SHARE = 15
BRIA_USD, FLUX_USD, FLUX_USD_PER_FURTHER_MEGAPIXEL = 0.04, 0.03, 0.015
BILLED_PIXELS = 1_000_000
EXPANDED = api.FrameFields(lambda frame: dict(zip(SIDES, frame.growths, strict=True)), SIDES)


def _check_share(title: str, frame: api.Frame) -> None:
    share = 100 * frame.width * frame.height / (frame.canvas_width * frame.canvas_height)
    if share <= LEAST_SHARE:
        raise api.UnsupportedFeatureError(
            f"{title} wants an image that fills more than {LEAST_SHARE} % of the new one; here it is {share:.0f} %.",
            "Give a smaller zoom, or an aspect_ratio nearer to the image's own.",
        )


def _operation(endpoint: str, arguments: Mapping[api.Feature, api.Argument], **more: Any) -> api.Operation:
    return api.Operation(
        f"/{endpoint}",
        source=api.Argument(wire="image_url"),
        arguments={
            api.Feature.ASPECT_RATIO: api.Argument("any"),
            api.Feature.SIDES: api.Argument("any"),
            **arguments,
            api.Feature.WEBHOOK_URL: api.Argument("http(s)", "?fal_webhook"),
            api.Feature.PROVIDER_OPTIONS: api.Argument(
                f"merged into the body; endpoint is {FLUX}, {BRIA}, {FIBO} or {APPS}", check=api.check_bria_options
            ),
        },
        takes_url=True,
        **more,
    )


def _bria(endpoint: str) -> api.Operation:
    return _operation(
        endpoint,
        {api.Feature.PROMPT: api.Argument("English", "prompt")},
        # The answer is to hold a URL and not the image, which is not kept then.
        constants={"sync_mode": False},
        frame=api.bria_frame(check=_check_share),
        # "Less than 5000x5000" in area.
        canvas=api.CanvasLimits(max_pixels=5000 * 5000 - 1, scales=True),
    )


class _Ordered(api.Answer):
    request_id: api.Id


class _State(api.Answer):
    status: api.Text
    error: Any = None
    error_type: api.Code = None


class _Image(api.Answer):
    url: api.Text = ""


class _Result(api.Answer):
    """Some models answer with several images, some with one."""

    images: tuple[_Image, ...] = ()
    image: _Image | None = None


class Fal(api.HttpProvider):
    name = "fal"
    title = "fal"
    base_url = "https://queue.fal.run"
    key_env = "FAL_KEY"
    auth_header = ("Authorization", "Key {key}")
    # Unsigned for us: the vendor's public key would have to be fetched, and a callback is only a hint to poll.
    webhook_id_field = "request_id"
    docs_url = "https://fal.ai/models/fal-ai/flux-2-pro/outpaint"
    note = (
        f"Extends any image by {FLUX}, which was seen to leave the original's pixels untouched and takes no prompt; "
        f"with a prompt by {BRIA}."
    )
    price = (
        "$0.03 for the first megapixel of output, $0.015 for each further one of input and output; $0.04 with a prompt "
        "(November 2026)"
    )
    image_lifetime = "not documented"
    sources = (api.SourceForm.OWN_IMAGE,)
    variant_option = "endpoint"
    variants: ClassVar = {
        FLUX: _operation(
            FLUX,
            {api.Feature.SPEED: api.Argument(wire="mode", values=("fast",))},
            constants={"mode": "high", "output_format": "png", "sync_mode": False},
            frame=EXPANDED,
            # Longer canvases were seen to be rejected (August 2026); the page is silent.
            canvas=api.CanvasLimits(max_side=2560, max_growth=2048),
        ),
        BRIA: _bria(BRIA),
        FIBO: _bria(FIBO),
        # By default it adds 400 pixels below and shrinks the image by 20 %.
        APPS: _operation(
            APPS,
            {api.Feature.PROMPT: api.Argument("any", "prompt")},
            constants={"zoom_out_percentage": 0, "num_images": 1, "output_format": "png"},
            frame=EXPANDED,
            canvas=api.CanvasLimits(max_growth=700),
        ),
    }
    operations: ClassVar = {api.SourceKind.IMAGE: variants[FLUX]}
    # How long the models take is not documented.
    first_poll = 3.0
    poll_interval = 2.0
    usual_seconds = 20.0
    usd: ClassVar = {api.StepName.OUTPAINT: FLUX_USD + FLUX_USD_PER_FURTHER_MEGAPIXEL}
    # There is no word for a failed request: it is completed, with an error. Webhooks say OK or ERROR.
    statuses: ClassVar = api.status_words(
        queued="in_queue", running="in_progress", succeeded="completed ok", failed="error"
    )
    result_path = "/{app}/requests/{id}"

    def operation(
        self, kind: api.SourceKind, arguments: api.ProviderArguments, options: Mapping[str, Any]
    ) -> api.Operation:
        if arguments.prompt and options.get(self.variant_option) is None:
            options = {**options, self.variant_option: BRIA}
        return super().operation(kind, arguments, options)

    def usd_for(self, order: api.Order) -> Mapping[api.StepName, float]:
        """The most that the order can come to by the model's page; how it rounds what is billed is not said."""
        operation = self.operation_of(order)
        if operation in (self.variants[BRIA], self.variants[FIBO]):
            return {api.StepName.OUTPAINT: BRIA_USD}
        if operation is not self.variants[FLUX] or order.frame is None:
            return {}
        sent = operation.sent_frame(order.frame)
        pixels = (sent.width * sent.height, sent.canvas_width * sent.canvas_height)
        further = sum(-(-one // BILLED_PIXELS) for one in pixels) - 1
        return {api.StepName.OUTPAINT: round(FLUX_USD + FLUX_USD_PER_FURTHER_MEGAPIXEL * further, 6)}

    async def start(self, order: api.Order) -> api.TaskUpdate:
        # A request is polled below its app. The order's answer has the URLs, of which one that leads elsewhere must
        # not be sent the key; the vendor's SDK builds them likewise.
        return replace(await super().start(order), reference=_app_of(self.operation_of(order)))

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        return api.TaskUpdate(api.Status.QUEUED, self.read_as(_Ordered, body).request_id)

    def build_fetch(self, remote_id: str, reference: str | None = None) -> api.ApiCall:
        call = self.build_result(remote_id, reference)
        return replace(call, path=f"{call.path}/status?logs=false")

    def has_result(self, body: Any) -> bool:
        return self.status_of(self._word(self.read_as(_State, body)))[0] is api.Status.SUCCEEDED

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        state = self.read_as(_State, body)
        reason = api.find_message({"error": state.error})
        return self.update(self._word(state), failure=self.failure(reason, state.error_type))

    def _word(self, state: _State) -> str:
        is_completed = self.status_of(state.status)[0] is api.Status.SUCCEEDED
        return "error" if is_completed and (state.error or state.error_type) else state.status

    def build_result(self, remote_id: str, reference: str | None) -> api.ApiCall:
        app = reference or _app_of(self.operations[api.SourceKind.IMAGE])
        return api.ApiCall("GET", self.result_path.format(app=app, id=self.path_segment(remote_id)))

    def parse_result(self, body: Any) -> api.TaskUpdate:
        result = self.read_as(_Result, body)
        found = result.images or ((result.image,) if result.image else ())
        return self.update("completed", urls=tuple(one.url for one in found), is_grid=len(found) > 1)

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        # An account below its credit threshold is locked.
        if status == 403 and _OF_MONEY.search(api.find_message(body)):
            return api.rejection(api.InsufficientCreditsError, self.title, body)
        return super().read_error(status, body)


_OF_MONEY = re.compile(r"\block|balance|credit", re.IGNORECASE)


def _app_of(operation: api.Operation) -> str:
    """The owner and the app of an endpoint, without what is below."""
    return "/".join(operation.path.split("/")[1:3])
