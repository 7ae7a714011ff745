"""One smooth surface through what lies along the border: a plane, a cone or a quadric, the simplest that fits.

It carries a gradient on beyond the image and around its corners. Fitted to a thumbnail by iteratively reweighted least
squares (Holland and Welsch, 1977), so that objects which touch the border do not bend it.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.subject import Floats, OpenSides

_BAND: Final = 0.16  # of the short side
_SOFTNESS: Final = 3.0  # grey levels: what lies this far from the surface counts half
_ROUNDS: Final = 8
_MOST: Final = 0.7  # of the band: the rest may be objects
_SIMPLER: Final = (1.2, 0.25)  # times, and grey levels, that a simpler surface may be worse than the best
_GOOD, _BAD = 4.0, 10.0  # grey levels from the surface: wholly trusted, not at all
_CENTRES: Final = np.linspace(-1, 1, 9)  # of radial gradients, in lengths of the image from its centre
_REFINEMENTS: Final = 7
_MOVES: Final = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 0.5), (0, 0, -0.5))  # steps of a centre's numbers
_BEYOND: Final = (0.3, 14.0)  # of the levels' range, and levels, that a quadric may go beyond what the border shows

Floats64 = NDArray[Any]
Centre = tuple[float, float, float]
"""Of a radial gradient: its y, its x, and how many times y counts as much as x."""


@dataclass(frozen=True, slots=True)
class Surface:
    """`trust` is 1 where it may replace what the border shows, 0 where it says nothing. `curved` is one that bends away
    ever faster, and must not be followed far. Places are in lengths of the image's longer side from its centre."""

    trust: float
    coefficients: Floats64
    centre: Centre | None
    low: Floats64
    high: Floats64
    curved: bool = False

    def at(self, y: Floats, x: Floats) -> Floats:
        """The colours at these places, whose shapes are broadcast; of one place for all where they do not differ."""
        y, x = np.broadcast_arrays(y, x)
        coefficients = self.coefficients.astype(np.float32)
        if self.centre is None and len(coefficients) == 1:
            colours = coefficients.reshape(*[1] * y.ndim, -1)
        elif self.centre is None:
            colours = _polynomial(y, x, len(coefficients)) @ coefficients
        else:
            colours = _radial(y, x, self.centre, len(coefficients)) @ coefficients
        clipped: Floats = np.clip(colours, self.low.astype(np.float32), self.high.astype(np.float32))
        return clipped


@dataclass(frozen=True, slots=True)
class _Fit:
    """How far the values mostly are from the surface, and how far they are on average, in grey levels."""

    coefficients: Floats64
    centre: Centre | None
    usual: float
    mean: float

    @classmethod
    def of(cls, terms: Floats64, values: Floats64, counts: Floats64, centre: Centre | None = None) -> Self:
        """By iteratively reweighted least squares, so that objects are left out as far as possible."""
        weights = counts
        for _ in range(_ROUNDS):
            weighted = terms * weights[:, None]
            damping = 1e-9 * len(terms) * np.eye(terms.shape[1])
            coefficients = np.linalg.solve(weighted.T @ terms + damping, weighted.T @ values)
            distance = np.abs(terms @ coefficients - values).max(1)
            scale = max(_SOFTNESS, 1.5 * float(np.median(distance)))
            weights = counts / (1 + (distance / scale) ** 2) ** 2
        order = np.argsort(distance)
        share = np.cumsum(counts[order])
        usual = distance[order[np.searchsorted(share, _MOST * share[-1])]]
        return cls(coefficients, centre, float(usual), float(np.average(np.minimum(distance, 60), weights=counts)))


