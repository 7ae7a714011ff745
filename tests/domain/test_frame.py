"""Where the original lies on the canvas."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio, Side


def frame_of(width: int, height: int, *, zoom: float, aspect_ratio: tuple[int, int] | None) -> Frame:
    ratio = None if aspect_ratio is None else AspectRatio(*aspect_ratio)
    return Frame.around(width, height, zoom=zoom, aspect_ratio=ratio)


sides = st.integers(1, 9000)
zooms = st.integers(100, 200).map(lambda percent: percent / 100)
ratios = st.tuples(st.integers(1, 40), st.integers(1, 40))


@pytest.mark.parametrize(
    ("size", "zoom", "ratio", "expected"),
    [
        ((1000, 500), 1.5, None, (1500, 750, 250, 125)),
        ((1000, 500), 2.0, None, (2000, 1000, 500, 250)),
        ((1000, 500), 1.0, (1, 1), (1000, 1000, 0, 250)),
        ((500, 1000), 1.0, (1, 1), (1000, 1000, 250, 0)),
        ((512, 512), 1.0, (16, 9), (910, 512, 199, 0)),
        ((512, 512), 1.5, (16, 9), (1365, 768, 426, 128)),
        ((1600, 900), 1.0, (9, 16), (1600, 2844, 0, 972)),
        ((1600, 900), 1.5, (16, 9), (2400, 1350, 400, 225)),
        ((7, 5), 1.5, None, (11, 8, 2, 1)),
        ((10, 10), 1.1, None, (11, 11, 0, 0)),
        ((1, 1), 1.0, None, (1, 1, 0, 0)),
    ],
)
def test_known_frames(
    size: tuple[int, int], zoom: float, ratio: tuple[int, int] | None, expected: tuple[int, int, int, int]
) -> None:
    assert frame_of(*size, zoom=zoom, aspect_ratio=ratio) == Frame(*expected, *size)


@pytest.mark.parametrize(
    ("sides", "zoom", "ratio", "expected"),
    [
        (("left",), 1.5, None, (1500, 500, 500, 0)),
        (("right",), 1.5, None, (1500, 500, 0, 0)),
        (("left", "right"), 1.5, None, (1500, 500, 250, 0)),
        (("top",), 1.5, None, (1000, 750, 0, 250)),
        (("left", "top"), 1.5, None, (1500, 750, 500, 250)),
        (("left", "right", "top"), 1.5, None, (1500, 750, 250, 250)),
        (("bottom",), 1.0, (1, 1), (1000, 1000, 0, 0)),
        (("left", "bottom"), 1.2, (3, 1), (1800, 600, 800, 0)),
        (("left", "right", "top", "bottom"), 2.0, None, (2000, 1000, 500, 250)),
    ],
)
def test_all_growth_lies_on_the_named_sides(
    sides: tuple[Side, ...], zoom: float, ratio: tuple[int, int] | None, expected: tuple[int, int, int, int]
) -> None:
    aspect_ratio = None if ratio is None else AspectRatio(*ratio)
    assert Frame.around(1000, 500, zoom=zoom, aspect_ratio=aspect_ratio, sides=sides) == Frame(*expected, 1000, 500)


@pytest.mark.parametrize(
    ("sides", "ratio", "missing"), [(("left",), (1, 1), "top or bottom"), (("top", "bottom"), (3, 1), "left or right")]
)
def test_a_ratio_that_needs_another_side_is_refused_with_that_side(
    sides: tuple[Side, ...], ratio: tuple[int, int], missing: str
) -> None:
    with pytest.raises(InvalidRequestError, match=missing) as refused:
        Frame.around(1000, 500, zoom=1, aspect_ratio=AspectRatio(*ratio), sides=sides)
    assert refused.value.advice.startswith(f"Add {missing} to sides")


@given(sides, sides, zooms, st.none() | ratios)
def test_the_original_lies_whole_and_centred_on_the_canvas(
    width: int, height: int, zoom: float, ratio: tuple[int, int] | None
) -> None:
    frame = frame_of(width, height, zoom=zoom, aspect_ratio=ratio)
    right, below = frame.canvas_width - frame.x - width, frame.canvas_height - frame.y - height
    assert min(frame.x, frame.y) >= 0
    assert right - frame.x in (0, 1)
    assert below - frame.y in (0, 1)


@given(sides, sides, zooms, ratios)
def test_the_ratio_is_as_exact_as_whole_pixels_allow_on_the_smallest_canvas(
    width: int, height: int, zoom: float, ratio: tuple[int, int]
) -> None:
    frame = frame_of(width, height, zoom=zoom, aspect_ratio=ratio)
    zoomed = frame_of(width, height, zoom=zoom, aspect_ratio=None)
    wanted = Fraction(*ratio)
    half = Fraction(1, 2)
    assert frame.canvas_width >= zoomed.canvas_width
    assert frame.canvas_height >= zoomed.canvas_height
    kept_width = (
        frame.canvas_width == zoomed.canvas_width and abs(frame.canvas_height - frame.canvas_width / wanted) <= half
    )
    kept_height = (
        frame.canvas_height == zoomed.canvas_height and abs(frame.canvas_width - frame.canvas_height * wanted) <= half
    )
    assert kept_width or kept_height


@given(sides, sides, zooms, ratios, st.integers(2, 5))
def test_a_ratio_written_in_larger_numbers_is_the_same_ratio(
    width: int, height: int, zoom: float, ratio: tuple[int, int], factor: int
) -> None:
    larger = (ratio[0] * factor, ratio[1] * factor)
    assert frame_of(width, height, zoom=zoom, aspect_ratio=ratio) == frame_of(
        width, height, zoom=zoom, aspect_ratio=larger
    )


@given(sides, sides, zooms, zooms)
def test_a_larger_zoom_never_gives_a_smaller_canvas(width: int, height: int, one: float, other: float) -> None:
    assume(one <= other)
    small = frame_of(width, height, zoom=one, aspect_ratio=None)
    large = frame_of(width, height, zoom=other, aspect_ratio=None)
    assert small.canvas_width <= large.canvas_width
    assert small.canvas_height <= large.canvas_height


@pytest.mark.parametrize(
    ("width", "height", "zoom", "ratio"),
    [
        (0, 5, 1.0, None),
        (5, -1, 1.0, None),
        (5, 5, 0.9, None),
        (5, 5, math.nan, None),
        (5, 5, math.inf, None),
        (5, 5, 1.0, (0, 1)),
        (5, 5, 1.0, (1, -1)),
    ],
)
def test_nonsense_is_a_value_error(width: int, height: int, zoom: float, ratio: tuple[int, int] | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        frame_of(width, height, zoom=zoom, aspect_ratio=ratio)
