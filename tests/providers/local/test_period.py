"""A pattern goes on by its own period, whatever stands in its middle; what has none is taken for none."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from outpaint_mcp.providers.local.period import Pattern, Repeats

from .test_engine import drawn, zoomed
from .test_ground import Known, Paint, Plane, graded, page, plain, radial

Pixels = NDArray[np.uint8]
DARK, LIGHT = np.array([30.0, 60, 110]), np.array([235.0, 225, 200])


def pattern(angle: float, period: float, light: Callable[[Plane, Plane], Plane]) -> Paint:
    """`light` says of places, counted in periods along the pattern's own axes, how light they are, 0 to 1."""

    def paint(y: Plane, x: Plane) -> Plane:
        along = (x * np.cos(angle) + y * np.sin(angle)) / period + 0.3
        across = (y * np.cos(angle) - x * np.sin(angle)) / period + 0.7
        colours: Plane = DARK + (LIGHT - DARK) * light(along, across)[..., None]
        return colours

    return paint


def stripes(u: Plane, _v: Plane) -> Plane:
    return (u % 1 < 0.4).astype(float)


def waves(u: Plane, _v: Plane) -> Plane:
    return 0.5 + 0.5 * np.sin(2 * np.pi * u)


def checks(u: Plane, v: Plane) -> Plane:
    return (np.floor(2 * u) + np.floor(2 * v)) % 2


def squared(u: Plane, v: Plane) -> Plane:
    return ((u % 1 > 0.12) & (v % 1 > 0.12)).astype(float)


def dots(u: Plane, v: Plane) -> Plane:
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) > 0.3).astype(float)


def bricks(u: Plane, v: Plane) -> Plane:
    row = np.floor(2 * v)
    return (((u + 0.5 * (row % 2)) % 1 > 0.08) & (2 * v % 1 > 0.16)).astype(float)


def zigzag(u: Plane, v: Plane) -> Plane:
    return ((v + np.abs(u % 1 - 0.5)) % 1 < 0.5).astype(float)


def with_disc(known: Known) -> Known:
    picture = Image.fromarray(known.pixels)
    width, height = picture.size
    ImageDraw.Draw(picture).circle((width / 2, height / 2), 0.2 * min(width, height), fill=(210, 30, 90))
    return Known(known.truth, known.noise, known.canvas, np.asarray(picture))


def as_jpeg(known: Known) -> Known:
    file = io.BytesIO()
    Image.fromarray(known.pixels).save(file, "JPEG", quality=85)
    return Known(known.truth, known.noise, known.canvas, np.asarray(Image.open(file)))


def unchanged(known: Known) -> Known:
    return known


@pytest.mark.parametrize(
    ("light", "angle", "period", "zoom", "noise", "seen"),
    [
        (stripes, np.pi / 2, 37, 1.5, 0, unchanged),
        (stripes, 0.0, 21.3, 2, 3, with_disc),
        (stripes, np.pi / 4, 40, 1.5, 0, with_disc),
        (stripes, 1.1, 33, 1.5, 0, as_jpeg),
        (waves, 0.4, 50, 2, 4, unchanged),
        (checks, 0.0, 48, 1.5, 0, with_disc),
        (checks, 0.6, 41.7, 1.5, 0, as_jpeg),
        (squared, 0.0, 16, 2, 0, unchanged),
        (dots, 0.0, 30, 1.5, 2, with_disc),
        (dots, 0.9, 36.4, 1.5, 0, unchanged),
        (bricks, 0.0, 44, 1.5, 0, as_jpeg),
        (zigzag, 0.0, 38, 1.5, 0, unchanged),
    ],
)
def test_a_pattern_goes_on_by_its_period_at_all_sides_and_in_the_corners(
    light: Callable[[Plane, Plane], Plane],
    angle: float,
    period: float,
    zoom: float,
    noise: float,
    seen: Callable[[Known], Known],
) -> None:
    known = seen(Known.cut(pattern(angle, period, light), 320, 240, zoom, noise))
    picture = drawn(known.pixels, known.canvas).astype(float)
    # Where the period is no whole number, edges may lie part of a pixel off.
    wrong = known.around(np.abs(picture - known.truth).max(-1) > 90)
    assert wrong.mean() < 0.06
    corner = picture[: known.canvas.y, : known.canvas.x]
    truth = known.truth[: known.canvas.y, : known.canvas.x]
    assert np.corrcoef(corner[..., 0].ravel(), truth[..., 0].ravel())[0, 1] > 0.8


def _photograph() -> Pixels:
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    return (np.asarray(coarse) + rng.normal(0, 6, (240, 320, 3))).clip(0, 255).astype(np.uint8)


def _icons() -> Pixels:
    """Three equal ones in a row, and lines as a form has them."""
    picture = Image.new("RGB", (320, 240), "white")
    pen = ImageDraw.Draw(picture)
    for left in (40, 130, 220):
        pen.rounded_rectangle((left, 20, left + 60, 80), 10, fill=(40, 90, 200))
    for y in (120, 150, 180, 210):
        pen.line((40, y, 280, y), fill="black", width=2)
    return np.asarray(picture)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: page(240, 300, 12, 255, 20, 24),
        lambda: page(240, 300, 14, 255, 0, -20),
        _photograph,
        _icons,
        lambda: Known.cut(plain(200, 200, 200), 200, 150, 1, 8).pixels,
        lambda: Known.cut(graded(0.7, (20, 40, 90), (250, 190, 140), 300), 200, 150, 1, 2).pixels,
        lambda: Known.cut(radial((0, 0), (250, 250, 250), (60, 60, 60), 260), 200, 150, 1).pixels,
    ],
    ids=["page", "cut page", "photograph", "icons", "plain", "gradient", "radial gradient"],
)
def test_what_has_no_period_is_taken_for_none(draw: Callable[[], Pixels]) -> None:
    pixels = draw()
    repeats = Repeats.of(pixels)
    assert repeats is None or not Pattern(pixels, zoomed(pixels), repeats).holds
