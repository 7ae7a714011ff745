"""OpenAI and Stability AI through the service: what is sent in their forms, and what their answers come to."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

import outpaint_mcp.providers as api
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError, ContentRejectedError
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Cost, Status
from outpaint_mcp.sandbox import PlainPainter, SandboxSettings

from ..counting import MovedClock, running, service_over
from ..images.test_paste_back import scene
from ..providers.easel import Shelf
from ..providers.network import Queue, form_of
from .service_at_sandbox import service_at_sandbox
from .test_what_leaves import LONG, SECRET, SHORT, png

CLASSES = api.provider_classes()
DRAWN = base64.b64encode(png()).decode()
ANSWERS: Mapping[str, Any] = {
    "openai": {"data": [{"b64_json": DRAWN}]},
    "stability": {"image": DRAWN, "finish_reason": "SUCCESS"},
}


@pytest.mark.parametrize("vendor", ANSWERS)
async def test_a_file_is_sent_upright_and_clean_in_a_form_that_adds_to_the_named_side(
    tmp_path: Path, vendor: str
) -> None:
    source = tmp_path / "photo.png"
    source.write_bytes(png())
    clock, queue = MovedClock(), Queue([httpx2.Response(200, json=ANSWERS[vendor])])
    one = CLASSES[vendor]
    assert issubclass(one, api.SynchronousProvider)
    provider = one(queue.client(), keep=Shelf(tmp_path).keep, key="key")
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        request = OutpaintRequest(image=str(source), provider=vendor, zoom=1.5, sides=("left",))
        assert (await service.outpaint(request, at_least=30)).status is Status.SUCCEEDED
    (sent,) = queue.requests
    assert SECRET.encode() not in sent.content
    assert (sent.headers["authorization"], sent.headers["accept"]) == ("Bearer key", "application/json")
    form = form_of(sent)
    with Image.open(io.BytesIO(form["image"])) as image:
        if vendor == "stability":
            assert image.size == (SHORT, LONG)
            assert [form[side] for side in ("left", "right", "up", "down")] == [b"32", b"0", b"0", b"0"]
        else:
            assert form["size"] == "{}x{}".format(*image.size).encode()
            assert image.width / image.height == pytest.approx(1, rel=0.03), "a half wider than 64x96"
            with Image.open(io.BytesIO(form["mask"])) as mask:
                clear, kept = (0, 0, image.width // 3 - 9, image.height), (image.width // 3 + 9, 0, *image.size)
                for part in (image, mask):
                    assert part.crop(clear).getchannel("A").getextrema() == (0, 0)
                    assert part.crop(kept).getchannel("A").getextrema() == (255, 255)
        right = image.convert("RGB").crop((image.width - 20, 0, image.width, image.height))
        top, bottom = right.getpixel((9, 9)), right.getpixel((9, image.height - 9))
    assert (top, bottom) == ((255, 0, 0), (0, 0, 255))


async def test_the_original_is_put_back_over_what_openai_drew_anew(tmp_path: Path) -> None:
    own = scene((864, 640))
    own.save(tmp_path / "scene.png")
    settings = SandboxSettings(painter=PlainPainter(), max_side=1152)
    async with service_at_sandbox(tmp_path, settings=settings) as at:
        asked: dict[str, Any] = {"image": str(tmp_path / "scene.png"), "zoom": 1.3333, "sides": ("left",)}
        kept = []
        for options in ({}, {"keep_original": False}):
            task = await at.order("openai", provider_options=options, **asked)
            data, _ = await at.service.image(task.id, 1)
            with Image.open(io.BytesIO(data)) as drawn:
                assert drawn.size == (1152, 640)
                kept.append(drawn.convert("RGB").crop((288, 0, 1152, 640)).tobytes() == own.tobytes())
        assert kept == [True, False], task.notes
        assert not any("keep_original" in body for body in at.bodies("openai", "outpaint"))


async def test_openai_is_sent_a_prompt_of_ours_where_there_is_none_and_tells_its_tokens(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        for prompt in (None, "a lake"):
            task = await at.order("openai", prompt=prompt, provider_options={"model": "gpt-image-2.6-sunburst"})
            assert task.cost == Cost(amount=100, unit="tokens", usd=None)
            assert any("needs a prompt" in note for note in task.notes) == (prompt is None)
        ours, given = at.bodies("openai", "outpaint")
    assert "beyond its borders" in ours["prompt"]
    assert (given["prompt"], given["model"]) == ("a lake", "gpt-image-2.6-sunburst")


async def test_what_openais_moderation_stops_is_no_order(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, daily_limits=DailyLimits(orders=1)) as at:
        at.fault("openai", "submit", "fail")
        with pytest.raises(ContentRejectedError) as refused:
            await at.order("openai")
        assert refused.value.provider_code == "moderation_blocked"
        assert (await at.order("openai")).status is Status.SUCCEEDED, "nothing was reserved any more"


async def test_an_image_that_stability_has_blurred_is_a_failure_that_may_have_been_charged(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, daily_limits=DailyLimits(orders=1)) as at:
        at.fault("stability", "submit", "fail")
        task = await at.order("stability")
        assert (task.status, task.images) == (Status.FAILED, ())
        assert task.failure is not None
        assert (task.failure.code, task.failure.provider_code) == ("content_rejected", "CONTENT_FILTERED")
        with pytest.raises(BudgetExceededError):
            await at.order("stability")
        assert at.sandbox.order_count("stability", "outpaint") == 1
