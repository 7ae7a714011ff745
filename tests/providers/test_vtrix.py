"""Vtrix's wire, shapes and oddities."""

from dataclasses import replace
from typing import Any

import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    RateLimitedError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import Parent
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.vtrix import Vtrix

from .through import FOUR, KEY, UUID, frame_of, image_order, input_image, of, order, polled, started, urls

TAKEN = (200, {"id": "d758", "created_at": 1769000000, "status": "in_progress", "model": "midjourney_outpaint"})


def images(*found: str) -> list[dict[str, Any]]:
    return [{"type": "image", "url": url, "jobId": "remote-job"} for url in found]


def test_an_order_for_a_tasks_image_names_the_remote_job() -> None:
    provider, _ = of(Vtrix)
    source = Parent("gateway-task", "remote-job", 4)
    full = order(
        source=source, zoom=1.7, prompt="a lake", webhook=Webhook("https://example.com/h"), options={"seed": 1}
    )
    assert provider.build_submit(full) == ApiCall(
        "POST",
        "/model/v1/generation",
        json={
            "model": "midjourney_outpaint",
            "input": [
                {
                    "params": {
                        "jobId": "remote-job",
                        "imageNo": 3,
                        "scale": 1.7,
                        "remixPrompt": "a lake",
                        "callback": "https://example.com/h",
                        "seed": 1,
                    }
                }
            ],
        },
    )
    unknown = provider.build_submit(order(source=replace(source, reference=None))).json
    assert unknown is not None
    assert unknown["input"][0]["params"] == {"jobId": "gateway-task", "imageNo": 3, "scale": 1.5}


def test_an_order_for_your_own_image() -> None:
    provider, _ = of(Vtrix)
    body = provider.build_submit(image_order(input_image(800, 600), zoom=2.0, prompt="a lake")).json
    assert body is not None
    assert body["model"] == "midjourney_uploadpaint"
    params = body["input"][0]["params"]
    assert params["canvas"] == {"width": 1600, "height": 1200}
    assert params["imgPos"] == {"width": 800, "height": 600, "x": 400, "y": 300}
    assert len(params["mask"]["areas"]) == 4
    assert params["remixPrompt"] == "a lake"


def test_what_is_refused() -> None:
    provider, _ = of(Vtrix)
    provider.check(OutpaintRequest(task_id=UUID, zoom=1.1), SourceKind.TASK)
    with pytest.raises(UnsupportedFeatureError, match=r"1\.1 to 2"):
        provider.check(OutpaintRequest(task_id=UUID, zoom=1.05), SourceKind.TASK)
    own = OutpaintRequest(image="https://example.com/a.png")
    with pytest.raises(InvalidRequestError, match="prompt"):
        provider.check(own, SourceKind.IMAGE)
    image = input_image()
    provider.check_image(image, frame_of(image))
    with pytest.raises(UnsupportedFeatureError, match="URL"):
        provider.check_image(replace(image, url=None), frame_of(image))


async def test_the_key_and_the_paths() -> None:
    under_way = {"id": "d758", "status": "in_progress", "progress": 0.4, "model": "midjourney_outpaint"}
    provider, vendor = of(Vtrix, TAKEN, (200, under_way))
    update = await provider.start(order())
    assert (update.status, update.remote_id) == (Status.RUNNING, "d758")
    polled_update = await provider.poll("d758")
    assert (polled_update.status, polled_update.progress) == (Status.RUNNING, 40)
    assert vendor.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert str(vendor.requests[1].url) == "https://cloud.vtrix.ai/model/v1/generation/task/d758"


@pytest.mark.parametrize(
    ("word", "status", "notes"), [("pending", "queued", 0), ("completed", "running", 0), ("resting", "running", 1)]
)
async def test_the_first_answer_is_never_the_last_word(word: str, status: str, notes: int) -> None:
    update = await started(Vtrix, order(), (200, {"id": "d758", "status": word}))
    assert (update.status, len(update.notes)) == (status, notes)


