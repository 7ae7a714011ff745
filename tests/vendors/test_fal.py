"""fal through the service, against the sandbox: where the new area lies, what is sent, what it may cost."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status

from .service_at_sandbox import service_at_sandbox
from .test_what_leaves import LONG, SECRET, SHORT, file_of, halves


@pytest.mark.parametrize(
    ("prompt", "path"), [(None, "/fal/fal-ai/flux-2-pro/outpaint"), ("a lake", "/fal/fal-ai/bria/expand")]
)
async def test_a_file_is_sent_upright_and_clean_and_all_that_is_new_lies_on_the_named_side(
    tmp_path: Path, prompt: str | None, path: str
) -> None:
    source = tmp_path / "photo.png"
    source.write_bytes(file_of(halves(), "PNG"))
    async with service_at_sandbox(tmp_path) as at:
        request = OutpaintRequest(image=str(source), provider="fal", zoom=1.5, sides=("left",), prompt=prompt)
        task = await at.finished(request)
        assert task.status is Status.SUCCEEDED, task.failure
        named = replace(request, provider_options={"endpoint": path.removeprefix("/fal/")})
        assert (await at.finished(named)).id == task.id, "it is the endpoint that is used anyway"
        (order,) = at.sandbox.orders("fal")
        data, _ = await at.service.image(task.id, 1)
    assert order.path == path
    sent = base64.b64decode(order.body["image_url"].partition(",")[2])
    assert SECRET.encode() not in sent
    with Image.open(io.BytesIO(sent)) as upright, Image.open(io.BytesIO(data)) as drawn:
        assert (upright.size, drawn.size) == ((SHORT, LONG), (SHORT * 3 // 2, LONG))
        kept = drawn.crop((SHORT // 2, 0, drawn.width, LONG)).convert("RGB")
        assert kept.tobytes() == upright.convert("RGB").tobytes()
        assert len(drawn.crop((0, 0, SHORT // 2, LONG)).getcolors() or ()) == 1, "the sandbox paints in one colour"


async def test_an_image_is_scaled_into_what_is_taken_and_the_daily_limit_counts_the_price_of_that(
    tmp_path: Path,
) -> None:
    source = tmp_path / "wide.png"
    Image.new("RGB", (2000, 500), "teal").save(source)
    async with service_at_sandbox(tmp_path, daily_limits=DailyLimits(usd=0.10)) as at:
        order = OutpaintRequest(image=str(source), provider="fal", zoom=2.0)
        task = await at.finished(order)
        assert task.status is Status.SUCCEEDED, task.failure
        (body,) = at.bodies("fal", "outpaint")
        assert body["expand_left"] + body["expand_right"] == 1280
        assert any("2560x640, with your image scaled from 2000x500 to 1280x320" in note for note in task.notes)
        # It took $0.06: two megapixels of output, one of input.
        with pytest.raises(BudgetExceededError):
            await at.service.outpaint(OutpaintRequest(image=str(source), provider="fal", zoom=1.9))
        assert at.sandbox.order_count("fal", "outpaint") == 1
