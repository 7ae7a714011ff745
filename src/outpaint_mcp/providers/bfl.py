"""Black Forest Labs: FLUX Outpainting. https://docs.bfl.ai

Your own image is placed on a canvas and what is around it painted. Facts without a page are from the vendor's OpenAPI
document and its skills repository (2026).
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, ClassVar

import outpaint_mcp.providers as api

MIN_SIDE = 64
# FLUX.2 takes 4 MP and works in steps of 16. Whether the canvas, the image and its place must lie on them is disputed:
# somebody saw a plain surround where they did not.
CANVAS = api.CanvasLimits(max_pixels=4_000_000, multiple=16, aligned=True)
USD_PER_CREDIT = 0.01
PLACING = ("width", "height", "reference_offset_x", "reference_offset_y")
MODERATED = ("request moderated", "content moderated")


def _place(frame: api.Frame) -> Mapping[str, Any]:
    return dict(zip(PLACING, (frame.canvas_width, frame.canvas_height, frame.x, frame.y), strict=True))


def _check_frame(title: str, frame: api.Frame) -> None:
    sent = CANVAS.fitted(frame)
    if min(sent.canvas_width, sent.canvas_height) < MIN_SIDE:
        raise api.UnsupportedFeatureError(
            f"{title} paints images of at least {MIN_SIDE} pixels on each side; the new one would be "
            f"{sent.canvas_width}x{sent.canvas_height}.",
            "Give a larger image.",
        )


class _Ordered(api.Answer):
    id: api.Id
    polling_url: api.Text = ""
    cost: api.Number = None


class _Result(api.Answer):
    sample: api.Text = ""


class _Task(api.Answer):
    status: api.Text
    result: _Result | None = None
    progress: api.Number = None
    details: Any = None
    error: Any = None
    message: Any = None


class _Account(api.Answer):
    credits: api.Number


class Bfl(api.HttpProvider):
    name = "bfl"
    title = "Black Forest Labs"
    base_url = "https://api.bfl.ai"
    key_env = "BFL_API_KEY"
    auth_header = ("x-key", "{key}")
    fetch_path = "/v1/get_result?id={id}"
    webhook_signed_with = "token"
    account_path = "/v1/credits"
    docs_url = "https://docs.bfl.ai/flux_tools/flux_outpainting"
    note = "Extends any image. Whether an order that its moderation stops is charged is not documented."
    price = "not published; the answer to an order says what it took, in credits of $0.01"
    image_lifetime = "10 minutes"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/v1/flux-tools/outpainting-v1",
            source=api.Argument(wire="input_image", encode=api.bare_base64),
            arguments={
                api.Feature.ASPECT_RATIO: api.Argument("any"),
                api.Feature.SIDES: api.Argument("any"),
                api.Feature.PROMPT: api.Argument("any; experimental, it may not be followed", "prompt"),
                api.Feature.SPEED: api.Argument(wire="mode", values=("fast",)),
                api.Feature.WEBHOOK_URL: api.Argument("http(s); signed with webhook_secret", "webhook_url"),
                api.Feature.WEBHOOK_SECRET: api.Argument("any", "webhook_secret"),
                api.Feature.PROVIDER_OPTIONS: api.Argument(
                    "merged into the body; safety_tolerance 0 to 5, output_format jpeg, png or webp"
                ),
            },
            frame=api.FrameFields(_place, PLACING, _check_frame),
            canvas=CANVAS,
            # The only size that is named anywhere: the vendor's own SDK (blackforest 0.1.3) refuses more.
            max_bytes=20_000_000,
            takes_url=True,
        )
    }
    first_poll = 2.0
    poll_interval = 2.0
    usual_seconds = 30.0
    statuses: ClassVar = {
        "pending": api.Status.QUEUED,
        "reasoning": api.Status.RUNNING,
        "generating": api.Status.RUNNING,
        "ready": api.Status.SUCCEEDED,
        "error": api.Status.FAILED,
        **dict.fromkeys(MODERATED, api.Status.FAILED),
    }
    error_codes: ClassVar = dict.fromkeys(MODERATED, api.ContentRejectedError)

    def parse_account(self, body: Any) -> api.Balance:
        return self.balance(self.read_as(_Account, body).credits, "credits", 0.01)

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        answer = self.read_as(_Ordered, body)
        # A task must be polled at the host that has it, which may be a region's. Another than the vendor's is never
        # sent the key, nor the vendor a gateway's.
        found = _VENDORS_HOST.match(answer.polling_url) if _VENDORS_HOST.match(f"{self._base_url}/") else None
        return api.TaskUpdate(
            api.Status.QUEUED,
            answer.id,
            reference=found and found[1],
            cost=api.usd_cost(answer.cost, "credits", USD_PER_CREDIT),
        )

    def build_fetch(self, remote_id: str, reference: str | None = None) -> api.ApiCall:
        call = super().build_fetch(remote_id, reference)
        return replace(call, base_url=f"https://{reference}") if reference else call

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        task = self.read_as(_Task, body)
        word = task.status.strip().lower()
        told = ({"error": task.error}, {"message": task.message}, {"error": task.details})
        reason = next(filter(None, map(api.find_message, told)), task.status)
        return self.update(
            task.status,
            urls=((task.result or _Result()).sample,),
            is_grid=False,
            progress=None if task.progress is None else task.progress * 100,
            failure=self.failure(reason, word if word in MODERATED else None),
        )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        if isinstance(body, dict) and str(body.get("status")).lower() == "task not found":
            return api.UnknownTaskError(f"{self.title} does not know this task (any more).")
        return super().read_error(status, body)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        given = (api.header(headers, "x-bfl-signature") or "").lower()
        expected = "sha256=" + hmac.new((key or "").encode(), body, sha256).hexdigest()
        if not key or not hmac.compare_digest(given.encode(), expected.encode()):
            raise api.InvalidRequestError("The callback's signature is not Black Forest Labs'.")
        return api.webhook_id(self.title, api.webhook_json(self.title, body).get("id"))


_VENDORS_HOST = re.compile(r"https://((?:[a-z0-9-]+\.)*bfl\.ai)/", re.IGNORECASE)
