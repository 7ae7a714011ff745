"""Colours along the border, spread over the new area as smoothly as can be: a membrane stretched from the border.

It solves Laplace's equation on a small grid, from coarse to fine, and so mixes at each place what the border shows
nearby, more of it the farther away: it has no axes and no corners, and no colour that the border does not have.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final, Self

import numpy as np

from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.poisson import conjugate_gradients, divergence
from outpaint_mcp.providers.local.subject import Floats

_CELLS: Final = (32, 64, 128, 256)  # of the canvas's longer side
_ALONG: Final = 0.3  # of the distance from the border: so much of the border a colour is mixed from, about
_ITERATIONS: Final = 14  # on each grid, which begins with what the coarser one found
_LEAST: Final = 1e-3  # of what is known: below it there is no colour


@dataclass(frozen=True, slots=True)
class Membrane:
    """`cells` hold colours times how well they are known, and that itself as the last channel."""

    cells: Floats
    top: int
    left: int
    pixels_down: float
    pixels_across: float

    @classmethod
    def stretched(cls, height: int, width: int, canvas: Canvas, sides: dict[str, tuple[Floats, Floats]]) -> Self:
        """From the `sides` of an original of this size that grow: the colours along each (places x channels), and how
        well each place is known, 0 to 1."""
        lines = {
            name: np.concatenate([colours * known[:, None], known[:, None]], 1)
            for name, (colours, known) in sides.items()
        }
        scale = 1 / max(canvas.width, canvas.height)
        membrane = cls.empty(height, width, canvas, _CELLS[0] * scale, next(iter(lines.values())).shape[1])
        membrane.solve(height, width, lines)
        for cells in _CELLS[1:]:
            finer = cls.empty(height, width, canvas, cells * scale, membrane.cells.shape[2])
            finer.cells[...] = membrane.raw(*finer.centres())
            finer.solve(height, width, lines)
            membrane = finer
        return membrane

    def at(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """The colours in these rows (n x 1) and columns (1 x n) of pixels, counted from the original's first, and how
        well they are known."""
        cells = self.raw(y[:, 0], x[0])
        known = cells[..., -1]
        colours = cells[..., :-1]
        colours /= np.maximum(known, np.float32(_LEAST))[..., None]
        return colours, known

    @classmethod
    def empty(cls, height: int, width: int, canvas: Canvas, scale: float, channels: int) -> Self:
        """Nothing yet, at `scale` cells per pixel."""
        down, across = height / max(2, round(height * scale)), width / max(2, round(width * scale))
        top, left = ceil(canvas.y / down), ceil(canvas.x / across)
        rows = top + ceil((canvas.height - canvas.y) / down - 1e-6)
        columns = left + ceil((canvas.width - canvas.x) / across - 1e-6)
        return cls(np.zeros((rows, columns, channels), np.float32), top, left, down, across)

    def centres(self) -> tuple[Floats, Floats]:
        """The rows and columns of the cells' centres, in pixels from the original's first."""
        y = (np.arange(self.cells.shape[0], dtype=np.float32) - self.top + 0.5) * self.pixels_down - 0.5
        x = (np.arange(self.cells.shape[1], dtype=np.float32) - self.left + 0.5) * self.pixels_across - 0.5
        return y, x

    def raw(self, y: Floats, x: Floats) -> Floats:
        """What is between the cells in these rows and columns of pixels."""
        rows = (y + 0.5) / self.pixels_down - 0.5 + self.top
        columns = (x + 0.5) / self.pixels_across - 0.5 + self.left
        return _between(_between(self.cells, rows, 0), columns, 1)

    def solve(self, height: int, width: int, lines: dict[str, Floats]) -> None:
        """Go on from what the cells hold. Along the border a step counts less than one that leads away from it, so
        that what is out of focus keeps its shape for a while."""
        rows, columns = round(height / self.pixels_down), round(width / self.pixels_across)
        inside = self.cells[self.top : self.top + rows, self.left : self.left + columns]
        inside[...] = 0
        times = np.zeros((rows, columns, 1), np.float32)
        for name, line in lines.items():
            upright = name in ("left", "right")
            end = 0 if name in ("top", "left") else -1
            (inside[:, end] if upright else inside[end])[...] += _averaged(line, rows if upright else columns)
            (times[:, end] if upright else times[end])[...] += 1
        inside /= np.maximum(times, 1)
        y, x = (np.arange(side, dtype=np.float32) for side in self.cells.shape[:2])
        y, x = y - np.clip(y, self.top, self.top + rows - 1), x - np.clip(x, self.left, self.left + columns - 1)
        squared = y[:, None] ** 2, x[None] ** 2
        away = squared[0] + squared[1]
        free = (away > 0)[..., None].astype(np.float32)
        stiffness = [_ALONG**2 + (1 - _ALONG**2) * part / np.maximum(away, 1) for part in squared]
        down, across = (stiffness[0][1:] + stiffness[0][:-1]) / 2, (stiffness[1][:, 1:] + stiffness[1][:, :-1]) / 2
        down, across = (
            np.repeat(part.astype(np.float32)[..., None], self.cells.shape[2], 2) for part in (down, across)
        )
        residual = divergence(self.cells, down, across) * free
        self.cells[...] += conjugate_gradients(residual, free, down=down, across=across, iterations=_ITERATIONS)


def _averaged(line: Floats, count: int) -> Floats:
    """A line as the means of this many stretches."""
    sums = np.concatenate([np.zeros((1, line.shape[1])), np.cumsum(line, 0, dtype=np.float64)])
    ends = np.linspace(0, len(line), count + 1)
    first = np.minimum(ends.astype(np.intp), len(line) - 1)
    at = sums[first] + (sums[first + 1] - sums[first]) * (ends - first)[:, None]
    means: Floats = (np.diff(at, axis=0) * (count / len(line))).astype(np.float32)
    return means


def _between(cells: Floats, places: Floats, axis: int) -> Floats:
    """Interpolated along an axis."""
    last = cells.shape[axis] - 1
    places = np.clip(places, 0, last)
    first = np.minimum(places.astype(np.intp), last - 1)
    part = (places - first).astype(np.float32)
    low: Floats = cells.take(first, axis)
    low += (cells.take(first + 1, axis) - low) * (part[:, None, None] if axis == 0 else part[:, None])
    return low
