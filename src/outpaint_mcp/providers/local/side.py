"""What leaves an image at a side that grows: the ground's colour along the border, objects and strokes set aside (a
running median), the way in which lines leave (`lines`), how plain it is, and its grain (`grain`)."""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.grain import grain_of
from outpaint_mcp.providers.local.kind import Kind
from outpaint_mcp.providers.local.lines import running_mean, sheared, slopes
from outpaint_mcp.providers.local.profile import boxed, running_median, runs, step_sizes, stretched, widened, without
from outpaint_mcp.providers.local.subject import Floats, Pixels

Numbers = NDArray[Any]
Scalar = TypeVar("Scalar", np.uint8, np.float32)

STRIP: Final = 0.05  # of the short side: how deep the ground is looked at
# Of the short side: what is less wide than twice this is an object on the ground. Lines of text are close together.
_OBJECT: Final = {Kind.PHOTOGRAPH: 0.035, Kind.DRAWING: 0.035, Kind.TEXT: 0.09}
_BETWEEN_LINES: Final = 0.16  # of the short side: farther from a line only what is like it and level belongs to it
_LEVEL: Final = 0.05  # the slope of a level line at most
_PLAIN_SHARE: Final = {Kind.PHOTOGRAPH: 0.8, Kind.DRAWING: 0.55, Kind.TEXT: 0.55}
_STEP: Final = 5.0  # grey levels: a sharp step along the border
_ROUGHER: Final = 1.5  # times the noise there: what a step of the ground has to be more than
_TEXTURE: Final = (5.0, 9.0)  # grey levels of noise: from here on it may be texture, then it is
_BUSY: Final = (2.5, 4.5)  # grey levels from one place to the next
_STRENGTH: Final = 0.98  # of a strip's own detail is weaker than what is taken for its strength
_SHAPED: Final = (0.35, 0.5)  # of it that means over about 5 x 5 keep: of white noise 0.23, of a photograph's 0.4 to 1
_HELD: Final = 0.1  # of a side: so much plain ground at least holds an object
_SPECKED: Final = (0.4, 0.7)  # of the places of a side that have a speck nearby
_SHORTEST: Final = 0.22  # of a photograph's side: a shorter plain stretch is none
_RAY_STEPS: Final = 4  # to where a ray meets the border, since its slope is known only there
TREND: Final = 0.25  # of the short side: so far a gradient goes on where there is no surface
_MOST_TREND: Final = 40.0  # grey levels, by then


@dataclass(frozen=True, slots=True)
class Side:
    """What leaves the image at one side, by place along it.

    `detail` is how strong what it shows beside its ground is, in grey levels, `sure` how much of it is plain or lined,
    `cut` whether an object on plain ground is cut there.
    """

    colour: Floats
    slope: Floats
    lined: Floats
    plain: Floats
    trend: Floats
    grain: Floats | None
    detail: float
    sure: float
    cut: bool

    @property
    def length(self) -> int:
        return len(self.slope)

    def met(self, place: Numbers, distance: Numbers) -> Numbers:
        """Where along the side a ray meets it that ends `distance` outside it at `place`. May lie beyond its ends."""
        met = place + np.zeros_like(distance)
        if self.slope.any():
            for _ in range(_RAY_STEPS):
                met = place + distance * self.slope[np.clip(met, 0, self.length - 1).astype(np.intp)]
        return met

    def plain_at(self, met: Numbers) -> Floats:
        """How plain it is where rays meet it."""
        return self.plain[np.clip(met, 0, self.length - 1).astype(np.intp)]

    def at(self, met: Numbers) -> Floats:
        """The colours where rays meet the border."""
        first = met.astype(np.intp)
        part = (met - first)[..., None].astype(np.float32)
        colours: Floats = self.colour[first] * (1 - part)
        colours += self.colour[np.minimum(first + 1, self.length - 1)] * part
        return colours


