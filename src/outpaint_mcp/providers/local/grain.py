"""The grain of a plain place, as much of it as is needed: noise of the same strength, colour and fineness.

It is the discrete spot noise of Galerne, Gousseau and Morel, "Random Phase Textures" (2011): white noise convolved with
a sample has the sample's spectrum and repeats nothing of it.
"""

from typing import Final

import numpy as np

from outpaint_mcp.providers.local.profile import Numbers, running_median, stretched
from outpaint_mcp.providers.local.subject import Floats

TILE: Final = 256  # pixels: farther apart, nobody sees that noise repeats
_DEEPEST: Final = 48  # rows of the sample
_SMOOTH: Final = 10  # pixels: coarser than that, it is the ground's own shape and not its grain
_PLAIN: Final = 0.5  # how plain a side is somewhere at least: else what it has is texture, and no grain
_LEAST: Final = 0.35  # grey levels: what is quieter is a rounding error
ROUNDING: Final = 1 / 12  # squared grey levels: the noise of rounding
_ROUNDED: Final = 0.6  # grey levels: little more than rounding takes a pixel from a smooth ground


def grain_of(sample: Floats, plain: Floats, rng: np.random.Generator, *, is_drawn: bool) -> Floats | None:
    """A tile of grain, rows x columns x channels, as it is in the plain part of `sample` (rows x places x channels).

    None if there is none. `plain` says of each place how plain it is, 0 to 1, `is_drawn` that it is no photograph.
    """
    sample = sample[:_DEEPEST]
    if sample.shape[1] > TILE:
        weight = np.convolve(plain, np.ones(TILE), "valid")
        first = int(weight.argmax())
        sample, plain = sample[:, first : first + TILE], plain[first : first + TILE]
    bends = np.abs(np.diff(sample, 2, axis=1)).max(-1)[:, plain[1:-1] >= np.median(plain)]
    # What a program drew is without grain, though strokes may stand on half of it. That of a photograph may be weak.
    if sample.shape[1] < 8 or plain.max() < _PLAIN or np.quantile(bends, 0.25 if is_drawn else 0.5) < _LEAST:
        return None
    # Of a graded ground the deeper rows are far from the border's colours, though no stroke is there.
    ground = running_median(sample, 2 * _SMOOTH, _SMOOTH)
    sample = sample - np.stack([stretched(row, sample.shape[1]) for row in ground])
    strokes = np.abs(sample).max(-1) > 6 + 3 * float(np.median(bends))
    sample = np.where(strokes[..., None], 0, sample)
    rest = sample - _smoothed(_smoothed(sample, 0), 1)
    rest[strokes] = 0
    rest *= (plain > 0.3 * plain.max())[None, :, None]
    used = np.count_nonzero(rest.any(-1))
    off = np.quantile(np.abs(rest).max(-1)[:, plain >= np.median(plain)], 0.9)
    if used < 16 or (off < _ROUNDED and not is_drawn):
        return None
    rest -= rest.mean(1, keepdims=True)  # what a whole row has in common is a gradient
    spectra = np.fft.rfft2(np.moveaxis(rest, 2, 0), (TILE, TILE))
    white = np.fft.rfft2(rng.standard_normal((TILE, TILE)).astype(np.float32))
    tile = np.fft.irfft2(white * _unrounded(spectra, int(used)) * spectra, (TILE, TILE))
    grain: Floats = (np.moveaxis(tile, 0, 2) / np.sqrt(used)).astype(np.float32)
    return grain


def _unrounded(spectra: Numbers, used: int) -> Numbers:
    """What to keep of each frequency, 0 to 1, so that a sample of so many pixels with these spectra (channels x rows x
    columns) is without the white noise that rounding has put there: what is drawn with it is rounded again."""
    power = np.fft.irfft2((np.abs(spectra) ** 2).mean(0))  # as correlations, of which the far ones are chance
    lag = np.minimum(np.arange(TILE), TILE - np.arange(TILE)) / _SMOOTH
    near = np.exp(-(lag**2))
    power = np.fft.rfft2(power * near[:, None] * near).real
    kept: Numbers = np.sqrt(np.clip(1 - used * ROUNDING / np.maximum(power, 1e-6), 0, 1))
    return kept


def _smoothed(sample: Floats, axis: int) -> Floats:
    radius = min(_SMOOTH, sample.shape[axis] // 2)
    padding = [(0, 0)] * 3
    padding[axis] = (radius, radius)
    sums = np.cumsum(
        np.pad(sample, padding, mode="reflect" if radius < sample.shape[axis] else "edge"), axis, dtype=np.float64
    )
    zero = np.zeros_like(sums.take([0], axis))
    sums = np.concatenate([zero, sums], axis)
    size = 2 * radius + 1
    ends = np.arange(size, sums.shape[axis])
    mean: Floats = ((sums.take(ends, axis) - sums.take(ends - size, axis)) / size).astype(np.float32)
    return mean
