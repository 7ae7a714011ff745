"""Draws the canvas at full resolution from an offset field: copies pixels of the original, corrects their colours and
fades out what step remains at the original's border.

Works in bands of rows, so that beside the original and the canvas only a few megabytes are held. Knows nothing of how
the offsets were found.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.providers.local.complete import Flags, Ints, OffsetField
from outpaint_mcp.providers.local.levels import whole
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.recolour import Correction
from outpaint_mcp.providers.local.subject import Floats, Pixels

_BAND = 128  # rows of the canvas drawn at a time
_SHARPNESS = 3.0  # two cells mix over a third of a cell
_LARGEST_SHIFT = 6  # pixels
_WITNESSES = 60_000  # border pixels that judge a shift: more change nothing
_FADE = 3.0  # cells
_OUTSIDE = 64**2  # what a shift that leaves the original counts per pixel, in squared grey levels

Offsets = NDArray[np.int32]


def render(
    pixels: Pixels,
    canvas: Canvas,
    field: OffsetField,
    correction: Correction,
    *,
    together: bool,
    progress: Callable[[float], None],
) -> Pixels:
    """The whole canvas, height x width x channels, with `pixels` unchanged in its place.

    `together` says how the correction is rounded (`levels`). `progress` hears 0 to 1.
    """
    height, width, channels = pixels.shape
    drawn = np.empty((canvas.height, canvas.width, channels), np.uint8)
    copier = _Copier(pixels, canvas, field)
    for top in range(0, canvas.height, _BAND):
        bottom = min(top + _BAND, canvas.height)
        for area in _outside_original(top, bottom, canvas, height, width):
            rows, columns = slice(area.top, area.bottom), slice(area.left, area.right)
            copied = copier.draw(area)
            copied += whole(correction.at(rows, columns), together=together)
            drawn[rows, columns] = np.clip(copied + 0.5, 0, 255)
        progress(bottom / canvas.height)
    drawn[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = pixels
    _fade_border(drawn, canvas, height, width, max(1.0, width / field.grid.width))
    return drawn


@dataclass(frozen=True, slots=True)
class _Area:
    top: int
    bottom: int
    left: int
    right: int


def _outside_original(top: int, bottom: int, canvas: Canvas, height: int, width: int) -> Iterator[_Area]:
    """The parts of a band of rows that the original does not cover."""
    first, last = max(top, canvas.y), min(bottom, canvas.y + height)
    if first >= last:
        yield _Area(top, bottom, 0, canvas.width)
        return
    if top < first:
        yield _Area(top, first, 0, canvas.width)
    if canvas.x > 0:
        yield _Area(first, last, 0, canvas.x)
    if canvas.x + width < canvas.width:
        yield _Area(first, last, canvas.x + width, canvas.width)
    if last < bottom:
        yield _Area(last, bottom, 0, canvas.width)


class _Copier:
    """Copies any area of the canvas. Each pixel comes from the source its cell names; near the border of two cells that
    disagree, from a mix of both."""

    def __init__(self, pixels: Pixels, canvas: Canvas, field: OffsetField) -> None:
        self.grid, self.canvas = field.grid, canvas
        self.height, self.width, self.channels = pixels.shape
        self.flat = pixels.reshape(-1, self.channels)
        self.rows_per_cell, self.columns_per_cell = self.height / self.grid.height, self.width / self.grid.width
        self.offset_y, self.offset_x = _full_offsets(pixels, canvas, field)
        same = self._agreement()
        self.mixed = ~same

    def _agreement(self) -> Flags:
        """Whether a cell of the frame has the same offset as the next ones to the right and below."""
        key = self.offset_y.astype(np.int64) << 32 ^ (self.offset_x.astype(np.int64) & 0xFFFFFFFF)
        same = np.ones(key.shape, bool)
        same[:-1, :-1] = (
            (key[:-1, :-1] == key[1:, :-1]) & (key[:-1, :-1] == key[:-1, 1:]) & (key[:-1, :-1] == key[1:, 1:])
        )
        return same

    def draw(self, area: _Area) -> Floats:
        """What is copied to `area`, rows x columns x channels, in grey levels."""
        rows = np.arange(area.top, area.bottom) - self.canvas.y
        columns = np.arange(area.left, area.right) - self.canvas.x
        cell_y, mix_y = self._cells(rows, self.rows_per_cell, self.grid.origin_y)
        cell_x, mix_x = self._cells(columns, self.columns_per_cell, self.grid.origin_x)
        near_y, near_x = self._row(cell_y + (mix_y >= 0.5)), self._column(cell_x + (mix_x >= 0.5))
        result = self._copy(rows[:, None], columns[None], near_y[:, None], near_x[None]).astype(np.float32)

        # A mix is to be made only where the four cells around a pixel disagree and two of them are near enough.
        uneven = self.mixed[self._row(cell_y)[:, None], self._column(cell_x)[None]]
        partial = ((mix_y > 0) & (mix_y < 1))[:, None] | ((mix_x > 0) & (mix_x < 1))[None]
        y, x = np.nonzero(uneven & partial)
        if len(y):
            mixed = np.zeros((len(y), self.channels), np.float32)
            for down in (0, 1):
                weight_y = mix_y[y] if down else 1 - mix_y[y]
                for right in (0, 1):
                    weight = weight_y * (mix_x[x] if right else 1 - mix_x[x])
                    here = self._row(cell_y[y] + down), self._column(cell_x[x] + right)
                    mixed += weight[:, None] * self._copy(rows[y], columns[x], *here)
            result[y, x] = mixed
        return result

    def _cells(self, positions: Ints, pixels_per_cell: float, origin: int) -> tuple[Ints, Floats]:
        """For each row (or column) the cell whose centre lies before it, and how much of the next one to mix in."""
        exact = (positions + 0.5) / pixels_per_cell - 0.5 + origin
        first = np.floor(exact)
        mix = np.clip((exact - first - 0.5) * _SHARPNESS + 0.5, 0, 1).astype(np.float32)
        return first.astype(np.intp), mix

    def _row(self, cells: Ints) -> Ints:
        return np.clip(cells, self.grid.radius, self.grid.frame_height - self.grid.radius - 1)

    def _column(self, cells: Ints) -> Ints:
        return np.clip(cells, self.grid.radius, self.grid.frame_width - self.grid.radius - 1)

    def _copy(self, rows: Ints, columns: Ints, cell_y: Ints, cell_x: Ints) -> Pixels:
        y = rows + self.offset_y[cell_y, cell_x]
        x = columns + self.offset_x[cell_y, cell_x]
        np.clip(y, 0, self.height - 1, out=y)
        np.clip(x, 0, self.width - 1, out=x)
        y *= self.width
        y += x
        copied: Pixels = self.flat[y]
        return copied


def _full_offsets(pixels: Pixels, canvas: Canvas, field: OffsetField) -> tuple[Offsets, Offsets]:
    """The offsets of all cells of the frame in pixels.

    Offsets of cells, scaled up, are wrong by up to half a cell. Where a region of one offset meets the original, the
    few pixels around it are tried and the one kept under which the region continues the original best.
    """
    grid = field.grid
    rows_per_cell, columns_per_cell = pixels.shape[0] / grid.height, pixels.shape[1] / grid.width
    cells_y, cells_x = field.source_y - field.y, field.source_x - field.x
    offset_y = np.rint(cells_y * rows_per_cell).astype(np.int32)
    offset_x = np.rint(cells_x * columns_per_cell).astype(np.int32)
    scale = max(rows_per_cell, columns_per_cell)
    if scale > 1.01:
        spread = 4 * max(grid.frame_height, grid.frame_width)
        _, region = np.unique((cells_y + spread) * (2 * spread) + cells_x + spread, return_inverse=True)
        regions = int(region.max()) + 1
        base_y, base_x = np.zeros(regions, np.int32), np.zeros(regions, np.int32)
        base_y[region], base_x[region] = offset_y, offset_x
        of_cell = np.full(field.number.shape, -1, np.intp)
        of_cell[field.number >= 0] = region[field.number[field.number >= 0]]
        shift_y, shift_x = _register(pixels, canvas, field, of_cell, base_y, base_x, scale)
        offset_y += shift_y[region]
        offset_x += shift_x[region]
    on_frame_y, on_frame_x = np.zeros(field.number.shape, np.int32), np.zeros(field.number.shape, np.int32)
    used = field.number >= 0
    on_frame_y[used], on_frame_x[used] = offset_y[field.number[used]], offset_x[field.number[used]]
    return on_frame_y, on_frame_x


def _register(
    pixels: Pixels, canvas: Canvas, field: OffsetField, region: Ints, base_y: Offsets, base_x: Offsets, scale: float
) -> tuple[Offsets, Offsets]:
    """For each region the shift, in pixels, under which it agrees best with the strip of the original that it meets."""
    y, x, met = _witnesses(pixels, canvas, field, region, depth=max(2, round(1.5 * scale)))
    regions = len(base_y)
    grey = np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))
    height, width = grey.shape
    seen = grey[y, x].astype(np.int32)
    y, x = y + base_y[met], x + base_x[met]
    best = np.full(regions, np.inf)
    shift_y, shift_x = np.zeros(regions, np.int32), np.zeros(regions, np.int32)
    largest = min(_LARGEST_SHIFT, ceil(scale / 2 + 0.5))
    around = range(-largest, largest + 1)
    for down, right in sorted(((down, right) for down in around for right in around), key=_length):
        there_y, there_x = y + down, x + right
        inside = (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
        there = np.clip(there_y, 0, height - 1) * width + np.clip(there_x, 0, width - 1)
        error = np.where(inside, (grey.ravel()[there] - seen) ** 2, _OUTSIDE)
        total = np.bincount(met, error, minlength=regions)
        better = total < 0.97 * best  # a longer shift must earn its length
        best[better], shift_y[better], shift_x[better] = total[better], down, right
    few = np.bincount(met, minlength=regions) < 4
    shift_y[few] = shift_x[few] = 0
    return shift_y, shift_x


def _length(shift: tuple[int, int]) -> int:
    return shift[0] ** 2 + shift[1] ** 2


def _witnesses(pixels: Pixels, canvas: Canvas, field: OffsetField, region: Ints, depth: int) -> tuple[Ints, Ints, Ints]:
    """Pixels of the original within `depth` of a growing side, and the region that begins on the other side of it."""
    grid = field.grid
    height, width = pixels.shape[:2]
    depth = min(depth, height, width)
    rows, columns = np.arange(height), np.arange(width)
    strips = (
        (grid.top, rows[:depth], columns, grid.origin_y - 1, None),
        (grid.bottom, rows[-depth:], columns, grid.origin_y + grid.height, None),
        (grid.left, rows, columns[:depth], None, grid.origin_x - 1),
        (grid.right, rows, columns[-depth:], None, grid.origin_x + grid.width),
    )
    found = []
    for margin, strip_rows, strip_columns, cell_row, cell_column in strips:
        if margin:
            y, x = (plane.ravel() for plane in np.meshgrid(strip_rows, strip_columns, indexing="ij"))
            cell_y = ((y + 0.5) * grid.height / height).astype(np.intp) + grid.origin_y
            cell_x = ((x + 0.5) * grid.width / width).astype(np.intp) + grid.origin_x
            beyond = region[cell_y if cell_row is None else cell_row, cell_x if cell_column is None else cell_column]
            found.append(np.stack([y, x, beyond], -1))
    witnesses = np.concatenate(found)
    if len(witnesses) > _WITNESSES:
        witnesses = witnesses[np.random.default_rng(0).choice(len(witnesses), _WITNESSES, replace=False)]
    witnesses = witnesses[witnesses[:, 2] >= 0]
    return witnesses[:, 0], witnesses[:, 1], witnesses[:, 2]


def _fade_border(drawn: Pixels, canvas: Canvas, height: int, width: int, scale: float) -> None:
    """Spread what colour step remains at each side of the original, smoothed along it, over the new pixels beside it.

    `scale` is in pixels per cell. The original itself is only read.
    """
    near = max(2, round(scale))
    depth = max(4, round(_FADE * scale))
    smooth = max(1, round(scale))
    fading = (1 - np.arange(depth, dtype=np.float32) / depth) ** 2
    upright = drawn, canvas.y, height, canvas.x, width
    on_its_side = drawn.swapaxes(0, 1), canvas.x, width, canvas.y, height
    for rows, top, count, start, length in (upright, on_its_side):
        # The second view of each pair counts rows from the other end, so that the new rows always lie before the old.
        for view, first in ((rows, top), (rows[::-1], len(rows) - top - count)):
            if first < near or count < near:
                continue
            along = slice(start, start + length)
            inside = view[first : first + near, along].mean(0, dtype=np.float32)
            outside = view[first - near : first, along].mean(0, dtype=np.float32)
            step = _smoothed(inside - outside, smooth)
            before, after = min(depth, start), min(depth, view.shape[1] - start - length)
            ramp_in = np.linspace(0, 1, before, endpoint=False, dtype=np.float32)[:, None]
            ramp_out = np.linspace(1, 0, after + 1, dtype=np.float32)[1:, None]
            step = np.concatenate([step[:1] * ramp_in, step, step[-1:] * ramp_out])
            deep = min(depth, first)
            new = view[first - deep : first, start - before : start + length + after][::-1]
            new[...] = np.clip(new + fading[:deep, None, None] * step[None] + 0.5, 0, 255)


def _smoothed(line: Floats, radius: int) -> Floats:
    """The running mean over 2 * radius + 1 places along the first axis."""
    sums = np.cumsum(np.pad(line, ((radius + 1, radius), (0, 0)), mode="edge"), 0, dtype=np.float64)
    return ((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1)).astype(np.float32)
