"""Where the original lies on the larger canvas, as the engine's stages hand it on: no image, no NumPy."""

from dataclasses import dataclass
from typing import Final, Self

from outpaint_mcp.domain.frame import Frame

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
