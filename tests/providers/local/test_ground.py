"""Plain, graded and striped grounds go on exactly, and nothing that lies on them is repeated: drawn pictures, of which
it is known what lies beyond their border."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from outpaint_mcp.providers.local.plan import Canvas

from .test_engine import drawn

EXAMPLES = Path(__file__).parents[3] / "examples"
Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]
Paint = Callable[[Plane, Plane], Plane]


@dataclass(frozen=True)
class Known:
    """An image cut out of a larger one, which is the truth about what lies around it."""

    truth: Plane
    noise: float
    canvas: Canvas
    pixels: Pixels

    @classmethod
    def cut(cls, paint: Paint, width: int, height: int, zoom: float, noise: float = 0) -> "Known":
        """`paint` gives the colours of places, y and x in pixels from the image's centre."""
        canvas_width, canvas_height = round(width * zoom), round(height * zoom)
        left, top = (canvas_width - width) // 2, (canvas_height - height) // 2
        y, x = np.mgrid[:canvas_height, :canvas_width].astype(float)
        truth = np.clip(paint(y - top - height / 2, x - left - width / 2), 0, 255)
        grain = np.random.default_rng(width).normal(0, noise, truth.shape)
        noisy = np.clip(truth + grain, 0, 255).round().astype(np.uint8)
        pixels = np.ascontiguousarray(noisy[top : top + height, left : left + width])
        return cls(truth, noise, Canvas(canvas_width, canvas_height, left, top), pixels)

    def around(self, plane: NDArray[np.generic]) -> NDArray[np.generic]:
        """What lies beyond the image's border."""
        new = np.ones(plane.shape[:2], bool)
        height, width = self.pixels.shape[:2]
        new[self.canvas.y : self.canvas.y + height, self.canvas.x : self.canvas.x + width] = False
        return plane[new]

    def error(self, blur: int = 0) -> Plane:
        """How far the new area is from the truth, in levels. `blur` takes the grain away: a radius in pixels."""
        picture = Image.fromarray(drawn(self.pixels, self.canvas)).filter(ImageFilter.BoxBlur(blur))
        error: Plane = self.around(np.abs(np.asarray(picture).astype(float) - self.truth))  # type: ignore[assignment]
        return error


def _mixed(one: tuple[int, ...], other: tuple[int, ...], part: Plane) -> Plane:
    mixed: Plane = np.array(one) * (1 - part) + np.array(other) * part
    return mixed


def plain(*colour: int) -> Paint:
    return lambda y, _x: np.broadcast_to(np.array(colour, float), (*y.shape, 3))


def graded(angle: float, start: tuple[int, ...], end: tuple[int, ...], span: float) -> Paint:
    def paint(y: Plane, x: Plane) -> Plane:
        part = ((x * np.cos(angle) + y * np.sin(angle)) / span + 0.5)[..., None]
        return _mixed(start, end, part)

    return paint


def radial(
    centre: tuple[float, float], middle: tuple[int, ...], rim: tuple[int, ...], span: float, flat: float = 1
) -> Paint:
    def paint(y: Plane, x: Plane) -> Plane:
        part = (np.hypot((y - centre[0]) * flat, x - centre[1]) / span)[..., None]
        return _mixed(middle, rim, part)

    return paint


def striped(angle: float, period: float) -> Paint:
    def paint(y: Plane, x: Plane) -> Plane:
        across = (x * np.cos(angle) + y * np.sin(angle)) / period
        part = np.clip((np.abs(across % 1 - 0.5) - 0.25) * period + 0.5, 0, 1)[..., None]
        return _mixed((230, 200, 60), (40, 60, 120), part)

    return paint


