"""The ground of an image (plain, graded, out of focus, striped) continued beyond its border without copying anything.

For each side that grows: the ground's colour along the border, objects and strokes set aside (a running median), the
way in which lines leave (`lines`), and how plain it is. A new pixel takes the colour that its ray meets at the border.
One smooth surface carries gradients on and around the corners (`surface`), and the strip's own noise lies on top
(`grain`). In a photograph rays are for lines only: the rest is spread softly (`membrane`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.providers.local.grain import TILE, grain_of
from outpaint_mcp.providers.local.kind import Kind, is_graded, without_strokes
from outpaint_mcp.providers.local.lines import running_mean, sheared, slopes
from outpaint_mcp.providers.local.membrane import Membrane
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.profile import boxed, running_median, runs, step_sizes, stretched, widened, without
from outpaint_mcp.providers.local.subject import Floats, OpenSides, Pixels, resize, shrink
from outpaint_mcp.providers.local.surface import Surface, fit_surface

Numbers = NDArray[Any]
_Ray = tuple[str, Numbers, Numbers, Numbers]
"""A side's name, where along it rays meet it, how far outside of it they end, and how far beyond its ends."""
Scalar = TypeVar("Scalar", np.uint8, np.float32)

_BAND, _CHUNK = 128, 256  # rows and columns of the canvas drawn at a time
_STUDIED_SIDE: Final = 512  # pixels of the longer side: finer than that is grain
_THUMBNAIL: Final = 96  # pixels
_STRIP: Final = 0.05  # of the short side: how deep the ground is looked at
# Of the short side: what is less wide than twice this is an object on the ground. Lines of text are close together.
_OBJECT: Final = {Kind.PHOTOGRAPH: 0.035, Kind.DRAWING: 0.035, Kind.TEXT: 0.09}
_BETWEEN_LINES: Final = 0.16  # of the short side: farther from a line only what is like it and level belongs to it
_LEVEL: Final = 0.05  # the slope of a level line at most
_PLAIN_SHARE: Final = {Kind.PHOTOGRAPH: 0.8, Kind.DRAWING: 0.55, Kind.TEXT: 0.55}
_STEP: Final = 5.0  # grey levels: a sharp step along the border
_ROUGHER: Final = 1.5  # times the noise there: what a step of the ground has to be more than
_TEXTURE: Final = (5.0, 9.0)  # grey levels of noise: from here on it may be texture, then it is
_BUSY: Final = (2.5, 4.5)  # grey levels from one place to the next
_HELD: Final = 0.1  # of a side: so much plain ground at least holds an object
_SPECKED: Final = (0.4, 0.7)  # of the places of a side that have a speck nearby
_SHORTEST: Final = 0.22  # of a photograph's side: a shorter plain stretch is none
_UNSEEN, _OPAQUE = 0.19, 0.81  # of how plain a place is: below it the ground does not show, above nothing else
_RAY_STEPS: Final = 4  # to where a ray meets the border, since its slope is known only there
_BLENDED: Final = 0.1  # of a photograph's side: over so much of it the ground fades beside what is none
_FALL: Final = 0.35  # of the short side: so far the border's own colours reach into the surface's
_CURVED: Final = 0.15  # of the short side: so far a curved surface is followed at most
_WRITTEN: Final = 0.02  # of the outermost pixels of a side: more strokes than these are cut text
_TREND: Final = 0.25  # of the short side: so far a gradient goes on where there is no surface
_MOST_TREND: Final = 40.0  # grey levels, by then


