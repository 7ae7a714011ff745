"""How like the truth an extended picture is. Lower is better; the seam is best at 1.

- LSWD, location-aware sliced Wasserstein distance: patches of 7x7 with their place, at two scales, projected on random
  directions; the mean difference of the sorted projections, in units of the truth's own spread. Does the right texture
  lie in about the right place? The spread counts as at least two levels, since on a flat ring it is none.
- GHD, gradient histogram distance, 0 to 2: as blurred, as busy and as directed as the truth?
- seam: the step across the original's border, relative to the truth's step there (at least half a level).
- error: the mean and the largest difference of a new pixel from the truth, in levels of 0 to 255.

Pixel measures (PSNR, SSIM, the error above) reward blur where the truth cannot be known, and none of these measures
minds a mirror, which repeats heads and shows its axis: look at the contact sheets.
"""

from dataclasses import dataclass
from statistics import mean

import numpy as np
from methods import Pixels
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.providers.local.plan import Canvas

LEAST_SPREAD = 2.0  # levels, of a pixel
LEAST_STEP = 0.5  # levels


@dataclass(frozen=True, slots=True)
class Scores:
    lswd: float
    ghd: float
    seam: float
    mean_error: float
    largest_error: float


def scores(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> Scores:
    """`width` and `height` are the original's. Transparent pixels count as their colour on grey."""
    drawn, truth = on_grey(drawn), on_grey(truth)
    inside = slice(canvas.y, canvas.y + height), slice(canvas.x, canvas.x + width)
    new = np.ones(truth.shape[:2], bool)
    new[inside] = False
    error = np.abs(drawn.astype(np.int16) - truth)[new]
    return Scores(_lswd(drawn, truth, canvas, width, height), _ghd(drawn, truth, canvas, width, height),
                  _seam(drawn, truth, canvas, width, height), float(error.mean()), float(error.max()))  # fmt: skip


def on_grey(pixels: Pixels, grey: int = 128) -> Pixels:
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + grey * (1 - alpha) + 0.5).astype(np.uint8)


def _lswd(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    rng = np.random.default_rng(0)
    distances = []
    for longest in (128, 384):
        scale = min(1.0, longest / max(truth.shape[:2]))
        size = round(truth.shape[1] * scale), round(truth.shape[0] * scale)
        both = [
            np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)).astype(np.float32) for p in (drawn, truth)
        ]
        side = 7
        rows, columns = np.mgrid[: size[1] - side + 1, : size[0] - side + 1]
        centre_y, centre_x = (rows + side / 2) / scale - canvas.y, (columns + side / 2) / scale - canvas.x
        ring = (centre_y < 0) | (centre_y >= height) | (centre_x < 0) | (centre_x >= width)
        y, x = rows[ring], columns[ring]
        chosen = rng.choice(len(y), min(len(y), 20_000), replace=False)
        y, x = y[chosen], x[chosen]
        # The place weighs as much as the whole patch's spread, so that a sky on the ground counts as wrong.
        clouds: list[NDArray[np.float32]] = []
        for picture in both:
            windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side), axis=(0, 1))
            clouds.append(windows[y, x].reshape(len(y), -1))
        spread = max(float(np.sqrt(clouds[1].var(0).sum())), LEAST_SPREAD * np.sqrt(clouds[1].shape[1]))
        place = np.stack([y / size[1], x / size[0]], -1) * spread * 2
        directions = rng.normal(size=(clouds[0].shape[1] + 2, 96))
        directions /= np.linalg.norm(directions, axis=0)
        projected = [np.sort(np.concatenate([cloud, place], 1) @ directions, axis=0) for cloud in clouds]
        unit = max(float(projected[1].std(0).mean()), LEAST_SPREAD)
        distances.append(float(np.abs(projected[0] - projected[1]).mean() / unit))
    return mean(distances)


def _ghd(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    ring = np.ones(truth.shape[:2], bool)
    ring[canvas.y - 1 : canvas.y + height + 1, canvas.x - 1 : canvas.x + width + 1] = False
    histograms = []
    for picture in (drawn, truth):
        down, right = np.gradient(picture.astype(np.float32).mean(-1))
        strength, angle = np.log1p(np.hypot(down, right))[ring], (np.arctan2(down, right) % np.pi)[ring]
        counts = np.histogram2d(strength, angle, bins=(16, 6), range=((0, 5), (0, np.pi)))[0]
        histograms.append(counts / counts.sum())
    return float(np.abs(histograms[0] - histograms[1]).sum())


def _seam(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    steps = []
    for picture in (drawn, truth):
        values = picture.astype(np.float32)
        across = []
        for edge in (canvas.y, canvas.y + height):
            line = slice(canvas.x, canvas.x + width)
            across.append(np.abs(values[edge, line] - values[edge - 1, line]).mean())
        for edge in (canvas.x, canvas.x + width):
            line = slice(canvas.y, canvas.y + height)
            across.append(np.abs(values[line, edge] - values[line, edge - 1]).mean())
        steps.append(mean(map(float, across)))
    return max(steps[0], LEAST_STEP) / max(steps[1], LEAST_STEP)
