"""Images as chats hand them on: with something around their address, and as data of every shape."""

import base64
import io
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from ..serving import connected, picture, settings_for
from .test_app import text_of


def noise() -> bytes:
    """A small image whose base64 has both of the characters in which the alphabets differ, and padding."""
    for seed in range(1000):
        file = io.BytesIO()
        size = (9 + seed % 3, 7)
        pixels = random.Random(seed).randbytes(size[0] * size[1])  # noqa: S311
        Image.frombytes("L", size, pixels).save(file, "PNG")
        text = base64.b64encode(file.getvalue()).decode()
        if "+" in text and "/" in text and text.endswith("="):
            return file.getvalue()
    raise AssertionError("there is none")


async def test_data_of_every_shape_is_the_same_image(tmp_path: Path) -> None:
    text = base64.b64encode(noise()).decode()
    url_safe = text.replace("+", "-").replace("/", "_").rstrip("=")
    wrapped = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    written: list[Any] = [
        f"data:image/png;base64,{url_safe}",
        f"data:image/png;base64;charset=utf-8,{text}",
        f"data:base64;image/png,{text}",
        f"data:image/png;base64 {text}",
        f"data:image/png,{text}",
        f"data:image/png;base64,{wrapped}",
        f"data:image/png;base64,{wrapped.replace(chr(10), ' ')}",
        f"data:image/png;base64,{text.replace('+', ' ')}",
        f"data:image/png;base64,{quote(text)}",
        f"data:image/png;base64,data:image/png;base64,{text}",
        text,
        url_safe,
        wrapped,
        f"image/png;base64,{text}",
        f"![a photo](data:image/png;base64,{text})",
        f'<img src="data:image/png;base64,{text}">',
        json.dumps({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}}),
        {"image_url": {"url": f"data:image/png;base64,{text}"}},
        [f"data:image/png;base64,{text}"],
    ]
    async with connected(settings_for(tmp_path)) as client:
        order = {"image": f"data:image/png;base64,{text}", "zoom": 1.5}
        first = (await client.call_tool("outpaint", order)).structured_content
        for one in written:
            again = await client.call_tool("outpaint", {"image": one, "zoom": 1.5})
            assert not again.is_error, (str(one)[:60], text_of(again))
            assert again.structured_content["id"] == first["id"], str(one)[:60]
    assert first["request"]["image"].startswith("data:image/png;sha256=")


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64,<base64 here>",
        "data:image/png;base64,...",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg...",
        "data:image/jpeg;base64,YOUR_BASE64_STRING",
        "data:image/png;base64,{{image}}",
    ],
)
async def test_a_placeholder_is_named_as_such(tmp_path: Path, image: str) -> None:
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": image})
    assert text_of(result).startswith("[invalid_image] The data: URI holds a placeholder in place of the image's bytes")


async def test_a_path_is_found_within_what_is_around_it_and_as_it_is_written_first(tmp_path: Path) -> None:
    odd = str(picture(tmp_path, width=20).rename(tmp_path / "![a](picture.png)"))
    plain = str(picture(tmp_path))
    async with connected(settings_for(tmp_path)) as client:
        first = (await client.call_tool("outpaint", {"image": plain, "zoom": 1.5})).structured_content
        for one in (f"![a]({plain})", f"<img src='{plain}'>", {"path": plain}, [plain], f"`{plain}`"):
            again = await client.call_tool("outpaint", {"image": one, "zoom": 1.5})
            assert not again.is_error, (one, text_of(again))
            assert again.structured_content["id"] == first["id"], one
        other = (await client.call_tool("outpaint", {"image": odd, "zoom": 1.5})).structured_content
    assert other["images"][0]["width"] == 30
