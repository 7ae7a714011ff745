"""The client's own images at the vendors that extend them, by file, by URL, and taken from another vendor's task."""

from pathlib import Path

import anyio
import pytest
from PIL import Image

from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.sandbox import seed_id

from ..serving import picture
from .service_at_sandbox import ENGINES, service_at_sandbox


async def test_apiframe_takes_a_file(tmp_path: Path) -> None:
    source = picture(tmp_path, width=300, height=200)
    async with service_at_sandbox(tmp_path) as at:
        task = await at.finished(OutpaintRequest(image=str(source), provider="apiframe", zoom=1.5))
        assert task.status is Status.SUCCEEDED, task.failure
        square = OutpaintRequest(image=str(source), provider="apiframe", zoom=1.0, aspect_ratio=AspectRatio(1, 1))
        assert (await at.finished(square)).status is Status.SUCCEEDED
        outpaints = [body["fluxFillParams"]["outpaint"] for body in at.bodies("apiframe", "outpaint")]
    assert outpaints == ["Zoom out 1.5x", "Make square"]


async def test_the_result_of_an_edit_of_a_cmyk_jpeg_is_served(tmp_path: Path) -> None:
    source = tmp_path / "print.jpg"
    Image.new("CMYK", (300, 200), (20, 80, 0, 10)).save(source)
    async with service_at_sandbox(tmp_path) as at:
        task = await at.finished(OutpaintRequest(image=str(source), provider="apiframe", zoom=1.5))
        assert task.status is Status.SUCCEEDED, task.failure
        assert (task.images[0].width, task.images[0].height) == (450, 300)
        data, mime_type = await at.service.image(task.id, 1)
    assert (data[:4], mime_type) == (b"\x89PNG", "image/png")


async def test_a_lost_order_for_the_clients_own_image_is_found_again_with_the_same_upload(tmp_path: Path) -> None:
    request = OutpaintRequest(image=str(picture(tmp_path, width=300, height=200)), provider="apiframe", zoom=1.5)
    async with service_at_sandbox(tmp_path, read_timeout=0.5) as at:
        # One more than are sent at once.
        at.fault("apiframe", "submit", fault="drop", accepted=True, times=5)
        task = await at.service.outpaint(request)
        assert task.status is Status.UNKNOWN
        with anyio.fail_after(30):
            while (await at.service.get_task(task.id)).status is not Status.SUCCEEDED:  # noqa: ASYNC110 (polling is the point)
                await anyio.sleep(0.1)
        assert at.sandbox.order_count("apiframe", "outpaint") == 1


@pytest.mark.parametrize("vendor", ["legnext", "vtrix"])
async def test_an_image_by_its_url_is_centred_on_a_larger_canvas(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at:
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
    vendors = tuple(name for name in provider_classes() if name not in ENGINES)
    async with service_at_sandbox(tmp_path, auto=vendors) as at:
        here = await at.finished(OutpaintRequest(image=str(source), zoom=1.5))
        assert here.provider == "local"
        found = await at.service.get_task(seed_id("vtrix", grid=False), provider="vtrix")
        painted = await at.finished(OutpaintRequest(image=found.images[0].url, zoom=1.5, prompt="a lake"))
        assert painted.provider == at.service._options.auto[0], "all of the first do all of it"
    async with service_at_sandbox(tmp_path, may_leave=True, auto=("legnext", "apiframe", "local")) as at:
        order = OutpaintRequest(image=str(source), zoom=1.5, prompt="a lake")
        assert (await at.finished(order)).provider == "apiframe", "the first that takes a file and a prompt"


async def test_another_providers_image_is_taken_as_the_clients_own(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order("apimart")
        local = await at.finished(OutpaintRequest(task_id=task.id, provider="local", image_index=2, zoom=1.25))
        assert local.status is Status.SUCCEEDED, local.failure
        assert (local.images[0].width, local.images[0].height) == (480, 480)
        crossed = OutpaintRequest(task_id=task.id, provider="legnext", image_index=2, zoom=1.5, prompt="a lake")
        crossed_task = await at.finished(crossed)
        assert crossed_task.status is Status.SUCCEEDED
        (body,) = at.bodies("legnext", "outpaint")
    assert body["imgUrl"] == task.images[1].url
