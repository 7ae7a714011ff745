"""Finds where an image lies in a picture that was drawn after it: a search of the pixels around the place expected.

What is compared are the gradients, so that neither brightness nor a tint matter, from coarse to fine: at a small size
an engine's own strokes are blurred and the layout is left, at full size a few tiles are enough. Pure.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Gradients = NDArray[np.complex64]
Place = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the picture."""

_COARSE_SIDE: Final = 384  # pixels of the image's longer side on the coarsest level
_FINE: Final = 2  # pixels around the place of the level before
_TILE, _TILES = 160, 4  # pixels on a side, and how many along each axis, at most
_ALIKE: Final = 0.005  # of the correlation: what is found with so little less is as good, and nearer is better
_SURE: Final = 0.2  # correlation on a finer level, where strokes differ
_AGREE: Final = 2.0  # pixels from where one size would have them: further, the quarters were drawn anew, not moved
_FLAT: Final = 1.0  # levels from one pixel to the next (root mean square): below, there is nothing to go by
_PEAK: Final = 2  # pixels around the best place that are part of the same peak
_LEAST: Final = 8  # pixels of each side that must be comparable


@dataclass(frozen=True, slots=True)
class Match:
    """Where the image lies: its left and top in the picture, in pixels, and how well its gradients agree there.

    `score` is a correlation, at most 1, and None for an image that is too plain to be found anywhere. `prominence` is
    by how many standard deviations it stands out from those of the other places.
    """

    x: int
    y: int
    score: float | None
    prominence: float = 0.0


