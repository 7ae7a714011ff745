"""Photographs of today's cameras, through the tool: all are taken, and the notes say when they are scaled down."""

import re
from pathlib import Path

import pytest
from mcp import Client
from PIL import Image

from ..serving import connected, settings_for
from .test_app import text_of


async def notes(client: Client, path: Path, **arguments: object) -> str:
    """What an order's answer says of scaling; empty if nothing."""
    asked = {"image": str(path), "provider": "local", "wait_seconds": 0, **arguments}
    answer = await client.call_tool("outpaint", asked)
    while answer.is_error and "[not_ready]" in text_of(answer):
        # A slow machine reads it for longer than a call may take; the same call goes on with it.
        answer = await client.call_tool("outpaint", asked)
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    return " ".join(note for note in answer.structured_content["notes"] if "scaled" in note)


@pytest.mark.parametrize("sides", [None, ["left", "top"]])
async def test_a_photo_is_scaled_with_a_note_that_names_the_zoom_that_keeps_it(
    tmp_path: Path, sides: list[str] | None
) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("L", (5712, 4284), 90).save(photo)
    more = {} if sides is None else {"sides": sides}
    async with connected(settings_for(tmp_path)) as client:
        note = await notes(client, photo, **more)
        assert note == (
            "The image is scaled down from 5712x4284 to 5164x3873 pixels, since the local engine draws at most 80 "
            "megapixels; a zoom of at most 1.8 keeps every original pixel."
        )
        assert await notes(client, photo, zoom=1.8, **more) == ""
        assert "a zoom of at most 1.8 keeps" in await notes(client, photo, zoom=1.81, **more)


@pytest.mark.parametrize(
    ("size", "arguments", "says"),
    [
        ((8064, 6048), {}, "from 8064x6048 to 5164x3873 pixels, .* a zoom of at most 1.28 keeps every original pixel"),
        ((12_000, 9000), {"zoom": 1.5}, "no zoom keeps every original pixel.$"),
        ((16_384, 3000), {"aspect_ratio": "9:16"}, "no zoom keeps every original pixel with this aspect_ratio.$"),
        ((9000, 5000), {"zoom": 1.3}, "^$"),
    ],
)
async def test_an_image_of_up_to_120_megapixels_is_taken(
    tmp_path: Path, size: tuple[int, int], arguments: dict[str, object], says: str
) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("L", size, 90).save(photo)
    async with connected(settings_for(tmp_path)) as client:
        assert re.search(says, await notes(client, photo, **arguments))


async def test_a_small_file_of_very_many_pixels_is_taken_up_to_the_limit(tmp_path: Path) -> None:
    bomb, larger = tmp_path / "bomb.png", tmp_path / "larger.png"
    Image.new("1", (10_000, 10_000)).save(bomb)
    Image.new("1", (11_000, 11_000)).save(larger)
    async with connected(settings_for(tmp_path)) as client:
        assert "from 10000x10000 to 4472x4472 pixels" in await notes(client, bomb)
        refused = await client.call_tool("outpaint", {"image": str(larger), "wait_seconds": 0})
        assert text_of(refused).endswith("Scale it down to 10954x10954 or less.")