@dataclass(frozen=True, slots=True)
class _Side:
    """What leaves the image at one side, by place along it.

    `sure` is how much of it is plain or lined, `cut` whether an object on plain ground is cut there.
    """

    colour: Floats
    slope: Floats
    lined: Floats
    plain: Floats
    trend: Floats
    grain: Floats | None
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


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What one side says of some part of the new area. `lined` is how much lines cross it, `weight` how much the side
    counts at a corner."""

    colours: Floats
    trust: Floats
    lined: Floats
    weight: Floats
    grain: Floats


class Ground:
    """The ground of `pixels` (height x width x channels) on a canvas. Made once, then drawn in parts."""

    def __init__(self, pixels: Pixels, canvas: Canvas, sides: OpenSides, kind: Kind, seed: int) -> None:
        self.height, self.width, self.channels = pixels.shape
        self.short = min(self.height, self.width)
        self.canvas, self.kind = canvas, kind
        rng = np.random.default_rng(seed)
        self.scale = min(1.0, _STUDIED_SIDE / max(self.height, self.width))
        size = max(8, round(self.width * self.scale)), max(8, round(self.height * self.scale))
        strip = max(4, round(_STRIP * self.short))
        strips = [_view(pixels, name)[:strip] for name in sides.names()]
        self.flat = kind is not Kind.PHOTOGRAPH and not any(map(is_graded, strips))
        whole, pixels = pixels, without_strokes(pixels) if kind is Kind.TEXT else pixels
        small = shrink(pixels, *size).astype(np.float32)
        self.surface = self._surface(small, sides, {})
        flat = small - _on(self.surface, small) if self.surface.trust == 1 else small
        self.sides = {
            name: _study(_view(pixels, name), _view(small, name), _view(flat, name), self.short, self.scale, kind, rng)
            for name in ("top", "bottom", "left", "right")
            if getattr(sides, name)
        }
        for name, side in self.sides.items():
            if float((_view(whole, name)[0] != _view(pixels, name)[0]).any(-1).mean()) > _WRITTEN:
                self.sides[name] = replace(side, cut=True)
        if any(float(side.plain.mean()) < 0.95 for side in self.sides.values()):
            self.surface = self._surface(small, sides, {name: side.plain for name, side in self.sides.items()})
        # How much the membrane lies on the surface as it is at the border: on one that fits badly as little as beyond.
        self.base = np.float32(np.clip(4 * self.surface.trust - 1, self.surface.trust, 1))
        self.membrane = self._membrane() if kind is Kind.PHOTOGRAPH else None

    def _surface(self, small: Floats, sides: OpenSides, plain: dict[str, Floats]) -> Surface:
        surface = _surface_of(small, sides, plain)
        return replace(surface, trust=0.0) if self.flat else surface

    def _membrane(self) -> Membrane:
        """What a photograph's ground is beside the surface and the lines."""
        lines = {}
        for name, side in self.sides.items():
            along = np.arange(side.length, dtype=np.float32)
            end = np.float32(0 if name in ("top", "left") else (self.height if name == "bottom" else self.width) - 1)
            at = (end, along) if name in ("top", "bottom") else (along, end)
            wide = round(_BLENDED / 2 * side.length)
            known = np.minimum(side.plain, running_mean(running_mean(side.plain, wide), wide))
            beside = side.colour - self.base * self._surface_at(*at)
            lines[name] = without(beside, side.lined > 0.5), known
        return Membrane.stretched(self.height, self.width, self.canvas, lines)

    @property
    def suffices(self) -> bool:
        """Whether nothing else is needed anywhere."""
        return all(float(side.plain.min()) > _OPAQUE for side in self.sides.values())

    def parts(self) -> Iterator[tuple[slice, slice, Floats, Floats]]:
        """The new area in parts: their rows and columns on the canvas, the ground's colours there in grey levels, and
        how opaque it is there, 0 to 1. Parts where it is nowhere to be seen are left out."""
        canvas = self.canvas
        rows = (0, canvas.y, canvas.y + self.height, canvas.height)
        columns = (0, canvas.x, canvas.x + self.width, canvas.width)
        for down in range(3):
            for across in range(3):
                if down == across == 1 or columns[across] == columns[across + 1]:
                    continue
                for top in range(rows[down], rows[down + 1], _BAND):
                    below = slice(top, min(top + _BAND, rows[down + 1]))
                    for left in range(columns[across], columns[across + 1], _CHUNK):
                        beside = slice(left, min(left + _CHUNK, columns[across + 1]))
                        drawn = self._draw(below, beside)
                        if drawn is not None:
                            yield below, beside, *drawn

    def _draw(self, rows: slice, columns: slice) -> tuple[Floats, Floats] | None:
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) - self.canvas.y)[:, None]
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) - self.canvas.x)[None]
        beyond_x, beyond_y = np.maximum(-x, x - self.width + 1), np.maximum(-y, y - self.height + 1)
        rays: list[_Ray] = []
        for name, place, distance, other in (
            ("top", x, -y, beyond_x),
            ("bottom", x, y - self.height + 1, beyond_x),
            ("left", y, -x, beyond_y),
            ("right", y, x - self.width + 1, beyond_y),
        ):
            if distance.max() > 0 and name in self.sides:
                rays.append((name, self.sides[name].met(place, distance), distance, np.maximum(other, 0)))
        if self.membrane is not None:
            return self._drawn_softly(self.membrane, rays, y, x)
        if all(float(self.sides[name].plain_at(met).max()) <= _UNSEEN for name, met, *_ in rays):
            return None
        found = [self._from_side(name, met, distance, other, y, x) for name, met, distance, other in rays]
        if len(found) == 1:
            return found[0].colours + found[0].grain, _opacity(found[0].trust)
        # At a corner the side counts most that is farther away, and whose ray meets the border at all.
        total = np.sum([one.weight for one in found], axis=0)
        colours, trust = np.zeros(1, np.float32), np.zeros(1, np.float32)
        for one in found:
            colours = colours + one.colours * (one.weight / total)[..., None]
            trust = trust + one.trust * (one.weight / total)
        return colours + _mixed_grain(found), _opacity(trust)

    def _drawn_softly(self, membrane: Membrane, rays: list[_Ray], y: Floats, x: Floats) -> tuple[Floats, Floats] | None:
        """The ground of a photograph: the surface, on it the membrane, and the lines that cross the border."""
        colours, known = membrane.at(y, x)
        found = [self._from_side(*ray, y, x) for ray in rays]
        for one in found:
            known = np.maximum(known, one.lined)
        if float(known.max()) <= _UNSEEN:
            return None
        if self.surface.trust:
            trust = np.float32(self.surface.trust)
            near = np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1)
            away = np.maximum(np.hypot(y - near[0], x - near[1]), 1)
            colours *= 1 - trust * (1 - np.exp(-((away / (_FALL * self.short)) ** 2)))[..., None]
            colours += trust * self._surface_at(y, x) + (self.base - trust) * self._surface_at(*near)
        for one in found:
            colours += one.lined[..., None] * (one.colours - colours)
        return colours + _mixed_grain(found), _opacity(known)

    def _from_side(self, name: str, met: Numbers, distance: Numbers, other: Numbers, y: Floats, x: Floats) -> _Drawn:
        """What one side says of places `distance` pixels outside it and `other` beyond its ends, whose rays meet it at
        `met`."""
        side = self.sides[name]
        hit = (met >= 0) & (met <= side.length - 1)
        met = np.clip(met, 0, side.length - 1)
        first = met.astype(np.intp)
        plain = side.plain[first]
        lined = np.minimum(side.lined[first], _opacity(plain)) * hit
        if self.membrane is None or lined.any():
            colours = self._along_rays(side, met, distance, other, y, x)
        else:
            colours = np.zeros(1, np.float32)
        weight = np.clip((distance / (distance + other + 1e-6) - 0.5) * 3 + 0.5, 0.001, 1) * np.where(hit, 1, 0.02)
        inward, along = (y, x) if name in ("top", "bottom") else (x, y)
        if side.grain is None:
            grain = np.zeros((1, 1, 1), np.float32)
        else:
            grain = side.grain[inward.astype(np.intp) % TILE, along.astype(np.intp) % TILE]
        return _Drawn(colours, plain, lined, weight.astype(np.float32), grain)

    def _along_rays(self, side: _Side, met: Numbers, distance: Numbers, other: Numbers, y: Floats, x: Floats) -> Floats:
        """The colours that a side shows where rays meet it, gone on with its surface or its gradient."""
        first = met.astype(np.intp)
        colours = side.at(met)
        lined = side.lined[first]
        if self.surface.trust:
            here = self._surface_at(y, x)
            there = self._surface_at(np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1))
            fall = np.maximum(np.exp(-(((distance + other) / (_FALL * self.short)) ** 2)), lined)[..., None]
            colours += np.float32(self.surface.trust) * (here + (colours - there) * fall - colours)
        if self.surface.trust < 1 and side.trend.any() and not self.flat and self.kind is not Kind.TEXT:
            reach = np.float32(_TREND * self.short)
            grown = reach * (1 - np.exp(-distance / reach)) * (1 - lined)
            colours += np.float32(1 - self.surface.trust) * grown[..., None] * side.trend[first]
        return colours

    def _surface_at(self, y: Floats, x: Floats) -> Floats:
        longer = max(self.height, self.width)
        if self.surface.curved:
            y, x = self._not_far(y, self.height), self._not_far(x, self.width)
        return self.surface.at((y - (self.height - 1) / 2) / longer, (x - (self.width - 1) / 2) / longer)

    def _not_far(self, places: Floats, length: int) -> Floats:
        """The places, those outside the image drawn in ever nearer to it."""
        inside = np.clip(places, 0, length - 1)
        reach = _CURVED * self.short
        near: Floats = inside + reach * np.tanh((places - inside) / reach)
        return near


