"""Legnext's wire, shapes and oddities."""

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
    UnexpectedResponseError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.legnext import Legnext

from .published import job
from .through import FOUR, GRID, KEY, UUID, frame_of, image_order, input_image, of, order, polled, started, urls

PENDING = job("pending")


def test_an_order_for_a_tasks_image() -> None:
    provider, _ = of(Legnext)
    full = order(
        zoom=1.7, prompt="a lake", webhook=Webhook("https://example.com/h?t=1"), options={"metadata": "m", "n": [1]}
    )
    assert provider.build_submit(full) == ApiCall(
        "POST",
        "/v1/outpaint",
        json={
            "jobId": UUID,
            "imageNo": 2,
            "scale": 1.7,
            "remixPrompt": "a lake",
            "callback": "https://example.com/h?t=1",
            "metadata": "m",
            "n": [1],
        },
    )
    assert provider.build_submit(order()).json == {"jobId": UUID, "imageNo": 2, "scale": 1.5}


def test_an_order_for_your_own_image_puts_it_in_the_middle_and_masks_the_ring() -> None:
    provider, _ = of(Legnext)
    call = provider.build_submit(image_order(input_image(800, 600), zoom=2.0, prompt="a lake"))
    assert call.path == "/v1/upload-paint"
    assert call.json == {
        "imgUrl": "https://example.com/picture.png?sig=hush",
        "canvas": {"width": 1600, "height": 1200},
        "imgPos": {"width": 800, "height": 600, "x": 400, "y": 300},
        "mask": {
            "areas": [
                {"width": 1600, "height": 1200, "points": [0, 0, 1600, 0, 1600, 300, 0, 300]},
                {"width": 1600, "height": 1200, "points": [0, 900, 1600, 900, 1600, 1200, 0, 1200]},
                {"width": 1600, "height": 1200, "points": [0, 300, 400, 300, 400, 900, 0, 900]},
                {"width": 1600, "height": 1200, "points": [1200, 300, 1600, 300, 1600, 900, 1200, 900]},
            ]
        },
        "remixPrompt": "a lake",
    }


def test_an_image_that_grows_to_the_sides_only_has_no_areas_above_and_below() -> None:
    provider, _ = of(Legnext)
    wide = image_order(input_image(800, 800), zoom=1.0, aspect_ratio=AspectRatio(2, 1), prompt="x")
    call = provider.build_submit(wide)
    assert call.json is not None
    assert call.json["canvas"] == {"width": 1600, "height": 800}
    assert [area["points"][:2] for area in call.json["mask"]["areas"]] == [[0, 0], [1200, 0]]


@pytest.mark.parametrize(
    ("size", "zoom", "ratio", "canvas", "inner"),
    [
        ((4000, 3000), 2.0, None, (4096, 3072), (2048, 1536)),
        ((100, 200), 1.5, None, (500, 1000), (333, 667)),
        ((640, 480), 1.0, AspectRatio(1, 1), (640, 640), (640, 480)),
        ((640, 480), 1.0, AspectRatio(16, 9), (889, 500), (667, 500)),
        ((500, 4096), 1.0, AspectRatio(1, 8), (512, 4096), (500, 4096)),
        ((10, 10), 1.1, None, (500, 500), (455, 455)),
    ],
)
def test_the_whole_is_scaled_so_that_both_sides_are_500_to_4096(
    size: tuple[int, int], zoom: float, ratio: AspectRatio | None, canvas: tuple[int, int], inner: tuple[int, int]
) -> None:
    provider, _ = of(Legnext)
    body = provider.build_submit(image_order(input_image(*size), zoom=zoom, aspect_ratio=ratio, prompt="x")).json
    assert body is not None
    assert tuple(body["canvas"].values()) == canvas
    at = body["imgPos"]
    assert (at["width"], at["height"]) == inner
    assert 0 <= at["x"] <= canvas[0] - at["width"]
    assert abs(canvas[0] - at["width"] - 2 * at["x"]) <= 1, "it is in the middle"
    assert abs(canvas[1] - at["height"] - 2 * at["y"]) <= 1


PAINT = OutpaintRequest(image="https://example.com/a.png", prompt="x")


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"prompt": None}, InvalidRequestError, "prompt"),
        ({"image": "/home/me/a.png"}, UnsupportedFeatureError, "URL"),
        ({"image": "data:image/png;base64,AAAA"}, UnsupportedFeatureError, "URL"),
        ({"image": "http://[half"}, UnsupportedFeatureError, "URL"),
        ({"image": "https://example.com/" + "a" * 1024}, UnsupportedFeatureError, "1024"),
        ({"image_index": 2}, UnsupportedFeatureError, "image_index"),
        ({"provider_options": {"mask": {}}}, InvalidRequestError, "zoom"),
    ],
)
def test_what_is_refused_of_your_own_image_before_it_is_read(
    changes: dict[str, Any], kind: type[OutpaintError], told: str
) -> None:
    provider, _ = of(Legnext)
    provider.check(PAINT, SourceKind.IMAGE)
    with pytest.raises(kind, match=told):
        provider.check(replace(PAINT, **changes), SourceKind.IMAGE)


