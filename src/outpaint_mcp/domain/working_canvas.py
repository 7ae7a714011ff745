"""What a self-hosted engine draws on: the ordered canvas in the size that its model works in, padded to whole steps."""

import re
from dataclasses import dataclass
from math import isqrt
from typing import Final, Self

from outpaint_mcp.domain.frame import Frame

_REFERENCE: Final = re.compile(r"(\d{1,6})x(\d{1,6})/(\d{1,6})x(\d{1,6})")


@dataclass(frozen=True, slots=True)
class WorkingCanvas:
    """The ordered canvas scaled to `width` x `height` pixels; what the engine gets beyond that on the right and below,
    up to `padded_width` x `padded_height`, is cut off its answer.
    """

    width: int
    height: int
    padded_width: int
    padded_height: int

    @classmethod
    def of(cls, frame: Frame, *, max_pixels: int, multiple: int, min_pixels: int = 0) -> Self:
        """The canvas for `frame`: scaled down to about `max_pixels`, or up to about `min_pixels`, if it must be.

        Its padded sides are multiples of `multiple`.
        """
        wide, tall = frame.canvas_width, frame.canvas_height
        area = wide * tall
        pixels = min(max(area, min_pixels), max_pixels)
        if pixels != area:
            # At least one step on the shorter side; the longer one then has the ratio still.
            wide = max(multiple, isqrt(wide * wide * pixels // area))
            tall = max(multiple, isqrt(tall * tall * pixels // area))
        return cls(wide, tall, _stepped(wide, multiple), _stepped(tall, multiple))

    def placed(self, frame: Frame) -> Frame:
        """The frame as it lies on this canvas, padding included. Along an axis that grows there is something to paint
        still.
        """
        left, right = self._axis(frame.x, frame.width, frame.canvas_width, self.width)
        top, bottom = self._axis(frame.y, frame.height, frame.canvas_height, self.height)
        return Frame(self.padded_width, self.padded_height, left, top, right - left, bottom - top)

    @staticmethod
    def _axis(start: int, length: int, canvas: int, side: int) -> tuple[int, int]:
        """Where the original begins and ends along one axis: what lies at an edge of the canvas stays there."""
        after = canvas - start - length
        first = max(round(start * side / canvas), 1 if start else 0)
        last = min(round((start + length) * side / canvas), side - 1 if after else side)
        first = min(first, side - 1 - (1 if after else 0))
        return first, max(last, first + 1)

    @property
    def reference(self) -> str:
        """These sizes as text, to be kept with the order."""
        return f"{self.width}x{self.height}/{self.padded_width}x{self.padded_height}"

    @classmethod
    def from_reference(cls, text: str | None) -> Self | None:
        """The canvas that `reference` was taken from; None if it was not."""
        found = _REFERENCE.fullmatch(text or "")
        return None if found is None else cls(*(int(side) for side in found.groups()))


def _stepped(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
