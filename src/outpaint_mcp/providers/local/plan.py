"""Where the original lies on the larger canvas, as the engine's stages hand it on, how large that may be, and how long
it may take to decode: no image, no NumPy.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final, Self

from outpaint_mcp.domain.frame import Frame

MAX_PIXELS: Final = 80_000_000
"""Of the canvas."""
MAX_DECODE_SECONDS: Final = 10
"""Of the processor's time, for one image."""
# A JPEG could have 65,535; libjpeg writes no more than this.
LARGEST_SIDE: Final[dict[str, int]] = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}
"""The most pixels on a side, by format."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The new image's size, and where the original's top left corner lies on it, all in pixels.

    Inside the engine the original's size is the array's own, and changes from step to step: hence no `Frame`.
    """

    width: int
    height: int
    x: int
    y: int

    @classmethod
    def of(cls, frame: Frame) -> Self:
        return cls(frame.canvas_width, frame.canvas_height, frame.x, frame.y)


def fitted(frame: Frame) -> Frame:
    """The frame as it is drawn: scaled down, original and canvas, where the canvas is too large."""
    scale = sqrt(MAX_PIXELS / (frame.canvas_width * frame.canvas_height))
    if scale >= 1:
        return frame
    width, height = (max(1, int(side * scale)) for side in (frame.canvas_width, frame.canvas_height))
    # A side of one pixel is not scaled, so the other has to do it all.
    width = min(width, MAX_PIXELS // height)
    return frame.scaled(scale, width, min(height, MAX_PIXELS // width))
