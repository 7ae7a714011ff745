"""Every vendor's adapter against the sandbox's side of the same protocol, over real HTTP."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
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

from ..serving import picture
from .market import NEEDS_UPSCALED, VENDORS, market


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("grid", [True, False])
async def test_a_seeded_task_is_extended_with_as_many_orders_as_it_takes(
    tmp_path: Path, vendor: str, grid: bool
) -> None:
    async with market(tmp_path) as at:
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
    async with market(tmp_path) as at:
        task = await at.order(vendor, **asked)
        (body,) = at.bodies(vendor, "outpaint")
    assert task.status is Status.SUCCEEDED
    fields = body["input"][0]["params"] if vendor == "vtrix" else body
    assert {name: fields.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("vendor", ["apiframe", "legnext", "piapi", "vtrix"])
async def test_the_vendor_pushes_to_the_webhook_that_was_given(tmp_path: Path, vendor: str) -> None:
    # PiAPI takes a domain or port 443 only, Apiframe https only: nothing listens there, so the push itself fails.
    webhook = Webhook("https://127.0.0.1/hook")
    async with market(tmp_path) as at:
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
    async with market(tmp_path) as at:
        await at.service.get_task(seed_id(vendor, grid=False), provider=vendor)
        before = len(at.sandbox.requests())
        with pytest.raises((UnsupportedFeatureError, InvalidRequestError)) as refused:
            await at.order(vendor, **asked)
        assert len(at.sandbox.requests()) == before
    assert told in str(refused.value)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"fault": "status", "status": 401}, AuthenticationError),
        ({"fault": "status", "status": 429, "retry_after": 7}, RateLimitedError),
        ({"fault": "status", "status": 503, "retry_after": 7}, ProviderUnavailableError),
        ({"fault": "status", "status": 400}, InvalidRequestError),
        ({"fault": "status", "status": 402}, InsufficientCreditsError),
    ],
)
async def test_a_sure_refusal_is_an_error_and_no_order(
    tmp_path: Path, vendor: str, fault: dict[str, Any], error: type[OutpaintError]
) -> None:
    async with market(tmp_path) as at:
        at.fault(vendor, "submit", **fault)
        with pytest.raises(error) as refused:
            await at.order(vendor)
        assert at.sandbox.order_count(vendor, "outpaint") == 0
        assert (await at.order(vendor)).status is Status.SUCCEEDED
        assert at.sandbox.order_count(vendor, "outpaint") == 1
    if "retry_after" in fault:
        assert refused.value.retry_after == 7


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ({"fault": "drop"}, 0),
        ({"fault": "drop", "accepted": True}, 1),
        ({"fault": "status", "status": 500}, 0),
        ({"fault": "status", "status": 500, "accepted": True}, 1),
        ({"fault": "status", "status": 408}, 0),
        ({"fault": "slow", "seconds": 3, "accepted": True}, 1),
        ({"fault": "truncated_json"}, 1),
        ({"fault": "html", "status": 200, "accepted": True}, 1),
        ({"fault": "html", "status": 502}, 0),
    ],
)
async def test_an_order_whose_answer_is_lost_is_never_placed_twice(
    tmp_path: Path, vendor: str, fault: dict[str, Any], taken: int
) -> None:
    async with market(tmp_path, read_timeout=0.5) as at:
        at.fault(vendor, "submit", **fault)
        task = await at.order(vendor)
        again = await at.order(vendor)
        placed = at.sandbox.order_count(vendor, "outpaint")
        assert again.id == task.id
        if vendor == "apiframe":
            # Asked for again under the same key, the order is there, once.
            assert (again.status, placed) == (Status.SUCCEEDED, 1)
        else:
            assert task.status is Status.UNKNOWN
            assert task.failure is not None
            assert (task.failure.code, placed) == ("order_unconfirmed", taken)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 500, "times": 2},
        {"fault": "status", "status": 429, "retry_after": 0, "times": 2},
        {"fault": "drop", "times": 2},
        {"fault": "truncated_json", "times": 2},
        {"fault": "html", "status": 200, "times": 2},
        {"fault": "unknown_status", "times": 2},
        {"fault": "capitalised", "times": 20},
        {"fault": "bare_string", "times": 20},
        {"fault": "status", "status": 404, "times": 2},
    ],
)
async def test_a_task_is_followed_through_whatever_its_vendor_answers(
    tmp_path: Path, vendor: str, fault: dict[str, Any]
) -> None:
    async with market(tmp_path, read_timeout=0.5) as at:
        await at.service.get_task(seed_id(vendor, grid=False), provider=vendor)
        at.fault(vendor, "poll", **fault)
        task = await at.order(vendor)
        assert at.sandbox.order_count(vendor, "outpaint") == 1
    assert task.status is Status.SUCCEEDED, task.failure
    assert task.images


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_task_that_fails_at_the_vendor_is_a_result_with_the_reason(tmp_path: Path, vendor: str) -> None:
    async with market(tmp_path) as at:
        at.fault(vendor, "submit", "fail", message="Too many hands in the picture")
        task = await at.order(vendor)
    assert task.status is Status.FAILED
    assert task.failure is not None
    assert "Too many hands" in task.failure.message
    assert "change the order" not in task.next, "nobody knows what to change"


@pytest.mark.parametrize("vendor", VENDORS)
async def test_images_that_are_gone_do_not_hurt_the_task(tmp_path: Path, vendor: str) -> None:
    async with market(tmp_path) as at:
        at.fault(vendor, "image", "gone", times=None)
        task = await at.order(vendor)
        assert task.status is Status.SUCCEEDED
        assert any("could not be copied" in note for note in task.notes)
        with pytest.raises(OutpaintError):
            await at.service.image(task.id, 1)
        at.sandbox.faults.clear()
        data, mime_type = await at.service.image(task.id, 1)
    assert (data[:4], mime_type) == (b"\x89PNG", "image/png")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_grid_without_an_index_and_a_wrong_index_are_refused(tmp_path: Path, vendor: str) -> None:
    async with market(tmp_path) as at:
        with pytest.raises(InvalidRequestError, match="image_index"):
            await at.order(vendor, grid=True, image_index=None)
        with pytest.raises(InvalidRequestError, match="single image"):
            await at.order(vendor, image_index=2)
        assert not at.sandbox.orders()


async def test_apiframe_takes_a_file_and_a_data_uri(tmp_path: Path) -> None:
    source = picture(tmp_path, width=300, height=200)
    async with market(tmp_path) as at:
        task = await at.finished(OutpaintRequest(image=str(source), provider="apiframe", zoom=1.5))
        assert task.status is Status.SUCCEEDED, task.failure
        square = OutpaintRequest(image=str(source), provider="apiframe", zoom=1.0, aspect_ratio=AspectRatio(1, 1))
        assert (await at.finished(square)).status is Status.SUCCEEDED
        outpaints = [body["fluxFillParams"]["outpaint"] for body in at.bodies("apiframe", "outpaint")]
    assert outpaints == ["Zoom out 1.5x", "Make square"]


async def test_a_lost_order_for_an_own_picture_is_found_again_with_the_same_upload(tmp_path: Path) -> None:
    request = OutpaintRequest(image=str(picture(tmp_path, width=300, height=200)), provider="apiframe", zoom=1.5)
    async with market(tmp_path, read_timeout=0.5) as at:
        # One more than are sent at once.
        at.fault("apiframe", "submit", fault="drop", accepted=True, times=5)
        task = await at.service.outpaint(request)
        assert task.status is Status.UNKNOWN
        with anyio.fail_after(30):
            while (await at.service.get_task(task.id)).status is not Status.SUCCEEDED:  # noqa: ASYNC110 (asking is the point)
                await anyio.sleep(0.1)
        assert at.sandbox.order_count("apiframe", "outpaint") == 1


@pytest.mark.parametrize("vendor", ["legnext", "vtrix"])
async def test_a_picture_by_its_url_is_centred_on_a_larger_canvas(tmp_path: Path, vendor: str) -> None:
    async with market(tmp_path) as at:
        found = await at.service.get_task(seed_id("legnext", grid=False), provider="legnext")
        source = found.images[0].url
        task = await at.finished(OutpaintRequest(image=source, provider=vendor, zoom=1.25, prompt="a lake"))
        assert task.status is Status.SUCCEEDED, task.failure
        (body,) = at.bodies(vendor, "outpaint")
    fields = body["input"][0]["params"] if vendor == "vtrix" else body
    canvas, inner = fields["canvas"], fields["imgPos"]
    assert canvas == {"width": 500, "height": 500}
    assert inner == {"width": 400, "height": 400, "x": 50, "y": 50}
    assert fields["imgUrl"] == source
    assert len(fields["mask"]["areas"]) == 4


async def test_auto_takes_the_first_that_can_and_keeps_files_on_this_machine(tmp_path: Path) -> None:
    source = picture(tmp_path)
    async with market(tmp_path) as at:
        here = await at.finished(OutpaintRequest(image=str(source), zoom=1.5))
        assert here.provider == "local"
        found = await at.service.get_task(seed_id("vtrix", grid=False), provider="vtrix")
        painted = await at.finished(OutpaintRequest(image=found.images[0].url, zoom=1.5, prompt="a lake"))
        assert painted.provider == "legnext", "the first in the order that does all of it"
    async with market(tmp_path, may_leave=True) as at:
        order = OutpaintRequest(image=str(source), zoom=1.5, prompt="a lake")
        assert (await at.finished(order)).provider == "apiframe", "the first that takes a file and a prompt"


async def test_another_providers_image_is_taken_as_an_own_picture(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
        task = await at.order("apimart")
        local = await at.finished(OutpaintRequest(task_id=task.id, provider="local", image_index=2, zoom=1.25))
        assert local.status is Status.SUCCEEDED, local.failure
        assert (local.images[0].width, local.images[0].height) == (480, 480)
        crossed = OutpaintRequest(task_id=task.id, provider="legnext", image_index=2, zoom=1.5, prompt="a lake")
        crossed_task = await at.finished(crossed)
        assert crossed_task.status is Status.SUCCEEDED
        (body,) = at.bodies("legnext", "outpaint")
    assert body["imgUrl"] == task.images[1].url


async def test_a_key_that_is_missing_is_asked_for_when_it_is_needed(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
        provider = at.service._providers["legnext"]
        provider._key = None  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match="LEGNEXT_API_KEY"):
            await at.order("legnext")


async def test_the_real_engine_draws_what_the_sandbox_serves(tmp_path: Path) -> None:
    async with market(tmp_path, settings=SandboxSettings(seconds_per_state=0.02)) as at:
        task = await at.order("legnext")
    assert task.images[0].width == 384


def texts(folder: Path) -> list[tuple[Path, str]]:
    """Every file that a program left behind, images apart."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".jpeg")]
    return [(path, path.read_bytes().decode("latin-1")) for path in kept]


