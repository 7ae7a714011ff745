"""The detail of copied patches, laid on the drawn ground of a photograph.

The ground has the right colours and no shape that is finer than itself; patches have the right detail and often the
wrong colours, which show as wedges. So patches lend the ground what remains of them without their own coarse colours,
if it is no stronger than what the border itself has on its ground: else it is a piece of an object.
"""

import functools
from typing import Final

import numpy as np
from PIL import Image

from outpaint_mcp.providers.local.grain import ROUNDING
from outpaint_mcp.providers.local.levels import whole
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.profile import boxed
from outpaint_mcp.providers.local.recolour import Correction
from outpaint_mcp.providers.local.side import STRIP
from outpaint_mcp.providers.local.subject import Floats, Pixels, shrink

_COARSE: Final = STRIP / 2  # of the short side: a cell of the coarse colours, which are means over about five of them
_STRONG: Final = 1.2  # times the border's detail: from here on it may be an object's, from twice that on it is
_SAMPLED: Final = 16  # pixels at least of each row of such a cell that its colours are the mean of
_NEAREST: Final = 2  # pixels: so near to the original each channel is rounded by itself, for the least step there
_TAKEN_OFF: Final = 2 * ROUNDING  # once leaves a soft ground 1.23 times as rough as the image, twice 1.13 times


class Detail:
    """What the patches on a canvas show beside their coarse colours.

    `drawn` is that canvas, all of it copied and corrected but the original, which has this height and width; `together`
    says how it was rounded (`levels`).
    """

    def __init__(
        self, drawn: Pixels, correction: Correction, canvas: Canvas, height: int, width: int, *, together: bool
    ) -> None:
        self.canvas, self.height, self.width = canvas, height, width
        self.correction, self.together = correction, together
        self.reach = max(4, round(STRIP * min(height, width)))
        cell = max(1.0, _COARSE * min(height, width))
        rows, columns = (max(2, round(side / cell)) for side in drawn.shape[:2])
        every = max(1, int(cell / _SAMPLED))
        sample = drawn[::every, ::every]
        copied = np.concatenate([sample, np.full((*sample.shape[:2], 1), 255, np.uint8)], 2)
        inside = (
            slice(-(-start // every), -(-(start + side) // every))
            for start, side in ((canvas.y, height), (canvas.x, width))
        )
        copied[tuple(inside)] = 0
        cells = boxed(boxed(shrink(copied, columns, rows).astype(np.float32)))
        cells *= 255 / np.maximum(cells[..., -1:], np.float32(1))
        self.planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(cells[..., :-1], 2, 0)]
        self.down, self.across = rows / drawn.shape[0], columns / drawn.shape[1]

    def laid(
        self,
        area: Pixels,
        ground: Floats,
        grain: Floats,
        usual: Floats,
        opacity: Floats,
        *,
        rows: slice,
        columns: slice,
    ) -> Pixels:
        """What is seen in these rows and columns of the canvas: the ground, with the detail of what was copied there
        and, where there is none, its own grain; and, where the ground is not opaque, what was copied.

        Beside the original the ground has the border's own detail, which fades outward (`Ground`): the patches' takes
        its place as it fades. All is rounded once; where the channels step together, from what was copied on, so that
        its steps stay as they are.

        Args:
            area: the canvas there.
            ground, grain: grey levels, rows x columns x channels.
            usual: how strong the border's own detail is, in grey levels, rows x columns.
            opacity: how much the ground covers, 0 to 1, rows x columns.
            rows, columns: of the canvas.
        """
        correction = self.correction.at(rows, columns)
        uncorrected = area - whole(correction, together=self.together)
        copied = uncorrected + correction
        detail = copied - self._coarse(rows, columns)
        beyond = self._beyond(rows, columns)
        share = self._share(detail, usual, beyond)
        if not self.together:
            detail = _unrounded(detail)
        detail *= share[..., None]
        detail += ground
        if grain.any():
            detail += np.sqrt(1 - share**2)[..., None] * grain
        detail -= copied
        detail *= opacity[..., None]
        detail += copied
        if self.together:
            # Where little was copied there are no steps to keep: the colours themselves are rounded.
            base = np.where((opacity * (1 - share) > 0.5)[..., None], 0, uncorrected)
            rounded = base + whole(detail - base, together=True)
            detail = np.where((beyond > _NEAREST)[..., None], rounded, detail)
        detail += 0.5
        return np.clip(detail, 0, 255, out=detail).astype(np.uint8)

    def _beyond(self, rows: slice, columns: slice) -> Floats:
        """How many rows or columns each place is away from the original."""
        y, x = (np.arange(part.start, part.stop, dtype=np.float32) for part in (rows, columns))
        y, x = y - self.canvas.y, x - self.canvas.x
        beyond: Floats = np.maximum(
            np.maximum(-y, y - self.height + 1)[:, None], np.maximum(-x, x - self.width + 1)[None]
        )
        return beyond

    def _share(self, detail: Floats, usual: Floats, beyond: Floats) -> Floats:
        """How much of the detail is laid on the ground, 0 to 1."""
        # NumPy is slow along an axis of three.
        strength = boxed(boxed(functools.reduce(np.maximum, np.moveaxis(np.abs(detail), -1, 0))))
        share: Floats = np.clip(2 - strength / np.maximum(_STRONG * usual, np.float32(0.1)), 0, 1)
        part = np.minimum(beyond / self.reach, 1)
        share *= part * part * (3 - 2 * part)
        return share

    def _coarse(self, rows: slice, columns: slice) -> Floats:
        size = columns.stop - columns.start, rows.stop - rows.start
        box = columns.start * self.across, rows.start * self.down, columns.stop * self.across, rows.stop * self.down
        return np.stack(
            [np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in self.planes], -1
        )


def _unrounded(detail: Floats) -> Floats:
    """Without as much noise as rounding has put there, since rounding will put it there again."""
    shape = boxed(detail)
    detail -= shape
    power = boxed(boxed(np.einsum("yxc,yxc->yx", detail, detail) / np.float32(detail.shape[2])))
    detail *= np.sqrt(np.maximum(1 - _TAKEN_OFF / np.maximum(power, np.float32(1e-3)), 0))[..., None]
    detail += shape
    return detail
