"""The detail of copied patches, laid on the drawn ground of a photograph.

The ground has the right colours and no shape that is finer than itself; patches have the right detail and often the
wrong colours, which show as wedges. So patches lend the ground what remains of them without their own coarse colours,
if it is no stronger than what the border itself has on its ground: else it is a piece of an object.
"""

import functools
from typing import Final

import numpy as np
from PIL import Image

from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.profile import boxed
from outpaint_mcp.providers.local.side import STRIP
from outpaint_mcp.providers.local.subject import Floats, Pixels, shrink

_FINE: Final = STRIP / 2  # of the short side: a cell of the coarse colours, which are means over about five of them
_STRONG: Final = 1.2  # times the border's detail: from here on it may be an object's, from twice that on it is
_ROUNDED: Final = 2 / 12  # squared grey levels: the noise of rounding a pixel when it is copied and when it is laid


class Detail:
    """What the patches on a canvas show beside their coarse colours. `drawn` is that canvas, of which all but the
    original, of this height and width, was copied."""

    def __init__(self, drawn: Pixels, canvas: Canvas, height: int, width: int) -> None:
        self.canvas, self.height, self.width = canvas, height, width
        self.reach = max(4, round(STRIP * min(height, width)))
        cell = max(1.0, _FINE * min(height, width))
        rows, columns = (max(2, round(side / cell)) for side in drawn.shape[:2])
        copied = np.concatenate([drawn, np.full((*drawn.shape[:2], 1), 255, np.uint8)], 2)
        copied[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = 0
        cells = boxed(boxed(shrink(copied, columns, rows).astype(np.float32)))
        cells *= 255 / np.maximum(cells[..., -1:], np.float32(1))
        self.planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(cells[..., :-1], 2, 0)]
        self.down, self.across = rows / drawn.shape[0], columns / drawn.shape[1]

    def on(self, ground: Floats, grain: Floats, usual: Floats, copied: Floats, rows: slice, columns: slice) -> Floats:
        """The ground in these rows and columns of the canvas, with the detail of what was copied there and, where there
        is none, its own grain.

        Beside the original the ground has the border's own detail, which fades outward (`Ground`): the patches' takes
        its place as it fades.

        Args:
            ground, grain, copied: grey levels, rows x columns x channels.
            usual: how strong the border's own detail is, in grey levels, rows x columns.
            rows, columns: of the canvas.
        """
        y, x = (np.arange(part.start, part.stop, dtype=np.float32) for part in (rows, columns))
        y, x = y - self.canvas.y, x - self.canvas.x
        beyond = np.maximum(np.maximum(-y, y - self.height + 1)[:, None], np.maximum(-x, x - self.width + 1)[None])
        share = 1 - (1 - np.minimum(beyond / self.reach, 1)) ** 2
        detail = copied - self._coarse(rows, columns)
        # NumPy is slow along an axis of three.
        strength = boxed(boxed(functools.reduce(np.maximum, np.moveaxis(np.abs(detail), -1, 0))))
        share = share * np.clip(2 - strength / np.maximum(_STRONG * usual, np.float32(0.1)), 0, 1)
        shape = boxed(detail)
        detail -= shape
        power = boxed(boxed(np.einsum("yxc,yxc->yx", detail, detail) / np.float32(detail.shape[2])))
        detail *= np.sqrt(np.maximum(1 - _ROUNDED / np.maximum(power, np.float32(1e-3)), 0))[..., None]
        detail += shape
        detail *= share[..., None]
        detail += ground
        if grain.any():
            detail += np.sqrt(1 - share**2)[..., None] * grain
        return detail

    def _coarse(self, rows: slice, columns: slice) -> Floats:
        size = columns.stop - columns.start, rows.stop - rows.start
        box = columns.start * self.across, rows.start * self.down, columns.stop * self.across, rows.stop * self.down
        return np.stack(
            [np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in self.planes], -1
        )