@pytest.mark.parametrize(
    ("colour", "width", "height", "zoom", "noise"),
    [
        ((255, 255, 255), 120, 90, 1.5, 0),
        ((12, 30, 77), 300, 40, 2, 0),
        ((180, 176, 170), 160, 200, 1.5, 3),
        ((128, 128, 128), 120, 100, 2, 9),
    ],
)
def test_a_uniform_border_goes_on_with_its_own_grain(
    colour: tuple[int, ...], width: int, height: int, zoom: float, noise: float
) -> None:
    known = Known.cut(plain(*colour), width, height, zoom, noise)
    if not noise:
        assert known.error().max() <= 1
        return
    picture = drawn(known.pixels, known.canvas)
    new = known.around(picture).astype(float)
    assert np.abs(new.mean(0) - colour).max() <= 1
    assert new.std(0) == pytest.approx(np.full(3, noise), rel=0.2)
    assert known.error(blur=4).mean() < 0.15 * noise + 0.35


@pytest.mark.parametrize("zoom", [1.5, 2])
@pytest.mark.parametrize(
    ("paint", "noise"),
    [
        (graded(0.0, (40, 80, 120), (200, 160, 130), 240), 0),
        (graded(2.2, (250, 240, 200), (120, 90, 160), 330), 2),
        (graded(-1.1, (60, 60, 60), (190, 190, 190), 400), 5),
        (radial((0, 0), (250, 250, 250), (60, 60, 60), 260), 0),
        (radial((-25, 40), (240, 200, 150), (60, 90, 150), 300), 2),
        (radial((10, -30), (90, 140, 200), (160, 60, 40), 260, flat=1.5), 0),
    ],
)
def test_a_gradient_goes_on_beyond_the_border_and_around_the_corners(paint: Paint, noise: float, zoom: float) -> None:
    known = Known.cut(paint, 210, 150, zoom, noise)
    assert known.error(blur=3 if noise else 0).mean() <= 2


@pytest.mark.parametrize(
    ("ground", "noise", "box"),
    [
        (plain(255, 255, 255), 0, (70, 40, 130, 149)),
        (plain(236, 232, 228), 2, (60, 20, 140, 130)),
        (graded(1.5, (240, 240, 245), (180, 180, 190), 300), 1.5, (20, 60, 90, 120)),
        (plain(20, 22, 26), 3, (95, 50, 185, 110)),
    ],
)
def test_an_object_on_a_plain_ground_is_not_repeated(ground: Paint, noise: float, box: tuple[int, ...]) -> None:
    known = Known.cut(ground, 200, 160, 1.5, noise)
    picture = Image.fromarray(known.pixels)
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle(box, 12, fill=(200, 40, 50))
    pen.ellipse((box[0] + 10, box[1] + 10, box[2] - 10, box[1] + 40), fill=(30, 160, 90))
    with_object = Known(known.truth, noise, known.canvas, np.asarray(picture))
    assert with_object.error(blur=1).max() < 12 + 3 * noise


def page(width: int, height: int, size: int, paper: int, ink: int, margin: int) -> Pixels:
    picture = Image.new("RGB", (width, height), (paper,) * 3)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    words = "the quick brown fox jumps over the lazy dog and naps at noon while five boxing wizards pack my box"
    for line, y in enumerate(range(margin, height - size - max(margin, 0), round(1.5 * size))):
        text = " ".join(words.split()[line % 7 :] + words.split())
        fitting = next(text[:n] for n in range(len(text), 0, -1) if pen.textlength(text[:n], font) < width - 2 * margin)
        pen.text((margin, y), fitting, fill=(ink,) * 3, font=font)
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("size", "paper", "ink", "margin"),
    [(12, 255, 20, 24), (16, 245, 60, 6), (11, 30, 220, 18), (14, 255, 0, -20), (15, 250, 10, -37), (13, 28, 225, -26)],
)
def test_no_stroke_of_a_page_of_text_is_repeated(size: int, paper: int, ink: int, margin: int) -> None:
    """The last pages are cut through their lines."""
    known = Known.cut(plain(paper, paper, paper), 240, 300, 1.5)
    text = Known(known.truth, 0, known.canvas, page(240, 300, size, paper, ink, margin))
    strokes = text.error()[..., 0] > 0.25 * abs(paper - ink)
    assert strokes.mean() < 0.001


