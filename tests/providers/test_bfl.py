"""Black Forest Labs' wire, its hosts, states and signature."""

import hashlib
import hmac
import json

import pytest

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    UnexpectedResponseError,
    UnknownTaskError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.providers.bfl import Bfl
from outpaint_mcp.providers.calls import ApiCall

from .through import UUID, image_order, input_image, of, polled, started

URL = "https://example.com/picture.png"


def test_an_order_places_the_image_on_the_canvas() -> None:
    provider, _ = of(Bfl)
    order = image_order(
        input_image(url=URL),
        provider="bfl",
        frame=Frame(1200, 600, 400, 0, 800, 600),
        prompt="a lake",
        speed="fast",
        webhook=Webhook("https://example.com/h", "s"),
        options={"safety_tolerance": 5},
    )
    assert provider.build_submit(order) == ApiCall(
        "POST",
        "/v1/flux-tools/outpainting-v1",
        json={
            "input_image": URL,
            "width": 1200,
            "height": 600,
            "reference_offset_x": 400,
            "reference_offset_y": 0,
            "prompt": "a lake",
            "mode": "fast",
            "webhook_url": "https://example.com/h",
            "webhook_secret": "s",
            "safety_tolerance": 5,
        },
    )
    body = provider.build_submit(order, "data:image/png;base64,aGVsbG8=").json
    assert body is not None
    assert body["input_image"] == "aGVsbG8="


def test_only_what_it_paints_is_taken() -> None:
    provider, _ = of(Bfl)
    for speed in ("relax", "turbo"):
        with pytest.raises(UnsupportedFeatureError, match=f"no speed {speed}"):
            provider.check(OutpaintRequest(image=URL, speed=speed), SourceKind.IMAGE)
    with pytest.raises(UnsupportedFeatureError, match="at least 64 pixels"):
        provider.check_image(input_image(30, 30), Frame(45, 45, 7, 7, 30, 30))
    large = Frame(4000, 3000, 0, 0, 2000, 3000)
    sent = provider.operations[SourceKind.IMAGE].sent_frame(large)
    assert sent.canvas_width * sent.canvas_height <= 4_000_000
    assert {value % 16 for value in (sent.canvas_width, sent.canvas_height, sent.x, sent.width, sent.height)} == {0}
    assert "scaled from 2000x3000" in provider.notes_for(OutpaintRequest(image=URL), large)[0]


@pytest.mark.parametrize(
    ("base_url", "polling_url", "polled_at"),
    [
        (None, "https://api.eu2.bfl.ai/v1/get_result?id=x", "https://api.eu2.bfl.ai"),
        (None, "https://bfl.ai.example.com/v1/get_result?id=x", ""),
        (None, "https://example.com/.bfl.ai/v1/get_result?id=x", ""),
        (None, "http://api.bfl.ai/v1/get_result?id=x", ""),
        (None, "https://user@api.bfl.ai/v1/get_result?id=x", ""),
        (None, "", ""),
        ("https://gateway.example.com", "https://api.eu2.bfl.ai/v1/get_result?id=x", ""),
    ],
)
def test_a_task_is_polled_at_the_host_that_has_it_if_that_is_the_vendors(
    base_url: str | None, polling_url: str, polled_at: str
) -> None:
    provider, _ = of(Bfl)
    if base_url is not None:
        provider = Bfl(provider._client, key="key", base_url=base_url)
    ordered = provider.parse_submit({"id": "x", "polling_url": polling_url, "cost": 10})
    assert ordered.cost == Cost(amount=10, unit="credits", usd=0.1)
    assert provider.build_fetch("x", ordered.reference) == ApiCall("GET", "/v1/get_result?id=x", base_url=polled_at)


async def test_what_moderation_stops_is_rejected_content_and_a_lost_task_unknown() -> None:
    assert (await started(Bfl, image_order(), (200, {"id": UUID}))).status is Status.QUEUED
    for word in ("Request Moderated", "Content Moderated"):
        stopped = await polled(Bfl, (200, {"id": UUID, "status": word, "result": None}))
        assert stopped.failure is not None
        assert (stopped.status, stopped.failure.code) == (Status.FAILED, "content_rejected")
    for status in (200, 404):
        with pytest.raises(UnknownTaskError):
            await polled(Bfl, (status, {"id": UUID, "status": "Task not found", "result": None}))


async def test_an_order_that_names_no_task_is_never_refused_for_an_unknown_one() -> None:
    with pytest.raises(UnexpectedResponseError, match="Not Found") as refused:
        await started(Bfl, image_order(), (404, {"detail": "Not Found"}))
    assert "base URL" in refused.value.advice


def test_a_callback_is_signed_with_the_orders_own_secret() -> None:
    provider, _ = of(Bfl)
    body = json.dumps({"id": UUID, "status": "Ready"}).encode()
    signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    assert provider.read_webhook({"X-BFL-Signature": f"sha256={signature}"}, body, "secret") == UUID
    for headers, key in (({"X-BFL-Signature": f"sha256={signature}"}, "other"), ({}, "secret"), ({}, "")):
        with pytest.raises(InvalidRequestError, match="signature"):
            provider.read_webhook(headers, body, key)
