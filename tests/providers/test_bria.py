"""Bria's wire, shapes and oddities."""

import base64
import hashlib
import hmac
from typing import Any

import pytest

from outpaint_mcp.domain.errors import (
    ContentRejectedError,
    InvalidImageError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    UnexpectedResponseError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.bria import Bria
from outpaint_mcp.providers.calls import ApiCall

from .published import FETCHED, SUBMITTED
from .through import FOUR, KEY, UUID, image_order, input_image, of, order, polled, started, urls

PLACED = {"canvas_size": [1200, 900], "original_image_size": [800, 600], "original_image_location": [200, 150]}
TAKEN = SUBMITTED["bria"][0]


def test_an_order_names_the_canvas_and_the_images_place_on_it() -> None:
    provider, _ = of(Bria)
    full = image_order(prompt="a lake", webhook=Webhook("https://example.com/h?t=1"), options={"seed": 7})
    assert provider.build_submit(full) == ApiCall(
        "POST",
        "/image/edit/expand",
        json={
            "image": "https://example.com/picture.png?sig=hush",
            "sync": False,
            **PLACED,
            "prompt": "a lake",
            "webhook_url": "https://example.com/h?t=1",
            "seed": 7,
        },
    )
    of_bytes = provider.build_submit(image_order(), "data:image/png;base64,AAAA").json
    assert of_bytes == {"image": "AAAA", "sync": False, **PLACED}, "base64 without a prefix"


def test_an_image_at_a_url_is_scaled_by_bria_to_what_fits_25_megapixels() -> None:
    provider, _ = of(Bria)
    large = input_image(6000, 4000)
    frame = Frame(12000, 4000, 6000, 0, 6000, 4000)
    operation = Bria.operations[SourceKind.IMAGE]
    provider.check_image(large, frame)
    sent = operation.sent_frame(frame)
    body = provider.build_submit(order(source=large, frame=sent)).json or {}
    (width, height), (wide, tall), (x, y) = (body[name] for name in PLACED)
    assert 24_900_000 < width * height <= 25_000_000
    assert (x, y) == (width - wide, 0)
    assert (wide, tall) == (pytest.approx(width / 2, abs=1), height)
    assert body["image"] == large.url


def test_options_do_not_place_the_image_and_transparency_is_kept_unless_they_say_otherwise() -> None:
    provider, _ = of(Bria)
    for name in ("aspect_ratio", "sync", *PLACED):
        with pytest.raises(InvalidRequestError, match=name):
            provider.check(OutpaintRequest(image="a.png", provider_options={name: 1}), SourceKind.IMAGE)
    wrong = OutpaintRequest(image="a.png", provider_options={"prompt_content_moderation": "yes"})
    with pytest.raises(InvalidRequestError, match="prompt_content_moderation in provider_options is true or false"):
        provider.check(wrong, SourceKind.IMAGE)
    plain = OutpaintRequest()
    assert provider.normalised_options({"seed": 1}, plain) == {"preserve_alpha": True, "seed": 1}
    assert provider.normalised_options({"preserve_alpha": False}, plain) == {"preserve_alpha": False}


async def test_the_key_the_paths_and_whom_a_poll_asks() -> None:
    elsewhere = {**TAKEN, "status_url": "https://elsewhere.example/v2/status/1"}
    provider, vendor = of(Bria, (202, {**elsewhere, "request_id": UUID}), (200, FETCHED["bria"][0]))
    update = await provider.start(image_order())
    assert (update.status, update.remote_id, update.notes) == (Status.RUNNING, UUID, ())
    await provider.poll(UUID)
    submit, poll = vendor.requests
    assert {one.headers["api_token"] for one in vendor.requests} == {KEY}
    assert str(submit.url) == "https://engine.prod.bria-api.com/v2/image/edit/expand"
    assert (poll.method, str(poll.url)) == ("GET", f"https://engine.prod.bria-api.com/v2/status/{UUID}")


async def test_an_answer_that_holds_the_image_already_and_a_warning() -> None:
    told = {"request_id": UUID, "result": {"image_url": FOUR[0]}, "warning": "The prompt is long"}
    update = await started(Bria, image_order(), (200, told))
    assert (update.status, urls(update)) == (Status.SUCCEEDED, FOUR[:1])
    assert update.notes == ("Bria warns: 'The prompt is long'",)


@pytest.mark.parametrize(
    ("word", "status", "noted"),
    [("IN_PROGRESS", "running", False), ("UNKNOWN", "running", False), ("RESTING", "running", True)],
)
async def test_a_request_under_way(word: str, status: str, noted: bool) -> None:
    update = await polled(Bria, (200, {"request_id": UUID, "status": word}))
    assert (update.status, bool(update.notes)) == (status, noted)


@pytest.mark.parametrize("word", ["ERROR", "FAILED"])
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ({"code": 502, "message": "Bad Gateway", "details": "upstream failed"}, "provider_unavailable", "upstream"),
        (
            {"code": 422, "message": "Unprocessable", "details": "Prompt failed moderation"},
            "content_rejected",
            "Prompt",
        ),
        ("the worker crashed", "provider_unavailable", "worker"),
        (None, "provider_unavailable", "no reason"),
    ],
)
async def test_a_request_that_failed_says_why(word: str, error: Any, code: str, told: str) -> None:
    update = await polled(Bria, (200, {"request_id": UUID, "status": word, "error": error}))
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert update.failure.code == code
    assert told in update.failure.message


