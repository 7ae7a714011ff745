"""Which way lines and bands leave the image: for each place of a side the slope of what meets the border there.

A line that crosses the border is the same in every row of the strip along it, but shifted. So at every sharp step of
the border its slope is the shift per row under which the rows agree best; found on a few rows first and made precise on
ever more, as far as the line is straight (the direction of the isophotes of Bertalmio et al., "Image Inpainting", 2000,
over a long way).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.subject import Floats

_STEEPEST: Final = 4.0  # pixels along the border per pixel outward
_FIRST_DEPTH: Final = 8  # rows that the first choice looks at
_ROWS: Final = 10  # of these at most, at any depth
_DEEPEST: Final = 0.5  # of the way to the other side
_MOST_STEPS: Final = 96  # of a side, evenly chosen if there are more
_HOPELESS: Final = 1.5  # times the tolerance: no line of the benchmark's 131 images is so far off at any depth
_FAR_OFF: Final = 40.0  # grey levels: more does not count more
_LEAN: Final = 0.4  # grey levels that a slope of one must gain over none
_SURE: Final = 0.12  # of the short side: how deep a line has to be straight to be continued
_ALIKE: Final = 5.0  # grey levels, beside the noise

Ints = NDArray[np.intp]
Numbers = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Slopes:
    """Of each place along a side: how far a line moves along it per pixel inward, how straight it is, 0 to 1, and
    whether it is so as far as the middle of the image, as no outline of an object is that ends within."""

    slope: Floats
    straight: Floats
    through: NDArray[np.bool_]


def slopes(view: Floats, steps: NDArray[np.bool_], short: int, noise: float) -> Slopes:
    """Of a side, from `view`: rows from the border inward x places along the side x channels.

    `steps` says where its first row steps sharply, `short` is the short side of the whole image, `noise` is in grey
    levels.
    """
    length = view.shape[1]
    nothing = Slopes(np.zeros(length, np.float32), np.zeros(length, np.float32), np.zeros(length, bool))
    places = np.flatnonzero(steps)
    if len(places) == 0 or len(view) < 4:
        return nothing
    places = places[:: max(1, -(-len(places) // _MOST_STEPS))]
    radius = max(2, round(0.012 * short))
    tolerance = _ALIKE + 2 * min(noise, 3.0)
    slope = _slopes_at(view, places, radius, tolerance)
    sure = min(len(view) - 1, max(6, round(_SURE * short)))
    rows = np.unique(np.linspace(1, sure, _ROWS).round().astype(np.intp))
    good = _alike(view, places[:, None] + np.arange(-2, 3), slope[:, None], rows, tolerance).min(1) > 0.8
    if not good.any():
        return nothing
    everywhere = np.interp(np.arange(length), places[good], slope[good]).astype(np.float32)
    alike: Numbers = _alike(view, np.arange(length), everywhere, rows, tolerance)
    known = np.flatnonzero(alike >= 0)
    if len(known) == 0:
        return nothing
    alike = np.interp(np.arange(length), known, alike[known])
    # A line is continued only as a whole: its least straight place decides for those around it.
    alike = np.lib.stride_tricks.sliding_window_view(np.pad(alike, radius, mode="edge"), 2 * radius + 1).min(1)
    deep = np.unique(np.linspace(1, _DEEPEST * (len(view) - 1), _ROWS).round().astype(np.intp))
    through = np.abs(_alike(view, np.arange(length), everywhere, deep, tolerance)) > 0.8
    return Slopes(everywhere, np.clip((alike - 0.6) / 0.3, 0, 1).astype(np.float32), through)


def sheared(view: Floats, row: int, slope: Floats) -> Floats:
    """What of the row would lie beside each place of the border, if all moved back by their slopes."""
    return _at(view, row, np.arange(view.shape[1]) + slope * row)[0] if slope.any() else view[row]


def running_mean(line: Floats, radius: int) -> Floats:
    """The mean of the 2 * radius + 1 places around each along the first axis."""
    padding = [(radius + 1, radius)] + [(0, 0)] * (line.ndim - 1)
    sums = np.cumsum(np.pad(line, padding, mode="edge"), 0, dtype=np.float64)
    return ((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1)).astype(np.float32)


def _slopes_at(view: Floats, places: Ints, radius: int, tolerance: float) -> Floats:
    """The slope of what meets the border at each of these places."""
    window = places[:, None] + np.arange(-radius, radius + 1)
    deepest = max(2, round(_DEEPEST * len(view)))
    depth = min(_FIRST_DEPTH, deepest)
    # The first choice is among all slopes that move a pixel apart over these rows; then it is refined.
    tried = np.arange(-round(_STEEPEST * depth), round(_STEEPEST * depth) + 1) / depth
    sparse = window[:, :: max(1, radius // 2)]
    error = _errors(view, sparse, np.zeros(len(places)), tried, depth) + _LEAN * np.abs(tried[:, None])
    slope = tried[error.argmin(0)]
    followed = np.arange(len(places))
    while True:
        tried = np.arange(-4, 5) / (4 * depth)
        error = _errors(view, window[followed], slope[followed], tried, depth)
        choice = error.argmin(0)
        least = error[choice, np.arange(len(followed))]
        better = least < tolerance
        slope[followed[better]] += _vertex(error, choice, tried)[better]
        followed = followed[least < _HOPELESS * tolerance]
        if depth == deepest or len(followed) == 0:
            found: Floats = slope.astype(np.float32)
            return found
        depth = min(2 * depth, deepest)


def _errors(view: Floats, window: Ints, slope: Numbers, tried: Numbers, depth: int) -> Numbers:
    """The mean difference of the rows to the first one, slopes tried x places, each added to the slope so far."""
    rows = np.unique(np.linspace(1, depth, min(depth, _ROWS)).round().astype(np.intp))
    last = view.shape[1] - 1
    first = view[0, np.clip(window, 0, last)]
    moved = (slope[None] + tried[:, None])[..., None].astype(np.float32)
    window = window.astype(np.float32)
    total, count = np.zeros(moved.shape[:2]), np.full(moved.shape[:2], 1e-6)
    for row in rows:
        place = window + moved * row
        inside = (place >= 0) & (place <= last)
        np.clip(place, 0, last, out=place)
        before = place.astype(np.intp)
        part = (place - before).astype(np.float32)
        behind = np.minimum(before + 1, last)
        difference = np.zeros_like(part)
        # Channel by channel, since NumPy is slow along an axis of three.
        for channel in range(view.shape[2]):
            line = np.ascontiguousarray(view[row, :, channel])
            colour = line.take(before)
            colour *= 1 - part
            colour += line.take(behind) * part
            colour -= first[..., channel]
            difference += np.abs(colour, out=colour)
        difference /= view.shape[2]
        total += (np.minimum(difference, _FAR_OFF) * inside).mean(-1)
        count += inside.mean(-1)
    error: Numbers = total / count
    return error


def _alike(view: Floats, places: Ints, slope: Numbers, rows: Ints, tolerance: float) -> Numbers:
    """The share of the rows that are like the first one at each place, of those that still lie in the view there.

    A colour between those beside the other is alike too: a step lies between pixels mostly. Where most rows
    have left the view, it is -1.
    """
    first, before, after = (view[0, np.clip(places + step, 0, view.shape[1] - 1)] for step in (0, -1, 1))
    low, high = _range(first, before, after, 2 * tolerance)
    same, count = np.zeros(places.shape), np.full(places.shape, 1e-6)
    for row in rows:
        line, inside = _at(view, row, places + slope * row)
        one, other = (_at(view, row, places + slope * row + step)[0] for step in (-1, 1))
        least, most = _range(line, one, other, 2 * tolerance)
        same += ((line > low) & (line < high) & (first > least) & (first < most)).all(-1) & inside
        count += inside
    return np.where(count < len(rows) / 2, -1, same / count)


def _range(one: Numbers, two: Numbers, three: Numbers, more: float) -> tuple[Numbers, Numbers]:
    least, most = np.minimum(np.minimum(one, two), three), np.maximum(np.maximum(one, two), three)
    return least - more, most + more


def _at(view: Floats, row: int, exact: Numbers) -> tuple[Floats, NDArray[np.bool_]]:
    """The colours of a row at fractional places, and which of these lie in it."""
    last = view.shape[1] - 1
    inside = (exact >= 0) & (exact <= last)
    exact = np.clip(exact, 0, last)
    first = exact.astype(np.intp)
    part = (exact - first)[..., None].astype(np.float32)
    line = view[row]
    colours: Floats = line[first] * (1 - part) + line[np.minimum(first + 1, last)] * part
    return colours, inside


def _vertex(error: Numbers, choice: Ints, tried: Numbers) -> Numbers:
    """The slope at the lowest point of a parabola through the least error and its neighbours."""
    middle = np.clip(choice, 1, len(tried) - 2)
    places = np.arange(error.shape[1])
    before, here, after = (error[middle + side, places] for side in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = np.where(bend > 1e-6, np.clip(0.5 * (before - after) / np.maximum(bend, 1e-6), -1, 1), 0)
    return np.where(choice == middle, tried[middle] + offset * (tried[1] - tried[0]), tried[choice])
