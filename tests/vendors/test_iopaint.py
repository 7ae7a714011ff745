"""IOPaint through the service: what it is sent, and what becomes of its answers and of its troubles."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
import pytest
from PIL import Image

import outpaint_mcp.providers as api
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest
from outpaint_mcp.domain.task import Task
from outpaint_mcp.providers.canvases import Canvases
from outpaint_mcp.providers.iopaint import IOPaint
from outpaint_mcp.providers.local.workers import Workers
from outpaint_mcp.sandbox import PlainPainter, SandboxSettings

from ..counting import MovedClock, running, service_over
from ..images.test_paste_back import scene
from ..providers.easel import Shelf
from .service_at_sandbox import ServiceAtSandbox, service_at_sandbox

MODEL = {"name": "sd-inpainting", "model_type": "diffusers_sd_inpaint", "need_prompt": True, "support_strength": True}
LAMA = {"name": "lama", "model_type": "inpaint", "need_prompt": False}


class Engine:
    """Answers with a plain picture of the size that it is sent, or of `size`."""

    def __init__(self, model: dict[str, Any], size: tuple[int, int] | None = None) -> None:
        self.model, self.size = model, size
        self.bodies: list[dict[str, Any]] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json=["DDIM", "LCM"] if "samplers" in request.url.path else self.model)
        body = json.loads(request.content)
        self.bodies.append(body)
        size = self.size or picture_in(body, "image").size
        buffer = io.BytesIO()
        Image.new("RGB", size, (10, 20, 30)).save(buffer, "PNG")
        return httpx2.Response(200, content=buffer.getvalue(), headers={"content-type": "image/png"})


def picture_in(body: dict[str, Any], name: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(body[name], validate=True)))


def provider(folder: Path, engine: Engine) -> IOPaint:
    client = api.HttpClient(transport=httpx2.MockTransport(engine.answer))
    return IOPaint(
        client, canvases=Canvases(folder, Workers()), keep=Shelf(folder).keep, base_url="http://127.0.0.1:8080"
    )


def asking(folder: Path, size: tuple[int, int] = (101, 67), **more: Any) -> OutpaintRequest:
    scene(size).save(folder / "own.png")
    return OutpaintRequest(**{"image": str(folder / "own.png"), "provider": "iopaint", "zoom": 1.5, **more})


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


async def test_it_is_sent_a_canvas_and_a_mask_and_the_options_in_its_own_words(
    tmp_path: Path, clock: MovedClock
) -> None:
    engine = Engine(MODEL)
    options = {"seed": 7, "steps": 12, "denoise": 0.5, "guidance": 3.0, "sampler": "ddim", "negative_prompt": "text"}
    async with running(service_over(tmp_path, provider(tmp_path, engine), clock=clock), clock) as service:
        asked = asking(tmp_path, prompt="a lake", provider_options={**options, "variants": 2})
        task = await service.outpaint(asked, at_least=60)
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert len(task.images) == 2
    first, second = engine.bodies
    assert (picture_in(first, "image").size, picture_in(first, "image").format) == ((632, 424), "PNG")
    assert picture_in(first, "mask").size == (632, 424), "small ones are drawn larger"
    sent = {name: value for name, value in first.items() if name not in ("image", "mask")}
    assert sent == {
        "prompt": "a lake",
        "negative_prompt": "text",
        "sd_seed": 7,
        "sd_steps": 12,
        "sd_strength": 0.5,
        "sd_guidance_scale": 3.0,
        "sd_sampler": "DDIM",
        "hd_strategy": "Original",
    }
    assert second == {**first, "sd_seed": 8}


async def test_what_the_model_does_not_have_is_refused_by_name(tmp_path: Path, clock: MovedClock) -> None:
    engine = Engine({**MODEL, "support_strength": False})
    async with running(service_over(tmp_path, provider(tmp_path, engine), clock=clock), clock) as service:
        with pytest.raises(api.UnsupportedFeatureError, match="sd-inpainting, which takes no denoise"):
            await service.outpaint(asking(tmp_path, provider_options={"denoise": 0.5}), at_least=60)
        with pytest.raises(api.InvalidRequestError, match="has no sampler 'x'") as found:
            await service.outpaint(asking(tmp_path, provider_options={"sampler": "x"}), at_least=60)
    assert (found.value.advice, engine.bodies) == ("It has DDIM, LCM. Give one as sampler.", [])


async def test_the_same_order_is_one_and_repeated_it_is_drawn_with_another_seed(
    tmp_path: Path, clock: MovedClock
) -> None:
    engine = Engine(MODEL)
    async with running(service_over(tmp_path, provider(tmp_path, engine), clock=clock), clock) as service:
        tasks = [
            await service.outpaint(asking(tmp_path, repeat=repeat), at_least=60) for repeat in (False, False, True)
        ]
    assert tasks[0].id == tasks[1].id != tasks[2].id
    seeds = [body["sd_seed"] for body in engine.bodies]
    assert len(set(seeds)) == len(seeds) == 2


async def test_an_erase_model_is_sent_no_more_than_it_takes_and_refuses_the_rest_by_name(
    tmp_path: Path, clock: MovedClock
) -> None:
    engine = Engine(LAMA)
    async with running(service_over(tmp_path, provider(tmp_path, engine), clock=clock), clock) as service:
        for more, told in (({"prompt": "a lake"}, "no prompt"), ({"provider_options": {"seed": 7}}, "no seed")):
            with pytest.raises(api.UnsupportedFeatureError, match=f"runs lama, an erase model, which takes {told}"):
                await service.outpaint(asking(tmp_path, **more), at_least=60)
        assert engine.bodies == []
        task = await service.outpaint(asking(tmp_path), at_least=60)
    assert task.status is api.Status.SUCCEEDED
    assert any("smears over wide areas" in note for note in task.notes)
    assert picture_in(engine.bodies[0], "image").size == (152, 104), "padded, and no larger than it must be"


async def test_an_answer_of_another_shape_is_no_result(tmp_path: Path, clock: MovedClock) -> None:
    engine = Engine(LAMA, (101, 67))
    async with running(service_over(tmp_path, provider(tmp_path, engine), clock=clock), clock) as service:
        task = await service.outpaint(asking(tmp_path, sides=("left",)), at_least=60)
    assert task.failure is not None
    assert (task.status, task.failure.code) == (api.Status.FAILED, "unexpected_response")
    assert "101x67 pixels in place of 152x72" in task.failure.message


async def test_odd_sizes_come_out_exact_and_a_file_goes_to_it_by_auto(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, auto=("fal", "iopaint", "local")) as at:
        asked = asking(tmp_path, (101, 67), provider="auto", aspect_ratio=AspectRatio(16, 9), zoom=1.0)
        task = await at.finished(asked)
        assert (task.provider, task.status) == ("iopaint", api.Status.SUCCEEDED)
        data, _ = await at.service.image(task.id, 1)
    with Image.open(io.BytesIO(data)) as drawn:
        assert drawn.size == (119, 67)
        assert np.array_equal(np.asarray(drawn)[:, 9:110], np.asarray(scene((101, 67))))


async def test_auto_knows_what_an_erase_model_does_not_take(tmp_path: Path) -> None:
    settings = SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), iopaint_model="lama")
    async with service_at_sandbox(tmp_path, settings=settings, auto=("iopaint", "sdapi")) as at:
        for more, taker in (
            ({"prompt": "a lake"}, "sdapi"),
            ({"provider_options": {"seed": 7}}, "sdapi"),
            ({}, "iopaint"),
        ):
            task = await at.finished(asking(tmp_path, provider="auto", **more))
            assert (task.provider, task.status) == (taker, api.Status.SUCCEEDED)


async def test_an_engine_that_breaks_or_lacks_memory_says_so(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault("iopaint", "submit", "fail")
        task = await at.order("iopaint")
        assert task.failure is not None
        assert (task.failure.code, task.failure.provider_code) == ("provider_unavailable", "OutOfMemoryError")
        assert "is out of memory. Free memory there" in task.failure.message
        assert task.failure.retryable is False
        async with httpx2.AsyncClient(base_url=f"{at.base_url}/iopaint", trust_env=False) as client:
            await client.post("/api/v1/model", json={"name": "nosuch"})
        with pytest.raises(api.ConfigurationError, match="switched to a model that it does not have, 'nosuch'"):
            await at.order("iopaint")


async def test_an_engine_that_is_down_is_told_at_once(tmp_path: Path, clock: MovedClock) -> None:
    async def no_pause(seconds: float) -> None:
        pass

    def down(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("x")

    client = api.HttpClient(transport=httpx2.MockTransport(down), sleep=no_pause)
    canvases = Canvases(tmp_path, Workers())
    engine = IOPaint(client, canvases=canvases, keep=Shelf(tmp_path).keep, base_url="http://127.0.0.1:8080")
    async with running(service_over(tmp_path, engine, clock=clock), clock) as service:
        with pytest.raises(api.ProviderUnavailableError, match="IOPaint cannot be reached"):
            await service.outpaint(asking(tmp_path), at_least=60)


def slow(folder: Path) -> Any:
    settings = SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), sleep=lambda _: anyio.sleep_forever())
    return service_at_sandbox(folder, settings=settings)


async def running_at(at: ServiceAtSandbox, **more: Any) -> Task:
    return await at.service.outpaint(asking(at.folder, **more), at_least=0.1)


async def test_orders_are_drawn_one_after_the_other_and_are_lost_with_the_program(tmp_path: Path) -> None:
    async with slow(tmp_path) as at:
        tasks = [await running_at(at, repeat=True, zoom=zoom) for zoom in (1.5, 1.6)]
        with anyio.fail_after(20):
            while [task.status for task in tasks] != [api.Status.RUNNING, api.Status.QUEUED]:
                tasks = [await at.service.get_task(task.id, wait_seconds=0.1) for task in tasks]
        assert len(at.sandbox.requests("iopaint", "submit")) == 1
    async with service_at_sandbox(tmp_path) as at:
        for task in tasks:
            with anyio.fail_after(20):
                while not (found := await at.service.get_task(task.id, wait_seconds=1)).status.ends_a_wait:
                    pass
            assert found.status is api.Status.FAILED
            assert found.failure is not None
            assert "This program stopped while it waited for IOPaint" in found.failure.message
            assert found.next == "It failed; the same order may succeed if it is placed again."
        again = await at.finished(asking(tmp_path, zoom=1.5))
        assert again.status is api.Status.SUCCEEDED
