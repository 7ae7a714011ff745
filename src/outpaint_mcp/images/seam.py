"""Hides the seam between an image and the picture around it, in the picture alone.

What the picture lacks to the image at the seam is added to it beyond: the step of colour that is the same along some
stretch fades out over a distance, the rest, which is detail, within a few pixels. Pure.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_DEPTH: Final = 8  # pixels inside the seam that are compared
_SMALL: Final = 32.0  # levels: what differs more is another thing drawn there, not another tone
_STRETCH: Final = 0.02  # of the seam's length, along which a step is evened
_FADE: Final = (0.3, 4)  # of the picture's shorter side, and at least: pixels over which a step fades
_FEATHER: Final = (1 / 256, 3, 12)  # of the picture's shorter side, least and most: pixels of the feathered edge
_UNSURE: Final = 0.05  # of the depth: so little that agrees counts half


def hide_seam(picture: Pixels, image: Pixels, at: tuple[int, int]) -> None:
    """Change `picture` around the place of `image`, whose left and top are `at`; the image lies wholly within.

    Both are height x width x 3 or 4. Nothing within the place is changed.
    """
    x, y = at
    height, width = image.shape[:2]
    tall, wide = picture.shape[:2]
    short = min(tall, wide)
    fade = max(round(_FADE[0] * short), _FADE[1])
    feather = min(max(round(_FEATHER[0] * short), _FEATHER[1]), _FEATHER[2])
    step, detail = _along_the_seam(picture[y : y + height, x : x + width], image)
    for rows, columns in _around(x, y, width, height, wide, tall, fade):
        across, down = np.arange(*columns) - x, np.arange(*rows) - y
        near_x, near_y = across.clip(0, width - 1), down.clip(0, height - 1)
        distance = np.hypot((across - near_x)[None, :], (down - near_y)[:, None]).astype(np.float32)
        index = _on_the_seam(near_x[None, :], near_y[:, None], width, height)
        falling = np.clip(1 - distance / (fade + 1), 0, 1)
        falling *= falling * (3 - 2 * falling)
        added = step[index] * falling[..., None]
        added += detail[index] * np.clip(1 - distance / (feather + 1), 0, 1)[..., None]
        area = picture[slice(*rows), slice(*columns), :3]
        area[...] = np.clip(area + added + 0.5, 0, 255)


def _around(
    x: int, y: int, width: int, height: int, wide: int, tall: int, reach: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rows and columns of what lies at most `reach` from the place, in bands of rows."""
    columns = max(0, x - reach), min(wide, x + width + reach)
    for first, last, spans in (
        (max(0, y - reach), y, (columns,)),
        (y, y + height, ((columns[0], x), (x + width, columns[1]))),
        (y + height, min(tall, y + height + reach), (columns,)),
    ):
        for top in range(first, last, 64):
            for span in spans:
                if span[0] < span[1]:
                    yield (top, min(top + 64, last)), span


def _on_the_seam(x: NDArray[np.int_], y: NDArray[np.int_], width: int, height: int) -> NDArray[np.int_]:
    """The place along the seam, clockwise from the top left corner, of pixels at the image's edge."""
    right, bottom, left = width, width + height, 2 * width + height
    along: NDArray[np.int_] = np.where(
        y == 0,
        x,
        np.where(
            y == height - 1,
            bottom + width - 1 - x,
            np.where(x == width - 1, right + y, left + height - 1 - y),
        ),
    )
    return along


def _along_the_seam(drawn: Pixels, image: Pixels) -> tuple[Floats, Floats]:
    """What the image has more than what was drawn of it, along the seam: evened, and the rest."""
    edge, total, weight = [], [], []
    depth = min(_DEPTH, *image.shape[:2])
    for turns in range(4):
        # The top, right, bottom and left side: each as the top rows of the image turned so, in clockwise order.
        own, other = (np.rot90(one, turns)[:depth].astype(np.float32) for one in (image, drawn))
        differences = own[..., :3] - other[..., :3]
        opaque = np.ones(differences.shape[:2], bool)
        for one in (own, other):
            if one.shape[2] == 4:
                opaque &= one[..., 3] == 255
        alike = opaque & (np.abs(differences).max(axis=2) <= _SMALL)
        edge.append(differences[0] * opaque[0][:, None])
        total.append((differences * alike[..., None]).sum(axis=0))
        weight.append(alike.sum(axis=0, dtype=np.float32)[:, None])
    sums, weights = _evened(np.concatenate(total)), _evened(np.concatenate(weight))
    step = sums / (np.maximum(weights, 0) + _UNSURE * depth)
    return step, np.concatenate(edge) - step


def _evened(values: Floats) -> Floats:
    """Smoothed along the seam, which is closed, by a Gaussian."""
    count = len(values)
    sigma = max(1.0, _STRETCH * count)
    kernel = np.exp(-2 * (np.pi * sigma * np.fft.rfftfreq(count)) ** 2)
    return np.fft.irfft(np.fft.rfft(values, axis=0) * kernel[:, None], count, axis=0).astype(np.float32)
