"""The engine says how far each side of the new area can be trusted, and where another provider would do better."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from outpaint_mcp.domain.task import Confidence

from .test_ground import page
from .test_transparency import through_the_provider


def portrait(
    *, cut: str, ground: tuple[int, int, int], noise: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A blurred body on a plain ground, cut by one side."""
    picture = Image.new("RGB", (180, 180), ground)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((40, 110, 140, 260), fill=(30, 40, 90))
    pen.ellipse((65, 40, 115, 115), fill=(220, 180, 150))
    turned = picture.rotate({"bottom": 0, "right": 90, "top": 180, "left": 270}[cut]).filter(
        ImageFilter.GaussianBlur(1)
    )
    grain = np.random.default_rng(0).normal(0, noise, (180, 180, 3))
    return np.clip(np.asarray(turned) + grain, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("cut", "ground", "noise"),
    [("bottom", (150, 160, 170), 2), ("right", (240, 236, 230), 1), ("top", (90, 70, 60), 3)],
)
async def test_the_side_at_which_somebody_is_cut_is_of_low_confidence_and_a_note_says_so(
    cut: str, ground: tuple[int, int, int], noise: float, tmp_path: Path
) -> None:
    _, update = await through_the_provider(tmp_path, portrait(cut=cut, ground=ground, noise=noise))
    expected: dict[str, Confidence] = dict.fromkeys(("top", "bottom", "left", "right"), "high")
    assert update.confidence == expected | {cut: "low"}
    (note,) = update.notes
    assert note.startswith(f"At the {cut} the image cuts off ")
    assert "generative provider" in note


async def test_the_sides_at_which_text_is_cut_are_of_low_confidence(tmp_path: Path) -> None:
    """Its last line lies across the lower border."""
    text = page(240, 300, 14, 255, 0, 30)[:130]
    _, update = await through_the_provider(tmp_path, text)
    assert update.confidence == dict.fromkeys(("top", "left", "right"), "high") | {"bottom": "low"}


async def test_a_plain_ground_is_of_high_confidence_and_needs_no_note(tmp_path: Path) -> None:
    pixels = np.full((90, 120, 3), 244, np.uint8)
    pixels[30:60, 40:80] = (180, 20, 60)
    _, update = await through_the_provider(tmp_path, pixels)
    assert update.confidence is not None
    assert set(update.confidence.values()) == {"high"}
    assert update.notes == ()


async def test_where_nothing_is_drawn_there_is_no_confidence(tmp_path: Path) -> None:
    """A cut-out object: the new area is transparent."""
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[20:40, 30:50] = (200, 10, 10, 255)
    _, update = await through_the_provider(tmp_path, pixels)
    assert update.confidence is None
