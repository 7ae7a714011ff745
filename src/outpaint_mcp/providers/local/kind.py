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
    ink, calm = _strokes(pixels)
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


def _strokes(pixels: Pixels) -> tuple[float, float]:
    """The share of thin strokes on a smooth ground, and how much of the ground is smooth.

    Strokes are what a morphological closing (dark ones) or opening (light ones) takes away.
    """
    grey = Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L")
    scale = min(1.0, _SEEN_SIDE / max(grey.size))
    grey = grey.resize((max(8, round(grey.width * scale)), max(8, round(grey.height * scale))), Image.Resampling.BOX)
    seen = np.asarray(grey)
    found = []
    for first, then in ((np.maximum, np.minimum), (np.minimum, np.maximum)):
        ground = _extreme(_extreme(seen, first), then)
        blurred = np.asarray(Image.fromarray(ground).filter(ImageFilter.BoxBlur(2))).astype(np.int16)
        levels = ground.astype(np.int16)
        calm = np.abs(levels - blurred) < _CALM
        strength = np.abs(levels - seen)
        unclear = float(((strength > 8) & (strength <= _INK)).mean())
        ink = float(((strength > _INK) & calm).mean())
        found.append((ink * float(calm.mean()) / (unclear + 0.02), ink, float(calm.mean())))
    return max(found)[1:]


def _extreme(plane: NDArray[np.uint8], of: np.ufunc) -> NDArray[np.uint8]:
    """The least or greatest value in the square of a stroke's width around each pixel."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (_WIDEST_STROKE // 2, _WIDEST_STROKE // 2)
        lines = np.pad(plane, padding, mode="edge").swapaxes(0, axis)
        reach = 1
        while reach < _WIDEST_STROKE:
            step = min(reach, _WIDEST_STROKE - reach)
            lines = of(lines[:-step], lines[step:])
            reach += step
        plane = np.ascontiguousarray(lines.swapaxes(0, axis))
    return plane
