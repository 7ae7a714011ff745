"""Transparent images: filled corners, borders that stay transparent, and alpha that goes on evenly."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers.local.corners import fill_corners
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.provider import LocalProvider

from ..through import image_order, input_image
from .test_engine import drawn, original_in, zoomed
from .test_provider import drawn as files_of
from .test_provider import finished

Pixels = NDArray[np.uint8]
MAGENTA = (255, 0, 255)
WIDTH, HEIGHT = 120, 90


def slope(width: int = WIDTH, height: int = HEIGHT, left: int = 0, top: int = 0) -> Pixels:
    """A part of one large linear gradient, so that what lies outside an image is known too."""
    rows, columns = np.mgrid[top : top + height, left : left + width]
    return np.stack([80 + columns, 70 + rows, 220 - columns], -1).clip(0, 255).astype(np.uint8)


def shape(draw: str, box: tuple[float, ...], width: int = WIDTH, height: int = HEIGHT, **options: object) -> Pixels:
    """The alpha of an anti-aliased shape."""
    large = Image.new("L", (width * 8, height * 8))
    getattr(ImageDraw.Draw(large), draw)([round(8 * edge) for edge in box], fill=255, **options)
    return np.asarray(large.resize((width, height), Image.Resampling.BOX))


def rounded(radius: float, corners: tuple[bool, ...] = (True,) * 4) -> Pixels:
    box = (0, 0, WIDTH - 1 / 8, HEIGHT - 1 / 8)
    return shape("rounded_rectangle", box, radius=round(8 * radius), corners=corners)


def with_alpha(colours: Pixels, alpha: Pixels) -> Pixels:
    """Where nobody sees them the colours are magenta."""
    pixels = np.dstack([colours, alpha])
    pixels[alpha == 0, :3] = MAGENTA
    return pixels


def window() -> Pixels:
    """A white window with round corners and a soft shadow that reaches the border."""
    body = shape("rounded_rectangle", (25, 20, 95, 60), radius=48).astype(float) / 255
    shadow = Image.fromarray((body * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(9))
    alpha = np.maximum(body, np.asarray(shadow) / 255 * 0.6)
    colours = np.repeat(255 * body[..., None] / np.maximum(alpha[..., None], 0.01), 3, -1).clip(0, 255)
    return with_alpha(colours.astype(np.uint8), (alpha * 255).round().astype(np.uint8))


def around(picture: Pixels, canvas: Canvas, pixels: Pixels) -> Pixels:
    """The pixels of the new area alone."""
    new = np.ones(picture.shape[:2], bool)
    new[canvas.y : canvas.y + pixels.shape[0], canvas.x : canvas.x + pixels.shape[1]] = False
    return picture[new]


async def through_the_provider(folder: Path, pixels: Pixels, **options: object) -> tuple[Pixels, TaskUpdate]:
    """What becomes of a PNG, at zoom 1.5."""
    source = folder / "source.png"
    Image.fromarray(pixels).save(source)
    image = input_image(pixels.shape[1], pixels.shape[0], path=str(source), url=None)
    provider = LocalProvider(folder / "data")
    async with provider.running():
        order = image_order(image, options={"quality": "fast", **options})
        update = await finished(provider, await provider.start(order))
    (file,) = files_of(update, folder)
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")), update


@pytest.mark.parametrize("radius", [1.0, 4.5, 20.0, 45.0])
def test_round_corners_of_any_radius_are_filled_with_what_lies_beside_them(radius: float) -> None:
    pixels = with_alpha(slope(), rounded(radius))
    canvas = zoomed(pixels)
    filled, notes = fill_corners(pixels, canvas)
    assert len(notes) == 1
    assert filled[..., 3].min() == 255
    assert np.abs(filled[..., :3].astype(int) - slope()).max() <= 2
    seen = pixels[..., 3] == 255
    assert np.array_equal(filled[seen], pixels[seen])
    assert drawn(filled, canvas)[..., 3].min() == 255


@pytest.mark.parametrize(
    ("corners", "names"),
    [
        ((True, False, False, False), {"top left"}),
        ((True, True, False, False), {"top left", "top right"}),
        ((False, True, False, True), {"top right", "bottom left"}),
    ],
)
def test_only_open_corners_are_filled(corners: tuple[bool, ...], names: set[str]) -> None:
    pixels = with_alpha(slope(), rounded(15, corners))
    filled, (note,) = fill_corners(pixels, zoomed(pixels))
    assert set(note.partition(": ")[2].rstrip(".").split(", ")) == names
    assert np.abs(filled[..., :3].astype(int) - slope()).max() <= 2


def test_a_corner_at_which_nothing_grows_stays_open() -> None:
    pixels = with_alpha(slope(), rounded(15))
    canvas = Canvas(WIDTH, HEIGHT + 40, 0, 0)
    filled, (note,) = fill_corners(pixels, canvas)
    assert note.endswith(": bottom left, bottom right.")
    assert np.array_equal(filled[:45], pixels[:45])


def test_an_object_near_a_round_corner_does_not_colour_it() -> None:
    colours = slope()
    colours[8:26, 8:26] = (255, 240, 0)
    filled, _ = fill_corners(with_alpha(colours, rounded(18)), zoomed(colours))
    assert np.abs(filled[:6, :6, :3].astype(int) - slope()[:6, :6]).max() <= 8


def test_where_two_things_meet_a_round_corner_each_goes_on() -> None:
    colours = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    colours[:14] = 220
    filled, _ = fill_corners(with_alpha(colours, rounded(40)), zoomed(colours))
    assert set(np.unique(filled[..., :3])) == {30, 220}


def test_a_thin_dark_outline_is_filled_with_what_lies_behind_it() -> None:
    alpha = rounded(14).copy()
    colours = slope()
    for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        alpha[line] //= 4
        colours[line] = 0
    pixels = with_alpha(colours, alpha)
    canvas = zoomed(pixels)
    filled, notes = fill_corners(pixels, canvas)
    assert len(notes) == 2
    assert np.abs(filled[..., :3].astype(int) - slope()).max() <= 3
    assert drawn(filled, canvas)[..., 3].min() == 255


def test_specks_at_the_border_do_not_become_lines() -> None:
    alpha = np.where(np.random.default_rng(4).random((HEIGHT, WIDTH)) < 0.008, 0, 255).astype(np.uint8)
    alpha[0, 30] = alpha[60, -1] = 0
    pixels = with_alpha(slope(), alpha)
    canvas = zoomed(pixels)
    picture = drawn(fill_corners(pixels, canvas)[0], canvas)
    assert around(picture, canvas, pixels)[:, 3].min() == 255
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)


@pytest.mark.parametrize("level", [128, 40])
def test_an_even_alpha_goes_on_evenly_and_with_round_corners_too(level: int) -> None:
    for alpha in (np.full((HEIGHT, WIDTH), 255, np.uint8), rounded(12)):
        pixels = with_alpha(slope(), (alpha * (level / 255)).round().astype(np.uint8))
        canvas = zoomed(pixels)
        picture = drawn(fill_corners(pixels, canvas)[0], canvas)
        assert set(np.unique(picture[..., 3])) == {level}


SHADOW = window()
TOUCHING = with_alpha(slope(), shape("ellipse", (0, 0, WIDTH - 1 / 8, HEIGHT - 1 / 8)))
STICKER = with_alpha(slope(), shape("ellipse", (20, 15, 100, 75)))


@pytest.mark.parametrize("pixels", [SHADOW, SHADOW[8:-14, 12:-12], STICKER, TOUCHING])
@pytest.mark.parametrize("ratio", [None, (3, 1)])
def test_beyond_a_transparent_border_nothing_is_drawn(pixels: Pixels, ratio: tuple[int, int] | None) -> None:
    canvas = zoomed(pixels, 1.5 if ratio is None else 1, ratio)
    filled, notes = fill_corners(pixels, canvas)
    assert not notes
    picture = drawn(filled, canvas)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    assert not around(picture, canvas, pixels).any()


def test_an_object_cut_by_one_side_goes_on_there_alone() -> None:
    pixels = with_alpha(slope(), shape("rectangle", (40, 30, 80, HEIGHT)))
    canvas = zoomed(pixels)
    picture = drawn(fill_corners(pixels, canvas)[0], canvas)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    below = picture[canvas.y + HEIGHT :]
    assert (below[:, canvas.x + 41 : canvas.x + 79, 3] == 255).all()
    assert not below[:, : canvas.x + 39, 3].any()
    assert not below[:, canvas.x + 82 :, 3].any()
    assert not picture[: canvas.y, :, 3].any()
    seen = below[below[..., 3] > 0]
    assert seen[:, 1].min() > 100, "no magenta"


def test_a_window_cut_below_goes_on_with_its_shadow_and_its_body() -> None:
    pixels = SHADOW[:45]
    canvas = Canvas(WIDTH + 60, 45 + 40, 30, 0)
    picture = drawn(fill_corners(pixels, canvas)[0], canvas)
    below, border = picture[45:, 30:-30].astype(int), pixels[-1].astype(int)
    assert np.abs(below[..., 3] - border[:, 3])[:, border[:, 3] > 40].max() <= 4
    assert below[..., :3][below[..., 3] > 250].min() > 240, "the body is white"
    shadow = (border[:, 3] > 8) & (border[:, 3] < 128)
    assert np.array_equal(below[:, shadow, :3], np.broadcast_to(border[shadow, :3], (40, shadow.sum(), 3)))
    assert not picture[:, :20, 3].any()


@pytest.mark.parametrize("margins", [(0, 40, 0, 0), (0, 0, 50, 0), (30, 30, 30, 30)])
def test_what_fades_out_and_is_cut_before_its_end_fades_out_beyond(margins: tuple[int, int, int, int]) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot((columns - WIDTH / 2) / WIDTH, (rows - HEIGHT / 2) / HEIGHT)
    pixels = with_alpha(slope(), (255 * (1 - 1.4 * distance)).clip(0, 255).astype(np.uint8))
    above, below, before, beyond = margins
    canvas = Canvas(WIDTH + before + beyond, HEIGHT + above + below, before, above)
    picture = drawn(fill_corners(pixels, canvas)[0], canvas)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    alpha = picture[..., 3].astype(int)
    assert (np.diff(alpha[above + HEIGHT // 2 :], axis=0) <= 0).all()
    assert (np.diff(alpha[:, : before + WIDTH // 2], axis=1) >= 0).all()


def test_round_corners_above_are_filled_where_the_image_fades_out_below() -> None:
    fading = np.broadcast_to(np.linspace(512, 0, HEIGHT).clip(0, 255)[:, None], (HEIGHT, WIDTH)).astype(np.uint8)
    pixels = with_alpha(slope(), np.minimum(rounded(12, (True, True, False, False)), fading))
    canvas = zoomed(pixels)
    picture = drawn(fill_corners(pixels, canvas)[0], canvas)
    assert picture[: canvas.y + 40, :, 3].min() == 255
    assert not picture[canvas.y + HEIGHT :, :, 3].any()
    assert (np.diff(picture[canvas.y :, 0, 3].astype(int)) <= 0).all()


def test_a_logo_cropped_to_its_outline_is_cut_by_no_side() -> None:
    alpha = np.zeros((60, 150), np.uint8)
    for left in (0, 50, 100):  # three letters H
        alpha[:, left : left + 10] = alpha[:, left + 30 : left + 40] = alpha[25:35, left : left + 40] = 255
    pixels = with_alpha(slope(150, 60), alpha)[:, :140]
    canvas = zoomed(pixels)
    filled, notes = fill_corners(pixels, canvas)
    assert not notes
    assert not around(drawn(filled, canvas), canvas, pixels).any()


def test_a_hole_stays_and_is_nowhere_else() -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[20:70, 6:40] = 0
    alpha[70:84, 60:110] = 90
    colours = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
    colours[70:84, 60:110] = (0, 160, 0)
    pixels = with_alpha(colours, alpha)
    canvas = zoomed(pixels, 2)
    filled, notes = fill_corners(pixels, canvas)
    picture = drawn(filled, canvas)
    assert not notes
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    assert np.abs(around(picture, canvas, pixels).astype(int) - [230, 230, 230, 255]).max() <= 1


async def test_the_provider_fills_round_corners_and_says_so(tmp_path: Path) -> None:
    picture, update = await through_the_provider(tmp_path, with_alpha(slope(), rounded(20)))
    assert picture[..., 3].min() == 255
    (note,) = update.notes
    assert note.startswith("The rounded corners were transparent and have been filled")


async def test_a_jpeg_of_a_transparent_image_says_what_its_transparent_parts_are(tmp_path: Path) -> None:
    picture, update = await through_the_provider(tmp_path, STICKER, format="jpeg")
    assert picture[:10].min() > 245
    assert any("the new area is transparent too" in note for note in update.notes)
    assert any("JPEG has no transparency" in note and "white" in note for note in update.notes)
