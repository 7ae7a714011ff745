"""fal's wire, endpoints and prices."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.fal import APPS, BRIA, FIBO, FLUX, Fal

from .through import KEY, UUID, image_order, input_image, of, started, urls

SHOWN_URL = "https://example.com/picture.png?sig=hush"
TAKEN = (200, {"request_id": UUID, "status": "IN_QUEUE", "queue_position": 0, "status_url": "https://evil.example/x"})
FLUX_FIXED = {"image_url": SHOWN_URL, "mode": "high", "output_format": "png", "sync_mode": False}
HALF_MORE = {"expand_left": 200, "expand_right": 200, "expand_top": 150, "expand_bottom": 150}
ON_CANVAS = {"canvas_size": [1200, 900], "original_image_size": [800, 600], "original_image_location": [200, 150]}


def sent(order: Order) -> tuple[str, Mapping[str, Any]]:
    call = of(Fal)[0].build_submit(order)
    return call.path, call.json or {}


def endpoint(name: str, **more: Any) -> dict[str, Any]:
    return {"endpoint": name, **more}


def test_an_order_goes_to_the_endpoint_that_can_do_it_in_its_fields() -> None:
    assert sent(image_order()) == (f"/{FLUX}", {**FLUX_FIXED, **HALF_MORE})
    fast = image_order(speed="fast", options={"enable_safety_checker": False}, webhook=Webhook("https://e.com/h?a=b&c"))
    path, body = sent(fast)
    assert path == f"/{FLUX}?fal_webhook=https%3A%2F%2Fe.com%2Fh%3Fa%3Db%26c"
    assert body == {**FLUX_FIXED, **HALF_MORE, "mode": "fast", "enable_safety_checker": False}
    prompted = {"image_url": SHOWN_URL, **ON_CANVAS, "prompt": "a lake", "seed": 7, "sync_mode": False}
    assert sent(image_order(prompt="a lake", options={"seed": 7})) == (f"/{BRIA}", prompted)
    assert sent(image_order(prompt="a lake", options=endpoint(FIBO, seed=7))) == (f"/{FIBO}", prompted)
    assert sent(image_order(options=endpoint(APPS))) == (
        f"/{APPS}",
        {"image_url": SHOWN_URL, **HALF_MORE, "zoom_out_percentage": 0, "num_images": 1, "output_format": "png"},
    )


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"speed": "turbo"}, UnsupportedFeatureError, "no speed turbo"),
        ({"speed": "fast", "prompt": "x"}, UnsupportedFeatureError, f"no speed for your own image by {BRIA}"),
        ({"prompt": "x", "provider_options": endpoint(FLUX)}, UnsupportedFeatureError, f"no prompt .* by {FLUX}"),
        ({"provider_options": endpoint("fal-ai/ideogram/v3/reframe")}, InvalidRequestError, "no endpoint 'fal-ai/ideo"),
        ({"provider_options": {"aspect_ratio": "1:1"}}, InvalidRequestError, "must not hold 'aspect_ratio'"),
        ({"provider_options": {"expand_left": 5}}, InvalidRequestError, "must not hold 'expand_left'"),
        ({"provider_options": {"sync_mode": True}}, InvalidRequestError, "must not hold 'sync_mode'"),
    ],
)
def test_what_the_endpoint_does_not_take_is_refused(
    asked: dict[str, Any], error: type[OutpaintError], told: str
) -> None:
    with pytest.raises(error, match=told):
        of(Fal)[0].check(OutpaintRequest(image="a.png", **asked), SourceKind.IMAGE)


def test_a_frame_is_scaled_into_the_endpoints_limits_or_refused() -> None:
    provider, _ = of(Fal)
    operations = provider.variants
    assert operations[FLUX].sent_frame(Frame.around(2000, 1000, zoom=2)) == Frame(2560, 1280, 640, 320, 1280, 640)
    assert max(operations[APPS].sent_frame(Frame.around(2000, 1000, zoom=2)).growths) == 700
    large = Frame.around(4000, 3000, zoom=2)
    fitted = operations[BRIA].sent_frame(large)
    assert 24_900_000 < fitted.canvas_width * fitted.canvas_height < 25_000_000
    image = input_image(4000, 3000)
    provider.check_image(image, large, operations[BRIA])
    wide = Frame.around(600, 600, zoom=2, aspect_ratio=AspectRatio(2, 1))
    with pytest.raises(UnsupportedFeatureError, match=r"more than 15 % .* here it is 12 %"):
        provider.check_image(input_image(600, 600), wide, operations[BRIA])


@pytest.mark.parametrize(
    ("size", "zoom", "asked", "usd"),
    [
        ((500, 500), 2.0, {}, 0.045),
        ((800, 600), 1.5, {}, 0.06),
        ((2000, 1000), 2.0, {}, 0.09),
        ((1600, 1600), 1.6, {}, 0.165),
        ((4000, 4000), 2.0, {"prompt": "a lake"}, 0.04),
        ((800, 600), 1.5, {"options": endpoint(FIBO)}, 0.04),
        ((800, 600), 1.5, {"options": endpoint(APPS)}, None),
    ],
)
def test_the_price_is_that_of_what_is_sent(
    size: tuple[int, int], zoom: float, asked: dict[str, Any], usd: float | None
) -> None:
    provider, _ = of(Fal)
    found = provider.usd_for(image_order(input_image(*size), zoom=zoom, **asked)).get(StepName.OUTPAINT)
    assert found == (None if usd is None else pytest.approx(usd))


async def test_a_request_is_polled_below_its_app_and_its_result_read_there() -> None:
    completed = {"status": "COMPLETED", "logs": None, "metrics": {"inference_time": 3.2}}
    image = {"image": {"url": "https://v3b.fal.media/1.png"}, "seed": 7}
    provider, vendor = of(Fal, TAKEN, (202, {"status": "IN_PROGRESS", "logs": None}), (200, completed), (200, image))
    update = await provider.start(image_order(prompt="a lake"))
    assert (update.status, update.remote_id, update.reference) == (Status.QUEUED, UUID, "fal-ai/bria")
    assert (await provider.poll(UUID, update.reference)).status is Status.RUNNING
    done = await provider.poll(UUID, update.reference)
    assert (done.status, urls(done)) == (Status.SUCCEEDED, ("https://v3b.fal.media/1.png",))
    assert {request.headers["authorization"] for request in vendor.requests} == {f"Key {KEY}"}
    polled = f"https://queue.fal.run/fal-ai/bria/requests/{UUID}"
    assert [str(request.url) for request in vendor.requests] == [
        f"https://queue.fal.run/{BRIA}",
        f"{polled}/status?logs=false",
        f"{polled}/status?logs=false",
        polled,
    ]
    assert provider.build_fetch(UUID).path.startswith("/fal-ai/flux-2-pro/"), "one that is adopted"


@pytest.mark.parametrize(
    ("answers", "code", "vendors"),
    [
        ([{"error": "Nudity was found", "error_type": "content_policy_violation"}], "content_rejected", True),
        ([{"error": {"message": "out of memory"}}], "provider_unavailable", False),
        ([{}, (422, {"detail": [{"msg": "no", "type": "content_policy_violation"}]})], "content_rejected", True),
        ([{}, (422, {"detail": "The image cannot be read"})], "invalid_request", False),
    ],
)
async def test_a_request_that_fails_is_completed_with_an_error_or_has_one_for_a_result(
    answers: list[Any], code: str, vendors: bool
) -> None:
    state, *result = answers
    provider, _ = of(Fal, (200, {"status": "COMPLETED", "logs": None, **state}), *result)
    update = await provider.poll(UUID, "fal-ai/bria")
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert update.failure.code == code
    assert update.failure.provider_code == ("content_policy_violation" if vendors else None)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"detail": "No user found for this key"}, AuthenticationError),
        (403, {"detail": "User is locked: the balance is below its threshold"}, InsufficientCreditsError),
        (403, {"detail": "Forbidden"}, AuthenticationError),
        (
            422,
            {"detail": [{"loc": ["body", "expand_left"], "msg": "too large", "type": "less_than"}]},
            InvalidRequestError,
        ),
        (422, {"detail": "no", "error_type": "content_policy_violation"}, ContentRejectedError),
        (200, {"status": "IN_QUEUE"}, OrderUnconfirmedError),
        (504, {"detail": "time-out"}, OrderUnconfirmedError),
    ],
)
async def test_a_refusal(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Fal, image_order(), (status, body))
    assert type(refused.value) is kind


def test_a_callback_names_the_request_and_nothing_else_of_it_is_believed() -> None:
    provider, _ = of(Fal)
    told: dict[str, Any] = {
        "request_id": UUID,
        "gateway_request_id": UUID,
        "status": "OK",
        "payload": {"images": []},
        "error": None,
    }
    assert provider.read_webhook({}, json.dumps(told).encode(), KEY) == UUID
