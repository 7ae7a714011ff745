"""APIMart's wire, shapes and oddities."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    UnknownTaskError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.calls import ApiCall

from .through import FOUR, GRID, KEY, UUID, of, order, polled, started, urls

TAKEN = (200, {"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]})
REQUEST = OutpaintRequest(task_id=UUID, zoom=1.5)


def test_an_order_for_an_upscaled_image() -> None:
    provider, _ = of(Apimart)
    assert provider.build_submit(order(speed="turbo", options={"metadata": {"a": 1}})) == ApiCall(
        "POST",
        "/v1/midjourney/generations/zoom",
        json={"task_id": UUID, "index": 3, "zoom_ratio": 1.5, "speed": "turbo", "metadata": {"a": 1}},
    )


def test_a_button_decides_in_place_of_the_zoom_and_the_client_is_told() -> None:
    provider, _ = of(Apimart)
    request = replace(REQUEST, provider_options={"custom_id": "MJ::Outpaint::50"})
    assert not provider.sends_zoom(request)
    # Where the zoom is not sent, the order has none.
    assert provider.build_submit(order(zoom=None, options=request.provider_options)).json == {
        "task_id": UUID,
        "index": 3,
        "custom_id": "MJ::Outpaint::50",
    }
    (note,) = provider.notes_for(request)
    assert "zoom was not sent" in note
    assert provider.sends_zoom(REQUEST)
    assert provider.notes_for(REQUEST) == ()


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_button_is_none_and_the_zoom_decides(nothing: str | None) -> None:
    provider, _ = of(Apimart)
    options = {"custom_id": nothing}
    assert (provider.build_submit(order(options=options)).json or {})["zoom_ratio"] == 1.5
    assert provider.sends_zoom(replace(REQUEST, provider_options=options))
    assert provider.notes_for(replace(REQUEST, provider_options=options)) == ()
    with pytest.raises(UnsupportedFeatureError, match=r"1\.5 or 2"):
        provider.check(replace(REQUEST, zoom=1.7, provider_options=options), SourceKind.TASK)


def test_with_a_button_any_zoom_is_taken_since_none_is_sent() -> None:
    provider, _ = of(Apimart)
    provider.check(replace(REQUEST, zoom=1.7, provider_options={"custom_id": "MJ::Outpaint::50"}), SourceKind.TASK)


def test_an_upscale_goes_without_the_clients_options() -> None:
    provider, _ = of(Apimart)
    upscale = order(step=StepName.UPSCALE, speed="fast", options={"custom_id": "MJ::Outpaint::50"})
    assert provider.build_upscale(upscale) == ApiCall(
        "POST", "/v1/midjourney/generations/upscale", json={"task_id": UUID, "index": 3, "speed": "fast"}
    )


def test_a_zoom_that_would_be_drawn_as_another_is_refused() -> None:
    provider, _ = of(Apimart)
    provider.check(REQUEST, SourceKind.TASK)
    for zoom in (1.0, 1.7, 1.99):
        with pytest.raises(UnsupportedFeatureError, match=r"1\.5 or 2"):
            provider.check(replace(REQUEST, zoom=zoom), SourceKind.TASK)
    with pytest.raises(UnsupportedFeatureError, match="your own images"):
        provider.check(OutpaintRequest(image="a.png"), SourceKind.IMAGE)


def test_turbo_costs_more() -> None:
    provider, _ = of(Apimart)
    assert provider.usd_for(order()) == {StepName.OUTPAINT: 0.055, StepName.UPSCALE: 0.055}
    assert provider.usd_for(order(speed="turbo")) == {StepName.OUTPAINT: 0.10, StepName.UPSCALE: 0.10}


async def test_the_key_and_the_midjourney_path() -> None:
    provider, vendor = of(Apimart, TAKEN, (200, {"status": "IN_PROGRESS", "progress": "40%"}))
    assert (await provider.start(order())).remote_id == "task_1"
    update = await provider.poll("task_1")
    assert (update.status, update.progress, update.remote_id) == (Status.RUNNING, 40, "task_1")
    assert vendor.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert str(vendor.requests[1].url) == "https://api.apimart.ai/v1/midjourney/task_1"


async def test_a_task_that_the_midjourney_path_does_not_know_is_asked_for_at_the_general_one() -> None:
    body = {"code": 200, "data": {"id": "task_1", "status": "processing", "progress": 7}}
    provider, vendor = of(Apimart, (404, {"error": {"message": "not found"}}), (200, body))
    assert (await provider.poll("task_1")).progress == 7
    assert vendor.requests[1].url.path == "/v1/tasks/task_1"
    gone, _ = of(Apimart, (404, {}), (404, {"error": {"message": "not found"}}))
    with pytest.raises(UnknownTaskError):
        await gone.poll("task_1")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NOT_START", "queued"),
        ("SUBMITTED", "queued"),
        ("pending", "queued"),
        ("IN_PROGRESS", "running"),
        ("processing", "running"),
        ("MODAL", "running"),
        ("cancelled", "cancelled"),
    ],
)
async def test_the_states_without_an_image(word: str, status: str) -> None:
    update = await polled(Apimart, (200, {"status": word, "image_urls": list(FOUR)}))
    assert update.status == status
    assert update.images == (), "images can appear before the end, and are not counted then"


@pytest.mark.parametrize(
    ("changes", "images", "grid", "is_grid"),
    [
        ({"grid_image_url": GRID, "image_urls": FOUR}, FOUR, GRID, True),
        ({"image_urls": FOUR, "buttons": [{"customId": "MJ::JOB::upsample::1::x", "label": "U1"}]}, FOUR, None, True),
        ({"grid_image_url": GRID, "buttons": [{"label": "U4"}]}, (), GRID, True),
        (
            {"image_urls": FOUR[:1], "buttons": [{"customId": "MJ::Outpaint::50", "label": "Zoom"}]},
            FOUR[:1],
            None,
            False,
        ),
        ({"grid_image_url": GRID, "image_urls": None, "action": "UPSCALE"}, (GRID,), None, False),
        ({"image_urls": FOUR[:1]}, FOUR[:1], None, None),
    ],
)
async def test_a_grid_is_told_from_a_single_image(
    changes: dict[str, Any], images: tuple[str, ...], grid: str | None, is_grid: bool | None
) -> None:
    update = await polled(Apimart, (200, {"status": "SUCCESS", "cost": 0.055, **changes}))
    assert update.status is Status.SUCCEEDED
    assert (urls(update), update.grid and update.grid.url, update.is_grid) == (images, grid, is_grid)
    assert update.cost == Cost(amount=0.055, unit="USD", usd=0.055)


@pytest.mark.parametrize("url", [list(FOUR), FOUR[0]])
@pytest.mark.parametrize(
    ("expires", "at"),
    [
        (1790000000, datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
        ("2026-09-21T14:13:20Z", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
        ("2026-09-21T14:13:20", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
        ("soon", None),
        (1e300, None),
        (None, None),
    ],
)
async def test_the_general_paths_images(url: Any, expires: Any, at: datetime | None) -> None:
    task = {"status": "completed", "result": {"images": [{"url": url, "expires_at": expires}]}, "credits_cost": 55}
    update = await polled(Apimart, (404, {}), (200, {"code": 200, "data": task}))
    assert urls(update) == (FOUR if isinstance(url, list) else FOUR[:1])
    assert update.expires_at == at
    assert update.cost == Cost(amount=55, unit="credits")


async def test_a_failed_task() -> None:
    one = await polled(Apimart, (200, {"status": "FAILURE", "fail_reason": "banned prompt"}))
    other = await polled(Apimart, (200, {"status": "failed", "error": {"code": "e7", "message": "upstream"}}))
    assert one.failure is not None
    assert one.failure.code == "content_rejected"
    assert one.cost is None
    assert other.failure is not None
    assert (other.failure.code, other.failure.provider_code) == ("provider_unavailable", "e7")
    assert other.failure.message == "APIMart: “upstream”."


NEEDS = "This action requires an upscaled task (U1-U4)"


@pytest.mark.parametrize("status", [200, 400, 403, 404])
async def test_a_grid_as_the_parent_is_refused_with_what_to_do(status: int) -> None:
    for body in ({"error": {"message": NEEDS}}, {"success": False, "message": NEEDS}, {"code": 400, "message": NEEDS}):
        with pytest.raises(InvalidRequestError) as refused:
            await started(Apimart, order(), (status, body))
        assert "image_index" in refused.value.advice


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "no key", "type": "auth", "code": "x", "param": None}}, AuthenticationError),
        (402, {"error": {"message": "poor"}}, InsufficientCreditsError),
        (400, {"code": 400, "message": "no"}, InvalidRequestError),
        (200, {"code": 402, "message": "poor"}, InsufficientCreditsError),
        (200, {"success": False, "message": "no", "code": []}, InvalidRequestError),
        (200, {"code": 450, "message": "no", "data": []}, InvalidRequestError),
        (400, [], InvalidRequestError),
        (200, {"code": 200, "data": []}, OrderUnconfirmedError),
        (200, {"code": 500, "message": "no"}, OrderUnconfirmedError),
        (200, {"success": False, "code": 500, "message": "no"}, OrderUnconfirmedError),
        (200, {"success": False, "code": 503, "message": "moderation is down"}, OrderUnconfirmedError),
        (200, {"success": False, "code": 408, "message": "no"}, OrderUnconfirmedError),
        (200, {"success": False, "code": 10042, "message": "no"}, InvalidRequestError),
        (500, {"error": {"message": NEEDS}}, OrderUnconfirmedError),
    ],
)
async def test_a_refusal_in_any_of_its_shapes(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Apimart, order(), (status, body))
    assert type(refused.value) is kind


def test_there_are_no_callbacks() -> None:
    provider, _ = of(Apimart)
    with pytest.raises(InvalidRequestError, match="no webhooks"):
        provider.read_webhook({}, b"{}", KEY)


@pytest.mark.parametrize(("label", "told"), [("Vary (Subtle)", True), ("Zoom Out 2x", False)])
async def test_an_image_without_a_button_to_zoom_is_noted(label: str, told: bool) -> None:
    task = {"status": "SUCCESS", "image_urls": FOUR[:1], "buttons": [{"customId": "MJ::JOB::1", "label": label}]}
    assert ("V8" in str((await polled(Apimart, (200, task))).notes)) is told
