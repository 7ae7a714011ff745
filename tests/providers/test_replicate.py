"""Replicate's wire, shapes and oddities."""

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    RateLimitedError,
    UnexpectedResponseError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.replicate import FLUX_FILL, Replicate

from .network import NOW, Queue
from .published import FETCHED, SUBMITTED
from .through import KEY, image_order, input_image, of, polled, started, urls

TAKEN = (201, SUBMITTED["replicate"][0])
DONE = FETCHED["replicate"][1]
URL = "https://replicate.delivery/xezq/out.png"
FILE = "https://api.replicate.com/v1/files/abc"
HOOK = Webhook("https://example.com/h", events=("completed",))
OWN = OutpaintRequest(image="https://example.com/a.png", zoom=1.5)
FLUX = {"model": FLUX_FILL}


def test_an_image_is_placed_on_a_canvas_in_the_models_input_and_the_webhook_beside_it() -> None:
    provider, _ = of(Replicate)
    image = input_image(800, 600, url="https://example.com/a.png")
    asked = image_order(image, prompt="a lake", webhook=HOOK, options={"seed": 7})
    left = replace(asked, frame=Frame.around(800, 600, zoom=1.5, sides=["left"]))
    assert provider.build_submit(left) == ApiCall(
        "POST",
        "/v1/models/bria/expand-image/predictions",
        json={
            "input": {
                "seed": 7,
                "image": "https://example.com/a.png",
                "aspect_ratio": "none",
                "canvas_size": [1200, 600],
                "original_image_size": [800, 600],
                "original_image_location": [400, 0],
                "prompt": "a lake",
            },
            "webhook": "https://example.com/h",
            "webhook_events_filter": ["completed"],
        },
    )


@pytest.mark.parametrize(
    ("zoom", "ratio", "preset"),
    [(1.5, None, "Zoom out 1.5x"), (2.0, AspectRatio(4, 3), "Zoom out 2x"), (1.0, AspectRatio(1, 1), "Make square")],
)
def test_the_other_model_has_presets(zoom: float, ratio: AspectRatio | None, preset: str) -> None:
    provider, _ = of(Replicate)
    image = input_image(800, 600, url="https://example.com/a.png")
    call = provider.build_submit(image_order(image, zoom=zoom, aspect_ratio=ratio, options={**FLUX, "steps": 20}))
    assert call.path == "/v1/models/black-forest-labs/flux-fill-pro/predictions"
    assert call.json == {"input": {"steps": 20, "image": "https://example.com/a.png", "outpaint": preset}}


async def test_a_file_is_uploaded_and_the_input_names_it(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"PNG")
    provider, vendor = of(Replicate, (201, {"id": "abc", "urls": {"get": FILE}}), TAKEN)
    update = await provider.start(image_order(input_image(path=str(path), url=None)))
    assert (update.status, update.remote_id) == (Status.QUEUED, "gm3qorzdhgbfurvjtvhg6dckhu")
    upload, order = vendor.requests
    assert upload.url.path == "/v1/files"
    assert b'name="content"; filename="image.png"' in upload.content
    assert f'"image":"{FILE}"'.encode() in order.content.replace(b" ", b"")
    for request in vendor.requests:
        assert request.url.host == "api.replicate.com"
        assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("body", [{}, {"urls": None}, {"urls": {"get": ""}}, []])
async def test_an_upload_without_a_url_orders_nothing(tmp_path: Path, body: Any) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"PNG")
    provider, vendor = of(Replicate, (201, body))
    with pytest.raises(UnexpectedResponseError):
        await provider.start(image_order(input_image(path=str(path), url=None)))
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"provider_options": FLUX, "zoom": 1.7}, "1, 1.5 or 2"),
        ({"provider_options": FLUX, "sides": ("left",)}, "no sides .*flux-fill-pro"),
        ({"provider_options": {"model": "someone/else"}}, "no model 'someone/else'"),
        ({"speed": "fast"}, "speed"),
        ({"webhook": replace(HOOK, url="http://example.com/h")}, "https"),
        ({"webhook": replace(HOOK, events=("completed", "progress"))}, "no webhook event progress"),
        ({"webhook": replace(HOOK, secret="s")}, "webhook_secret"),
        ({"provider_options": {"canvas_size": [9, 9]}}, "zoom"),
        ({"provider_options": {"image_url": "https://example.com/b.png"}}, "Use image"),
        ({"provider_options": {**FLUX, "mask": "https://example.com/m.png"}}, "Leave it out"),
        ({"provider_options": {"webhook": "https://example.com/h"}}, "Use webhook_url"),
    ],
)
def test_what_is_refused_with_nothing_sent(changes: dict[str, Any], told: str) -> None:
    provider, _ = of(Replicate)
    provider.check(replace(OWN, webhook=HOOK, prompt="a lake", sides=("left",)), SourceKind.IMAGE)
    with pytest.raises((UnsupportedFeatureError, InvalidRequestError), match=told):
        provider.check(replace(OWN, **changes), SourceKind.IMAGE)


