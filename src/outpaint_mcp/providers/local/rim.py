"""The rim of a photograph: outermost rows that are darker, brighter or of another tint than those behind them along a
whole side, as resampling, a scanner or a lens leaves them. It is no part of what the photograph shows, and so is not
continued."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.subject import Floats, OpenSides, Pixels

_DEEPEST: Final = 0.02  # of the short side
_PLACES: Final = 256  # at least, that are looked at along a side
_WHOLE: Final = 0.9  # of the places along a side: what covers less is shown by the photograph. Noise has half of it
_MOST: Final = 0.7  # the same of the inner end of a rim, which fades in places
_STEP: Final = 1.5  # grey levels from one row to the next
_STEEPER: Final = 4.0  # times as much as behind the rim, where a gradient may lie


def without_rim(pixels: Pixels, sides: OpenSides) -> Pixels:
    """The image with its rim mirrored from what lies behind it. The array is not written to."""
    depths = {
        name: _depth(view, min(pixels.shape[:2])) for name, view in _views(pixels).items() if getattr(sides, name)
    }
    if not any(depths.values()):
        return pixels
    pixels = pixels.copy()
    views = _views(pixels)
    for name, depth in depths.items():
        views[name][:depth] = views[name][depth : 2 * depth][::-1]
    return pixels


def _views(plane: Pixels) -> dict[str, Pixels]:
    """By side: its rows from the border inward."""
    upright = plane.swapaxes(0, 1)
    return {"top": plane, "bottom": plane[::-1], "left": upright, "right": upright[::-1]}


def _depth(view: Pixels, short: int) -> int:
    """How many rows the rim has. `view` has its rows from the border inward."""
    most = max(2, round(_DEEPEST * short))
    rows = view[: 3 * most, :: max(1, view.shape[1] // _PLACES)].astype(np.float32)
    if len(rows) <= 2 * most:
        return 0
    steps = np.diff(rows, axis=0)
    if not len(_steep(steps, _WHOLE, most)):
        return 0
    rim = _steep(steps, _MOST, most)
    return int(rim[-1]) + 1 if len(rim) else 0


def _steep(steps: Floats, share: float, most: int) -> NDArray[np.intp]:
    """Which of the first `most` steps from a row to the next are steeper than usual behind them, by what at least this
    share of the places has in one direction."""
    down, up = np.quantile(steps, (share, 1 - share), axis=1)
    sizes = np.maximum(up, -down).max(-1)
    usual = max(0.0, float(np.median(sizes[most:])))
    return np.flatnonzero(sizes[:most] > _STEP + _STEEPER * usual)
