"""Apiframe's wire, shapes and oddities."""

import base64
import hashlib
import hmac
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotReadyError,
    OrderUnconfirmedError,
    OutpaintError,
    RateLimitedError,
    UnexpectedResponseError,
    UnknownTaskError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.http_client import MAX_ATTEMPTS

from .through import FOUR, GRID, KEY, UUID, frame_of, image_order, input_image, of, order, polled, started, urls

TAKEN = (202, {"jobId": UUID, "status": "QUEUED"})
HOOK = Webhook("https://example.com/h", events=("completed", "progress"))
SQUARE = AspectRatio(1, 1)


def test_an_order_for_an_upscaled_image() -> None:
    provider, _ = of(Apiframe)
    assert provider.build_submit(order(webhook=HOOK, options={"x": 1})) == ApiCall(
        "POST",
        "/v2/images/midjourney/action",
        json={
            "parentJobId": UUID,
            "action": "outpaint",
            "zoomRatio": 1.5,
            "webhookUrl": "https://example.com/h",
            "webhookEvents": ["completed", "progress"],
            "x": 1,
        },
        headers={"Idempotency-Key": "op-1-0"},
    )
    bare = provider.build_submit(order(zoom=2.0, webhook=replace(HOOK, events=())))
    assert bare.json == {
        "parentJobId": UUID,
        "action": "outpaint",
        "zoomRatio": 2.0,
        "webhookUrl": "https://example.com/h",
    }


def test_an_upscale_takes_the_index_as_it_is_and_the_orders_own_key() -> None:
    provider, _ = of(Apiframe)
    assert provider.build_upscale(order(step=StepName.UPSCALE, key="op-1-1", webhook=HOOK)) == ApiCall(
        "POST",
        "/v2/images/midjourney/action",
        json={"parentJobId": UUID, "action": "upsample", "index": 3},
        headers={"Idempotency-Key": "op-1-1"},
    )


@pytest.mark.parametrize(
    ("zoom", "ratio", "words"),
    [(1.0, SQUARE, "Make square"), (1.5, None, "Zoom out 1.5x"), (2.0, None, "Zoom out 2x")],
)
async def test_your_own_image_is_uploaded_and_then_extended(
    tmp_path: Path, zoom: float, ratio: AspectRatio | None, words: str
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"PNG")
    provider, vendor = of(Apiframe, (201, {"id": "u", "url": "https://cdn.example.com/u.png"}), TAKEN)
    own = image_order(input_image(path=str(path), url=None), zoom=zoom, aspect_ratio=ratio, prompt="a lake")
    update = await provider.start(own)
    assert (update.status, update.remote_id) == (Status.QUEUED, UUID)
    upload, edit = vendor.requests
    assert upload.url.path == "/v2/uploads"
    assert b'name="file"; filename="image.png"' in upload.content
    assert b"PNG" in upload.content
    assert provider.build_submit(own, "https://cdn.example.com/u.png") == ApiCall(
        "POST",
        "/v2/images/edit",
        json={
            "model": "flux-fill-pro",
            "fluxFillParams": {
                "image": "https://cdn.example.com/u.png",
                "prompt": "a lake",
                "mode": "outpaint",
                "outpaint": words,
            },
        },
        headers={"Idempotency-Key": "op-1-0"},
    )
    assert words.encode() in edit.content
    assert edit.headers["idempotency-key"] == "op-1-0"


@pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": None}, []])
async def test_an_upload_without_a_url_orders_nothing(tmp_path: Path, body: Any) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"PNG")
    provider, vendor = of(Apiframe, (201, body))
    with pytest.raises(UnexpectedResponseError):
        await provider.start(image_order(input_image(path=str(path))))
    assert len(vendor.requests) == 1


def test_the_same_frame_asked_for_otherwise_is_the_same_button() -> None:
    provider, _ = of(Apiframe)
    wide = image_order(input_image(800, 600), zoom=2.0, aspect_ratio=AspectRatio(4, 3))
    body = provider.build_submit(wide, "https://cdn.example.com/u.png").json or {}
    assert body["fluxFillParams"]["outpaint"] == "Zoom out 2x"


OWN = OutpaintRequest(image="a.png")


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"zoom": 1.7}, "1, 1.5 or 2"), ({"webhook": HOOK}, "webhook"), ({"speed": "fast"}, "speed")],
)
def test_what_is_refused_of_your_own_image_before_it_is_read(changes: dict[str, Any], told: str) -> None:
    provider, _ = of(Apiframe)
    provider.check(OWN, SourceKind.IMAGE)
    with pytest.raises(UnsupportedFeatureError, match=told):
        provider.check(replace(OWN, **changes), SourceKind.IMAGE)


