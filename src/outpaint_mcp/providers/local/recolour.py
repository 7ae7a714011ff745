"""Makes the copied regions agree in colour with each other and with the original, without touching their texture.

It is the seamless cloning of Pérez, Gangnet and Blake, "Poisson Image Editing" (2003): keep the gradients that the
copied patches bring along, give up their absolute colours. Solved on the cells of the finest level; only the smooth
correction is carried over to full resolution.
"""

import numpy as np
from PIL import Image

from outpaint_mcp.providers.local.complete import Flags, Ints, OffsetField
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.poisson import conjugate_gradients
from outpaint_mcp.providers.local.subject import Floats

_SCREENING = 0.004  # a weak pull to no correction, so that errors fade over about 16 cells instead of piling up
_ITERATIONS = 120


class Correction:
    """What to add to the colours of what is copied onto a canvas around an original of this height and width."""

    def __init__(self, field: OffsetField, canvas: Canvas, height: int, width: int) -> None:
        grid = field.grid
        self.planes = _beyond_border(_solved(field), field)
        self.down, self.across = grid.height / height, grid.width / width
        self.top, self.left = grid.origin_y - canvas.y * self.down, grid.origin_x - canvas.x * self.across

    def at(self, rows: slice, columns: slice) -> Floats:
        """In these rows and columns of the canvas, rows x columns x channels, in grey levels, interpolated between the
        centres of the cells."""
        box = (
            columns.start * self.across + self.left,
            rows.start * self.down + self.top,
            columns.stop * self.across + self.left,
            rows.stop * self.down + self.top,
        )
        size = columns.stop - columns.start, rows.stop - rows.start
        planes = (Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR, box=box) for plane in self.planes)
        return np.stack([np.asarray(plane) for plane in planes], -1)


def _beyond_border(correction: Floats, field: OffsetField) -> Floats:
    """The correction on the frame, one plane per channel, continued a little into the original.

    It is zero there by definition, and to interpolate towards that zero would take half of it away from the pixels next
    to the original, which need it most.
    """
    grid, p = field.grid, field.grid.radius
    planes = np.pad(correction.transpose(2, 0, 1), ((0, 0), (p, p), (p, p)), mode="edge")
    top, left = grid.origin_y, grid.origin_x
    bottom, right = top + grid.height - 1, left + grid.width - 1
    if grid.top:
        planes[:, top, left : right + 1] = planes[:, top - 1, left : right + 1]
    if grid.bottom:
        planes[:, bottom, left : right + 1] = planes[:, bottom + 1, left : right + 1]
    if grid.left:
        planes[:, top : bottom + 1, left] = planes[:, top : bottom + 1, left - 1]
    if grid.right:
        planes[:, top : bottom + 1, right] = planes[:, top : bottom + 1, right + 1]
    return np.ascontiguousarray(planes)


def _solved(field: OffsetField) -> Floats:
    """What to add to the copied cells, canvas rows x canvas columns x channels, in grey levels; zero on the original.

    The correction e minimises the sum of (gradient of e + jump)^2 + screening * e^2, where the jump at the border of
    two copied regions is the step between them that neither of their sources has.
    """
    grid, cells, p = field.grid, field.cells, field.grid.radius
    rows = np.arange(grid.frame_height)[:, None] - grid.origin_y
    columns = np.arange(grid.frame_width)[None] - grid.origin_x
    known = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
    y, x = np.where(known, rows, 0), np.where(known, columns, 0)
    target = (field.number >= 0) & ~known
    y[target], x[target] = field.source_y[field.number[target]], field.source_x[field.number[target]]
    y, x, known = y[p:-p, p:-p], x[p:-p, p:-p], known[p:-p, p:-p]
    free = (~known)[..., None].astype(np.float32)

    residual = np.zeros((*known.shape, cells.shape[2]), np.float32)
    jump = _jumps(cells, y, x, known, down=1, right=0)
    residual[1:] -= jump
    residual[:-1] += jump
    jump = _jumps(cells, y, x, known, down=0, right=1)
    residual[:, 1:] -= jump
    residual[:, :-1] += jump
    residual *= free
    return conjugate_gradients(residual, free, screening=_SCREENING, iterations=_ITERATIONS)


def _jumps(cells: Floats, y: Ints, x: Ints, known: Flags, *, down: int, right: int) -> Floats:
    """The step from each copied cell to the next, less the step that their sources have: the mean of both sources,
    except at the border of the original, where the copy has to follow."""
    here = slice(None, -1 if down else None), slice(None, -1 if right else None)
    there = slice(1 if down else None, None), slice(1 if right else None, None)
    height, width = cells.shape[:2]
    copied = cells[y, x]
    after = cells[np.minimum(y[here] + down, height - 1), np.minimum(x[here] + right, width - 1)] - copied[here]
    before = copied[there] - cells[np.maximum(y[there] - down, 0), np.maximum(x[there] - right, 0)]
    natural = (after + before) / 2
    leaving, entering = known[here] & ~known[there], known[there] & ~known[here]
    natural[leaving] = before[leaving]
    natural[entering] = after[entering]
    jump: Floats = copied[there] - copied[here] - natural
    return jump
