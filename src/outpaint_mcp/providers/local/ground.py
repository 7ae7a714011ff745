"""The ground of an image (plain, graded, out of focus, striped) continued beyond its border without copying anything.

A new pixel takes the colour that its ray meets at the border (`side`). One smooth surface carries gradients on and
around the corners (`surface`), and the strip's own noise lies on top (`grain`). In a photograph rays are for lines
only: the rest is spread softly (`membrane`), and by how much all that differs from the outermost pixels fades outward,
so that there is no seam.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.providers.local.grain import TILE
from outpaint_mcp.providers.local.kind import Kind, is_graded, without_strokes
from outpaint_mcp.providers.local.lines import running_mean
from outpaint_mcp.providers.local.membrane import Membrane
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.profile import faded, stretched, without
from outpaint_mcp.providers.local.side import STRIP, TREND, Side, study, view_of
from outpaint_mcp.providers.local.subject import Floats, OpenSides, Pixels, resize, shrink
from outpaint_mcp.providers.local.surface import Surface, fit_surface

Numbers = NDArray[Any]
_Ray = tuple[str, Numbers, Numbers, Numbers]
"""A side's name, where along it rays meet it, how far outside of it they end, and how far beyond its ends."""

_Colours = tuple[Floats, Floats, Floats, Floats]
"""The ground's colours and the grain on them (rows x columns x channels), how strong the border's detail is there (rows
x columns), all in grey levels, and how opaque it is, 0 to 1."""

_OnSurface = tuple[Floats, Floats] | None
"""The surface's colours at some places and at those of the image that are nearest to them; None where it has no say."""

