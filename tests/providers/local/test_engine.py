"""The engine: the original exact, the ring plausible, every size and shape right."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio
from outpaint_mcp.providers.local.engine import Quality, extend
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.rim import without_rim
from outpaint_mcp.providers.local.subject import OpenSides

Pixels = NDArray[np.uint8]
Landscape = Callable[..., Pixels]


def drawn(pixels: Pixels, canvas: Canvas, quality: Quality = "fast", seed: int = 0) -> Pixels:
    return extend(pixels, canvas, quality=quality, seed=seed, progress=lambda _part: None)


def zoomed(pixels: Pixels, zoom: float = 1.5, ratio: tuple[int, int] | None = None) -> Canvas:
    aspect_ratio = None if ratio is None else AspectRatio(*ratio)
    return Canvas.of(Frame.around(pixels.shape[1], pixels.shape[0], zoom=zoom, aspect_ratio=aspect_ratio))


def original_in(picture: Pixels, canvas: Canvas, pixels: Pixels) -> Pixels:
    return picture[canvas.y : canvas.y + pixels.shape[0], canvas.x : canvas.x + pixels.shape[1]]


def seam(picture: Pixels, canvas: Canvas, pixels: Pixels) -> float:
    """The mean step across the original's border, relative to the mean step just inside it: 1 is no seam."""
    height, width = pixels.shape[:2]
    values = picture.astype(float)
    rows = (canvas.y, canvas.y + height), slice(canvas.x, canvas.x + width)
    columns = (canvas.x, canvas.x + width), slice(canvas.y, canvas.y + height)
    across = [np.abs(values[edge, rows[1]] - values[edge - 1, rows[1]]).mean() for edge in rows[0]]
    across += [np.abs(values[columns[1], edge] - values[columns[1], edge - 1]).mean() for edge in columns[0]]
    own = pixels.astype(float)
    inside = np.abs(np.diff(own, axis=0)).mean() + np.abs(np.diff(own, axis=1)).mean()
    return float(np.mean(across) / (inside / 2))


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_the_original_is_exact_and_the_size_is_the_canvas(quality: Quality, landscape: Landscape) -> None:
    pixels = landscape(150, 110)
    canvas = zoomed(pixels)
    picture = drawn(pixels, canvas, quality)
    assert picture.shape == (canvas.height, canvas.width, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)


@pytest.mark.parametrize(
    "canvas",
    [
        Canvas(96, 144, 0, 72),
        Canvas(96, 144, 0, 0),
        Canvas(200, 72, 0, 0),
        Canvas(200, 72, 104, 0),
        Canvas(97, 73, 1, 0),
        Canvas(97, 73, 0, 1),
        Canvas(192, 144, 0, 72),
        Canvas(96, 72, 0, 0),
    ],
)
def test_any_sides_can_grow(canvas: Canvas, landscape: Landscape) -> None:
    pixels = landscape()
    picture = drawn(pixels, canvas)
    assert picture.shape[:2] == (canvas.height, canvas.width)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)


@pytest.mark.parametrize(
    ("width", "height", "ratio"),
    [
        (1, 1, None),
        (1, 40, (16, 9)),
        (40, 1, None),
        (2, 3, (16, 9)),
        (11, 11, None),
        (12, 12, (16, 9)),
        (13, 12, None),
        (12, 200, (9, 16)),
        (300, 5, None),
    ],
)
def test_tiny_and_thin_pictures_come_out_right(width: int, height: int, ratio: tuple[int, int] | None) -> None:
    rng = np.random.default_rng(width * 1000 + height)
    pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
    canvas = zoomed(pixels, 2, ratio)
    picture = drawn(pixels, canvas)
    assert picture.shape == (canvas.height, canvas.width, 4)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)


def test_a_canvas_many_times_as_large_is_filled_in_several_steps(landscape: Landscape) -> None:
    pixels = landscape(40, 30)
    canvas = Canvas(700, 60, 500, 10)
    picture = drawn(pixels, canvas)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    far_sky = picture[:15, :60].astype(float).mean((0, 1))
    assert far_sky[2] > far_sky[0] + 15


def test_no_seam_shows_on_a_landscape(landscape: Landscape) -> None:
    pixels = landscape(240, 180)
    canvas = zoomed(pixels)
    picture = drawn(pixels, canvas, "balanced")
    framed = np.zeros_like(picture)
    original_in(framed, canvas, pixels)[...] = pixels
    assert seam(framed, canvas, pixels) > 3, "the measure sees a black border"
    assert seam(picture, canvas, pixels) < 1.35


