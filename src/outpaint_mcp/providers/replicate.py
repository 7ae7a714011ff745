"""Replicate, which runs many models; two of them extend your own image. https://replicate.com/docs

Facts are from its documentation, its Python SDK (1.0.7 and 2.0.0b4) and the models' pages, read in November 2026.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any, ClassVar

import outpaint_mcp.providers as api

EXPAND, FLUX_FILL = "bria/expand-image", "black-forest-labs/flux-fill-pro"
KEPT = timedelta(hours=1)
USE = "Use {} instead."
NOT_OPTIONS = {
    "image_url": USE.format("image"),
    "mask": "Leave it out: a mask is ignored beside the presets that extend an image.",
    "webhook": USE.format("webhook_url"),
    "webhook_events_filter": USE.format("webhook_events"),
}


def _check_options(options: Mapping[str, Any]) -> None:
    for key, advice in NOT_OPTIONS.items():
        if key in options:
            raise api.InvalidRequestError(f"provider_options must not hold {key!r}.", advice)


def _check_events(events: tuple[str, ...]) -> None:
    for event in events:
        if event != "completed":
            raise api.UnsupportedFeatureError(
                f"Replicate has no webhook event {event}.", "Give the event completed, or leave webhook_events out."
            )


def _operation(model: str, shape: Mapping[api.Feature, api.Argument], **more: Any) -> api.Operation:
    arguments = {
        **shape,
        api.Feature.PROMPT: api.Argument("any", "input.prompt"),
        api.Feature.WEBHOOK_URL: api.Argument("https; signed with the account's secret", "webhook"),
        api.Feature.WEBHOOK_EVENTS: api.Argument("completed", "webhook_events_filter", check=_check_events),
        api.Feature.PROVIDER_OPTIONS: api.Argument(
            f"merged into the model's input; model is {EXPAND} or {FLUX_FILL}", check=_check_options
        ),
    }
    return api.Operation(
        f"/v1/models/{model}/predictions",
        source=api.Argument(wire="input.image"),
        arguments=arguments,
        options_in="input",
        takes_url=True,
        **more,
    )


class _Prediction(api.Answer):
    id: api.Id
    status: api.Text
    output: api.Urls = ()
    error: Any = None
    completed_at: api.Moment = None
    data_removed: bool | None = None


class _Urls(api.Answer):
    get: api.Text = ""


class _File(api.Answer):
    urls: _Urls = _Urls()


class _Secret(api.Answer):
    key: api.Text


class _Account(api.Answer):
    username: str


class Replicate(api.HttpProvider):
    name = "replicate"
    title = "Replicate"
    base_url = "https://api.replicate.com"
    key_env = "REPLICATE_API_TOKEN"
    fetch_path = "/v1/predictions/{id}"
    webhook_signed_with = "account"
    webhook_secret_path = "/v1/webhooks/default/secret"  # noqa: S105 (a path)
    webhook_time_header = "webhook-timestamp"
    account_path = "/v1/account"
    docs_url = "https://replicate.com"
    note = (
        f"Extends any image by {EXPAND}; with the model {FLUX_FILL} among provider_options zoom is 1.5 or 2, or 1 "
        "with the aspect_ratio 1:1."
    )
    price = "set by each model; no answer says what was taken"
    image_lifetime = "1 hour"
    sources = (api.SourceForm.OWN_IMAGE,)
    variant_option = "model"
    variants: ClassVar = {
        EXPAND: _operation(
            EXPAND,
            {api.Feature.ASPECT_RATIO: api.Argument("any"), api.Feature.SIDES: api.Argument("any")},
            # By default the ratio is 1:1, and the canvas is ignored.
            frame=api.bria_frame(within="input.", ratio="none"),
            # "At most 5000x5000"; whether a side may be longer on a smaller canvas is not said.
            canvas=api.CanvasLimits(max_side=5000, scales=True),
        ),
        # Its presets for single sides do not say how far they go. Whether it needs a prompt is not said.
        FLUX_FILL: _operation(
            FLUX_FILL,
            {api.Feature.ASPECT_RATIO: api.FLUX_FILL_RATIO},
            zoom=api.FLUX_FILL_ZOOM,
            frame=api.flux_fill_frame("input.outpaint"),
        ),
    }
    operations: ClassVar = {api.SourceKind.IMAGE: variants[EXPAND]}
    uploads = True
    # How long the models take is not documented.
    first_poll = 3.0
    poll_interval = 2.0
    usual_seconds = 20.0
    statuses: ClassVar = api.status_words(
        queued="starting", running="processing", succeeded="succeeded", failed="failed", cancelled="canceled aborted"
    )

    def check_webhook_url(self, url: str) -> None:
        super().check_webhook_url(url)
        if not url.lower().startswith("https:"):
            raise api.InvalidRequestError("Replicate calls https URLs only.", "Give a webhook_url with https.")

    def build_upload(self, image: api.InputImage, data: bytes) -> api.ApiCall:
        name = f"image.{image.mime_type.partition('/')[2]}"
        return api.ApiCall("POST", "/v1/files", files=(api.UploadFile("content", name, image.mime_type, data),))

    def parse_account(self, body: Any) -> None:
        # It tells whose key it is and no balance.
        self.read_as(_Account, body)

    def parse_upload(self, body: Any) -> str:
        url = self.read_as(_File, body).urls.get
        if not url:
            raise self.unexpected("the uploaded file has no URL")
        return url

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        prediction = self.read_as(_Prediction, body)
        ended, has_output = prediction.completed_at, any(prediction.output)
        status, _ = self.status_of(prediction.status)
        if status is api.Status.SUCCEEDED and prediction.data_removed and not has_output:
            message = "Replicate has deleted the image: it keeps results for an hour."
            gone = api.Failure(code=api.UnexpectedResponseError.code, message=message)
            return api.TaskUpdate(api.Status.FAILED, prediction.id, failure=gone)
        return self.update(
            prediction.status,
            remote_id=prediction.id,
            urls=prediction.output,
            is_grid=len(prediction.output) > 1,
            failure=self.failure(api.find_message({"error": prediction.error})),
            expires_at=ended + KEPT if ended and has_output else None,
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        error = super().read_error(status, body)
        if status == 429 and (resets := _RESETS.search(api.find_message(body))):
            error = error or api.rejection(api.RateLimitedError, self.title, body)
            error.retry_after = float(resets[1])
        return error

    def parse_webhook_secret(self, body: Any) -> str:
        return self.read_as(_Secret, body).key

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        try:
            secret = base64.b64decode((key or "").removeprefix("whsec_"), validate=True)
        except binascii.Error:
            secret = b""
        told = (api.header(headers, name) or "" for name in ("webhook-id", "webhook-timestamp"))
        signed = b".".join([*(one.encode() for one in told), body])
        expected = b"v1," + base64.b64encode(hmac.new(secret, signed, sha256).digest())
        given = (api.header(headers, "webhook-signature") or "").encode().split()
        # While the secret is changed there is a signature by each.
        if not secret or not any([hmac.compare_digest(one, expected) for one in given]):
            raise api.InvalidRequestError("The callback's signature is not Replicate's.")
        return api.webhook_id(self.title, api.webhook_json(self.title, body).get("id"))


_RESETS = re.compile(r"resets in ~?(\d+)s\b")
