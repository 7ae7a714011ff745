"""The geometry of an outpaint: the canvas of the new image, and where the original lies on it."""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Self

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.request import SIDES, AspectRatio, Side


@dataclass(frozen=True, slots=True)
class Frame:
    """The canvas (`canvas_width` x `canvas_height`), and on it the original's top left corner (`x`, `y`) and size.

    All in pixels of the original, which lies wholly on the canvas. Adapters translate it into what their vendor wants,
    `scaled` where that has limits of size.
    """

    canvas_width: int
    canvas_height: int
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(
        cls,
        width: int,
        height: int,
        *,
        zoom: float,
        aspect_ratio: AspectRatio | None = None,
        sides: Collection[Side] | None = None,
    ) -> Self:
        """The frame for an original of `width` x `height` pixels.

        `zoom` is how many times wider and taller the canvas is; along an axis that has none of the `sides` it does not
        grow. With `aspect_ratio` it is the smallest canvas of that ratio that holds the zoomed one: one side stays, the
        other grows to the nearest whole pixel. All growth lies on the named sides; where both of an axis are named, the
        original is centred, half a pixel up and to the left where it cannot be.

        Raises:
            ValueError: a size or a part of the ratio is below 1, or `zoom` is below 1 or not finite.
            InvalidRequestError: the ratio needs growth along an axis without a named side.
        """
        named = frozenset(SIDES if sides is None else sides)
        wider, taller = not named.isdisjoint(("left", "right")), not named.isdisjoint(("top", "bottom"))
        parts = (1, 1) if aspect_ratio is None else (aspect_ratio.width, aspect_ratio.height)
        if min(width, height, *parts) < 1 or not 1 <= zoom < float("inf"):
            raise ValueError("width, height, both parts of the ratio and zoom must be at least 1")
        # Fractions, since 1.1 * 10 is a little above 11 as floats: equal orders must give equal frames.
        factor = Fraction(str(zoom))
        canvas_width = _nearest(width * factor) if wider else width
        canvas_height = _nearest(height * factor) if taller else height
        if aspect_ratio is not None:
            ratio = Fraction(aspect_ratio.width, aspect_ratio.height)
            if canvas_width < canvas_height * ratio:
                canvas_width = _nearest(canvas_height * ratio)
            else:
                canvas_height = _nearest(canvas_width / ratio)
            for grows, growth, missing in (
                (wider, canvas_width - width, "left or right"),
                (taller, canvas_height - height, "top or bottom"),
            ):
                if growth and not grows:
                    raise InvalidRequestError(
                        f"An aspect_ratio of {aspect_ratio} needs new area at the {missing} of this image "
                        f"({width}x{height}), which sides does not name.",
                        f"Add {missing} to sides, or give another aspect_ratio.",
                    )
        x = _before(canvas_width - width, "left" in named, "right" in named)
        y = _before(canvas_height - height, "top" in named, "bottom" in named)
        return cls(canvas_width, canvas_height, x, y, width, height)

    def scaled(self, scale: float | Fraction, canvas_width: int, canvas_height: int) -> Self:
        """The frame on a canvas of about `scale` times the size, with the original at the same place on it and scaled
        likewise, but never so far that it fills an axis that grows.
        """
        width = _scaled(self.width, self.canvas_width, scale, canvas_width)
        height = _scaled(self.height, self.canvas_height, scale, canvas_height)
        x = _start(self.x, self.canvas_width - self.width, canvas_width - width)
        y = _start(self.y, self.canvas_height - self.height, canvas_height - height)
        return type(self)(canvas_width, canvas_height, x, y, width, height)

    @property
    def growths(self) -> tuple[int, int, int, int]:
        """How many pixels of new area lie to the left, right, top and bottom of the original."""
        right = self.canvas_width - self.x - self.width
        return self.x, right, self.y, self.canvas_height - self.y - self.height

    @property
    def grows(self) -> bool:
        """Whether there is anything to paint."""
        return (self.canvas_width, self.canvas_height) != (self.width, self.height)


def _before(growth: int, before: bool, after: bool) -> int:
    """How much of an axis' growth lies before the original."""
    return growth // 2 if before and after else growth if before else 0


def _scaled(side: int, canvas: int, scale: float | Fraction, scaled_canvas: int) -> int:
    return max(1, min(round(side * scale), scaled_canvas - (canvas > side)))


def _start(start: int, growth: int, scaled_growth: int) -> int:
    """Where the image begins along an axis that grows by `scaled_growth` in place of `growth` pixels."""
    # Half a pixel beside the middle only comes of whole pixels: scaled, it would be many.
    share = Fraction(1, 2) if abs(growth - 2 * start) <= 1 else Fraction(start, growth)
    return floor(share * scaled_growth)


def _nearest(size: Fraction) -> int:
    """Rounded half up (Python's own rounding goes to the even neighbour, so that 5 and 7 px would grow unevenly)."""
    return floor(size + Fraction(1, 2))
