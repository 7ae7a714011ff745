"""What the studies of a border have in common: lines of values along it, and strips of such lines (rows from the border
inward x places along it x channels)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.subject import Floats

Numbers = NDArray[Any]
Flags = NDArray[np.bool_]


def running_median(strip: Floats, radius: int, every: int = 1) -> Floats:
    """The median of about 15 of the places around each, along the second axis; or around one in every so many."""
    padded = np.pad(strip, ((0, 0), (radius, radius), (0, 0)), mode="reflect" if radius < strip.shape[1] else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=1)
    windows = windows[:, every // 2 :: every, :, :: max(1, (2 * radius + 1) // 15)]
    # As np.median, which takes four times as long.
    low, high = (windows.shape[-1] - 1) // 2, windows.shape[-1] // 2
    ordered = np.partition(windows, (low, high), axis=-1)
    median: Floats = (ordered[..., low] + ordered[..., high]) * np.float32(0.5)
    return median


def boxed(strip: Floats) -> Floats:
    """The mean of the 3 x 3 places around each."""
    padded = np.pad(strip, [(1, 1), (1, 1)] + [(0, 0)] * (strip.ndim - 2), mode="edge")
    rows = padded[:-2] + padded[1:-1]
    rows += padded[2:]
    sums: Floats = rows[:, :-2] + rows[:, 1:-1]
    sums += rows[:, 2:]
    sums *= np.float32(1 / 9)
    return sums


def step_sizes(line: Floats) -> Floats:
    """How much each place differs from the one before."""
    steps: Floats = np.abs(np.diff(line, axis=0, prepend=line[:1])).max(-1)
    return steps


def widened(flags: Flags, radius: int) -> Flags:
    widened: Flags = np.convolve(flags, np.ones(2 * radius + 1), "same") > 0
    return widened


def runs(flags: Numbers) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def stretched(line: Floats, length: int) -> Floats:
    """A line of places x values with another number of places."""
    if len(line) == length:
        return line.astype(np.float32)
    at = np.clip((np.arange(length) + 0.5) * len(line) / length - 0.5, 0, len(line) - 1)
    first = at.astype(np.intp)
    part = (at - first)[:, None]
    return (line[first] * (1 - part) + line[np.minimum(first + 1, len(line) - 1)] * part).astype(np.float32)


def without(line: Floats, flags: Flags) -> Floats:
    """The line with the nearest of the other places in place of those that are flagged."""
    others = np.flatnonzero(~flags)
    if len(others) == 0:
        return line
    places = np.arange(len(line))
    after = np.searchsorted(others, places).clip(0, len(others) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(places - others[before] < others[after] - places, before, after)
    filled: Floats = line[others[nearest]]
    return filled


def faded(line: Floats, depth: int) -> Floats:
    """What is left of a line at its side, as rows x places x channels: `depth` rows, then one of zeros.

    It is the harmonic function beside a straight border, in which a frequency fades the faster the higher it is, and so
    keeps no stripe; beyond `depth` nothing is left of the lowest either.
    """
    length = len(line)
    spectrum = np.fft.rfft(np.concatenate([line, line[::-1]]).T)  # with its mirror image, so that its ends meet
    away = np.arange(depth + 1, dtype=np.float32)[:, None]
    frequencies = np.arange(length + 1, dtype=np.float32) * np.float32(np.pi / length)
    falling = np.exp(-frequencies * (away + 1)) * (1 - away / depth) ** 2
    rows = np.fft.irfft(spectrum * falling[:, None], 2 * length)[..., :length]
    return np.ascontiguousarray(rows.swapaxes(1, 2), np.float32)