SECRETS = ("planted-hook-query", "planted-hook-secret", "planted-image-query", "sandbox-", "afk_sandbox")


async def test_no_key_secret_or_query_is_told_logged_or_stored_whatever_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="outpaint_mcp")
    told: list[str] = []
    faults: list[tuple[str, dict[str, Any]]] = [
        ("submit", {"fault": "status", "status": 401}),
        ("submit", {"fault": "status", "status": 500}),
        ("submit", {"fault": "drop"}),
        ("submit", {"fault": "html", "status": 200, "accepted": True}),
        ("submit", {"fault": "fail"}),
        ("poll", {"fault": "status", "status": 500, "times": 3}),
        ("poll", {"fault": "html", "status": 200, "times": 3}),
        ("image", {"fault": "gone", "times": 10}),
    ]
    async with market(tmp_path) as at:
        for number, (on, fault) in enumerate(faults):
            for vendor in VENDORS:
                at.sandbox.faults.clear()
                at.fault(vendor, on, **fault)
                asked: dict[str, Any] = (
                    {}
                    if vendor == "apimart"
                    else {
                        "webhook": Webhook(
                            "https://127.0.0.1/hook?token=planted-hook-query",
                            "planted-hook-secret" if vendor == "piapi" else None,
                        )
                    }
                )
                asked["provider_options"] = {} if vendor in ("apiframe", "vtrix", "legnext") else {"metadata": number}
                if vendor == "piapi":
                    asked["provider_options"] = {}
                    asked["prompt"] = f"number {number}"
                try:
                    told.append((await at.order(vendor, zoom=1.5, **asked)).model_dump_json())
                except OutpaintError as error:
                    told.append(f"{error!r} {error}")
                await anyio.lowlevel.checkpoint()
        found = await at.service.get_task(seed_id("legnext", grid=False), provider="legnext")
        image = found.images[0].url + "?token=planted-image-query"
        for provider in ("local", "apiframe", "vtrix"):
            at.sandbox.faults.clear()
            try:
                request = OutpaintRequest(
                    image=image, provider=provider, zoom=1.5, prompt=None if provider == "local" else "x"
                )
                told.append((await at.finished(request)).model_dump_json())
            except OutpaintError as error:
                told.append(f"{error!r} {error}")
        told += [task.model_dump_json() for task in await at.service.recent(limit=1000)]
    stored = sqlite3.connect(tmp_path / "store.db")
    told += [str(row) for table in ("tasks", "orders", "kept") for row in stored.execute(f"SELECT * FROM {table}")]  # noqa: S608
    stored.close()
    told += [text for _, text in texts(tmp_path)]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 40
    for secret in SECRETS:
        assert not [text for text in told if secret in text], secret


async def test_a_lost_upscale_is_unknown_too_and_the_outpaint_is_not_sent(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
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
async def test_each_vendors_own_refusals_have_our_codes(
    tmp_path: Path, vendor: str, fault: dict[str, Any], codes: set[str]
) -> None:
    async with market(tmp_path) as at:
        at.fault(vendor, "submit", **fault)
        with pytest.raises(OutpaintError) as refused:
            await at.order(vendor)
        assert at.sandbox.order_count(vendor, "outpaint") == 0
    assert refused.value.code in codes


@pytest.mark.parametrize("vendor", ["piapi", "vtrix"])
async def test_a_refusal_in_a_200_is_no_order(tmp_path: Path, vendor: str) -> None:
    async with market(tmp_path) as at:
        at.fault(vendor, "submit", "refused_in_200")
        try:
            task = await at.order(vendor)
        except InvalidRequestError:
            pass
        else:
            # What cannot be read for sure is never taken for a refusal.
            assert task.status is Status.UNKNOWN
        assert at.sandbox.order_count(vendor, "outpaint") == 0
