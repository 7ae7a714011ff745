"""What an engine that paints a mask is handed: a drawn canvas without transparency, and the mask of what to paint anew.

A drawn start is far better than a grey one: an engine goes on with colours and lines that are there already.
"""

import io
from typing import Final

import numpy as np
from PIL import Image

from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.subject import Floats, Pixels

_FEATHER: Final = (1 / 64, 8, 24)  # of the canvas's shorter side, least and most: pixels
_AT_MOST: Final = 1 / 8  # of the original's own side
_PNG_LEVEL: Final = 3


def canvas_and_mask(
    drawn: Pixels, size: tuple[int, int], canvas: Canvas, *, in_alpha: bool = False
) -> tuple[bytes, bytes]:
    """The drawn canvas, on white, and its mask (`mask_of`), as PNGs that hold pixels and nothing else.

    Args:
        drawn: the whole canvas.
        size: the width and height of the original on it.
        canvas: where the original lies.
        in_alpha: whether the canvas has the mask too, as what is transparent; the colours there are kept. The mask is
            in RGB then, since ComfyUI 0.27 reads 254 where a grey file has 255; else it has one channel.
    """
    picture = Image.fromarray(drawn)
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    covered = mask_of(size, canvas)
    mask = Image.fromarray(covered)
    if in_alpha:
        picture.putalpha(Image.fromarray(255 - covered))
    return _png(picture), _png(Image.merge("RGB", (mask,) * 3) if in_alpha else mask)


def mask_of(size: tuple[int, int], canvas: Canvas) -> Pixels:
    """White where there is to be painted; on the original it fades to black within a few pixels of the new area."""
    part, least, most = _FEATHER
    feather = min(max(round(part * min(canvas.width, canvas.height)), least), most)
    across = _fading(canvas.x, size[0], canvas.width, feather)
    down = _fading(canvas.y, size[1], canvas.height, feather)
    return (np.maximum(across[None, :], down[:, None]) * 255 + 0.5).astype(np.uint8)


def _fading(start: int, length: int, side: int, feather: int) -> Floats:
    """How far each pixel along one axis is to be painted, from 0 to 1."""
    values = np.ones(side, np.float32)
    values[start : start + length] = 0
    steps = min(feather, int(length * _AT_MOST))
    ramp = np.linspace(1, 0, steps + 2, dtype=np.float32)[1:-1]
    if start:
        values[start : start + steps] = ramp
    if start + length < side:
        end = start + length
        values[end - steps : end] = ramp[::-1]
    return values


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()
