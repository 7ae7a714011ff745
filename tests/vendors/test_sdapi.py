"""The sdapi family through the service: what each program is sent, how far it is, and what becomes of its troubles."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
import pytest
from PIL import Image

import outpaint_mcp.providers as api
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Task
from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings

from ..images.test_paste_back import scene
from .service_at_sandbox import ServiceAtSandbox, service_at_sandbox

FAST: dict[str, Any] = {"seconds_per_state": 0.02, "painter": PlainPainter()}


def asking(folder: Path, size: tuple[int, int] = (101, 67), **more: Any) -> OutpaintRequest:
    scene(size).save(folder / "own.png")
    return OutpaintRequest(**{"image": str(folder / "own.png"), "provider": "sdapi", "zoom": 1.5, **more})


def sent(at: ServiceAtSandbox) -> list[dict[str, Any]]:
    """The orders, without their pictures."""
    pictures = ("init_images", "mask", "init_image", "mask_image")
    return [
        {name: one for name, one in body.items() if name not in pictures} for body in at.bodies("sdapi", "outpaint")
    ]


async def until(at: ServiceAtSandbox, task: Task, wanted: Callable[[Task], bool]) -> Task:
    with anyio.fail_after(30):
        while not wanted(task):
            task = await at.service.get_task(task.id, wait_seconds=0.05)
    return task


@pytest.mark.parametrize("server", ["a1111", "sdnext"])
async def test_a_web_ui_is_sent_every_field_that_its_own_defaults_would_spoil(tmp_path: Path, server: Any) -> None:
    options = {"steps": 12, "denoise": 0.5, "negative_prompt": "text", "cfg_scale": 3.0, "sampler": "euler", "seed": 7}
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST, sdapi_server=server)) as at:
        asked = asking(tmp_path, (301, 211), prompt="a lake", sides=("left",), provider_options=options)
        task = await at.finished(asked)
        assert task.status is api.Status.SUCCEEDED, task.failure
        (body,) = sent(at)
        data, _ = await at.service.image(task.id, 1)
    assert body.pop("force_task_id")
    assert body == {
        "prompt": "a lake",
        "negative_prompt": "text",
        "seed": 7,
        "steps": 12,
        "denoising_strength": 0.5,
        "cfg_scale": 3.0,
        "sampler_name": "Euler",
        "width": 768,
        "height": 384,
        "resize_mode": 0,
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "inpainting_mask_invert": 0,
        "mask_blur": 8,
    }
    with Image.open(io.BytesIO(data)) as drawn:
        assert drawn.size == (452, 211)
        assert np.array_equal(np.asarray(drawn)[:, 151:], np.asarray(scene((301, 211))))
        assert not drawn.info.get("parameters"), "the prompt that the program writes into its files is gone"


@pytest.mark.parametrize(
    "settings",
    [
        {"sdapi_options": {"samples_format": "jpg"}},
        {"sdapi_options": {"return_grid": False}},
        # It does not say where the images begin.
        {"sdapi_server": "sdnext"},
    ],
)
async def test_variants_are_told_from_the_grid_before_them(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST, **settings)) as at:
        task = await at.finished(asking(tmp_path, provider_options={"variants": 4}))
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert [(image.width, image.height) for image in task.images] == [(152, 101)] * 4
        files = [(await at.service.image(task.id, index))[0] for index in range(1, 5)]
        corners = [Image.open(io.BytesIO(data)).getpixel((2, 2)) for data in files]
        assert len(set(corners)) == 4, "each is painted in a colour of its own, and none is the grid of them"


async def test_the_checkpoint_decides_how_much_is_drawn_anew_and_another_one_can_be_asked_for(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST)) as at:
        usual = await at.finished(asking(tmp_path))
        other = await at.finished(asking(tmp_path, provider_options={"model": "DreamShaper_8"}))
        assert not any("not made for inpainting" in note for note in usual.notes)
        assert any("dreamshaper_8.safetensors [0000000d] is not made for inpainting" in note for note in other.notes)
        first, second = sent(at)
        assert (first["denoising_strength"], second["denoising_strength"]) == (1.0, 0.9)
        assert "override_settings" not in first
        assert second["override_settings"] == {"sd_model_checkpoint": "dreamshaper_8.safetensors [0000000d]"}
        with pytest.raises(api.InvalidRequestError, match="has no model 'nosuch'") as found:
            await at.finished(asking(tmp_path, provider_options={"model": "nosuch"}))
        assert found.value.advice == "It has sd-v1-5-inpainting, dreamshaper_8. Give one as model."
        with pytest.raises(api.InvalidRequestError, match="has no sampler 'nosuch'") as found:
            await at.finished(asking(tmp_path, provider_options={"sampler": "nosuch"}))
        assert found.value.advice == "It has Euler, Euler a, DPM++ 2M, DDIM. Give one as sampler."


async def test_repeated_it_is_drawn_with_another_seed(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST)) as at:
        tasks = [await at.finished(asking(tmp_path, repeat=repeat)) for repeat in (False, False, True)]
        assert tasks[0].id == tasks[1].id != tasks[2].id
        assert len({body["seed"] for body in sent(at)}) == len(sent(at)) == 2


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"sdapi_models": ()}, api.ConfigurationError, "has no checkpoint"),
        ({"sdapi_login": "user:pass"}, api.AuthenticationError, "SDAPI_AUTHORIZATION"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, settings: dict[str, Any], error: Any, told: str) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST, **settings)) as at:
        with pytest.raises(error) as found:
            await at.finished(asking(tmp_path))
        assert told in str(found.value)
        assert not at.sandbox.requests("sdapi", "submit")


async def test_without_its_api_a_web_ui_is_to_be_started_with_it(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST)) as at:
        at.fault("sdapi", "about", "gone", times=2)
        with pytest.raises(api.ConfigurationError, match="has no API") as found:
            await at.finished(asking(tmp_path))
        assert "--api" in found.value.advice


@pytest.mark.parametrize("server", ["a1111", "forge", "sdnext"])
async def test_an_engine_without_memory_says_so_in_either_shape(tmp_path: Path, server: Any) -> None:
    async with service_at_sandbox(tmp_path, settings=SandboxSettings(**FAST, sdapi_server=server)) as at:
        at.fault("sdapi", "submit", "fail")
        task = await at.finished(asking(tmp_path))
        assert task.failure is not None
        assert (task.status, task.failure.code) == (api.Status.FAILED, "provider_unavailable")
        # Forge says no more than that it failed.
        assert ("out of memory" in task.failure.message) == (server != "forge")
        assert "pay" not in task.next


class Slow:
    """How a sandbox sleeps: step by step, as it is let."""

    def __init__(self) -> None:
        self.steps = anyio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        await self.steps.acquire()


def slow(folder: Path, slow: Slow, **more: Any) -> Any:
    settings = SandboxSettings(painter=PlainPainter(), seconds_per_state=1.0, sleep=slow, **more)
    return service_at_sandbox(folder, settings=settings)


@pytest.mark.parametrize("server", ["a1111", "sdnext"])
async def test_what_somebody_interrupts_is_never_called_done(tmp_path: Path, server: Any) -> None:
    steps = Slow()
    async with slow(tmp_path, steps, sdapi_server=server) as at:
        task = await at.service.outpaint(asking(tmp_path), at_least=0.1)
        steps.steps.release()
        task = await until(at, task, lambda one: (one.progress or 0) >= 20)
        assert task.status is api.Status.RUNNING
        async with httpx2.AsyncClient(base_url=f"{at.base_url}/sdapi", trust_env=False) as somebody:
            await somebody.post("/sdapi/v1/interrupt")
        for _ in range(4):
            steps.steps.release()
        task = await until(at, task, lambda one: one.status.is_final)
        assert task.failure is not None
        assert (task.status, task.images, task.failure.retryable) == (api.Status.FAILED, (), True)
        assert "was stopped" in task.failure.message
        for _ in range(8):
            steps.steps.release()
        again = await at.finished(asking(tmp_path))
        assert again.status is api.Status.SUCCEEDED, "what was interrupted before is not this one"


async def test_behind_another_users_run_a_task_is_queued_and_its_interrupt_is_not_ours(tmp_path: Path) -> None:
    steps = Slow()
    async with slow(tmp_path, steps) as at:
        async with (
            httpx2.AsyncClient(base_url=f"{at.base_url}/sdapi", trust_env=False, timeout=30) as other,
            anyio.create_task_group() as group,
        ):
            pixel = base64.b64encode(_png((64, 64))).decode()
            mask = base64.b64encode(_png((64, 64), keep=True)).decode()
            theirs = {"init_images": [pixel], "mask": mask, "width": 64, "height": 64}
            group.start_soon(lambda: other.post("/sdapi/v1/img2img", json=theirs))
            with anyio.fail_after(30):
                while not (await other.get("/sdapi/v1/progress")).json()["state"]["job_count"]:
                    pass
            task = await at.service.outpaint(asking(tmp_path), at_least=0.1)
            with anyio.fail_after(30):
                while len(at.sandbox.requests("sdapi", "submit")) < 2:
                    await other.get("/sdapi/v1/progress")
            await other.post("/sdapi/v1/interrupt")
            task = await until(at, task, lambda one: one.status is api.Status.QUEUED)
            for _ in range(12):
                steps.steps.release()
        task = await until(at, task, lambda one: one.status.is_final)
        assert task.status is api.Status.SUCCEEDED, task.failure


def _png(size: tuple[int, int], *, keep: bool = False) -> bytes:
    """A white picture; with `keep` its middle is black, which a mask keeps."""
    image = Image.new("L", size, 255)
    if keep:
        image.paste(0, (16, 16, 48, 48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# sd-server


def jobs(folder: Path, **more: Any) -> Any:
    return service_at_sandbox(folder, settings=SandboxSettings(**{**FAST, "sdapi_server": "sd.cpp", **more}))


async def test_sd_server_is_ordered_a_job_which_is_polled(tmp_path: Path) -> None:
    async with jobs(tmp_path) as at:
        options = {"variants": 2, "steps": 9, "cfg_scale": 2.0, "sampler": "euler", "denoise": 0.6, "seed": 5}
        task = await at.finished(asking(tmp_path, (301, 211), provider_options=options))
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert task.remote_id is not None
        assert task.remote_id.startswith("job_")
        assert [(image.width, image.height) for image in task.images] == [(452, 317)] * 2
        assert any("needs a prompt" in note for note in task.notes)
        (body,) = sent(at)
        assert body == {
            "prompt": "seamless continuation of the picture",
            "width": 640,
            "height": 448,
            "strength": 0.6,
            "seed": 5,
            "batch_count": 2,
            "sample_params": {"sample_steps": 9, "sample_method": "euler", "guidance": {"txt_cfg": 2.0}},
            "embed_image_metadata": False,
            "output_format": "png",
        }
        with pytest.raises(api.UnsupportedFeatureError, match="the one model"):
            await at.finished(asking(tmp_path, provider_options={"model": "x"}))
        assert not at.sandbox.requests("sdapi", "cancel")


async def test_a_job_outlives_this_program_but_not_its_own(tmp_path: Path) -> None:
    clock = [1_790_000_000.0]
    sandbox = Sandbox(SandboxSettings(painter=PlainPainter(), sdapi_server="sd.cpp", clock=lambda: clock[0]))
    async with service_at_sandbox(tmp_path, sandbox=sandbox) as at:
        kept, lost = [await at.service.outpaint(asking(tmp_path, zoom=zoom), at_least=0.1) for zoom in (1.5, 1.6)]
        for task in (kept, lost):
            await until(at, task, lambda one: one.remote_id is not None)
    clock[0] += 5
    async with service_at_sandbox(tmp_path, sandbox=sandbox) as at:
        kept = await until(at, kept, lambda one: one.status.is_final)
        assert kept.status is api.Status.SUCCEEDED, kept.failure
    sandbox.close()


async def test_a_job_that_fails_is_forgotten_or_refused_says_why(tmp_path: Path) -> None:
    async with jobs(tmp_path) as at:
        at.fault("sdapi", "submit", "fail")
        failed = await at.finished(asking(tmp_path))
        assert failed.failure is not None
        assert "generate_image returned no results" in failed.failure.message
        for fault in ({"fault": "status", "status": 410}, {"fault": "restart"}):
            at.fault("sdapi", "poll", **fault)
            gone = await at.finished(asking(tmp_path))
            assert gone.failure is not None
            assert "does not know the job any more" in gone.failure.message
            assert gone.next == "It failed; the same order may succeed if it is placed again."
        at.fault("sdapi", "submit", "status", status=429)
        with pytest.raises(api.RateLimitedError):
            await at.finished(asking(tmp_path))
        assert (await at.finished(asking(tmp_path))).status is api.Status.SUCCEEDED
