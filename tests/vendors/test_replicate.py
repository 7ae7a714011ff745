"""Replicate through the service: what reaches its models, and what comes of it."""

import io
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
from PIL import Image

from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.sandbox import PlainPainter, SandboxSettings

from .service_at_sandbox import service_at_sandbox


async def test_a_turned_file_is_uploaded_upright_and_bare_and_placed_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret place"
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (96, 64), "teal").save(path, exif=exif)
    request = OutpaintRequest(image=str(path), provider="replicate", zoom=1.5, sides=("left",), prompt="sea")
    async with service_at_sandbox(tmp_path) as at:
        task = await at.finished(request)
        assert task.status is Status.SUCCEEDED, task.failure
        (body,) = at.bodies("replicate", "outpaint")
        file_id = body["input"]["image"].rpartition("/")[2]
        upload = at.sandbox.vendors["replicate"].uploaded_image(file_id)
        assert upload is not None
        data, _ = await at.sandbox.image_store.read(upload)
        assert (await at.finished(request)).id == task.id
    assert body["input"] == {
        "image": f"{at.base_url}/replicate/v1/files/{file_id}",
        "aspect_ratio": "none",
        "canvas_size": [96, 96],
        "original_image_size": [64, 96],
        "original_image_location": [32, 0],
        "prompt": "sea",
    }
    assert (task.images[0].width, task.images[0].height) == (96, 96)
    assert task.expires_at is not None
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as sent:
        assert (sent.size, dict(sent.getexif())) == ((64, 96), {})


async def test_the_other_model_zooms_by_a_preset_and_is_another_order(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "photo.png")
    asked = OutpaintRequest(image=str(tmp_path / "photo.png"), provider="replicate", zoom=1.5)
    flux = replace(asked, provider_options={"model": "black-forest-labs/flux-fill-pro"})
    async with service_at_sandbox(tmp_path) as at:
        tasks = [await at.finished(one) for one in (asked, flux)]
        bodies = at.bodies("replicate", "outpaint")
    assert [(task.images[0].width, task.images[0].height) for task in tasks] == [(144, 96)] * 2
    assert [body["input"].get("outpaint") for body in bodies] == [None, "Zoom out 1.5x"]


async def test_what_replicate_calls_back_with_is_heeded_and_nothing_else(tmp_path: Path) -> None:
    called: list[httpx2.Request] = []

    def receive(request: httpx2.Request) -> httpx2.Response:
        called.append(request)
        return httpx2.Response(204)

    settings = SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), transport=httpx2.MockTransport(receive))
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "photo.png")
    request = OutpaintRequest(image=str(tmp_path / "photo.png"), provider="replicate", zoom=1.5)
    async with service_at_sandbox(tmp_path, settings=settings, public_url="https://127.0.0.1:9") as at:
        await at.finished(request)
        with anyio.fail_after(20):
            while not called:  # noqa: ASYNC110 (it comes over the network)
                await anyio.sleep(0.01)
        (hook, *_) = called
        token = hook.url.path.rpartition("/")[2]
        assert await at.service.handle_callback("replicate", token, hook.headers, hook.content)
        assert not await at.service.handle_callback("replicate", token, hook.headers, hook.content + b" ")
        assert not await at.service.handle_callback("replicate", token[::-1], hook.headers, hook.content)
