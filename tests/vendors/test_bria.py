"""Bria through the service, against the sandbox: where the new area lies, and what is sent."""

import base64
import io
from pathlib import Path

import anyio
import httpx2
from PIL import Image

from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.sandbox import PlainPainter, SandboxSettings

from ..serving import picture
from .service_at_sandbox import service_at_sandbox
from .test_what_leaves import LONG, SECRET, SHORT, file_of, halves


async def test_a_file_is_sent_upright_and_clean_and_all_that_is_new_lies_on_the_named_side(tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    source.write_bytes(file_of(halves(), "PNG"))
    async with service_at_sandbox(tmp_path) as at:
        request = OutpaintRequest(image=str(source), provider="bria", zoom=1.5, sides=("left",))
        task = await at.finished(request)
        assert task.status is Status.SUCCEEDED, task.failure
        (body,) = at.bodies("bria", "outpaint")
        data, _ = await at.service.image(task.id, 1)
    sent = base64.b64decode(body.pop("image"), validate=True)
    assert body == {
        "sync": False,
        "canvas_size": [SHORT * 3 // 2, LONG],
        "original_image_size": [SHORT, LONG],
        "original_image_location": [SHORT // 2, 0],
        "preserve_alpha": True,
    }
    assert SECRET.encode() not in sent
    with Image.open(io.BytesIO(sent)) as upright, Image.open(io.BytesIO(data)) as drawn:
        assert (upright.size, drawn.size) == ((SHORT, LONG), (SHORT * 3 // 2, LONG))
        kept = drawn.crop((SHORT // 2, 0, drawn.width, LONG)).convert("RGB")
        assert kept.tobytes() == upright.convert("RGB").tobytes()
        assert len(drawn.crop((0, 0, SHORT // 2, LONG)).getcolors() or ()) == 1, "the sandbox paints in one colour"


async def test_an_image_on_the_web_is_named_by_its_url_and_what_bria_calls_back_with_is_heeded(tmp_path: Path) -> None:
    data = picture(tmp_path).read_bytes()
    called: list[httpx2.Request] = []

    def outside(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, content=data)
        called.append(request)
        return httpx2.Response(204)

    settings = SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), transport=httpx2.MockTransport(outside))
    async with service_at_sandbox(tmp_path, settings=settings, public_url="https://127.0.0.1:9") as at:
        first = await at.finished(OutpaintRequest(image=str(picture(tmp_path)), provider="bria", zoom=1.5))
        url = first.images[0].url
        task = await at.finished(OutpaintRequest(image=url, provider="bria", zoom=1.5))
        assert task.status is Status.SUCCEEDED, task.failure
        assert at.bodies("bria", "outpaint")[1]["image"] == url
        with anyio.fail_after(20):
            while len(called) < 2:  # noqa: ASYNC110 (they come over the network)
                await anyio.sleep(0.01)
        hook = called[0]
        token = hook.url.path.rpartition("/")[2]
        assert await at.service.handle_callback("bria", token, hook.headers, hook.content)
        assert not await at.service.handle_callback("bria", token, hook.headers, hook.content + b" ")