@pytest.mark.parametrize(
    ("zoom", "ratio"), [(1.0, None), (2.0, SQUARE), (2.0, AspectRatio(16, 9)), (1.0, AspectRatio(16, 9))]
)
def test_a_frame_for_which_there_is_no_button_is_refused(zoom: float, ratio: AspectRatio | None) -> None:
    provider, _ = of(Apiframe)
    image = input_image(800, 600)
    provider.check_image(image, frame_of(image, 1.0, SQUARE))
    provider.check_image(image, frame_of(image, 2.0))
    with pytest.raises(UnsupportedFeatureError, match="1:1") as refused:
        provider.check_image(image, frame_of(image, zoom, ratio))
    assert "1.5 or 2" in refused.value.message


def test_a_file_of_more_than_25_mb_is_refused_and_one_of_unknown_size_is_not() -> None:
    provider, _ = of(Apiframe)
    most = provider.operations[SourceKind.IMAGE].max_bytes
    assert most == 25_000_000
    for size in (0, most):
        image = input_image(size=size)
        provider.check_image(image, frame_of(image))
    image = input_image(size=27_000_000)
    with pytest.raises(UnsupportedFeatureError, match=r"up to 25 MB; this one has 27,000,000 bytes") as refused:
        provider.check_image(image, frame_of(image))
    assert "smaller image" in refused.value.advice


@pytest.mark.parametrize("source", ["file", "data"])
async def test_an_image_that_was_read_is_measured_against_the_limit(source: str, tmp_path: Path) -> None:
    # Pixels that cannot be packed: three bytes each.
    noise = Image.frombytes("RGB", (3000, 3000), os.urandom(27_000_000))
    path = tmp_path / "noise.png"
    noise.save(path, compress_level=1)
    ref = str(path) if source == "file" else f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    provider, _ = of(Apiframe)
    async with ImageLibrary(tmp_path / "data", roots=(tmp_path,)) as images:
        own = await images.read(ref)
    assert own.size == path.stat().st_size
    with pytest.raises(UnsupportedFeatureError, match="25 MB"):
        provider.check_image(own, frame_of(own))


def test_what_is_refused_of_a_task() -> None:
    provider, _ = of(Apiframe)
    request = OutpaintRequest(task_id=UUID, zoom=1.5)
    provider.check(request, SourceKind.TASK)
    provider.check(replace(request, webhook=HOOK), SourceKind.TASK)
    with pytest.raises(UnsupportedFeatureError, match=r"1\.5 or 2"):
        provider.check(replace(request, zoom=1.7), SourceKind.TASK)
    with pytest.raises(InvalidRequestError, match="https"):
        provider.check(replace(request, webhook=Webhook("http://example.com/h")), SourceKind.TASK)


async def test_the_key_and_the_paths() -> None:
    provider, vendor = of(Apiframe, TAKEN, (200, {"id": UUID, "status": "PROCESSING", "progress": 30}))
    await provider.start(order())
    update = await provider.poll(UUID)
    assert (update.status, update.progress, update.remote_id) == (Status.RUNNING, 30, UUID)
    submit, fetch = vendor.requests
    assert submit.headers["x-api-key"] == KEY
    assert str(fetch.url) == f"https://api.apiframe.ai/v2/jobs/{UUID}"


@pytest.mark.parametrize("remote_id", ["d758", "", "op-1", UUID[:-1], f"{UUID}0", f"{UUID}/x", f"{UUID} "])
async def test_an_id_that_is_no_uuid_is_unknown_and_not_asked_for(remote_id: str) -> None:
    # The vendor's own answer is a 400, which reads as if an argument were wrong.
    provider, vendor = of(Apiframe, (400, {"error": "Invalid request", "details": {"id": ["Invalid uuid"]}}))
    with pytest.raises(UnknownTaskError, match="Apiframe"):
        await provider.poll(remote_id)
    assert vendor.requests == []


async def test_a_uuid_is_asked_for_in_any_case_and_as_it_is() -> None:
    provider, vendor = of(Apiframe, (200, {"id": UUID, "status": "PROCESSING"}))
    await provider.poll(UUID.upper())
    assert vendor.requests[0].url.path == f"/v2/jobs/{UUID.upper()}"


async def test_a_lost_answer_is_asked_for_under_the_same_key() -> None:
    provider, vendor = of(Apiframe, (500, {}), (409, {"error": "Idempotency-Key is in use"}), TAKEN)
    assert (await provider.start(order())).remote_id == UUID
    assert [request.headers["idempotency-key"] for request in vendor.requests] == ["op-1-0"] * 3