def test_a_larger_canvas_is_scaled_into_five_thousand_pixels_and_the_image_by_the_model_itself() -> None:
    operation = Replicate.variants["bria/expand-image"]
    sent = operation.sent_frame(Frame.around(4000, 2000, zoom=2))
    assert sent == Frame(5000, 2500, 1250, 625, 2500, 1250)
    assert operation.canvas is not None
    assert operation.canvas.scales


def test_naming_the_usual_model_is_no_other_order() -> None:
    provider, _ = of(Replicate)
    assert provider.normalised_options({"model": "bria/expand-image", "seed": 1}, OutpaintRequest()) == {"seed": 1}
    assert provider.normalised_options(FLUX, OutpaintRequest()) == FLUX


@pytest.mark.parametrize(
    ("changes", "status", "found"),
    [
        ({"output": URL}, Status.SUCCEEDED, (URL,)),
        ({"output": [URL]}, Status.SUCCEEDED, (URL,)),
        ({"output": [URL, f"{URL}?2"]}, Status.SUCCEEDED, (URL, f"{URL}?2")),
        ({"output": None}, Status.RUNNING, ()),
        ({"status": "aborted", "output": None}, Status.CANCELLED, ()),
        ({"status": "canceled", "output": None}, Status.CANCELLED, ()),
        ({"status": "resting"}, Status.RUNNING, ()),
        ({"output": None, "data_removed": True}, Status.FAILED, ()),
    ],
)
async def test_what_a_prediction_comes_to(changes: dict[str, Any], status: Status, found: tuple[str, ...]) -> None:
    update = await polled(Replicate, (200, {**DONE, **changes}))
    assert (update.status, urls(update)) == (status, found)
    if status is Status.SUCCEEDED:
        assert update.is_grid is (len(found) > 1)
        assert update.expires_at == datetime(2026, 9, 1, 11, 0, 20, tzinfo=UTC), "an hour after the end"
    if status is Status.FAILED:
        assert update.failure is not None
        assert "deleted" in update.failure.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("The input or output was flagged as sensitive. Please try again. (E005)", "content_rejected"),
        ("CUDA error", "provider_unavailable"),
        (None, "provider_unavailable"),
    ],
)
async def test_why_a_prediction_failed(error: str | None, code: str) -> None:
    update = await polled(Replicate, (200, {**DONE, "status": "failed", "output": None, "error": error}))
    assert update.failure is not None
    assert (update.status, update.failure.code, update.expires_at) == (Status.FAILED, code, None)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"title": "Unauthenticated", "detail": "You did not pass a token", "status": 401}, AuthenticationError),
        (402, {"title": "Insufficient credit", "detail": "Go to billing", "status": 402}, InsufficientCreditsError),
        (422, {"title": "Input validation failed", "detail": "- input.image is required"}, InvalidRequestError),
        (422, {"detail": "NSFW content detected"}, ContentRejectedError),
        (500, {"detail": "Internal server error"}, OrderUnconfirmedError),
        (201, {"status": "starting"}, OrderUnconfirmedError),
    ],
)
async def test_a_refusal_of_an_order(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Replicate, image_order(), (status, body))
    assert type(refused.value) is kind


async def test_a_throttled_order_says_when_the_limit_resets() -> None:
    throttled = {"detail": "Request was throttled. Your rate limit resets in ~30s."}
    with pytest.raises(RateLimitedError) as refused:
        await started(Replicate, image_order(), (429, throttled))
    assert refused.value.retry_after == 30


SECRET = base64.b64encode(b"of the account").decode()
BODY = b'{"id": "gm3qorzdhgbfurvjtvhg6dckhu", "status": "succeeded"}'


def signed(at: float = NOW, secret: bytes = b"of the account", body: bytes = BODY) -> dict[str, str]:
    text = f"msg_1.{at:.0f}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": f"{at:.0f}"}
    return {**headers, "Webhook-Signature": f"v1,{base64.b64encode(b'older').decode()} v1,{signature}"}


async def test_a_callback_is_signed_with_the_accounts_secret_and_new() -> None:
    queue = Queue([httpx2.Response(200, json={"key": f"whsec_{SECRET}"})])
    client: HttpClient = queue.client()
    provider = Replicate(client, key=KEY)
    assert await provider.called_back(signed(), BODY) == "gm3qorzdhgbfurvjtvhg6dckhu"
    assert queue.requests[0].url.path == "/v1/webhooks/default/secret"
    for headers, told in (
        (signed(secret=b"another"), "signature"),
        ({**signed(), "Webhook-Id": "msg_2"}, "signature"),
        ({**signed(), "Webhook-Signature": ""}, "signature"),
        (signed(body=b"{}"), "signature"),
        (signed(at=NOW - 301), "not sent within"),
        (signed(at=NOW + 301), "not sent within"),
        ({}, "not sent within"),
    ):
        with pytest.raises(InvalidRequestError, match=told):
            await provider.called_back(headers, BODY)


def test_no_callback_is_taken_while_there_is_no_secret() -> None:
    provider, _ = of(Replicate)
    for secret in (None, "", "whsec_", "whsec_*"):
        with pytest.raises(InvalidRequestError, match="signature"):
            provider.read_webhook(signed(secret=b"\0"), BODY, secret)
