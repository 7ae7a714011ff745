"""Frames that are scaled into what a vendor paints."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.request import SIDES, AspectRatio, Side
from outpaint_mcp.providers.canvas_limits import CanvasLimits

MEGA = CanvasLimits(max_pixels=4 * 2**20, multiple=16, aligned=True)
SMALL = CanvasLimits(max_side=2560, max_growth=2048)
TALL = CanvasLimits(min_pixels=655_360, max_pixels=8_294_400, max_side=3840, multiple=16, max_ratio=Fraction(3))
IMAGE = CanvasLimits(max_image_pixels=9_437_184, max_growth=2000, max_image_ratio=Fraction(5, 2), min_image_side=64)
LIMITS = (MEGA, SMALL, TALL, IMAGE)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    wide, tall = draw(st.integers(64, 9000)), draw(st.integers(64, 9000))
    sides = draw(st.lists(st.sampled_from(SIDES), min_size=1, unique=True))
    return Frame.around(wide, tall, zoom=draw(st.integers(101, 200)) / 100, sides=sides)


@example(Frame(65, 64, 1, 0, 64, 64), TALL)
@example(Frame(1500, 501, 0, 0, 1500, 500), TALL)
@example(Frame(6100, 2400, 50, 0, 6000, 2400), IMAGE)
@example(Frame(3053, 4599, 30, 0, 3023, 4599), IMAGE)
@given(frames(), st.sampled_from(LIMITS))
def test_a_frame_comes_to_one_that_the_vendor_paints_with_the_image_at_the_same_sides(
    frame: Frame, limits: CanvasLimits
) -> None:
    if max(frame.canvas_width, frame.canvas_height) > 3 * min(frame.canvas_width, frame.canvas_height):
        return
    sent = limits.fitted(frame)
    for most, sides, asked in (
        (limits.max_ratio, (sent.canvas_width, sent.canvas_height), (frame.canvas_width, frame.canvas_height)),
        (limits.max_image_ratio, (sent.width, sent.height), (frame.width, frame.height)),
    ):
        if most is not None and max(asked) <= most * min(asked):
            assert max(sides) <= most * min(sides)
    area = sent.canvas_width * sent.canvas_height
    assert area <= (limits.max_pixels or area)
    assert area >= (limits.min_pixels or 0)
    assert max(sent.canvas_width, sent.canvas_height) <= (limits.max_side or 10**6)
    assert max(sent.growths) <= (limits.max_growth or 10**6)
    assert sent.width * sent.height <= (limits.max_image_pixels or 10**9)
    on_grid = [sent.canvas_width, sent.canvas_height]
    if limits.aligned:
        on_grid += [sent.width, sent.height, sent.x, sent.y]
    assert all(value % limits.multiple == 0 for value in on_grid)
    # What grows grows, and nothing else does.
    assert [bool(one) for one in sent.growths] == [bool(one) for one in frame.growths] or limits.multiple > 1
    assert not any(there and not here for here, there in zip(frame.growths, sent.growths, strict=True))


@given(frames())
def test_what_a_vendor_paints_as_it_is_stays_as_it_is(frame: Frame) -> None:
    assert CanvasLimits(max_side=20_000).fitted(frame) == frame


@pytest.mark.parametrize(
    ("sides", "sent"),
    [
        (("left",), Frame(2560, 1707, 853, 0, 1707, 1707)),
        (("right",), Frame(2560, 1707, 0, 0, 1707, 1707)),
        (None, Frame(2560, 2560, 427, 427, 1707, 1707)),
    ],
)
def test_a_large_image_is_scaled_with_its_canvas(sides: tuple[Side, ...] | None, sent: Frame) -> None:
    scaled = SMALL.fitted(Frame.around(4000, 4000, zoom=1.5, sides=sides))
    told = zip(
        (scaled.canvas_width, scaled.canvas_height, scaled.x, scaled.y, scaled.width, scaled.height),
        (sent.canvas_width, sent.canvas_height, sent.x, sent.y, sent.width, sent.height),
        strict=True,
    )
    assert all(abs(one - other) <= 1 for one, other in told), scaled


def test_a_small_image_is_scaled_up_no_more_than_it_takes_and_with_its_canvas() -> None:
    assert TALL.fitted(Frame(960, 480, 160, 0, 640, 480)) == Frame(1152, 576, 192, 0, 768, 576)


def test_what_no_scaling_makes_fit_is_refused_with_what_to_change() -> None:
    def check(limits: CanvasLimits, width: int, height: int, ratio: AspectRatio | None = None) -> None:
        frame = Frame.around(width, height, zoom=1.5 if ratio is None else 1, aspect_ratio=ratio)
        limits.check("Vendor", InputImage("", "image/png", width, height), frame)

    with pytest.raises(UnsupportedFeatureError, match="ratio of up to 3:1; the new image would be 4000x1000"):
        check(TALL, 1000, 1000, AspectRatio(4, 1))
    with pytest.raises(UnsupportedFeatureError, match="the image would be 3000x1000"):
        check(IMAGE, 3000, 1000)
    with pytest.raises(UnsupportedFeatureError, match="at least 64 pixels"):
        check(IMAGE, 60, 60)
    check(TALL, 1000, 1000, AspectRatio(3, 1))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (CanvasLimits(), ""),
        (MEGA, "up to 4.19 megapixels, larger ones are scaled down first, in steps of 16 pixels"),
        (SMALL, "up to 2560 pixels a side, up to 2048 new pixels at each side, larger ones are scaled down first"),
        (
            IMAGE,
            "up to 2000 new pixels at each side, your image up to 9.44 megapixels, larger ones are scaled down first, "
            "your image at least 64 pixels a side, a ratio of up to 2.5:1",
        ),
    ],
)
def test_the_limits_are_told_in_words(limits: CanvasLimits, words: str) -> None:
    assert str(limits) == words