@pytest.mark.parametrize(
    "output",
    [
        [{"content": images(*FOUR)}],
        [{"content": images(url)} for url in FOUR],
        [{"content": None}, *[{"content": images(*FOUR)}]],
    ],
)
async def test_four_images_come_as_four_contents_or_as_four_outputs(output: Any) -> None:
    body = {"id": "d758", "status": "completed", "output": output, "usage": {"cost": "0.0357", "discount": 0.7}}
    update = await polled(Vtrix, (200, body))
    assert update.status is Status.SUCCEEDED
    assert urls(update) == FOUR
    assert (update.is_grid, update.reference) == (True, "remote-job")
    assert update.cost == Cost(amount=0.0357, unit="USD", usd=0.0357)


@pytest.mark.parametrize(("model", "is_grid"), [("midjourney_upscale", False), ("midjourney_diffusion", None)])
async def test_one_image_is_single_only_where_that_is_known(model: str, is_grid: bool | None) -> None:
    video = {"type": "video", "url": "https://cdn.example.com/v.mp4"}
    output = [{"content": [video, *images(FOUR[0])]}]
    update = await polled(Vtrix, (200, {"id": "d", "status": "completed", "model": model, "output": output}))
    assert urls(update) == FOUR[:1]
    assert update.is_grid is is_grid
    assert update.cost is None


@pytest.mark.parametrize(
    ("error", "code", "vendors", "retryable"),
    [
        ({"code": 4007098, "error_message": "generation failed"}, "provider_unavailable", "4007098", True),
        ({"code": "004007099", "error_message": "busy"}, "provider_unavailable", "4007099", True),
        ({"code": 4007003, "error_message": "bad image number"}, "invalid_request", "4007003", False),
        ("a plain string", "provider_unavailable", None, False),
        ("sensitive content", "content_rejected", None, False),
        (None, "provider_unavailable", None, False),
    ],
)
async def test_a_failed_task(error: Any, code: str, vendors: str | None, retryable: bool) -> None:
    update = await polled(Vtrix, (200, {"id": "d758", "status": "failed", "error": error}))
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert (update.failure.code, update.failure.provider_code) == (code, vendors)
    assert update.failure.retryable is retryable


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"code": 4007005, "error_message": "invalid scale"}}, InvalidRequestError),
        (400, {"error": "sensitive content"}, ContentRejectedError),
        (400, [], InvalidRequestError),
        (401, {"error": {"code": 401, "error_message": "bad key"}}, AuthenticationError),
        (403, {"status": {"code": 403, "message": "no", "error_code": 40203}}, InsufficientCreditsError),
        (403, {"message": "Insufficient balance"}, InsufficientCreditsError),
        (403, {"message": "no permission"}, AuthenticationError),
        (403, {"error": "sensitive content"}, ContentRejectedError),
        (429, {"message": "slow down"}, RateLimitedError),
        (200, {"error": {"code": 4007001, "error_message": "task id missing"}}, InvalidRequestError),
        (200, {"error": "no"}, InvalidRequestError),
        (200, {"error": "sensitive content"}, ContentRejectedError),
        (200, {"error": {"code": 4007099, "error_message": "unavailable"}}, OrderUnconfirmedError),
        (200, {}, OrderUnconfirmedError),
        (200, {"id": ""}, OrderUnconfirmedError),
        (500, {"error": {"code": 4007099, "error_message": "unavailable"}}, OrderUnconfirmedError),
    ],
)
async def test_a_refusal_in_any_of_its_shapes(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Vtrix, order(), (status, body))
    assert type(refused.value) is kind


async def test_a_403_without_words_of_money_says_that_it_may_be_money() -> None:
    with pytest.raises(AuthenticationError) as refused:
        await started(Vtrix, order(), (403, {"message": "no permission"}))
    assert "balance" in refused.value.advice


def test_a_callback_names_the_task() -> None:
    provider, _ = of(Vtrix)
    assert provider.read_webhook({}, b'{"id": "d758", "status": "completed"}', KEY) == "d758"
    with pytest.raises(InvalidRequestError):
        provider.read_webhook({}, b'{"status": "completed"}', KEY)