def test_a_tasks_image_needs_no_prompt_and_another_providers_image_has_its_url_looked_at_later() -> None:
    provider, _ = of(Legnext)
    provider.check(OutpaintRequest(task_id=UUID), SourceKind.TASK)
    provider.check(OutpaintRequest(task_id=UUID, prompt="x"), SourceKind.IMAGE)


def test_the_published_price_is_that_of_a_tasks_image_and_the_price_of_your_own_image_is_unknown() -> None:
    provider, _ = of(Legnext)
    assert provider.usd_for(order()) == {StepName.OUTPAINT: 0.08}
    assert StepName.OUTPAINT not in provider.usd_for(image_order()), "a daily limit in USD counts it as 0.08"
    assert "of your own image not published" in provider.price


def test_what_is_refused_once_the_image_is_known() -> None:
    provider, _ = of(Legnext)
    image = input_image()
    provider.check_image(image, frame_of(image))
    with pytest.raises(UnsupportedFeatureError, match="URL"):
        provider.check_image(replace(image, url=None), frame_of(image))
    with pytest.raises(UnsupportedFeatureError, match="URL"):
        provider.check_image(replace(image, url="https://example.com/" + "a" * 1024), frame_of(image))
    narrow = input_image(1000, 100)
    with pytest.raises(UnsupportedFeatureError, match="narrow"):
        provider.check_image(narrow, frame_of(narrow))


async def test_the_key_and_the_paths() -> None:
    provider, vendor = of(Legnext, (200, PENDING), (200, PENDING))
    update = await provider.start(order())
    assert (update.status, update.remote_id) == (Status.QUEUED, UUID)
    assert update.cost == Cost(amount=80, unit="points", usd=0.08), "what is set aside"
    await provider.poll(UUID)
    submit, fetch = vendor.requests
    assert submit.headers["x-api-key"] == KEY
    assert str(submit.url) == "https://api.legnext.ai/api/v1/outpaint"
    assert (fetch.method, str(fetch.url)) == ("GET", f"https://api.legnext.ai/api/v1/job/{UUID}")


@pytest.mark.parametrize(
    ("word", "status"), [("pending", "queued"), ("staged", "queued"), ("Processing", "running"), ("resting", "running")]
)
async def test_the_states_of_a_job_under_way(word: str, status: str) -> None:
    update = await polled(Legnext, (200, job(word)))
    assert update.status == status
    assert bool(update.notes) == (word == "resting"), "an unlisted word is told, and never final"
    assert update.progress is None


async def test_a_completed_job() -> None:
    usage = {"usage": {"type": "point", "frozen": 0, "consume": 80}}
    update = await polled(Legnext, (200, job("completed", output={"image_url": GRID, "image_urls": FOUR}, meta=usage)))
    assert update.status is Status.SUCCEEDED
    assert urls(update) == FOUR, "in order"
    assert update.grid is not None
    assert (update.grid.url, update.is_grid, update.progress) == (GRID, True, 100)
    assert update.cost == Cost(amount=80, unit="points", usd=0.08)


async def test_an_upscales_only_image_may_stand_in_place_of_the_grid() -> None:
    output = {"image_url": FOUR[0], "image_urls": None}
    update = await polled(Legnext, (200, job("completed", task_type="upscale", output=output, meta=None)))
    assert urls(update) == FOUR[:1]
    assert update.is_grid is False
    assert update.grid is None
    assert update.cost is None


async def test_a_grid_without_its_singles_is_told_as_what_it_is() -> None:
    update = await polled(Legnext, (200, job("completed", output={"image_url": GRID, "image_urls": None})))
    assert update.status is Status.SUCCEEDED
    assert (urls(update), update.is_grid) == ((), True)
    assert "one grid image only" in update.notes[0]


async def test_a_completed_job_without_any_image_is_still_asked_for() -> None:
    update = await polled(Legnext, (200, job("completed", output=None)))
    assert update.status is Status.RUNNING, "calling it failed would let the order be paid again"
    assert "no image yet" in update.notes[0]


async def test_images_that_are_no_texts_are_unexpected() -> None:
    with pytest.raises(UnexpectedResponseError):
        await polled(Legnext, (200, job("completed", output={"image_urls": [7]})))


@pytest.mark.parametrize(
    "written", [f" {FOUR[0]}\n", FOUR[0].removeprefix("https:"), FOUR[0].replace("https", "HTTPS")]
)
async def test_an_address_that_is_not_clean_is_cleaned(written: str) -> None:
    update = await polled(Legnext, (200, job("completed", output={"image_urls": [written]})))
    assert update.status is Status.SUCCEEDED
    assert [url.lower() for url in urls(update)] == [FOUR[0].lower()]