@pytest.mark.parametrize("said", ["Idempotency-Key was used with another body", "Conflict"])
async def test_a_conflict_that_may_be_about_our_key_is_never_called_a_refusal(said: str) -> None:
    answers = [(409, {"error": said})] * MAX_ATTEMPTS
    with pytest.raises(OrderUnconfirmedError):
        await started(Apiframe, order(), *answers)


@pytest.mark.parametrize("status", [400, 409])
async def test_a_grid_as_the_parent_is_refused_with_what_to_do(status: int) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await started(Apiframe, order(), (status, {"error": "Parent must be a completed upsample job"}))
    assert "image_index" in refused.value.advice
    with pytest.raises(NotReadyError):
        await started(Apiframe, order(), (status, {"error": "The parent job is not completed"}))


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (400, {"error": "Validation failed", "details": {"zoomRatio": ["1.5 or 2"]}}, InvalidRequestError, "zoomRatio"),
        (400, {"error": "blocked by moderation"}, ContentRejectedError, "moderation"),
        (400, [], InvalidRequestError, "400"),
        (401, {"error": "no key"}, AuthenticationError, "no key"),
        (402, {"error": "poor", "creditsRequired": 16, "creditsAvailable": 3}, InsufficientCreditsError, "16"),
        (403, {"error": "no"}, AuthenticationError, "no"),
        (404, {"error": "no job"}, UnknownTaskError, "no job"),
        (429, {"error": "slow down"}, RateLimitedError, "slow"),
    ],
)
async def test_a_refusal_in_its_shape(status: int, body: Any, kind: type[OutpaintError], told: str) -> None:
    with pytest.raises(kind, match=told) as refused:
        await started(Apiframe, order(), (status, body))
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("result", "images", "grid", "is_grid"),
    [
        ({"images": list(FOUR), "gridUrl": GRID}, FOUR, GRID, True),
        ({"images": list(FOUR[:1])}, FOUR[:1], None, False),
        ({"images": FOUR[0]}, FOUR[:1], None, False),
        (FOUR[0], FOUR[:1], None, None),
        ({"images": [], "gridUrl": GRID}, (), GRID, True),
    ],
)
async def test_a_completed_job(result: Any, images: tuple[str, ...], grid: str | None, is_grid: bool | None) -> None:
    body = {"id": UUID, "status": "COMPLETED", "progress": 100, "result": result, "creditCost": 16, "expired": False}
    update = await polled(Apiframe, (200, body))
    assert update.status is Status.SUCCEEDED
    assert urls(update) == images
    assert (update.grid and update.grid.url, update.is_grid) == (grid, is_grid)
    assert update.cost == Cost(amount=16, unit="credits")
    expired = await polled(Apiframe, (200, {**body, "expired": True}))
    assert any("expired" in note for note in expired.notes)


async def test_how_a_job_ends_without_an_image() -> None:
    failed = await polled(Apiframe, (200, {"status": "FAILED", "error": "nsfw", "creditCost": 0, "result": None}))
    assert failed.failure is not None
    assert (failed.failure.code, failed.cost) == ("content_rejected", Cost(amount=0, unit="credits"))
    cancelled = await polled(Apiframe, (200, {"status": "CANCELLED"}))
    assert (cancelled.status, cancelled.failure) == (Status.CANCELLED, None)
    empty = await polled(Apiframe, (200, {"status": "COMPLETED", "result": {"images": []}}))
    assert empty.status is Status.RUNNING


def sign(key: bytes, body: bytes) -> dict[str, str]:
    return {"X-Webhook-Signature": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()}


def test_a_callback_is_verified_with_either_form_of_the_key() -> None:
    provider, _ = of(Apiframe)
    body = b'{"event": "completed", "jobId": "j-7", "status": "COMPLETED"}'
    digest = hashlib.sha256(KEY.encode()).digest()
    assert provider.read_webhook(sign(digest, body), body, KEY) == "j-7"
    assert provider.read_webhook(sign(digest.hex().encode(), body), body, KEY) == "j-7"
    for headers, sent, key in (
        (sign(digest, body), body + b" ", KEY),
        (sign(digest, body), body, "another key"),
        (sign(KEY.encode(), body), body, KEY),
        (sign(hashlib.sha256(b"").digest(), body), body, None),
        ({}, body, KEY),
        (sign(digest, b"{}"), b"{}", KEY),
    ):
        with pytest.raises(InvalidRequestError):
            provider.read_webhook(headers, sent, key)