def fit_surface(thumbnail: Floats, sides: OpenSides, plain: Floats) -> Surface:
    """The surface through the band of a thumbnail along its growing sides. `plain` says how much each cell counts."""
    height, width, _ = thumbnail.shape
    rows, columns = np.arange(height), np.arange(width)
    depth = max(2, round(_BAND * min(height, width)))
    band = np.zeros((height, width), bool)
    band[:depth] |= sides.top
    band[height - depth :] |= sides.bottom
    band[:, :depth] |= sides.left
    band[:, width - depth :] |= sides.right
    band &= plain > 0.05
    y, x = np.nonzero(band)
    values, counts = thumbnail[y, x].astype(np.float64), plain[y, x].astype(np.float64)
    if len(y) < 24:
        nothing = np.zeros((1, thumbnail.shape[2]))
        return Surface(0.0, nothing, None, nothing[0], nothing[0])
    longer = max(height, width)
    places_y, places_x = (rows[y] + 0.5 - height / 2) / longer, (columns[x] + 0.5 - width / 2) / longer
    plane, quadric = (_Fit.of(_polynomial(places_y, places_x, terms), values, counts) for terms in (3, 6))
    found = [_Fit.of(_polynomial(places_y, places_x, 1), values, counts), plane, quadric]
    if plane.usual > 1.0:
        centre = _centre(places_y, places_x, values, counts)
        cone, bowl = (_Fit.of(_radial(places_y, places_x, centre, terms), values, counts, centre) for terms in (2, 3))
        found = [*found[:2], cone, quadric, bowl]
    least = min(one.usual for one in found) * _SIMPLER[0] + _SIMPLER[1]
    chosen = next(one for one in found if one.usual <= least)
    coefficients = chosen.coefficients
    trust = float(np.clip((_BAD - chosen.mean) / (_BAD - _GOOD), 0, 1))
    low, high = np.quantile(values, 0.01, axis=0), np.quantile(values, 0.99, axis=0)
    straight = len(coefficients) <= 3 and chosen.mean < _GOOD / 2
    part, levels = (1.5, 255.0) if straight else _BEYOND
    beyond = part * (high - low) + levels
    return Surface(
        trust,
        coefficients,
        chosen.centre,
        np.maximum(low - beyond, 0),
        np.minimum(high + beyond, 255),
        len(coefficients) > 3,
    )


def _polynomial(y: Floats64, x: Floats64, terms: int) -> Floats64:
    """The first of 1, x, y, x², xy and y² at each place."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y][:terms], -1)


def _radial(y: Floats64, x: Floats64, centre: Centre | Floats64, terms: int) -> Floats64:
    """The first of 1, r and r² at each place."""
    radius = np.hypot((y - centre[0]) * centre[2], x - centre[1])
    return np.stack([np.ones_like(radius), radius, radius * radius][:terms], -1)


def _centre(y: Floats64, x: Floats64, values: Floats64, counts: Floats64) -> Centre:
    """The centre and the flatness of the radial gradient that fits best: a grid first, then ever smaller steps."""
    chosen = slice(None, None, max(1, len(y) // 250))
    y, x, values, counts = y[chosen], x[chosen], values[chosen], counts[chosen]

    def errors(centres: list[Centre]) -> Floats64:
        terms = _radial(y, x, np.array(centres).T[..., None], 3)
        weighted = (terms * counts[:, None]).mT
        solved = np.linalg.solve(weighted @ terms + 1e-9 * np.eye(3), weighted @ values)
        off = np.minimum(np.abs(terms @ solved - values).max(-1), 30)
        error: Floats64 = (off * counts).sum(-1) / counts.sum()
        return error

    height, width = float(np.ptp(y)), float(np.ptp(x))
    flatness = sorted({1.0, float(width / height)})
    grid = [(cy, cx, one) for one in flatness for cy in _CENTRES for cx in _CENTRES]
    found = errors(grid)
    best, least = grid[int(found.argmin())], float(found.min())
    step = float(_CENTRES[1] - _CENTRES[0]) / 2
    for _ in range(_REFINEMENTS if least < _BAD else 0):
        improved = True
        while improved:
            improved, moves = False, list(_MOVES)
            while moves:
                tried = [(best[0] + step * a, best[1] + step * b, best[2] * (1 + step * c)) for a, b, c in moves]
                within = [abs(cy) < 3 and abs(cx) < 3 and 0.2 < one < 5 for cy, cx, one in tried]
                found = np.where(within, errors(tried), np.inf)
                better = int((found < least).argmax())
                if not found[better] < least:
                    break
                best, least, improved, moves = tried[better], float(found[better]), True, moves[better + 1 :]
        step /= 2
    return best