async def test_an_address_with_spaces_and_letters_of_the_world_is_encoded() -> None:
    written = "https://cdn.example.com/a lake/\u00fcber.png?sig=a%2Fb&x=1"
    update = await polled(Legnext, (200, job("completed", output={"image_urls": [written]})))
    assert urls(update) == ("https://cdn.example.com/a%20lake/%C3%BCber.png?sig=a%2Fb&x=1",)


async def test_a_missing_or_unreadable_image_hides_no_other_and_changes_no_place() -> None:
    images = [FOUR[0], None, "file:///etc/passwd", FOUR[3]]
    update = await polled(Legnext, (200, job("completed", output={"image_urls": images})))
    assert update.status is Status.SUCCEEDED
    assert [(image.index, image.url) for image in update.images] == [(1, FOUR[0]), (4, FOUR[3])]
    assert [note for note in update.notes if "image 2" in note]
    assert [note for note in update.notes if "image 3" in note and "file:///etc/passwd" in note]


async def test_an_image_that_cannot_be_opened_at_all_is_told_with_the_tasks_end() -> None:
    update = await polled(Legnext, (200, job("completed", output={"image_urls": ["ftp://cdn.example.com/1.png"]})))
    assert (update.status, update.images) == (Status.SUCCEEDED, ())
    assert "ftp://cdn.example.com/1.png" in update.notes[0], "it was paid for"


async def test_of_thousands_of_images_sixteen_are_taken() -> None:
    images = [f"https://cdn.example.com/{at}.png" for at in range(20_000)]
    update = await polled(Legnext, (200, job("completed", output={"image_urls": images})))
    assert len(update.images) == 16
    assert "20000 images" in update.notes[0]


async def test_a_failed_job_gives_its_points_back_and_its_reason_in_our_codes() -> None:
    error = {"code": 10042, "raw_message": "x", "message": "sensitive content in the prompt"}
    update = await polled(Legnext, (200, job("failed", error=error)))
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert (update.failure.code, update.failure.provider_code) == ("content_rejected", "10042")
    assert update.cost == Cost(amount=0, unit="points", usd=0)
    silent = await polled(Legnext, (200, job("failed", error=None)))
    assert silent.failure is not None
    assert (silent.failure.code, silent.failure.retryable) == ("provider_unavailable", False)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"code": 400, "message": "bad scale", "raw_message": "", "detail": None}, InvalidRequestError),
        (401, {"error": {"code": 401, "message": "no key"}}, AuthenticationError),
        (402, {"message": "no credits"}, InsufficientCreditsError),
        (403, {"message": "no permission"}, AuthenticationError),
        (403, job("failed", job_id="", error={"code": 403, "message": "sensitive content"}), ContentRejectedError),
        (200, job("failed", job_id="", error={"code": 402, "message": "poor"}), InsufficientCreditsError),
        (200, job("failed", job_id="", error={"code": 7, "message": "sensitive content"}), ContentRejectedError),
        (200, job("failed", job_id="", error={"code": "E7", "message": "no"}), InvalidRequestError),
        (200, job("failed", job_id="", error={"code": 10042, "message": "no"}), InvalidRequestError),
        (200, job("failed", job_id="", error={"code": 500, "message": "no"}), OrderUnconfirmedError),
    ],
)
async def test_a_refusal_in_any_of_its_shapes(status: int, body: Any, kind: type[OutpaintError]) -> None:
    with pytest.raises(kind) as refused:
        await started(Legnext, order(), (status, body))
    assert type(refused.value) is kind


@pytest.mark.parametrize("code", [408, 500, 503])
async def test_a_rejection_under_200_that_may_still_be_processed_leaves_the_order_unconfirmed(code: int) -> None:
    body = job("failed", job_id="", error={"code": code, "message": "timeout; may still be processed"})
    with pytest.raises(OrderUnconfirmedError):
        await started(Legnext, order(), (200, body))


@pytest.mark.parametrize("body", [{}, job("pending", job_id=""), job("pending", job_id=None), {"status": 7}])
async def test_an_answer_that_names_no_job_leaves_the_order_unconfirmed(body: Any) -> None:
    with pytest.raises(OrderUnconfirmedError):
        await started(Legnext, order(), (200, body))


def test_a_callback_names_the_job_and_proves_nothing() -> None:
    provider, _ = of(Legnext)
    assert provider.read_webhook({}, b'{"job_id": "7", "status": "completed"}', KEY) == "7"
    for body in (b"", b"[]", b"{}", b'{"job_id": "../x y"}', b"[" * 100_000):
        with pytest.raises(InvalidRequestError):
            provider.read_webhook({}, body, KEY)


@pytest.mark.parametrize(
    ("actions", "told"),
    [({"reroll": True, "upscale": [0]}, True), ({"outpaint": [0, 1]}, False), ({}, False), (None, False)],
)
async def test_a_job_that_cannot_be_outpainted_is_noted(actions: Any, told: bool) -> None:
    output = {"image_url": GRID, "image_urls": FOUR, "available_actions": actions}
    assert ("V8" in str((await polled(Legnext, (200, job("completed", output=output)))).notes)) is told