def test_the_horizon_goes_on_where_it_is(landscape: Landscape) -> None:
    pixels = landscape(240, 180)
    canvas = Canvas(480, 180, 120, 0)
    picture = drawn(pixels, canvas, "balanced").astype(float)
    for columns in (slice(0, 100), slice(380, 480)):
        blue_over_green = (picture[:, columns, 2] - picture[:, columns, 1]).mean(1)
        assert (blue_over_green[:100] > 0).mean() > 0.95
        assert (blue_over_green[116:] < 0).mean() > 0.95


def test_noise_keeps_its_strength_and_does_not_blur(landscape: Landscape) -> None:
    rng = np.random.default_rng(3)
    pixels = (128 + rng.normal(0, 20, (200, 200, 3))).clip(0, 255).astype(np.uint8)
    picture = drawn(pixels, Canvas(300, 300, 50, 50), "balanced").astype(float)
    assert picture[:40].std() == pytest.approx(20, rel=0.15)


def test_a_flat_picture_stays_flat() -> None:
    pixels = np.full((60, 80, 3), (10, 200, 99), np.uint8)
    picture = drawn(pixels, zoomed(pixels, 2))
    assert np.array_equal(picture, np.broadcast_to(pixels[0, 0], picture.shape))


def test_grey_stays_grey(landscape: Landscape) -> None:
    pixels = np.repeat(landscape()[..., :1], 3, axis=2)
    picture = drawn(pixels, zoomed(pixels, 2))
    assert np.array_equal(picture[..., 0], picture[..., 1])
    assert np.array_equal(picture[..., 0], picture[..., 2])


def test_opaque_alpha_changes_nothing(landscape: Landscape) -> None:
    pixels = landscape()
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    picture = drawn(opaque, zoomed(pixels))
    assert np.array_equal(picture[..., :3], drawn(pixels, zoomed(pixels)))
    assert picture[..., 3].min() == 255


def test_transparency_is_extended_and_hidden_colours_of_the_original_survive() -> None:
    """A band of transparent pixels, red where nobody sees it, runs out of the picture on both sides."""
    pixels = np.full((90, 120, 4), (20, 120, 60, 255), np.uint8)
    pixels[30:60] = (255, 0, 0, 0)
    canvas = Canvas(240, 90, 60, 0)
    picture = drawn(pixels, canvas)
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)
    for columns in (slice(0, 55), slice(185, 240)):
        new = picture[:, columns]
        assert new[35:55, :, 3].max() < 30
        assert new[:25, :, 3].min() > 225
        assert new[..., 0].max() < 100, "no hidden red bleeds into what is seen"


def test_a_wholly_transparent_picture_stays_so() -> None:
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[..., 0] = 77
    canvas = zoomed(pixels)
    picture = drawn(pixels, canvas)
    assert picture[..., 3].max() == 0
    assert np.array_equal(original_in(picture, canvas, pixels), pixels)


def test_an_enclosed_subject_is_not_repeated() -> None:
    """A red disc near the border of a grey wall: the new wall must not hold another one."""
    rng = np.random.default_rng(1)
    pixels = (150 + rng.normal(0, 6, (200, 200, 3))).clip(0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:200, :200]
    pixels[(rows - 100) ** 2 + (columns - 45) ** 2 < 30**2] = (200, 30, 30)
    canvas = zoomed(pixels, 2)
    picture = drawn(pixels, canvas, "balanced").astype(int)
    picture[canvas.y : canvas.y + 200, canvas.x : canvas.x + 200] = 150
    assert ((picture[..., 0] - picture[..., 1]) > 60).mean() < 0.001