def test_the_page_around_text_of_a_jpeg_goes_on_without_streaks() -> None:
    known, file = Known.cut(plain(238, 238, 238), 400, 300, 1.5), io.BytesIO()
    Image.fromarray(page(400, 300, 14, 238, 10, -20)).save(file, "JPEG", quality=75)
    assert Known(known.truth, 0, known.canvas, np.asarray(Image.open(file))).error().mean() < 7


@pytest.mark.parametrize(("gap", "ground", "box"), [(3, 236, 255), (7, 240, 90), (12, 40, 70)])
def test_boxes_near_the_border_leave_no_trace_beyond_it(gap: int, ground: int, box: int) -> None:
    known = Known.cut(plain(ground, ground, ground), 300, 220, 1.5)
    picture = Image.fromarray(known.pixels)
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((gap, 30, 120, 70), 9, fill=(box,) * 3)
    pen.rounded_rectangle((170, 110, 299 - gap, 160), 9, fill=(box,) * 3)
    pen.rectangle((140, gap, 190, 60), fill=(box,) * 3)
    assert Known(known.truth, 0, known.canvas, np.asarray(picture)).error().max() <= 1


def test_the_paper_of_a_form_goes_on_as_it_is_lit() -> None:
    known = Known.cut(graded(0.8, (238, 234, 224), (206, 200, 190), 400), 300, 220, 1.5, 2.5)
    picture = Image.fromarray(known.pixels)
    for y in range(30, 210, 40):
        ImageDraw.Draw(picture).line((60, y, 290, y), fill=(90, 90, 100), width=2)
    assert Known(known.truth, 2.5, known.canvas, np.asarray(picture)).error(blur=3).mean() < 2.5


@pytest.mark.parametrize(("angle", "middle", "width"), [(-0.4, 40, 30), (-0.4, 120, 14), (0.9, -50, 40), (0.0, 30, 36)])
def test_beside_a_band_that_crosses_the_border_the_ground_keeps_its_colour(
    angle: float, middle: float, width: float
) -> None:
    def beyond(y: Plane, x: Plane) -> Plane:
        edge: Plane = np.abs(y * np.cos(angle) - x * np.sin(angle) - middle) - width / 2
        return edge

    def band(y: Plane, x: Plane) -> Plane:
        return _mixed((200, 60, 50), (236, 232, 220), np.clip(beyond(y, x) + 0.5, 0, 1)[..., None])

    known = Known.cut(band, 360, 260, 1.5, 2)
    y, x = np.mgrid[: known.canvas.height, : known.canvas.width].astype(float)
    away = beyond(y - known.canvas.height / 2, x - known.canvas.width / 2) > 10
    assert known.error(blur=2)[known.around(away).astype(bool)].max() < 15


def test_a_wall_and_a_table_keep_their_colours_at_both_sides_of_the_edge() -> None:
    def table(y: Plane, _x: Plane) -> Plane:
        return _mixed((232, 228, 222), (178, 132, 92), np.clip(y - 60 + 0.5, 0, 1)[..., None])

    known = Known.cut(table, 360, 260, 1.5, 2)
    y = np.arange(known.canvas.height)[:, None] - known.canvas.height / 2 + 0 * known.truth[..., 0]
    away = known.around(np.abs(y - 60) > 10).astype(bool)
    assert known.error(blur=4)[away].max() < 5


def test_the_wood_at_one_side_is_no_grain_of_the_sky_at_the_next() -> None:
    with Image.open(EXAMPLES / "meadow.jpg") as meadow:
        pixels = np.asarray(meadow)
    sky = drawn(pixels, Canvas(960, 639, 160, 106))[:60, :60].astype(float)
    assert np.abs(np.diff(sky, axis=0)).mean() < 2


