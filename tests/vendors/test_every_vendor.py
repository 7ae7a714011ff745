"""Every vendor's adapter against the sandbox's side of the same protocol, over real HTTP."""

import io
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image, ImageChops, ImageStat

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InsufficientCreditsError,
    InvalidRequestError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.sandbox import SandboxSettings, seed_id

from .service_at_sandbox import (
    ENGINES,
    NEEDS_UPSCALED,
    PAID,
    POLLED,
    VENDORS,
    WITH_TASKS,
    HastyClock,
    arguments_for,
    service_at_sandbox,
)


@pytest.mark.parametrize("vendor", WITH_TASKS)
@pytest.mark.parametrize("grid", [True, False])
async def test_a_seeded_task_is_extended_with_as_many_orders_as_it_takes(
    tmp_path: Path, vendor: str, grid: bool
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order(vendor, grid=grid)
        upscaled = grid and vendor in NEEDS_UPSCALED
        assert task.status is Status.SUCCEEDED, task.failure
        assert [image.index for image in task.images] == [1, 2, 3, 4]
        assert {(image.width, image.height, image.mime_type) for image in task.images} == {(384, 384, "image/png")}
        assert [step.name for step in task.steps] == [StepName.UPSCALE] * upscaled + [StepName.OUTPAINT]
        assert at.sandbox.order_count(vendor, "outpaint") == 1
        assert at.sandbox.order_count(vendor, "upscale") == upscaled
        again = await at.order(vendor, grid=grid)
        assert again.id == task.id
        further = await at.finished(OutpaintRequest(task_id=task.id, image_index=1, zoom=1.5))
        assert further.status is Status.SUCCEEDED, "and its own result can be extended"
        data, _ = await at.service.image(task.id, 4)
        assert data.startswith(b"\x89PNG")


@pytest.mark.parametrize("vendor", sorted(set(VENDORS) - set(WITH_TASKS)))
async def test_an_image_is_extended_with_one_order_and_all_that_is_new_lies_on_the_named_side(
    tmp_path: Path, vendor: str
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order(vendor, sides=("left",))
        assert task.status is Status.SUCCEEDED, task.failure
        (image,) = task.images
        same_frame: dict[str, Any] = {"zoom": 1.0, "aspect_ratio": AspectRatio(9, 4), "sides": ("left",)}
        assert (await at.order(vendor, **same_frame)).id == task.id
        assert at.sandbox.order_count(vendor, "outpaint") == 1
        data, _ = await at.service.image(task.id, 1)
        if vendor == "openai":  # by another provider, which does not care whose it is
            further = await at.finished(OutpaintRequest(task_id=task.id, provider="local", zoom=1.5))
            assert further.status is Status.SUCCEEDED, "and its own result can be extended"
    with Image.open(io.BytesIO(data)) as drawn, Image.open(arguments_for(vendor, tmp_path)["image"]) as own:
        assert drawn.size == (image.width, image.height)
        assert drawn.width / drawn.height == pytest.approx(1.5 * own.width / own.height, rel=0.05)
        # A third of the width is new; the sandbox paints it in one colour, and the rest is the original.
        new, kept = drawn.width // 3, drawn.convert("RGB").crop((drawn.width // 3 + 4, 0, drawn.width, drawn.height))
        painted = drawn.convert("RGB").crop((0, 0, new - 4, drawn.height))
        assert ImageStat.Stat(painted).stddev == pytest.approx([0, 0, 0], abs=5), "but for a seam that is hidden"
        before = own.convert("RGB").resize(kept.size)
        assert ImageStat.Stat(ImageChops.difference(kept, before)).mean == pytest.approx([0, 0, 0], abs=12)


WIRE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("legnext", {"grid": True, "zoom": 1.7, "prompt": "a lake"}, {"imageNo": 2, "scale": 1.7, "remixPrompt": "a lake"}),
    ("vtrix", {"grid": True, "zoom": 1.7, "prompt": "a lake"}, {"imageNo": 2, "scale": 1.7, "remixPrompt": "a lake"}),
    ("apiframe", {"zoom": 2.0}, {"action": "outpaint", "zoomRatio": 2}),
    ("apimart", {"zoom": 2.0, "speed": "turbo"}, {"zoom_ratio": 2, "speed": "turbo"}),
    ("apimart", {"provider_options": {"metadata": {"a": 1}}}, {"zoom_ratio": 1.5, "metadata": {"a": 1}}),
    (
        "piapi",
        {
            "zoom": 1.7,
            "aspect_ratio": AspectRatio(16, 9),
            "prompt": "x",
            "provider_options": {"skip_prompt_check": True},
        },
        {"zoom_ratio": "1.7", "aspect_ratio": "16:9", "prompt": "x", "skip_prompt_check": True},
    ),
    ("piapi", {"zoom": 1.0, "aspect_ratio": AspectRatio(1, 1)}, {"zoom_ratio": "1", "aspect_ratio": "1:1"}),
    ("piapi", {"zoom": 2.0}, {"zoom_ratio": "2"}),
]


@pytest.mark.parametrize(("vendor", "asked", "wanted"), WIRE)
async def test_the_vendor_receives_what_was_asked_in_its_own_words(
    tmp_path: Path, vendor: str, asked: dict[str, Any], wanted: dict[str, Any]
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order(vendor, **asked)
        (body,) = at.bodies(vendor, "outpaint")
    assert task.status is Status.SUCCEEDED
    fields = body["input"][0]["params"] if vendor == "vtrix" else body
    assert {name: fields.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("vendor", ["apiframe", "legnext", "piapi", "vtrix"])
async def test_the_order_names_the_webhook_that_was_given(tmp_path: Path, vendor: str) -> None:
    # PiAPI takes a domain or port 443 only, Apiframe https only: nothing listens there, so the webhook itself fails.
    webhook = Webhook("https://127.0.0.1/hook")
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order(vendor, webhook=webhook)
        assert task.status is Status.SUCCEEDED
        (body,) = at.bodies(vendor, "outpaint")
    assert webhook.url in str(body)


@pytest.mark.parametrize(
    ("vendor", "asked", "told"),
    [
        ("apimart", {"zoom": 1.7}, "1.5 or 2"),
        ("apiframe", {"zoom": 1.7}, "1.5 or 2"),
        ("apiframe", {"prompt": "x"}, "prompt"),
        ("apimart", {"prompt": "x"}, "prompt"),
        ("legnext", {"zoom": 1.05}, "1.1 to 2"),
        ("legnext", {"aspect_ratio": AspectRatio(16, 9)}, "aspect_ratio"),
        ("vtrix", {"speed": "turbo"}, "speed"),
        ("piapi", {"speed": "fast"}, "speed"),
        ("piapi", {"zoom": 1.7}, "aspect_ratio"),
        ("piapi", {"zoom": 1.0}, "1:1"),
        ("piapi", {"zoom": 1.0, "aspect_ratio": AspectRatio(16, 9)}, "1:1"),
        ("apimart", {"webhook": Webhook("https://127.0.0.1/hook")}, "webhook_url"),
        ("legnext", {"provider_options": {"jobId": "x"}}, "task_id"),
        ("vtrix", {"provider_options": {"callback": "x"}}, "webhook_url"),
    ],
)
async def test_what_a_vendor_cannot_do_is_refused_with_nothing_sent(
    tmp_path: Path, vendor: str, asked: dict[str, Any], told: str
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        await at.service.get_task(seed_id(vendor, grid=False), provider=vendor)
        before = len(at.sandbox.requests())
        with pytest.raises((UnsupportedFeatureError, InvalidRequestError)) as refused:
            await at.order(vendor, **asked)
        assert len(at.sandbox.requests()) == before
    assert told in str(refused.value)


REJECTIONS: list[tuple[dict[str, Any], type[OutpaintError]]] = [
    ({"fault": "status", "status": 401}, AuthenticationError),
    ({"fault": "status", "status": 429, "retry_after": 7}, RateLimitedError),
    ({"fault": "status", "status": 503, "retry_after": 7}, ProviderUnavailableError),
    ({"fault": "status", "status": 400}, InvalidRequestError),
    ({"fault": "status", "status": 402}, InsufficientCreditsError),
]
LOST: list[tuple[dict[str, Any], int]] = [
    ({"fault": "drop"}, 0),
    ({"fault": "drop", "accepted": True}, 1),
    ({"fault": "status", "status": 500}, 0),
    ({"fault": "status", "status": 500, "accepted": True}, 1),
    ({"fault": "status", "status": 408}, 0),
    ({"fault": "slow", "seconds": 1, "accepted": True}, 1),
    ({"fault": "truncated_json"}, 1),
    ({"fault": "html", "status": 200, "accepted": True}, 1),
    ({"fault": "html", "status": 502}, 0),
]
POLLS: list[dict[str, Any]] = [
    {"fault": "status", "status": 500, "times": 2},
    {"fault": "status", "status": 429, "retry_after": 0, "times": 2},
    {"fault": "drop", "times": 2},
    {"fault": "truncated_json", "times": 2},
    {"fault": "html", "status": 200, "times": 2},
    {"fault": "unknown_status", "times": 2},
    {"fault": "capitalised", "times": 20},
    {"fault": "bare_string", "times": 20},
    {"fault": "status", "status": 404, "times": 2},
]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_sure_rejection_is_an_error_and_no_order(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
        for fault, error in REJECTIONS:
            at.fault(vendor, "submit", **fault)
            with pytest.raises(error) as refused:
                await at.order(vendor)
            assert refused.value.retry_after == fault.get("retry_after")
            assert at.sandbox.order_count(vendor, "outpaint") == 0
        assert (await at.order(vendor)).status is Status.SUCCEEDED
        assert at.sandbox.order_count(vendor, "outpaint") == 1


@pytest.mark.parametrize("vendor", PAID)
async def test_an_order_whose_answer_is_lost_is_never_placed_twice(tmp_path: Path, vendor: str) -> None:
    placed = 0
    async with service_at_sandbox(tmp_path, read_timeout=0.5, clock=HastyClock()) as at:
        for fault, taken in LOST:
            if fault["fault"] == "slow" and vendor not in POLLED:
                continue  # it may be silent for as long as it draws; providers/test_synchronous.py waits for longer
            at.sandbox.faults.clear()
            at.fault(vendor, "submit", **fault)
            task = await at.order(vendor, repeat=True)
            again = await at.order(vendor)
            assert again.id == task.id
            if vendor == "apiframe":
                # The order is sent again under the same key, and placed once.
                assert again.status is Status.SUCCEEDED
                placed += 1
            else:
                assert task.status is Status.UNKNOWN, fault
                assert task.failure is not None
                assert task.failure.code == "order_unconfirmed"
                placed += taken
            assert at.sandbox.order_count(vendor, "outpaint") == placed, fault


@pytest.mark.parametrize("vendor", ENGINES)
async def test_an_engines_lost_answer_costs_nothing_and_may_be_ordered_again(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path, read_timeout=0.5, clock=HastyClock()) as at:
        for fault, _ in LOST:
            if fault["fault"] == "slow":
                continue  # it may be silent for as long as it draws
            at.sandbox.faults.clear()
            at.fault(vendor, "submit", **fault)
            task = await at.order(vendor, repeat=True)
            if at.service._providers[vendor].idempotent:
                assert task.status is Status.SUCCEEDED, fault
                continue
            assert task.status is Status.FAILED, fault
            assert task.failure is not None
            assert task.failure.code in ("provider_unavailable", "unexpected_response")
            assert "pay" not in task.next
            again = await at.order(vendor)
            assert (again.id != task.id, again.status) == (True, Status.SUCCEEDED)


async def test_a_daily_limit_in_usd_refuses_what_exceeds_it_and_a_price_that_nobody_knows(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, daily_limits=DailyLimits(usd=0.001)) as at:
        for vendor in PAID:
            with pytest.raises(BudgetExceededError) as refused:
                await at.order(vendor)
            assert (
                f"{vendor.upper()}_USD_PER_ORDER" in f"{refused.value}" or "this order costs $0." in f"{refused.value}"
            )
        assert not at.sandbox.requests(action="submit")
    prices = dict.fromkeys(PAID, 0.25)
    async with service_at_sandbox(tmp_path, daily_limits=DailyLimits(usd=0.2), prices=prices) as at:
        for vendor in PAID:
            with pytest.raises(BudgetExceededError, match=r"this order costs \$0.25"):
                await at.order(vendor)
        assert not at.sandbox.requests(action="submit")


@pytest.mark.parametrize("vendor", POLLED)
async def test_a_task_is_polled_to_its_end_whatever_its_vendor_answers(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path, read_timeout=0.5, clock=HastyClock()) as at:
        if vendor in WITH_TASKS:
            await at.service.get_task(seed_id(vendor, grid=False), provider=vendor)
        for number, fault in enumerate(POLLS, start=1):
            at.sandbox.faults.clear()
            at.fault(vendor, "poll", **fault)
            task = await at.order(vendor, repeat=True)
            assert task.status is Status.SUCCEEDED, (fault, task.failure)
            assert task.images, fault
            assert at.sandbox.order_count(vendor, "outpaint") == number


@pytest.mark.parametrize("vendor", POLLED)
async def test_a_task_that_fails_at_the_vendor_is_a_result_with_the_reason(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault(vendor, "submit", "fail", message="Too many hands in the image")
        task = await at.order(vendor)
    assert task.status is Status.FAILED
    assert task.failure is not None
    assert "Too many hands" in task.failure.message
    assert "change the order" not in task.next, "nobody knows what to change"


@pytest.mark.parametrize("vendor", sorted(set(POLLED) - set(ENGINES)))
async def test_images_that_are_gone_do_not_hurt_the_task(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault(vendor, "image", "gone", times=None)
        task = await at.order(vendor)
        assert task.status is Status.SUCCEEDED
        assert any("could not be copied" in note for note in task.notes)
        with pytest.raises(OutpaintError):
            await at.service.image(task.id, 1)
        at.sandbox.faults.clear()
        data, mime_type = await at.service.image(task.id, 1)
    assert (data[:4], mime_type) == (b"\x89PNG", "image/png")


@pytest.mark.parametrize("vendor", WITH_TASKS)
async def test_a_grid_without_an_index_and_a_wrong_index_are_refused(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
        with pytest.raises(InvalidRequestError, match="image_index"):
            await at.order(vendor, grid=True, image_index=None)
        with pytest.raises(InvalidRequestError, match="single image"):
            await at.order(vendor, image_index=2)
        assert not at.sandbox.orders()


async def test_a_key_that_is_missing_is_demanded_when_it_is_needed(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        provider = at.service._providers["legnext"]
        provider._key = None  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match="LEGNEXT_API_KEY"):
            await at.order("legnext")


async def test_the_real_engine_draws_what_the_sandbox_serves(tmp_path: Path) -> None:
    settings = SandboxSettings(seconds_per_state=0.02)
    async with service_at_sandbox(tmp_path, settings=settings, clock=HastyClock()) as at:
        task = await at.order("legnext")
        with anyio.fail_after(120):
            # A busy machine may draw for longer than a copy is waited for: it is tried again.
            while task.images[0].width is None:
                await anyio.sleep(0.1)
                task = await at.service.get_task(task.id)
    assert task.images[0].width == 384


async def test_a_lost_upscale_is_unknown_too_and_the_outpaint_is_not_sent(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault("apimart", "upscale", "drop", accepted=True)
        task = await at.order("apimart", grid=True)
        assert task.status is Status.UNKNOWN
        assert at.sandbox.order_count("apimart", "outpaint") == 0
        assert at.sandbox.order_count("apimart", "upscale") == 1


@pytest.mark.parametrize(
    ("vendor", "fault", "codes"),
    [
        (
            "legnext",
            {"fault": "job_shaped_refusal", "status": 403, "message": "Sensitive content in the prompt"},
            {"content_rejected"},
        ),
        (
            "legnext",
            {"fault": "job_shaped_refusal", "status": 403, "message": "No permission for this"},
            {"authentication_failed"},
        ),
        ("vtrix", {"fault": "status", "status": 403}, {"insufficient_credits", "authentication_failed"}),
        ("apimart", {"fault": "status", "status": 403}, {"authentication_failed"}),
        ("apiframe", {"fault": "status", "status": 404}, {"unknown_task"}),
        ("legnext", {"fault": "status", "status": 422}, {"invalid_request"}),
        ("apiframe", {"fault": "status", "status": 429, "retry_after": 3}, {"rate_limited"}),
    ],
)
async def test_each_vendors_own_rejections_have_our_codes(
    tmp_path: Path, vendor: str, fault: dict[str, Any], codes: set[str]
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault(vendor, "submit", **fault)
        with pytest.raises(OutpaintError) as refused:
            await at.order(vendor)
        assert at.sandbox.order_count(vendor, "outpaint") == 0
    assert refused.value.code in codes


@pytest.mark.parametrize("vendor", ["piapi", "vtrix"])
async def test_a_rejection_in_a_200_is_no_order(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault(vendor, "submit", "refused_in_200")
        try:
            task = await at.order(vendor)
        except InvalidRequestError:
            pass
        else:
            # What cannot be read for sure is never taken for a rejection.
            assert task.status is Status.UNKNOWN
        assert at.sandbox.order_count(vendor, "outpaint") == 0
