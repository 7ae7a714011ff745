"""The engine's one door: an array and a canvas in, the extended array out.

It strings the stages together (`complete`, `recolour`, `render`), and deals with what they do not want to know:
transparency, originals too small for patches, and canvases too large for one step.
"""

from collections.abc import Callable, Iterator
from math import ceil, log
from typing import Final, Literal

import numpy as np

from outpaint_mcp.providers.local.complete import complete
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.recolour import colour_correction
from outpaint_mcp.providers.local.render import render
from outpaint_mcp.providers.local.subject import Pixels

Quality = Literal["fast", "balanced", "best"]

WORK_SIDE: Final[dict[str, int]] = {"fast": 256, "balanced": 384, "best": 640}  # cells of the canvas's longer side
_SMALLEST: Final = 12  # pixels: below that there is no room for a patch and its surroundings
_LARGEST_STEP: Final = 4  # times the width or height; beyond that one offset field would be nearly all invention


def extend(pixels: Pixels, canvas: Canvas, *, quality: Quality, seed: int, progress: Callable[[float], None]) -> Pixels:
    """Extend `pixels` (height x width x 3 or 4 channels, 8 bits, alpha last and not multiplied in) to `canvas`.

    The original's pixels are in the answer unchanged. The same arguments give the same answer on one machine.
    `progress` hears rising numbers up to 1; what it raises ends the work.

    Raises:
        ValueError: `pixels` is no such array, or the original does not lie wholly on the canvas.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError("pixels must be a height x width x 3 or 4 array of 8-bit numbers")
    height, width, channels = pixels.shape
    if min(canvas.x, canvas.y) < 0 or canvas.x + width > canvas.width or canvas.y + height > canvas.height:
        raise ValueError("the original must lie wholly on the canvas")
    if channels == 4 and pixels[..., 3].min() == 255:
        opaque = np.full((canvas.height, canvas.width, 4), 255, np.uint8)
        opaque[..., :3] = extend(pixels[..., :3], canvas, quality=quality, seed=seed, progress=progress)
        return opaque
    drawn = _without_hidden_colours(pixels) if channels == 4 else np.ascontiguousarray(pixels)
    steps = list(_steps(height, width, canvas))
    for done, step in enumerate(steps):

        def progress_of_all(part: float, done: int = done) -> None:
            progress((done + part) / len(steps))

        drawn = _extend_once(drawn, step, WORK_SIDE[quality], seed, progress_of_all)
    if not steps:
        drawn = drawn.copy()
    drawn[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = pixels
    progress(1.0)
    return drawn


def _extend_once(
    pixels: Pixels, canvas: Canvas, work_side: int, seed: int, progress: Callable[[float], None]
) -> Pixels:
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST:
        below, beyond = canvas.height - canvas.y - height, canvas.width - canvas.x - width
        return np.pad(pixels, ((canvas.y, below), (canvas.x, beyond), (0, 0)), mode="edge")
    field = complete(pixels, canvas, work_side=work_side, seed=seed, progress=lambda part: progress(0.7 * part))
    correction = colour_correction(field)
    return render(pixels, canvas, field, correction, lambda part: progress(0.75 + 0.25 * part))


def _steps(height: int, width: int, canvas: Canvas) -> Iterator[Canvas]:
    """The canvases to draw one after the other, each around the one before. None if the canvas is the original."""
    x, y = canvas.x, canvas.y
    while (height, width) != (canvas.height, canvas.width):
        growth = max(canvas.height / height, canvas.width / width)
        left_to_do = max(1, ceil(log(growth, _LARGEST_STEP)))
        top, new_height = _next(height, y, canvas.height, left_to_do)
        left, new_width = _next(width, x, canvas.width, left_to_do)
        yield Canvas(new_width, new_height, left, top)
        height, width, y, x = new_height, new_width, y - top, x - left


def _next(side: int, before: int, final: int, steps: int) -> tuple[int, int]:
    """How much to add before the original now, and how long the side is then, to be `final` after `steps` even steps.

    `before` is how much has to be added before it in all.
    """
    if steps == 1:
        return before, final
    longer = ceil(side * (final / side) ** (1 / steps))
    return (longer - side) * before // max(1, final - side), longer


def _without_hidden_colours(pixels: Pixels) -> Pixels:
    """The picture with the colours of wholly transparent pixels replaced by those of visible ones nearby.

    What a file holds there is arbitrary, mostly black, and would bleed into what is copied next to it.
    """
    hidden = pixels[..., 3] == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.zeros_like(pixels)
    # Push and pull: average the visible colours over ever larger blocks, then fill each hole from the finest one.
    levels = [pixels.astype(np.float32)]
    levels[0][..., :3] *= (~hidden)[..., None]
    levels[0][..., 3] = ~hidden
    while levels[-1].shape[0] > 1 or levels[-1].shape[1] > 1:
        finer = levels[-1]
        padded = np.pad(finer, ((0, finer.shape[0] % 2), (0, finer.shape[1] % 2), (0, 0)))
        levels.append(padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2])
    filled = levels[-1][..., :3] / levels[-1][..., 3:]
    for level in reversed(levels[:-1]):
        height, width = level.shape[:2]
        filled = filled.repeat(2, 0)[:height].repeat(2, 1)[:, :width]
        seen = level[..., 3] > 0
        filled[seen] = level[seen, :3] / level[seen, 3:]
    result = pixels.copy()
    result[hidden, :3] = np.clip(filled[hidden] + 0.5, 0, 255).astype(np.uint8)
    return result