async def test_a_poll_without_a_status_is_asked_again() -> None:
    with pytest.raises(UnexpectedResponseError, match="status"):
        await polled(Bria, (200, {"request_id": UUID}))


def refused(code: int, message: str, details: str = "") -> dict[str, Any]:
    return {"request_id": UUID, "error": {"code": code, "message": message, "details": details}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (
            422,
            refused(422, "Unprocessable Entity", "the prompt failed content moderation"),
            ContentRejectedError,
            "mod",
        ),
        (422, refused(422, "Unprocessable Entity", "canvas_size is too large"), InvalidRequestError, "canvas_size"),
        (422, {"detail": [{"loc": ["body", "image"], "msg": "missing"}]}, InvalidRequestError, "image: missing"),
        (415, refused(415, "Unsupported Media Type"), InvalidImageError, "Unsupported"),
        (502, refused(502, "Bad Gateway", "upstream failed"), OrderUnconfirmedError, "upstream failed"),
        (202, {"status_url": "https://engine.prod.bria-api.com/v2/status/1"}, OrderUnconfirmedError, "names no task"),
    ],
)
async def test_a_refusal_and_what_is_none(status: int, body: Any, kind: type[OutpaintError], told: str) -> None:
    with pytest.raises(kind, match=told) as found:
        await started(Bria, image_order(), (status, body))
    assert type(found.value) is kind


def signed(body: bytes, *, key: str = KEY, name: str = UUID, at: str = "1790000000") -> dict[str, str]:
    signing = hmac.new(key.encode(), b"bria-webhook-signing-v1", hashlib.sha256).digest()
    signature = base64.b64encode(hmac.new(signing, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {
        "bria-webhook-id": name,
        "bria-webhook-timestamp": at,
        "bria-webhook-signature": f"v0=old, v1={signature}",
    }


def test_a_callback_is_signed_with_what_the_key_gives_over_its_id_its_time_and_its_body() -> None:
    provider, _ = of(Bria)
    body = b'{"status": "COMPLETED"}'
    headers = signed(body)
    assert provider.read_webhook(headers, body, KEY) == UUID
    forged: list[tuple[dict[str, str], bytes, str | None]] = [
        (signed(body, key="another"), body, KEY),
        (signed(body, key=""), body, None),
        (headers, body + b" ", KEY),
        ({**headers, "bria-webhook-id": "another"}, body, KEY),
        ({**headers, "bria-webhook-timestamp": "1790000001"}, body, KEY),
        ({}, body, KEY),
        (signed(body, name=""), body, KEY),
    ]
    for one, data, key in forged:
        with pytest.raises(InvalidRequestError):
            provider.read_webhook(one, data, key)
