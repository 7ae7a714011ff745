"""A first guess of the new area: what meets the border goes straight on, in the direction in which it is seen to leave.

The direction is that of the structure tensor along each side (Bigün and Granlund, 1987), where it is clear; elsewhere
it is straight out, and not to be relied on.
"""

from typing import Final

import numpy as np

from outpaint_mcp.providers.local.lines import running_mean
from outpaint_mcp.providers.local.subject import Floats

_STRIP: Final = 0.06  # of the short side
_STEEPEST: Final = 2.0  # cells along the border per cell outward
_CLEAR: Final = (0.25, 0.65)  # coherence: from here on a direction may be one, then it is
_RAY_STEPS: Final = 4


def straight_on(cells: Floats, top: int, bottom: int, left: int, right: int) -> tuple[Floats, Floats]:
    """`cells` (rows x columns x channels) with this many rows and columns more at each side, and how clear it is, 0 to
    1, where what each cell of that shows comes from (rows x columns x 1)."""
    height, width, channels = cells.shape
    y = (np.arange(height + top + bottom, dtype=np.float32) - top)[:, None]
    x = (np.arange(width + left + right, dtype=np.float32) - left)[None]
    upright = cells.swapaxes(0, 1)
    total = np.zeros((len(y), x.shape[1], channels), np.float32)
    weights, clear = np.zeros((2, len(y), x.shape[1], 1), np.float32)
    beyond_y, beyond_x = np.maximum(-y, y - height + 1), np.maximum(-x, x - width + 1)
    for view, place, distance, other in (
        (cells, x, -y, beyond_x),
        (cells[::-1], x, y - height + 1, beyond_x),
        (upright, y, -x, beyond_y),
        (upright[::-1], y, x - width + 1, beyond_y),
    ):
        if distance.max() <= 0:
            continue
        slope, clarity = _slopes(view, min(height, width))
        last = view.shape[1] - 1
        distance = np.maximum(distance, 0)
        met = place + np.zeros_like(distance)
        for _ in range(_RAY_STEPS):
            met = place - distance * slope[np.clip(met, 0, last).astype(np.intp)]
        weight = distance / (distance + np.maximum(other, 0) + 1e-6)
        weight = weight**2 * np.where((met >= 0) & (met <= last), 1, 0.05)
        line = view[: max(1, round(0.01 * min(height, width)))].mean(0)
        met = np.clip(np.rint(met), 0, last).astype(np.intp)
        total += line[met] * weight[..., None]
        clear += (clarity[met] * weight)[..., None]
        weights += weight[..., None]
    total /= np.maximum(weights, 1e-6)
    clear /= np.maximum(weights, 1e-6)
    total[top : top + height, left : left + width] = cells
    return total, clear


def _slopes(view: Floats, short: int) -> tuple[Floats, Floats]:
    """How far what meets each place of the border moves along it per cell outward, and how clear that is, 0 to 1."""
    grey = view[: max(4, round(_STRIP * short)), :, :3].mean(-1)
    inward, along = np.gradient(grey)
    radius = max(2, round(0.02 * short))
    aa, ii, ai = (running_mean(running_mean(p.mean(0), radius), radius) for p in (along**2, inward**2, along * inward))
    angle = 0.5 * np.arctan2(2 * ai, aa - ii)
    coherence = np.hypot(aa - ii, 2 * ai) / (aa + ii + 4)
    slope = np.where(np.abs(angle) > np.arctan(_STEEPEST), 0, np.tan(angle))
    clear = np.clip((coherence - _CLEAR[0]) / (_CLEAR[1] - _CLEAR[0]), 0, 1)
    return running_mean(slope * clear, radius).astype(np.float32), running_mean(clear, radius).astype(np.float32)
