"""Poisson's equation on a grid of cells, solved by conjugate gradients."""

from typing import Final

import numpy as np

from outpaint_mcp.providers.local.subject import Floats

_PRECISION: Final = 1e-5  # of the energy at first


def divergence(e: Floats, down: Floats | float = 1.0, across: Floats | float = 1.0) -> Floats:
    """How much the cells beside each of `e` (rows x columns x channels) exceed it. `down` and `across` say how much
    each step to the next row or column counts."""
    result = np.zeros_like(e)
    step = e[1:] - e[:-1]
    step *= down
    result[:-1] += step
    result[1:] -= step
    step = e[:, 1:] - e[:, :-1]
    step *= across
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
    free = np.repeat(free, residual.shape[2] // free.shape[2], 2)  # one number for each: to broadcast takes longer
    correction, moved = np.zeros_like(residual), np.empty_like(residual)
    direction = residual.copy()
    first = energy = float(np.vdot(residual, residual))
    for _ in range(iterations):
        if energy < _PRECISION * first or energy < 1e-3:
            break
        np.multiply(direction, np.float32(screening), out=moved)
        moved -= divergence(direction, down, across)
        moved *= free
        step = np.float32(energy / max(float(np.vdot(direction, moved)), 1e-9))
        moved *= step
        residual -= moved
        correction += np.multiply(direction, step, out=moved)
        previous, energy = energy, float(np.vdot(residual, residual))
        direction *= np.float32(energy / previous)
        direction += residual
    return correction