def study(
    view: Pixels, small: Floats, flat: Floats, short: int, scale: float, kind: Kind, rng: np.random.Generator
) -> Side:
    """What leaves the image at a side, from its view at full size, at the studied one, and there without the
    surface that runs through it."""
    length, studied = view.shape[1], max(4, round(short * scale))
    depth = min(len(small), max(4, round(STRIP * studied)))
    strip = flat[:depth]
    wide = max(2, round(_OBJECT[kind] * studied))
    ground = running_median(strip, wide)
    off = np.abs(strip - ground).max(-1)
    noise = float(np.median(off))
    radius = max(2, round(0.04 * studied))
    on_ground = running_mean((off < 6 + 4 * min(noise, 6)).mean(0).astype(np.float32), radius)
    along, inward = np.abs(np.diff(ground, axis=1, prepend=ground[:, :1])), np.abs(np.diff(ground, axis=0))
    busy = running_mean(np.minimum(along.max(-1).mean(0) + inward.max(-1).mean(0), 20), radius)
    # White noise moves a median of 15 by about this much; what moves more has a shape.
    busy -= 0.6 * noise
    calm = np.clip((on_ground - _PLAIN_SHARE[kind]) / 0.2, 0, 1)
    # Noise of single pixels is grain at any strength; what neighbours share is texture.
    texture = min(noise, 2 * float(np.median(np.abs(boxed(strip - ground)).max(-1))))
    calm *= np.clip((_TEXTURE[1] - texture) / (_TEXTURE[1] - _TEXTURE[0]), 0, 1)
    calm *= np.clip((_BUSY[1] - busy) / (_BUSY[1] - _BUSY[0]), 0, 1)

    detail = _detail_of(strip - ground, off < 6 + 4 * min(noise, 6))

    near = max(1, depth // 4)
    steps = step_sizes(ground[:near].mean(0))
    ground += small[:depth] - strip
    outermost = ground[:near].mean(0)
    bends = (np.median(np.abs(np.diff(small[: max(3, depth)], 2, axis=axis)).max(-1)) for axis in (0, 1))
    fine = 0.5 * float(min(bends))  # noise that no stripes feign
    apart = step_sizes(small[0]) > max(_STEP, 4 * fine)
    led = slopes(small, apart, studied, fine)
    beside = widened(apart, max(2, round(_BETWEEN_LINES * studied)))
    beside |= (np.abs(outermost - without(outermost, ~beside)).max(-1) < _STEP) & (np.abs(led.slope) < _LEVEL)
    lined = np.where(beside, led.straight, 0)
    # Beside an object that the border cuts, or in a short gap, nobody knows what the ground is.
    rough = running_mean(np.minimum(off, 30).mean(0), radius)
    cut = widened(steps > np.maximum(_STEP, _ROUGHER * rough), wide)
    known = np.maximum(np.where(cut, 0, calm), lined)
    if kind is Kind.PHOTOGRAPH:
        # Specks everywhere (stars, drops) are what the image is about; specks here and there are objects on a ground.
        specks = widened((off > 6 + 4 * min(noise, 6)).any(0), radius).mean()
        calm *= np.clip((_SPECKED[1] - specks) / (_SPECKED[1] - _SPECKED[0]), 0, 1)
        plain = known = np.maximum(np.where(cut, 0, calm), lined)
        for first, last in runs(plain > 0.3):
            if last - first < _SHORTEST * len(plain):
                plain[first:last] = 0
        # At its very ends the median is of few places.
        for line in (plain, plain[::-1]):
            begin = int((line > 0.3).argmax())
            if 0 < begin <= 2 * wide:
                line[: begin + wide] = line[min(begin + wide, len(line) - 1)]
    else:
        plain = np.ones_like(calm)
    plain = running_mean(plain.astype(np.float32), max(1, round(0.012 * studied)))
    slope = np.where(led.straight > 0, led.slope, 0)

    # What the ground steps away to and back from, and what does not cross the whole image, is an object.
    outlines = runs(cut)
    is_cut = sum(not led.through[first:last].all() for first, last in outlines) > 1 and float(calm.mean()) > _HELD
    # From here on at full size.
    full = max(1, round(STRIP * short / 4)), max(4, round(STRIP * short))
    outer = view[: full[1]].astype(np.float32)
    slope, lined, plain = (stretched(line[:, None], length)[:, 0] for line in (slope, lined, plain))
    sharply = np.mean([sheared(outer, row, slope) for row in range(min(full[0], len(outer)))], axis=0)
    robust = stretched(outermost, length)
    colour = robust + (sharply - robust) * np.clip(2 * lined, 0, 1)[:, None]
    # What rises only in one half of the strip is an edge along the border (a bubble's, a bar's), and no gradient.
    outer_rise, inner_rise = ground[0] - ground[depth // 2], ground[depth // 2] - ground[-1]
    rise = np.where(outer_rise * inner_rise > 0, np.minimum(np.abs(outer_rise), np.abs(inner_rise)), 0)
    trend = np.sign(outer_rise) * rise / max(1, depth // 2) * scale
    trend = running_mean(trend, 3 * radius) * np.where(led.straight > 0, 0, calm)[:, None]
    most = _MOST_TREND / (TREND * short)
    trend = np.clip(stretched(trend, length), -most, most)
    flat = np.stack([sheared(outer, row, slope) for row in range(len(outer))]) - colour
    grain = grain_of(flat, plain, rng, is_drawn=kind is not Kind.PHOTOGRAPH)
    sure = float(known.mean())
    return Side(colour.astype(np.float32), slope, lined, plain, trend.astype(np.float32), grain, detail, sure, is_cut)


def _detail_of(rest: Floats, own: NDArray[np.bool_]) -> float:
    """How strong what a strip shows beside its ground is, in grey levels, where it is no object (`own`). None of it is
    detail if it is white noise."""
    if not own.any():
        return 0.0
    shape, rest = boxed(boxed(rest))[own], rest[own]
    shaped = np.sqrt((shape**2).mean() / max(float((rest**2).mean()), 0.01))
    part = np.clip((shaped - _SHAPED[0]) / (_SHAPED[1] - _SHAPED[0]), 0, 1)
    return float(part * np.quantile(np.abs(rest).max(-1), _STRENGTH))


def view_of(plane: NDArray[Scalar], name: str) -> NDArray[Scalar]:
    """Rows from the border inward."""
    if name in ("left", "right"):
        plane = plane.swapaxes(0, 1)
    return plane[::-1] if name in ("bottom", "right") else plane
