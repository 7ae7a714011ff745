"""What canvases a vendor paints. A frame outside of these is scaled, with its image, before it is sent. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isqrt

from outpaint_mcp.domain.errors import UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage

_Rounding = Callable[[Fraction], int]


@dataclass(frozen=True, slots=True)
class CanvasLimits:
    """The limits of one operation, in pixels. None is no limit.

    Args:
        max_side: the longest side of the canvas.
        max_pixels: the largest area of the canvas.
        min_pixels: the smallest area of the canvas; a smaller frame is scaled up.
        max_growth: how much one side may add.
        max_image_pixels: the largest area of the image on the canvas.
        max_ratio: the longer side of the canvas to the shorter one, at most.
        max_image_ratio: likewise of the image.
        min_image_side: the shortest side of the image.
        multiple: what the canvas's sides are multiples of.
        aligned: whether the image's sides and its place are multiples of that too.
        scales: whether the vendor scales the image to the size that it is told, so that an image at a URL can stay as
            it is.
    """

    max_side: int | None = None
    max_pixels: int | None = None
    min_pixels: int | None = None
    max_growth: int | None = None
    max_image_pixels: int | None = None
    max_ratio: Fraction | None = None
    max_image_ratio: Fraction | None = None
    min_image_side: int | None = None
    multiple: int = 1
    aligned: bool = False
    scales: bool = False

    def __str__(self) -> str:
        """The limits as `list_providers` tells them; empty where there are none."""
        sizes = [
            self.max_side and f"up to {self.max_side} pixels a side",
            self.max_pixels and f"up to {_megapixels(self.max_pixels)}",
            self.max_growth and f"up to {self.max_growth} new pixels at each side",
            self.max_image_pixels and f"your image up to {_megapixels(self.max_image_pixels)}",
        ]
        found = [one for one in sizes if one]
        if found:
            found.append("larger ones are scaled down first")
        if self.min_pixels:
            found.append(f"smaller ones than {_megapixels(self.min_pixels)} are scaled up first")
        if self.min_image_side:
            found.append(f"your image at least {self.min_image_side} pixels a side")
        if self.max_ratio or self.max_image_ratio:
            found.append(f"a ratio of up to {_words(self.max_ratio or self.max_image_ratio or Fraction(1))}")
        if self.multiple > 1:
            found.append(f"in steps of {self.multiple} pixels")
        return ", ".join(found)

    def check(self, title: str, image: InputImage, frame: Frame) -> None:
        """Refuse what no scaling makes fit.

        Raises:
            UnsupportedFeatureError: the canvas or the image is too long and narrow, or the image would be too small.
        """
        for what, wide, tall, most in (
            ("new image", frame.canvas_width, frame.canvas_height, self.max_ratio),
            ("image", image.width, image.height, self.max_image_ratio),
        ):
            if most is not None and max(wide, tall) > most * min(wide, tall):
                raise UnsupportedFeatureError(
                    f"{title} takes a ratio of up to {_words(most)}; the {what} would be {wide}x{tall}.",
                    "Give an aspect_ratio nearer to 1:1." if what == "new image" else "Crop the image first.",
                )
        sent = self.fitted(frame)
        least = self.min_image_side
        if least is not None and min(sent.width, sent.height) < least:
            raise UnsupportedFeatureError(
                f"{title} needs an image of at least {least} pixels on each side; it would be sent as "
                f"{sent.width}x{sent.height}.",
                "Give a larger image.",
            )

    def fitted(self, frame: Frame) -> Frame:
        """The frame as the vendor is to paint it: scaled as a whole no more than it takes, and set on the grid.

        Where a side does not grow, the image touches that side of the canvas there too.
        """
        # Rounding one side down and the other up is for a ratio at its limit, which else it may pass.
        roundings = ((_nearest, _nearest), (floor, floor), (floor, ceil), (ceil, floor))
        scales = (self._scale(frame, 0), self._scale(frame, self.multiple))
        ways = [self._scaled(frame, scale, *one) for scale in scales for one in roundings]
        return next(filter(self._holds, ways), ways[5])

    def _scale(self, frame: Frame, step: int) -> Fraction:
        """How far the frame is to be scaled; to enough pixels even where both sides lose up to `step` to the grid."""
        area, image_area = frame.canvas_width * frame.canvas_height, frame.width * frame.height
        scale = Fraction(1)
        if self.min_pixels is not None:
            # The smallest s for which (s w - step)(s h - step) is enough.
            sides = step * (frame.canvas_width + frame.canvas_height)
            scale = max(scale, (sides + _root(Fraction(sides**2 + 4 * area * self.min_pixels)) + 1) / (2 * area))
        for most, found in (
            (self.max_side, max(frame.canvas_width, frame.canvas_height)),
            (self.max_growth, max(frame.growths)),
        ):
            if most is not None and found > most:
                scale = min(scale, Fraction(most, found))
        for most, found in ((self.max_pixels, area), (self.max_image_pixels, image_area)):
            if most is not None and found > most:
                scale = min(scale, _root(Fraction(most, found)))
        return scale

    def _scaled(self, frame: Frame, scale: Fraction, across: _Rounding, down: _Rounding) -> Frame:
        wide, x, width = self._axis(frame.canvas_width, frame.x, frame.width, scale, across)
        tall, y, height = self._axis(frame.canvas_height, frame.y, frame.height, scale, down)
        return Frame(wide, tall, x, y, width, height)

    def _axis(self, canvas: int, start: int, size: int, scale: Fraction, rounded: _Rounding) -> tuple[int, int, int]:
        """The canvas's side, where the image begins on it and how long it is there."""
        side = max(self.multiple, _on_grid(canvas * scale, self.multiple, rounded))
        if size == canvas:
            return side, 0, side
        step = self.multiple if self.aligned else 1
        end = canvas - start - size
        # By as much as this side of the canvas: the grid then stretches the image no more than all of it.
        length = _on_grid(Fraction(size * side, canvas), step, rounded)
        length = min(max(step, length), side - step * bool(start) - step * bool(end))
        begins = _on_grid(Fraction(side - length) * Fraction(start, start + end), step, _nearest)
        return side, begins if start and end else side - length if start else 0, length

    def _holds(self, frame: Frame) -> bool:
        canvas, image = (frame.canvas_width, frame.canvas_height), (frame.width, frame.height)
        area = frame.canvas_width * frame.canvas_height
        return (
            all(
                most is None or max(sides) <= most * min(sides)
                for most, sides in ((self.max_ratio, canvas), (self.max_image_ratio, image))
            )
            and (self.max_side is None or max(canvas) <= self.max_side)
            and (self.max_pixels is None or area <= self.max_pixels)
            and (self.min_pixels is None or area >= self.min_pixels)
            and (self.max_growth is None or max(frame.growths) <= self.max_growth)
            and (self.max_image_pixels is None or frame.width * frame.height <= self.max_image_pixels)
        )


def _on_grid(value: Fraction, step: int, rounded: _Rounding) -> int:
    return rounded(value / step) * step


def _nearest(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def _root(value: Fraction) -> Fraction:
    """The square root, rounded down."""
    precision = 10**6
    return Fraction(isqrt(value.numerator * precision**2 // value.denominator), precision)


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1_000_000:.3g} megapixels"


def _words(ratio: Fraction) -> str:
    return f"{float(ratio):.3g}:1"
