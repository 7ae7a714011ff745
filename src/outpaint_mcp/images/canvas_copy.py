"""An image on a larger transparent canvas, and its mask, as engines that redraw everything want them."""

from pathlib import Path
from typing import Final

from PIL import Image

_PNG_LEVEL: Final = 3


def on_canvas(image: Image.Image, canvas: tuple[int, int, int, int]) -> Image.Image:
    """The image at its place on a canvas that is transparent elsewhere.

    `canvas` is width, height, and the image's left and top, in pixels.
    """
    width, height, x, y = canvas
    drawn = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    drawn.paste(image.convert("RGBA"), (x, y))
    return drawn


def write_mask(to: Path, size: tuple[int, int], canvas: tuple[int, int, int, int]) -> None:
    """Write a PNG as large as the canvas, opaque where the image of `size` lies, and transparent where to paint.

    Holes within the image are the image's: they are opaque in the mask.
    """
    width, height, x, y = canvas
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    mask.paste((255, 255, 255, 255), (x, y, x + size[0], y + size[1]))
    mask.save(to, "PNG", compress_level=_PNG_LEVEL)