@pytest.mark.parametrize(
    ("angle", "period", "noise"), [(0.0, 40, 0), (1.5708, 28, 0), (0.5, 50, 0), (-0.9, 60, 3), (1.2, 45, 6)]
)
def test_stripes_that_cross_the_border_go_on_straight(angle: float, period: float, noise: float) -> None:
    known = Known.cut(striped(angle, period), 240, 200, 1.5, noise)
    picture = drawn(known.pixels, known.canvas).astype(float)
    first = picture @ (1, 1, -1) > 180
    height, width = known.pixels.shape[:2]
    y, x = np.mgrid[: known.canvas.height, : known.canvas.width]
    # Only stripes that cross the border: the way along them back leads into the image.
    along = np.array([-np.cos(angle), np.sin(angle)])
    crosses = np.zeros(first.shape, bool)
    for way in np.arange(-400, 400, 2):
        there_y, there_x = y + way * along[0] - known.canvas.y, x + way * along[1] - known.canvas.x
        crosses |= (there_y > 4) & (there_y < height - 4) & (there_x > 4) & (there_x < width - 4)
    from_middle_y, from_middle_x = y - known.canvas.y - height / 2, x - known.canvas.x - width / 2
    across = (from_middle_x * np.cos(angle) + from_middle_y * np.sin(angle)) / period
    inside = (0.25 - np.abs(across % 1 - 0.5)) * period  # pixels from the stripe's edge
    clear = known.around(crosses & (np.abs(inside) > 2)).astype(bool)
    wrong = known.around(first != (inside > 0)).astype(bool)[clear]
    assert clear.mean() > 0.2
    assert wrong.mean() < 0.01


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_a_defocused_ground_goes_on_without_a_new_colour(seed: int) -> None:
    """Neither far away nor in the corners, where one side's ground meets the next."""
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(70, 190, (5, 7, 3), dtype=np.uint8)).resize((300, 200))
    noisy = np.asarray(spots.filter(ImageFilter.GaussianBlur(20))) + rng.normal(0, 1.5, (200, 300, 3))
    pixels = np.clip(noisy, 0, 255).round().astype(np.uint8)
    picture = Image.fromarray(drawn(pixels, Canvas(450, 300, 75, 50))).filter(ImageFilter.BoxBlur(3))
    smooth = np.asarray(picture).astype(float)
    inside = smooth[54:246, 79:371]
    assert (smooth > inside.min((0, 1)) - 6).all()
    assert (smooth < inside.max((0, 1)) + 6).all()


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_no_seam_shows_beside_a_defocused_ground(seed: int) -> None:
    """Neither a step at the border nor a grain that the image does not have."""
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(20, 235, (8, 10, 3), dtype=np.uint8)).resize((450, 300))
    truth = _shaded(np.asarray(spots.filter(ImageFilter.GaussianBlur(20))).astype(float), 0.5, seed)
    picture = drawn(np.ascontiguousarray(truth[50:250, 75:375]), Canvas(450, 300, 75, 50))
    shown, true = (_step(plane.astype(float)) for plane in (picture, truth))
    assert shown < 1.1 * true
    assert _roughness(picture[:, 20:55]) == pytest.approx(_roughness(truth[:, 20:55]), rel=0.25)


