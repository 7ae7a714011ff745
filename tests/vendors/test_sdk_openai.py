"""OpenAI's own Python SDK against the sandbox: it places an order and reads the result."""

import base64
import io
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from PIL import Image

from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, serving


def canvas(colour: str) -> bytes:
    """A PNG of 1024 x 640 that is transparent in its left quarter."""
    buffer = io.BytesIO()
    image = Image.new("RGBA", (1024, 640), (0, 0, 0, 0))
    image.paste(colour, (256, 0, 1024, 640))
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.skipif(
    find_spec("openai") is None and "OUTPAINT_TEST_EVERYTHING" not in os.environ,
    reason="needs openai, of the dev extra",
)
async def test_the_vendors_sdk_places_an_order_and_reads_its_result() -> None:
    openai: Any = import_module("openai")
    sandbox = Sandbox(SandboxSettings(painter=PlainPainter()))
    async with (
        serving(sandbox) as base_url,
        openai.AsyncOpenAI(
            base_url=f"{base_url}/openai", api_key=sandbox.vendors["openai"].key, max_retries=0
        ) as client,
    ):

        async def edited(**changes: Any) -> Any:
            fields = {"model": "gpt-image-2", "prompt": "a lake", "size": "1024x640", "quality": "low", **changes}
            files = {name: (f"{name}.png", canvas("teal"), "image/png") for name in ("image", "mask")}
            return await client.images.edit(**files, **fields)

        answer = await edited()
        assert (answer.size, answer.quality, answer.usage.total_tokens) == ("1024x640", "low", 100)
        with Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))) as drawn:
            assert drawn.size == (1024, 640)
            assert drawn.getpixel((600, 320)) == pytest.approx((0, 128, 128), abs=12)
        with pytest.raises(openai.BadRequestError) as refused:
            await edited(size="1000x640")
        assert refused.value.param == "size"
        sandbox.faults.add(Fault(vendor="openai", on="submit", fault="fail"))
        with pytest.raises(openai.BadRequestError) as refused:
            await edited()
        assert refused.value.code == "moderation_blocked"
    assert sandbox.order_count("openai", "outpaint") == 1
    sandbox.close()