@pytest.mark.parametrize(("colour", "texture"), [((200, 30, 20), 12), ((30, 70, 200), 25)])
def test_no_piece_is_copied_of_an_object_that_nearly_touches_the_border(
    colour: tuple[int, ...], texture: float
) -> None:
    """It lies partly on a shadow that the border cuts, on a coarse texture that can only be copied."""
    rng = np.random.default_rng(0)
    stones = np.clip(150 + rng.normal(0, texture, (173, 256)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(stones).resize((512, 346)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((70, -12, 340, 200), fill=(55, 55, 58))
    pen.ellipse((110, 20, 509, 343), fill=colour)
    pixels = np.clip(np.asarray(picture) + rng.normal(0, 4, (346, 512, 3)), 0, 255).astype(np.uint8)
    canvas = zoomed(pixels)
    result = drawn(pixels, canvas).astype(int)
    result[canvas.y : canvas.y + 346, canvas.x : canvas.x + 512] = 0
    assert (result.max(-1) - result.min(-1) > 60).mean() < 0.001


@pytest.mark.parametrize(("slope", "wrong"), [(-0.8, 0.012), (1.2, 0.03)])
def test_the_edge_between_two_textures_goes_on_in_its_direction(slope: float, wrong: float) -> None:
    y, x = np.mgrid[-120:120, -180:180]
    beyond = x - slope * y
    seen = []
    for seed in (0, 1):
        stones = 128 + np.random.default_rng(seed).normal(0, 60, beyond.shape).clip(-120, 120)
        texture = Image.fromarray(stones.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
        full = np.clip(np.where(beyond > 0, 170, 80) + (np.asarray(texture).astype(float) - 128), 0, 255)
        pixels = full[40:200, 60:300, None].astype(np.uint8).repeat(3, -1)
        result = Image.fromarray(drawn(pixels, Canvas(360, 240, 60, 40))).filter(ImageFilter.BoxBlur(4))
        misplaced = (np.asarray(result)[..., 0] > 125) != (beyond > 0)
        misplaced[40:200, 60:300] = False
        seen.append(misplaced[np.abs(beyond) > 8].sum() / (beyond.size - pixels[..., 0].size))
    assert np.mean(seen) < wrong


def test_a_rim_along_a_side_is_not_continued(landscape: Landscape) -> None:
    """Neither where ground is drawn (the sky) nor where patches are copied (the meadow)."""
    pixels = landscape(240, 180)
    rimmed = pixels.copy()
    rimmed[:2], rimmed[-2:] = rimmed[:2] // 2, rimmed[-2:] // 2
    canvas = zoomed(pixels)
    with_rim, without = (drawn(which, canvas).astype(float) for which in (rimmed, pixels))
    for rows in (slice(canvas.y - 20, canvas.y), slice(canvas.y + pixels.shape[0], canvas.y + pixels.shape[0] + 20)):
        assert np.abs(with_rim[rows].mean((0, 1)) - without[rows].mean((0, 1))).max() < 5


def test_what_ends_along_a_side_is_no_rim(landscape: Landscape) -> None:
    """Like a gutter or a frame that a photograph shows beside its left border, as far as a post."""
    pixels = landscape(240, 180)
    sides = OpenSides(top=True, bottom=True, left=True, right=True)
    pixels[:120, :3] = 230
    assert without_rim(pixels, sides) is pixels
    pixels[:, :3] = 230
    assert (without_rim(pixels, sides)[:, :3] == pixels[:, 5:2:-1]).all()


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(landscape: Landscape) -> None:
    pixels = landscape()
    canvas = zoomed(pixels)
    first = drawn(pixels, canvas, seed=5)
    assert np.array_equal(first, drawn(pixels, canvas, seed=5))
    assert not np.array_equal(first, drawn(pixels, canvas, seed=6))


def test_the_input_is_not_written_to(landscape: Landscape) -> None:
    pixels = landscape()
    before = pixels.copy()
    pixels.setflags(write=False)
    drawn(pixels, zoomed(pixels))
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("canvas", [Canvas(144, 108, 24, 18), Canvas(96, 72, 0, 0), Canvas(2000, 72, 900, 0)])
def test_progress_rises_to_one(canvas: Canvas, landscape: Landscape) -> None:
    heard: list[float] = []
    extend(landscape(), canvas, quality="fast", seed=0, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert min(heard) >= 0


def test_progress_rises_where_only_the_ground_is_drawn() -> None:
    heard: list[float] = []
    plain = np.full((300, 300, 3), (200, 210, 220), np.uint8)
    extend(plain, Canvas(600, 600, 150, 150), quality="fast", seed=0, progress=heard.append)
    assert len(heard) > 5
    assert heard == sorted(heard)


def test_what_progress_raises_ends_the_work(landscape: Landscape) -> None:
    def stop(_part: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        extend(landscape(), Canvas(144, 108, 24, 18), quality="fast", seed=0, progress=stop)


@pytest.mark.parametrize("canvas", [Canvas(100, 72, 5, 0), Canvas(100, 72, -1, 0), Canvas(90, 80, 0, 0)])
def test_an_original_that_leaves_the_canvas_is_a_value_error(canvas: Canvas, landscape: Landscape) -> None:
    with pytest.raises(ValueError, match="wholly"):
        drawn(landscape(), canvas)


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 2), (20, 0, 3)])
def test_an_array_that_is_no_picture_is_a_value_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="array"):
        drawn(np.zeros(shape, np.uint8), Canvas(40, 40, 0, 0))
