"""Poisson's equation on a grid of cells, solved by conjugate gradients."""

from typing import Final

import numpy as np

from outpaint_mcp.providers.local.subject import Floats

_PRECISION: Final = 1e-5  # of the energy at first


def divergence(e: Floats, down: Floats | float = 1.0, across: Floats | float = 1.0) -> Floats:
    """How much the cells beside each of `e` (rows x columns x channels) exceed it. `down` and `across` say how much
    each step to the next row or column counts."""
    result = np.zeros_like(e)
    step = down * (e[1:] - e[:-1])
    result[:-1] += step
    result[1:] -= step
    step = across * (e[:, 1:] - e[:, :-1])
    result[:, :-1] += step
    result[:, 1:] -= step
    return result


def conjugate_gradients(
    residual: Floats,
    free: Floats,
    *,
    screening: float = 0.0,
    down: Floats | float = 1.0,
    across: Floats | float = 1.0,
    iterations: int,
) -> Floats:
    """Solve screening * e - divergence(e) = residual, with e = 0 where `free` is 0."""
    correction = np.zeros_like(residual)
    direction = residual.copy()
    first = energy = float(np.vdot(residual, residual))
    for _ in range(iterations):
        if energy < _PRECISION * first or energy < 1e-3:
            break
        moved = np.float32(screening) * direction - divergence(direction, down, across)
        moved *= free
        step = np.float32(energy / max(float(np.vdot(direction, moved)), 1e-9))
        correction += step * direction
        residual -= step * moved
        previous, energy = energy, float(np.vdot(residual, residual))
        direction *= np.float32(energy / previous)
        direction += residual
    return correction