def _mixed_grain(found: list[_Drawn]) -> Floats:
    """Two grains that are mixed by halves are weaker than either, so their squares add up."""
    size = np.sqrt(np.sum([one.weight**2 for one in found], axis=0))
    grain = np.zeros(1, np.float32)
    for one in found:
        grain = grain + one.grain * (one.weight / size)[..., None]
    return grain


def _opacity(trust: Floats) -> Floats:
    opacity: Floats = np.clip((trust - _UNSEEN) / (_OPAQUE - _UNSEEN), 0, 1)
    return opacity


def _view(plane: NDArray[Scalar], name: str) -> NDArray[Scalar]:
    """Rows from the border inward."""
    if name in ("left", "right"):
        plane = plane.swapaxes(0, 1)
    return plane[::-1] if name in ("bottom", "right") else plane


def _study(
    view: Pixels, small: Floats, flat: Floats, short: int, scale: float, kind: Kind, rng: np.random.Generator
) -> _Side:
    """What leaves the image at a side, from its view at full size, at the studied one, and there without the
    surface that runs through it."""
    length, studied = view.shape[1], max(4, round(short * scale))
    depth = min(len(small), max(4, round(_STRIP * studied)))
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
    full = max(1, round(_STRIP * short / 4)), max(4, round(_STRIP * short))
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
    most = _MOST_TREND / (_TREND * short)
    trend = np.clip(stretched(trend, length), -most, most)
    flat = np.stack([sheared(outer, row, slope) for row in range(len(outer))]) - colour
    grain = grain_of(flat, plain, rng)
    sure = float(known.mean())
    return _Side(colour.astype(np.float32), slope, lined, plain, trend.astype(np.float32), grain, sure, is_cut)


def _on(surface: Surface, plane: Floats) -> Floats:
    """The surface at each place of the image, which `plane` shows at some size."""
    height, width = plane.shape[:2]
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    longer = max(height, width)
    return surface.at(((rows + 0.5 - height / 2) / longer)[:, None], ((columns + 0.5 - width / 2) / longer)[None])


def _surface_of(small: Floats, sides: OpenSides, plain: dict[str, Floats]) -> Surface:
    """`plain` says how plain each place of the growing sides is; all are taken for plain where it says nothing."""
    part = min(1.0, _THUMBNAIL / max(small.shape[:2]))
    height, width = (max(4, round(part * side)) for side in small.shape[:2])
    thumbnail = np.stack(
        [resize(small[..., c], width, height, Image.Resampling.BOX) for c in range(small.shape[2])], -1
    )
    counts = np.full((height, width), 0.0 if plain else 1.0, np.float32)
    for name, line in plain.items():
        view = _view(counts, name)
        view[: max(2, len(view) // 5)] = np.maximum(
            view[: max(2, len(view) // 5)], stretched(line[:, None], view.shape[1])[:, 0]
        )
    return fit_surface(thumbnail, sides, counts)
