"""What kind of image it is: a photograph may be continued with copies of itself, a drawing or a page may not."""

from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from outpaint_mcp.providers.local.subject import Pixels

_DRAWN: Final = 0.55  # of the pixels equal both next neighbours: photographs have at most .26, drawings mostly more
_PARTLY_DRAWN: Final = 0.35  # the same of screenshots and of pages with text
_SEEN_SIDE: Final = 700  # pixels of the longer side on which strokes are looked for
_WIDEST_STROKE: Final = 9  # pixels of these
_INK: Final = 45  # grey levels between a stroke and its ground
_FAINT_INK: Final = 10  # the same of what is set aside as a stroke's blurred edge
_PAPER: Final = 40  # of 255: how much of a cell is written on at most, if the rest is to tell the page's colour
_LONG: Final = 0.12  # of the short side: a longer straight stroke is a rule, and no letter's
_GENTLE, _GRADED = 2, 0.01  # levels of such a step, and from what share of the places on they are a gradient
_CALM: Final = 5  # grey levels by which a smooth ground differs from its blurred self
_LITTLE_INK, _MUCH_INK = 0.012, 0.05  # of the image
_CALM_PAGE, _BLANK_PAGE = 0.85, 0.96


class Kind(Enum):
    """What may be copied beyond the border: all, or nothing since a program drew it, or nothing since it is text."""

    PHOTOGRAPH = "photograph"
    DRAWING = "drawing"
    TEXT = "text"


def kind_of(pixels: Pixels) -> Kind:
    """The kind of an image of height x width x channels; what cannot be told apart is a photograph."""
    drawn = _drawn_share(pixels)
    ink, calm, _ = _strokes(pixels)
    if (ink > _LITTLE_INK and calm > _CALM_PAGE and drawn > _PARTLY_DRAWN) or (ink > _MUCH_INK and calm > _BLANK_PAGE):
        return Kind.TEXT
    return Kind.DRAWING if drawn > _DRAWN else Kind.PHOTOGRAPH


def _drawn_share(pixels: Pixels) -> float:
    """The share of pixels that equal both the next one to the right and the next one below."""
    if min(pixels.shape[:2]) < 2:
        return 1.0
    equal = 0
    for top in range(0, len(pixels) - 1, 512):
        part = pixels[top : top + 513, :, :3]
        here = part[:-1, :-1]
        equal += int(((here == part[1:, :-1]) & (here == part[:-1, 1:])).all(-1).sum())
    return float(equal / ((pixels.shape[0] - 1) * (pixels.shape[1] - 1)))


def _strokes(pixels: Pixels) -> tuple[float, float, bool]:
    """The share of thin strokes on a smooth ground, how much of the ground is smooth, and whether they are dark.

    Strokes are what a morphological closing (dark ones) or opening (light ones) takes away.
    """
    grey = Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L")
    scale = min(1.0, _SEEN_SIDE / max(grey.size))
    grey = grey.resize((max(8, round(grey.width * scale)), max(8, round(grey.height * scale))), Image.Resampling.BOX)
    seen = np.asarray(grey)
    found = []
    for dark in (True, False):
        ground = _closed(seen, dark, _WIDEST_STROKE)
        blurred = np.asarray(Image.fromarray(ground).filter(ImageFilter.BoxBlur(2))).astype(np.int16)
        levels = ground.astype(np.int16)
        calm = np.abs(levels - blurred) < _CALM
        strength = np.abs(levels - seen)
        unclear = float(((strength > 8) & (strength <= _INK)).mean())
        ink = float(((strength > _INK) & calm).mean())
        found.append((ink * float(calm.mean()) / (unclear + 0.02), ink, float(calm.mean()), dark))
    return max(found)[1:]


def is_graded(strip: Pixels) -> bool:
    """Whether a strip of a drawn image has a gradient: many steps of a level or two, where areas have none."""
    wide = strip.astype(np.int16)
    steps = [np.abs(np.diff(wide, axis=axis)).max(-1) for axis in (0, 1)]
    gentle = sum(int(((step > 0) & (step <= _GENTLE)).sum()) for step in steps)
    return bool(gentle > _GRADED * strip.shape[0] * strip.shape[1])


def without_strokes(pixels: Pixels) -> Pixels:
    """A page with its ground in place of what is written on it. Long rules stay, being no letters."""
    longer = max(pixels.shape[:2])
    wide = max(3, 2 * round(_WIDEST_STROKE * max(1.0, longer / _SEEN_SIDE) / 2) + 1)
    dark = _strokes(pixels)[2]
    ground = np.stack([_closed(pixels[..., channel], dark, wide) for channel in range(pixels.shape[2])], 2)
    strokes = (ground - pixels if dark else pixels - ground).max(-1) > _FAINT_INK
    long = round(_LONG * min(pixels.shape[:2]))
    drawn = strokes.astype(np.uint8)
    for axis in (0, 1):
        rules = _along(_along(drawn, np.minimum, long, axis), np.maximum, long, axis)
        strokes &= rules == 0
    strokes = _extreme(strokes.astype(np.uint8), np.maximum, 3) > 0
    # Near strokes a JPEG's page is too light in places and too dark in others: only its mean is that of the page.
    cells = max(1, pixels.shape[1] // (2 * wide)), max(1, pixels.shape[0] // (2 * wide))
    paper = _resized((~strokes * np.uint8(255))[..., None], cells, Image.Resampling.BOX).astype(np.float32)
    seen = _resized(np.where(strokes[..., None], 0, pixels), cells, Image.Resampling.BOX)
    known = paper >= _PAPER
    means = np.where(
        known, seen * np.float32(255) / np.maximum(paper, 1), _resized(ground, cells, Image.Resampling.BOX)
    )
    size = pixels.shape[1], pixels.shape[0]
    means = _resized(means.clip(0, 255).round().astype(np.uint8), size, Image.Resampling.BILINEAR)
    return np.where(strokes[..., None], means, pixels)


def _resized(pixels: Pixels, size: tuple[int, int], by: Image.Resampling) -> Pixels:
    planes = [np.asarray(Image.fromarray(plane).resize(size, by)) for plane in np.moveaxis(pixels, 2, 0)]
    return np.stack(planes, 2)


def _closed(plane: NDArray[np.uint8], dark: bool, size: int) -> NDArray[np.uint8]:
    """The plane without what is dark (or else light) and thinner than this."""
    first, then = (np.maximum, np.minimum) if dark else (np.minimum, np.maximum)
    return _extreme(_extreme(plane, first, size), then, size)


def _extreme(plane: NDArray[np.uint8], of: np.ufunc, size: int) -> NDArray[np.uint8]:
    """The least or greatest value in the square of this size around each pixel."""
    return _along(_along(plane, of, size, 0), of, size, 1)


def _along(plane: NDArray[np.uint8], of: np.ufunc, size: int, axis: int) -> NDArray[np.uint8]:
    """The least or greatest of as many values along an axis around each pixel."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (size // 2, size - 1 - size // 2)
    lines = np.pad(plane, padding, mode="edge").swapaxes(0, axis)
    reach = 1
    while reach < size:
        step = min(reach, size - reach)
        lines = of(lines[:-step], lines[step:])
        reach += step
    return np.ascontiguousarray(lines.swapaxes(0, axis))