def test_the_detail_of_a_soft_ground_goes_on_too() -> None:
    """Shapes of ten pixels or so, which are neither the ground's colours nor its grain."""
    found = []
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        soft = Image.fromarray(rng.integers(0, 256, (300, 450), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(3))
        shapes = np.asarray(soft).astype(float)
        shapes = 2.5 * (shapes - shapes.mean()) / shapes.std()
        truth = (120, 140, 100) + shapes[..., None] + rng.normal(0, 0.6, (300, 450, 3))
        pixels = truth[50:250, 75:375].round().astype(np.uint8)
        pixels[150:, 120:180] = 200, 40, 40  # cut by the border, so that something is copied at all
        pixels[150::3, 120:180:2] = 90, 20, 60
        picture = drawn(pixels, Canvas(450, 300, 75, 50))
        found.append(_shapes(picture[:, 5:55]) / _shapes(truth[:, 5:55]))
    assert 0.6 < np.mean(found) < 1.1


@pytest.mark.parametrize("noise", [0.5, 0.8, 1.5])
def test_a_faint_grain_gets_no_rougher_by_being_rounded_twice(noise: float) -> None:
    """The image's own grain is rounded already, and what is drawn is rounded again."""
    found = []
    for seed in (0, 1, 2):
        y, x = np.mgrid[:300, :450, :1][:2]
        truth = _shaded(100 + 0.2 * y + 0.1 * x * (1, 0.5, 0), noise, seed)
        picture = drawn(np.ascontiguousarray(truth[50:250, 75:375]), Canvas(450, 300, 75, 50))
        found.append(_roughness(picture[:, 5:65]) / _roughness(truth[:, 5:65]))
    assert np.mean(found) == pytest.approx(1, abs=0.08)


def _shaded(paint: Plane, noise: float, seed: int) -> Pixels:
    """A canvas of 450 x 300 with a grain whose neighbouring pixels are alike."""
    grain = np.random.default_rng(seed).normal(0, noise, (301, 451, 3))
    grain = (grain[1:, 1:] + grain[:-1, 1:] + grain[1:, :-1] + grain[:-1, :-1]) / 2
    return np.clip(paint + grain, 0, 255).round().astype(np.uint8)


def _roughness(plane: NDArray[np.generic]) -> float:
    """How much each pixel bends away from those above and below."""
    return float(np.abs(np.diff(plane.astype(float), 2, axis=0)).mean())


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_the_channels_of_what_was_a_jpeg_step_together_beyond_it_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(60, 200, (8, 10, 3), dtype=np.uint8)).resize((450, 300))
    lumps = Image.fromarray(rng.integers(0, 255, (300, 450), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    luma = (np.asarray(lumps).astype(float) - 127.5)[..., None] / 8
    file = io.BytesIO()
    shaded = np.clip(np.asarray(spots.filter(ImageFilter.GaussianBlur(20))) + luma, 0, 255).round().astype(np.uint8)
    Image.fromarray(shaded).save(file, "JPEG", quality=90)
    pixels = np.ascontiguousarray(np.asarray(Image.open(file).convert("RGB"))[50:250, 75:375])
    picture = drawn(pixels, Canvas(450, 300, 75, 50))
    new = np.mean([_together(area) for area in (picture[:, :74], picture[:, 376:])])
    # Rounded one by one, they do at 0.23 to 0.3 of the rate inside.
    assert new > 0.33 * _together(pixels)


def _together(plane: Pixels) -> float:
    """The share of steps along rows that are the same in all channels."""
    steps = np.diff(plane.astype(int), axis=1)
    return float((steps.max(-1) == steps.min(-1)).mean())


def _shapes(plane: NDArray[np.generic]) -> float:
    """How much a plane varies over about ten pixels."""
    grey = Image.fromarray(plane.mean(-1).round().astype(np.uint8))
    fine, coarse = (np.asarray(grey.filter(ImageFilter.BoxBlur(radius))).astype(float) for radius in (2, 12))
    return float((fine - coarse)[12:-12, 12:-12].std())


def _step(plane: Plane) -> float:
    """Of the canvas above: from the outermost pixels to those beside them."""
    across = [plane[row, 75:375] - plane[row + 1, 75:375] for row in (49, 249)]
    along = [plane[50:250, column] - plane[50:250, column + 1] for column in (74, 374)]
    return float(np.mean([np.abs(steps).mean() for steps in (*across, *along)]))
