"""Where the original lies on the larger canvas. Knows integers only: no picture, no NumPy."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor


@dataclass(frozen=True, slots=True)
class Canvas:
    """The new picture's size, and where the original's top left corner lies on it, all in pixels."""

    width: int
    height: int
    x: int
    y: int


def plan_canvas(width: int, height: int, *, zoom: float, aspect_ratio: tuple[int, int] | None) -> Canvas:
    """The canvas for an original of `width` x `height` pixels, which is never scaled and always whole on it.

    `zoom` is how many times wider and taller the canvas is. With `aspect_ratio` (width, height) it is the smallest
    canvas of that ratio that holds the zoomed one: one side stays, the other grows to the nearest whole pixel.
    The original is centred, half a pixel up and to the left where it cannot be.

    Raises:
        ValueError: a size or a part of the ratio is below 1, or `zoom` is below 1 or not finite.
    """
    if min(width, height) < 1 or not 1 <= zoom < float("inf"):
        raise ValueError("width and height must be at least 1 pixel, and zoom a number of at least 1")
    # Fractions, since 1.1 * 10 is a little above 11 as floats: equal orders must give equal canvases.
    factor = Fraction(str(zoom))
    new_width, new_height = _nearest(width * factor), _nearest(height * factor)
    if aspect_ratio is not None:
        if min(aspect_ratio) < 1:
            raise ValueError("both parts of the aspect ratio must be at least 1")
        ratio = Fraction(*aspect_ratio)
        if new_width < new_height * ratio:
            new_width = _nearest(new_height * ratio)
        else:
            new_height = _nearest(new_width / ratio)
    return Canvas(new_width, new_height, (new_width - width) // 2, (new_height - height) // 2)


def _nearest(size: Fraction) -> int:
    """Rounded half up (Python's own rounding goes to the even neighbour, so that 5 and 7 px would grow unevenly)."""
    return floor(size + Fraction(1, 2))
