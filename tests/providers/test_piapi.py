"""PiAPI's wire, shapes and oddities."""

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
    UnknownTaskError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.piapi import Piapi

from .published import job
from .through import FOUR, GRID, KEY, UUID, of, order, polled, started, urls

TAKEN = (200, {"task_id": "t-7", "status": "success", "message": ""})
REQUEST = OutpaintRequest(task_id=UUID, zoom=1.5)
SQUARE = AspectRatio(1, 1)


def test_an_order_for_an_upscaled_image() -> None:
    provider, _ = of(Piapi)
    full = order(
        zoom=1.7,
        aspect_ratio=AspectRatio(16, 9),
        prompt="a lake",
        webhook=Webhook("https://example.com/h", "hush"),
        options={"skip_prompt_check": True},
    )
    assert provider.build_submit(full) == ApiCall(
        "POST",
        "/mj/v2/outpaint",
        json={
            "origin_task_id": UUID,
            "zoom_ratio": "1.7",
            "aspect_ratio": "16:9",
            "prompt": "a lake",
            "webhook_endpoint": "https://example.com/h",
            "webhook_secret": "hush",
            "skip_prompt_check": True,
        },
    )


@pytest.mark.parametrize(
    ("zoom", "sent"), [(1.0, "1"), (1.5, "1.5"), (2.0, "2"), (1.23456789, "1.23456789"), (1.1, "1.1")]
)
def test_the_zoom_is_sent_as_a_string_and_not_rounded(zoom: float, sent: str) -> None:
    provider, _ = of(Piapi)
    assert provider.build_submit(order(zoom=zoom)).json == {"origin_task_id": UUID, "zoom_ratio": sent}


def test_an_upscale_takes_the_index_as_a_string() -> None:
    provider, _ = of(Piapi)
    upscale = order(
        step=StepName.UPSCALE, webhook=Webhook("https://example.com/h"), options={"skip_prompt_check": True}
    )
    assert provider.build_upscale(upscale) == ApiCall(
        "POST", "/mj/v2/upscale", json={"origin_task_id": UUID, "index": "3"}
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"zoom": 1.7}, "needs an aspect_ratio"),
        ({"zoom": 1.0}, "1:1"),
        ({"zoom": 1.0, "aspect_ratio": AspectRatio(16, 9)}, "1:1"),
        ({"webhook": Webhook("https://example.com:8443/h")}, "port"),
        ({"webhook": Webhook("http://192.0.2.7/h")}, "https"),
        ({"webhook": Webhook("", "hush")}, "webhook_url"),
        ({"provider_options": {"zoom_ratio": "2"}}, "zoom_ratio"),
    ],
)
def test_what_is_refused_since_it_would_be_understood_otherwise(changes: dict[str, Any], told: str) -> None:
    provider, _ = of(Piapi)
    with pytest.raises(InvalidRequestError, match=told):
        provider.check(replace(REQUEST, **changes), SourceKind.TASK)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"zoom": 2.0},
        {"zoom": 2.0, "aspect_ratio": AspectRatio(16, 9)},
        {"zoom": 1.7, "aspect_ratio": AspectRatio(16, 9)},
        {"zoom": 1.0, "aspect_ratio": SQUARE},
        {"webhook": Webhook("https://example.com/h", "hush")},
        {"webhook": Webhook("https://example.com:443/h")},
        {"webhook": Webhook("http://example.com/h")},
        {"webhook": Webhook("https://192.0.2.7/h")},
    ],
)
def test_what_is_let_through(changes: dict[str, Any]) -> None:
    provider, _ = of(Piapi)
    provider.check(replace(REQUEST, **changes), SourceKind.TASK)


async def test_the_key_and_the_paths() -> None:
    under_way = {"task_id": "t-7", "status": "processing", "task_result": {"task_progress": 40}}
    provider, vendor = of(Piapi, TAKEN, (200, under_way))
    update = await provider.start(order())
    assert (update.status, update.remote_id) == (Status.QUEUED, "t-7"), "success is said of the order, not the image"
    polled_update = await provider.poll("t-7")
    assert (polled_update.status, polled_update.progress) == (Status.RUNNING, 40)
    submit, fetch = vendor.requests
    assert submit.headers["x-api-key"] == KEY
    assert (fetch.method, str(fetch.url)) == ("POST", "https://api.piapi.ai/mj/v2/fetch")
    assert fetch.content == b'{"task_id":"t-7"}'


async def test_an_id_that_cannot_be_one_is_not_sent() -> None:
    provider, vendor = of(Piapi)
    with pytest.raises(UnknownTaskError):
        await provider.poll("../7 x")
    assert vendor.requests == []


LEGACY = {"image_url": GRID, "image_urls": None, "temporary_image_urls": list(FOUR), "actions": ["reroll", "upscale1"]}


