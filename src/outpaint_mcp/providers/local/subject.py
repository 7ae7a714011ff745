"""What in the original is a subject (not to be repeated) and where it is busy (not to be continued from calm places).

Both are small maps over the original that the search reads as penalties. Knows nothing of the canvas but which sides
of the original grow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_THUMBNAIL = 64
_NOISE = 4.0  # a colour step, in grey levels, that is no edge of anything
_SETTLED = 0.5  # grey levels that another round would change
_OPENING = 3  # cells: smaller specks (stars, blossoms) are texture, not subjects
_TEXTURE_SIDE = 160
_TEXTURE_SOURCE_SIDE = 1024  # bounds memory: finer gradients than this play no part in the search
_LUMA_CHROMA = np.array([[0.299, 0.587, 0.114], [0.5, -0.419, -0.081], [-0.169, -0.331, 0.5]], np.float32)


@dataclass(frozen=True, slots=True)
class OpenSides:
    """Which sides of the original have new canvas beyond them."""

    top: bool
    bottom: bool
    left: bool
    right: bool

    def names(self) -> set[str]:
        """Their names."""
        return {name for name in ("top", "bottom", "left", "right") if getattr(self, name)}


def subject_map(pixels: Pixels, sides: OpenSides) -> Floats:
    """How much each place of the original belongs to a subject, 0 (background) to 1, on a 64 px thumbnail.

    It is the geodesic distance in colour from the sides that grow: the least sum of colour steps on any way from there.
    Sky and lawn are reached over gentle steps, an enclosed subject only across its outline.
    """
    height, width = pixels.shape[:2]
    scale = _THUMBNAIL / max(height, width)
    thumbnail = shrink(pixels, max(8, round(width * scale)), max(8, round(height * scale))).astype(np.float32)
    distance = geodesic(luma_chroma(thumbnail), sides)
    relative = np.clip(distance / (np.quantile(distance, 0.95) + 20), 0, 1)
    opened = Image.fromarray((relative * 255).astype(np.uint8))
    opened = opened.filter(ImageFilter.MinFilter(_OPENING)).filter(ImageFilter.MaxFilter(_OPENING))
    result: Floats = np.asarray(opened).astype(np.float32)
    result /= 255
    return result


def luma_chroma(colours: Floats) -> Floats:
    """Colours in which distances are more like those that are seen. An alpha stays as it is."""
    return np.concatenate([colours[..., :3] @ _LUMA_CHROMA.T, colours[..., 3:]], -1)


def geodesic(colours: Floats, sides: OpenSides) -> Floats:
    """The least sum of colour steps on any way from the sides that grow to each cell, in grey levels."""
    distance = np.full(colours.shape[:2], 1e9, np.float32)
    for is_open, edge in (
        (sides.top, distance[0]),
        (sides.bottom, distance[-1]),
        (sides.left, distance[:, 0]),
        (sides.right, distance[:, -1]),
    ):
        if is_open:
            edge[:] = 0
    upright, level = (
        np.pad(np.cumsum(np.maximum(np.linalg.norm(np.diff(colours, axis=axis), axis=-1) - _NOISE, 0), axis), padding)
        for axis, padding in ((0, ((1, 0), (0, 0))), (1, ((0, 0), (1, 0))))
    )
    while True:
        before = distance.copy()
        # Along a row (or column) the way to each cell is the least of the ways to the cells before it.
        for axis, steps in ((0, upright), (1, level)):
            back = (*(slice(None),) * axis, slice(None, None, -1))
            distance = np.minimum.accumulate(distance - steps, axis) + steps
            distance = np.minimum.accumulate((distance + steps)[back], axis)[back] - steps
        if np.abs(before - distance).max() < _SETTLED:
            return distance


def texture_map(pixels: Pixels) -> Floats:
    """How busy each neighbourhood of the original is: its mean absolute gradient, in grey levels, on 160 px."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _TEXTURE_SOURCE_SIDE / max(height, width))
    seen = shrink(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    grey = seen[..., :3].astype(np.float32) @ _LUMA_CHROMA[0]
    gradient = np.zeros_like(grey)
    gradient[:-1] += np.abs(np.diff(grey, axis=0))
    gradient[:, :-1] += np.abs(np.diff(grey, axis=1))
    scale = _TEXTURE_SIDE / max(height, width)
    rows, columns = max(8, round(height * scale)), max(8, round(width * scale))
    mean = resize(gradient, max(2, columns // 6), max(2, rows // 6), Image.Resampling.BOX)
    return resize(mean, columns, rows, Image.Resampling.BICUBIC)


def shrink(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` (height x width x channels) averaged down (or interpolated up) to another size, each channel for itself.

    Pillow resizes RGBA as a whole by multiplying with alpha, which would lose the colours under transparent parts.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    mode = Image.Resampling.BOX if width < pixels.shape[1] else Image.Resampling.BICUBIC
    if pixels.shape[2] == 3:
        return np.asarray(Image.fromarray(pixels).resize((width, height), mode))
    planes = [np.asarray(Image.fromarray(pixels[..., c]).resize((width, height), mode)) for c in range(pixels.shape[2])]
    return np.stack(planes, -1)


def resize(plane: Floats, width: int, height: int, mode: Image.Resampling = Image.Resampling.BILINEAR) -> Floats:
    """One plane of numbers at another size."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((width, height), mode))