def register(image: Image.Image, picture: Image.Image, at: tuple[int, int], reach: int) -> Match | None:
    """Where `image` lies in `picture`: the best place at most `reach` pixels from `at`, the nearest of equals.

    Both are grey (L). Parts of the image may lie outside; None if too little is inside to be compared.
    """
    factor = 1
    while max(image.size) > _COARSE_SIDE * factor:
        factor *= 2
    radius = -(-reach // factor)
    dx = dy = 0
    score: float | None = None
    prominence = 0.0
    while factor >= 1:
        whole = score is None
        pairs = _pairs(image, picture, (at[0] + dx, at[1] + dy), factor, radius, whole)
        if not pairs:
            return None if whole else Match(at[0] + dx, at[1] + dy, score, prominence)
        if whole and _roughness([one for one, _ in pairs]) < _FLAT:
            return Match(*at, None)
        scores = _correlations(pairs, radius)
        best = float(scores.max())
        if not whole and best < _SURE:
            break
        steps = (np.arange(-radius, radius + 1)) * factor
        distance = np.hypot(*np.meshgrid(steps + dy, steps + dx, indexing="ij"))
        distance[scores < best - _ALIKE] = np.inf
        row, column = np.unravel_index(np.argmin(distance), distance.shape)
        dx, dy = dx + int(steps[column]), dy + int(steps[row])
        if whole:
            score, prominence = best, _prominence(scores, best)
        factor, radius = factor // 2, _FINE
    return Match(at[0] + dx, at[1] + dy, score, prominence)


def resized(image: Image.Image, picture: Image.Image, at: tuple[int, int], reach: int) -> Place | None:
    """Where `image` lies, which is known to lie about at `at`, if it was drawn larger or smaller there.

    Its quarters are looked for: those of a larger one lie further apart. None if fewer than two are found, or these do
    not agree.
    """
    across, down = image.width // 2, image.height // 2
    equations, shifts = [], []
    for x, y in ((0, 0), (across, 0), (0, down), (across, down)):
        quarter = image.crop((x, y, x + across, y + down))
        match = register(quarter, picture, (at[0] + x, at[1] + y), reach)
        if match is not None and (match.score or 0) >= _SURE:
            middle_x, middle_y = _middle(quarter)
            # By how much it is larger, times the way of the quarter's middle from the image's, and the image's shift.
            equations += [(x + middle_x - across, 1, 0), (y + middle_y - down, 0, 1)]
            shifts += [match.x - at[0] - x, match.y - at[1] - y]
    if len(shifts) < 4:
        return None
    (larger, right, lower), *_ = np.linalg.lstsq(np.array(equations), np.array(shifts), rcond=None)
    if np.abs(np.array(equations) @ (larger, right, lower) - shifts).max() > _AGREE:
        return None
    wide, tall = larger * image.width, larger * image.height
    left, top = at[0] + right - wide / 2, at[1] + lower - tall / 2
    return round(left), round(top), round(image.width + wide), round(image.height + tall)


def _middle(image: Image.Image) -> tuple[float, float]:
    """The middle of what there is to go by in an image."""
    factor = max(1, min(image.size) // 64)
    energy = _energy(_gradients(image.reduce(factor)))
    total = energy.sum() or 1.0
    across, down = energy.sum(axis=0) @ np.arange(energy.shape[1]), energy.sum(axis=1) @ np.arange(energy.shape[0])
    return float(across / total + 1) * factor, float(down / total + 1) * factor


def _pairs(
    image: Image.Image, picture: Image.Image, at: tuple[int, int], factor: int, radius: int, whole: bool
) -> list[tuple[Gradients, Gradients]]:
    """Gradients of tiles of the image, and of the picture around each: `radius` more on all sides, at 1/`factor`."""
    around = radius * factor
    spans = []
    for start, length, limit in ((at[0], image.width, picture.width), (at[1], image.height, picture.height)):
        first = max(0, around - start)
        span = (min(length, limit - around - start) - first) // factor
        if span < _LEAST:
            return []
        size = span if whole else min(span, _TILE)
        count = 1 if size == span else min(_TILES, -(-span // size))
        places = np.linspace(0, span - size, count).astype(int)
        spans.append([(first + int(place) * factor, size * factor) for place in places])
    found = []
    for top, height in spans[1]:
        for left, width in spans[0]:
            x, y = at[0] + left, at[1] + top
            box = x - around, y - around, x + width + around, y + height + around
            found.append(
                (
                    _gradients(image.reduce(factor, (left, top, left + width, top + height))),
                    _gradients(picture.reduce(factor, box)),
                )
            )
    return found


def _gradients(image: Image.Image) -> Gradients:
    """Across and down as the two parts of a complex number; one pixel less on each side."""
    levels = np.asarray(image, np.float32)
    across = levels[:-1, 1:] - levels[:-1, :-1]
    return (across + 1j * (levels[1:, :-1] - levels[:-1, :-1])).astype(np.complex64)


def _roughness(tiles: list[Gradients]) -> float:
    return float(np.sqrt(sum(_energy(one).sum() for one in tiles) / sum(one.size for one in tiles)))


def _energy(gradients: Gradients) -> NDArray[np.float64]:
    return np.square(gradients.real, dtype=np.float64) + np.square(gradients.imag, dtype=np.float64)


def _prominence(scores: NDArray[np.float64], best: float) -> float:
    row, column = np.unravel_index(np.argmax(scores), scores.shape)
    down, across = np.ogrid[: scores.shape[0], : scores.shape[1]]
    others = scores[(np.abs(down - row) > _PEAK) | (np.abs(across - column) > _PEAK)]
    return float((best - others.mean()) / max(others.std(), 1e-6)) if others.size > 1 else 0.0


def _correlations(pairs: list[tuple[Gradients, Gradients]], radius: int) -> NDArray[np.float64]:
    """How well all pairs together agree, at most 1, for each shift down and across from -`radius` to `radius`."""
    many = 2 * radius + 1
    agreement, around = np.zeros((many, many)), np.zeros((many, many))
    own = 0.0
    for one, other in pairs:
        spectrum = np.fft.fft2(other) * np.conj(np.fft.fft2(one, other.shape))
        agreement += np.fft.ifft2(spectrum).real[:many, :many]
        sums = np.pad(_energy(other), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        height, width = one.shape
        around += sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        own += float(_energy(one).sum())
    return agreement / np.sqrt(np.maximum(own * around, 1e-9))