@pytest.mark.parametrize(
    "body",
    [
        {"task_id": UUID, "status": "finished", "task_result": {**LEGACY, "quota_used": 1}},
        {"code": 200, "message": "success", "data": {**job("Completed", output=LEGACY), "task_id": UUID}},
        {"data": {"task_id": UUID, "status": "finished", "task_result": {**LEGACY, "quota_used": 1}}},
        {"status": "finished", "task_result": {**LEGACY, "temporary_image_urls": None, "image_urls": list(FOUR)}},
    ],
)
async def test_a_finished_task_of_either_generation(body: Any) -> None:
    update = await polled(Piapi, (200, body))
    assert update.status is Status.SUCCEEDED
    assert urls(update) == FOUR
    assert update.grid is not None
    assert (update.grid.url, update.is_grid, update.remote_id) == (GRID, True, UUID)


@pytest.mark.parametrize(
    ("task", "images", "grid", "is_grid"),
    [
        ({"task_type": "upscale", "output": {"image_url": GRID}}, (GRID,), None, False),
        ({"task_result": {"image_url": GRID, "actions": ["upscale_2x", "outpaint_2x"]}}, (GRID,), None, False),
        ({"task_result": {"discord_image_url": GRID, "actions": ["upscale1"]}}, (), GRID, True),
        ({"task_result": {"image_url": GRID}}, (), GRID, None),
    ],
)
async def test_a_grid_is_told_from_a_single_image(
    task: Any, images: tuple[str, ...], grid: str | None, is_grid: bool | None
) -> None:
    update = await polled(Piapi, (200, {"status": "finished", **task}))
    assert update.status is Status.SUCCEEDED
    assert (urls(update), update.grid and update.grid.url, update.is_grid) == (images, grid, is_grid)


@pytest.mark.parametrize(
    ("task", "cost"),
    [
        ({"meta": {"usage": {"type": "point", "frozen": 0, "consume": 12}}}, Cost(amount=12, unit="points")),
        ({"task_result": {"quota_used": 3}}, Cost(amount=3, unit="quota")),
        ({"meta": {}}, None),
    ],
)
async def test_what_it_took(task: Any, cost: Cost | None) -> None:
    assert (await polled(Piapi, (200, {"status": "processing", **task}))).cost == cost


@pytest.mark.parametrize(
    ("task", "message", "code", "vendors"),
    [
        (
            {"error": {"code": 7, "raw_message": "raw", "message": "said"}},
            "PiAPI: “said”.",
            "provider_unavailable",
            "7",
        ),
        ({"error": {"code": 0, "raw_message": "raw"}}, "PiAPI: “raw”.", "provider_unavailable", None),
        ({"task_result": {"error_messages": ["one", "nsfw"]}}, "PiAPI: “one; nsfw”.", "content_rejected", None),
        ({"task_result": {"error_messages": "one"}}, "PiAPI: “one”.", "provider_unavailable", None),
        ({"task_result": {"message": "said"}}, "PiAPI: “said”.", "provider_unavailable", None),
        ({"message": "said"}, "PiAPI: “said”.", "provider_unavailable", None),
        ({}, "PiAPI gives no reason.", "provider_unavailable", None),
    ],
)
async def test_a_failed_task(task: Any, message: str, code: str, vendors: str | None) -> None:
    update = await polled(Piapi, (200, {"status": "failed", **task}))
    assert update.failure is not None
    assert update.failure.message == message
    assert (update.failure.code, update.failure.provider_code) == (code, vendors)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"message": "no such parent"}, InvalidRequestError),
        (400, {"message": "banned prompt"}, ContentRejectedError),
        (400, [], InvalidRequestError),
        (401, {}, AuthenticationError),
        (200, {"code": 402, "data": None, "message": "poor"}, InsufficientCreditsError),
        (200, {"code": 450, "data": None, "message": "no"}, InvalidRequestError),
        (200, {"code": 400, "data": None, "message": "banned prompt"}, ContentRejectedError),
        (200, {"code": 500, "data": None, "message": "no"}, OrderUnconfirmedError),
        (200, {"code": 408, "data": None, "message": "no"}, OrderUnconfirmedError),
        (200, {"code": 500, "data": None, "message": "banned prompt"}, OrderUnconfirmedError),
        (200, {"task_id": "", "status": "failed", "message": "no"}, InvalidRequestError),
        (200, {"task_id": "", "status": "error", "message": "banned prompt"}, ContentRejectedError),
        (200, {"task_id": "", "status": "success"}, OrderUnconfirmedError),
        (200, [], OrderUnconfirmedError),
        (500, {}, OrderUnconfirmedError),
    ],
)
async def test_a_refusal_in_any_of_its_shapes(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Piapi, order(), (status, body))
    assert type(refused.value) is kind


def test_a_callback_names_the_task_of_its_envelope() -> None:
    provider, _ = of(Piapi)
    sent = b'{"timestamp": 1, "data": {"task_id": "t-7", "status": "completed"}}'
    assert provider.read_webhook({"x-webhook-secret": "hush"}, sent, KEY) == "t-7"
    with pytest.raises(InvalidRequestError):
        provider.read_webhook({}, b'{"timestamp": 1, "data": null}', KEY)