_BAND, _CHUNK = 128, 256  # rows and columns of the canvas drawn at a time
_STUDIED_SIDE: Final = 512  # pixels of the longer side: finer than that is grain
_THUMBNAIL: Final = 96  # pixels
_UNSEEN, _OPAQUE = 0.19, 0.81  # of how plain a place is: below it the ground does not show, above nothing else
_BLENDED: Final = 0.1  # of a photograph's side: over so much of it the ground fades beside what is none
_FALL: Final = 0.35  # of the short side: so far the border's own colours reach into the surface's
_CURVED: Final = 0.15  # of the short side: so far a curved surface is followed at most
_WRITTEN: Final = 0.02  # of the outermost pixels of a side: more strokes than these are cut text
_NOTHING: Final = np.zeros((1, 1, 1), np.float32)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What one side says of some part of the new area. `lined` is how much lines cross it, `weight` how much the side
    counts at a corner, `left_over` by how much the pixels at the border differ from the ground there."""

    colours: Floats
    trust: Floats
    lined: Floats
    weight: Floats
    grain: Floats
    left_over: Floats


class Ground:
    """The ground of `pixels` (height x width x channels) on a canvas. Made once, then drawn in parts."""

    def __init__(self, pixels: Pixels, canvas: Canvas, sides: OpenSides, kind: Kind, seed: int) -> None:
        self.height, self.width, self.channels = pixels.shape
        self.short = min(self.height, self.width)
        self.canvas, self.kind = canvas, kind
        rng = np.random.default_rng(seed)
        self.scale = min(1.0, _STUDIED_SIDE / max(self.height, self.width))
        size = max(8, round(self.width * self.scale)), max(8, round(self.height * self.scale))
        strip = max(4, round(STRIP * self.short))
        strips = [view_of(pixels, name)[:strip] for name in sides.names()]
        self.flat = kind is not Kind.PHOTOGRAPH and not any(map(is_graded, strips))
        whole, pixels = pixels, without_strokes(pixels) if kind is Kind.TEXT else pixels
        small = shrink(pixels, *size).astype(np.float32)
        self.surface = self._surface(small, sides, {})
        flat = small - _on(self.surface, small) if self.surface.trust == 1 else small
        self.sides = {
            name: study(
                view_of(pixels, name), view_of(small, name), view_of(flat, name), self.short, self.scale, kind, rng
            )
            for name in ("top", "bottom", "left", "right")
            if getattr(sides, name)
        }
        for name, side in self.sides.items():
            if float((view_of(whole, name)[0] != view_of(pixels, name)[0]).any(-1).mean()) > _WRITTEN:
                self.sides[name] = replace(side, cut=True)
        if any(float(side.plain.mean()) < 0.95 for side in self.sides.values()):
            self.surface = self._surface(small, sides, {name: side.plain for name, side in self.sides.items()})
        # How much the membrane lies on the surface as it is at the border: on one that fits badly as little as beyond.
        self.base = np.float32(np.clip(4 * self.surface.trust - 1, self.surface.trust, 1))
        self.membrane = self._membrane() if kind is Kind.PHOTOGRAPH else None
        self.left_over: dict[str, Floats] = {}
        if self.membrane is not None:
            self.left_over = {name: self._left_over(self.membrane, name, pixels) for name in self.sides}

    def _surface(self, small: Floats, sides: OpenSides, plain: dict[str, Floats]) -> Surface:
        surface = _surface_of(small, sides, plain)
        return replace(surface, trust=0.0) if self.flat else surface

    def _membrane(self) -> Membrane:
        """What a photograph's ground is beside the surface and the lines."""
        lines = {}
        for name, side in self.sides.items():
            along = np.arange(side.length, dtype=np.float32)
            at = (self._end(name), along) if name in ("top", "bottom") else (along, self._end(name))
            wide = round(_BLENDED / 2 * side.length)
            known = np.minimum(side.plain, running_mean(running_mean(side.plain, wide), wide))
            beside = side.colour - self.base * self._surface_at(*at)
            lines[name] = without(beside, side.lined > 0.5), known
        return Membrane.stretched(self.height, self.width, self.canvas, lines)

    def _left_over(self, membrane: Membrane, name: str, pixels: Pixels) -> Floats:
        """By how much the outermost pixels of a side differ from what is drawn there, fading outward: rows x places x
        channels, the last row zero. Nothing of what the ground does not cover."""
        upright, length = name in ("left", "right"), self.sides[name].length
        along = np.arange(length, dtype=np.float32)[:, None] if upright else np.arange(length, dtype=np.float32)[None]
        end = np.full((1, 1), self._end(name))
        nothing = np.zeros((1, 1), np.float32)
        ray = name, along, nothing, nothing
        drawn = self._drawn_softly(membrane, [ray], *((along, end) if upright else (end, along)))
        if drawn is None:
            return np.zeros((1, length, 1), np.float32)
        colours, opacity = (drawn[0] + drawn[1]).reshape(length, -1), drawn[3].reshape(length, 1)
        return faded((view_of(pixels, name)[0] - colours) * opacity, max(4, round(STRIP * self.short)))

    def _end(self, name: str) -> np.float32:
        """The outermost row (or column) of a side."""
        return np.float32(0 if name in ("top", "left") else (self.height if name == "bottom" else self.width) - 1)

    @property
    def suffices(self) -> bool:
        """Whether nothing else is needed anywhere."""
        return all(float(side.plain.min()) > _OPAQUE for side in self.sides.values())

    def parts(self) -> Iterator[tuple[slice, slice, _Colours]]:
        """The new area in parts, from top to bottom: their rows and columns on the canvas, and the ground there. Parts
        where it is nowhere to be seen are left out."""
        canvas = self.canvas
        rows = (0, canvas.y, canvas.y + self.height, canvas.height)
        columns = (0, canvas.x, canvas.x + self.width, canvas.width)
        for down in range(3):
            for top in range(rows[down], rows[down + 1], _BAND):
                below = slice(top, min(top + _BAND, rows[down + 1]))
                for across in range(3):
                    if down == across == 1:
                        continue
                    for left in range(columns[across], columns[across + 1], _CHUNK):
                        beside = slice(left, min(left + _CHUNK, columns[across + 1]))
                        drawn = self._draw(below, beside)
                        if drawn is not None:
                            yield below, beside, drawn

    def _draw(self, rows: slice, columns: slice) -> _Colours | None:
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
        surface = self._on_surface(y, x)
        found = [self._from_side(*ray, y, x, surface) for ray in rays]
        if len(found) == 1:
            return found[0].colours, found[0].grain, _NOTHING[0], _opacity(found[0].trust)
        # At a corner the side counts most that is farther away, and whose ray meets the border at all.
        total = np.sum([one.weight for one in found], axis=0)
        colours, trust = np.zeros(1, np.float32), np.zeros(1, np.float32)
        for one in found:
            colours = colours + one.colours * (one.weight / total)[..., None]
            trust = trust + one.trust * (one.weight / total)
        return colours, _mixed_grain(found), _NOTHING[0], _opacity(trust)

    def _drawn_softly(self, membrane: Membrane, rays: list[_Ray], y: Floats, x: Floats) -> _Colours | None:
        """The ground of a photograph: the surface, on it the membrane, and the lines that cross the border."""
        colours, known = membrane.at(y, x)
        if float(known.max()) <= _UNSEEN and not any(self.sides[name].lined.any() for name, *_ in rays):
            return None
        surface = self._on_surface(y, x)
        found = [self._from_side(*ray, y, x, surface) for ray in rays]
        for one in found:
            known = np.maximum(known, one.lined)
        if float(known.max()) <= _UNSEEN:
            return None
        if surface is not None:
            trust = np.float32(self.surface.trust)
            near = np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1)
            away = np.maximum(np.hypot(y - near[0], x - near[1]), 1)
            colours *= 1 - trust * (1 - np.exp(-((away / (_FALL * self.short)) ** 2)))[..., None]
            here, there = surface
            colours += trust * here + (self.base - trust) * there
        for one in found:
            colours += one.lined[..., None] * (one.colours - colours)
        total = np.sum([one.weight for one in found], axis=0)
        for one in found:
            if one.left_over is not _NOTHING:
                colours += one.left_over * (one.weight / total)[..., None]
        detail = sum((one.weight / total * self.sides[ray[0]].detail for ray, one in zip(rays, found, strict=True)), 0)
        return colours, _mixed_grain(found), detail, _opacity(known)

    def _from_side(
        self, name: str, met: Numbers, distance: Numbers, other: Numbers, y: Floats, x: Floats, surface: _OnSurface
    ) -> _Drawn:
        """What one side says of places `distance` pixels outside it and `other` beyond its ends, whose rays meet it at
        `met`."""
        side = self.sides[name]
        hit = (met >= 0) & (met <= side.length - 1)
        met = np.clip(met, 0, side.length - 1)
        first = met.astype(np.intp)
        plain = side.plain[first]
        lined = np.minimum(side.lined[first], _opacity(plain)) * hit
        if self.membrane is None or lined.any():
            colours = self._along_rays(side, met, distance, other, surface)
        else:
            colours = np.zeros(1, np.float32)
        weight = np.clip((distance / (distance + other + 1e-6) - 0.5) * 3 + 0.5, 0.001, 1) * np.where(hit, 1, 0.02)
        inward, along = (y, x) if name in ("top", "bottom") else (x, y)
        if side.grain is None:
            grain = _NOTHING
        else:
            grain = side.grain[inward.astype(np.intp) % TILE, along.astype(np.intp) % TILE]
        left_over = self.left_over.get(name)
        if left_over is None or distance.min() >= len(left_over):
            left_over = _NOTHING
        else:
            rows = np.minimum(distance.astype(np.intp), len(left_over)) - 1
            left_over = left_over.reshape(-1, self.channels).take(rows * side.length + first, 0)
        return _Drawn(colours, plain, lined, weight.astype(np.float32), grain, left_over)

    def _along_rays(self, side: Side, met: Numbers, distance: Numbers, other: Numbers, surface: _OnSurface) -> Floats:
        """The colours that a side shows where rays meet it, gone on with its surface or its gradient."""
        first = met.astype(np.intp)
        colours = side.at(met)
        lined = side.lined[first]
        if surface is not None:
            here, there = surface
            fall = np.maximum(np.exp(-(((distance + other) / (_FALL * self.short)) ** 2)), lined)[..., None]
            colours += np.float32(self.surface.trust) * (here + (colours - there) * fall - colours)
        if self.surface.trust < 1 and side.trend.any() and not self.flat and self.kind is not Kind.TEXT:
            reach = np.float32(TREND * self.short)
            grown = reach * (1 - np.exp(-distance / reach)) * (1 - lined)
            colours += np.float32(1 - self.surface.trust) * grown[..., None] * side.trend[first]
        return colours

    def _on_surface(self, y: Floats, x: Floats) -> _OnSurface:
        if not self.surface.trust:
            return None
        near = np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1)
        return self._surface_at(y, x), self._surface_at(*near)

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
        view = view_of(counts, name)
        view[: max(2, len(view) // 5)] = np.maximum(
            view[: max(2, len(view) // 5)], stretched(line[:, None], view.shape[1])[:, 0]
        )
    return fit_surface(thumbnail, sides, counts)
