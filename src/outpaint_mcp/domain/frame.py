"""The geometry of an outpaint: the canvas of the new image, and where the original lies on it."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Self

from outpaint_mcp.domain.request import AspectRatio


@dataclass(frozen=True, slots=True)
class Frame:
    """The canvas (`canvas_width` x `canvas_height`), and on it the original's top left corner (`x`, `y`) and size.

    All in pixels of the original, which is never scaled and lies wholly on the canvas. Adapters translate it into what
    their vendor wants.
    """

    canvas_width: int
    canvas_height: int
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(cls, width: int, height: int, *, zoom: float, aspect_ratio: AspectRatio | None = None) -> Self:
        """The frame for an original of `width` x `height` pixels.

        `zoom` is how many times wider and taller the canvas is. With `aspect_ratio` it is the smallest canvas of that
        ratio that holds the zoomed one: one side stays, the other grows to the nearest whole pixel. The original is
        centred, half a pixel up and to the left where it cannot be.

        Raises:
            ValueError: a size or a part of the ratio is below 1, or `zoom` is below 1 or not finite.
        """
        parts = (1, 1) if aspect_ratio is None else (aspect_ratio.width, aspect_ratio.height)
        if min(width, height, *parts) < 1 or not 1 <= zoom < float("inf"):
            raise ValueError("width, height, both parts of the ratio and zoom must be at least 1")
        # Fractions, since 1.1 * 10 is a little above 11 as floats: equal orders must give equal frames.
        factor = Fraction(str(zoom))
        canvas_width, canvas_height = _nearest(width * factor), _nearest(height * factor)
        if aspect_ratio is not None:
            ratio = Fraction(aspect_ratio.width, aspect_ratio.height)
            if canvas_width < canvas_height * ratio:
                canvas_width = _nearest(canvas_height * ratio)
            else:
                canvas_height = _nearest(canvas_width / ratio)
        return cls(
            canvas_width, canvas_height, (canvas_width - width) // 2, (canvas_height - height) // 2, width, height
        )

    @property
    def grows(self) -> bool:
        """Whether there is anything to paint."""
        return (self.canvas_width, self.canvas_height) != (self.width, self.height)


def _nearest(size: Fraction) -> int:
    """Rounded half up (Python's own rounding goes to the even neighbour, so that 5 and 7 px would grow unevenly)."""
    return floor(size + Fraction(1, 2))
