"""Fills the transparent corners of an image whose border is otherwise opaque: the rounded corners of a screenshot, an
icon, a video still.

Where such an image grows, its corners come to lie inside the new one, where a hole is no rounding any more. A filled
corner is what its surroundings make likely: a plane through their colours, what they deviate from it on average nearby,
and their grain, mirrored at the edge of the corner.
"""

from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.subject import Floats, Pixels

Flags = NDArray[np.bool_]
Ints = NDArray[np.intp]
PlaneT = TypeVar("PlaneT", Flags, Pixels)

FAINT: Final = 8
"""An alpha up to which nobody sees a pixel."""
TOLERANCE: Final = 4  # levels of alpha by which an even border may vary
_OPAQUE_SIDE: Final = 0.9  # of what a side has beside a corner
_SMALL_CORNER: Final = 0.25  # of a side; larger ones must be roundings, smaller ones can have any shape
OPAQUE: Final = 255 - TOLERANCE
_STRAIGHT: Final = (
    3.0  # times the root of an arc's radius; the arc itself lies on the border for twice the root at most
)
_ROUNDING: Final = 0.4  # of its box that a rounding leaves open at most: an arc 1 - pi / 4, its pixels' edges some more
_BLUR: Final = 2  # pixels at the edge of an image that resampling may have made translucent
_SAMPLES: Final = 20_000  # pixels that a plane is fitted to
_ROUNDS: Final = 6
_UNLIKE: Final = 3.0  # usual distances from the plane
_LUMPS: Final = 3.0  # deviations: stronger detail is an object, and is not mirrored

Flip = tuple[slice, slice]
_ONWARD, _BACK = slice(None), slice(None, None, -1)
_CORNERS: Final[dict[str, Flip]] = {
    "top left": (_ONWARD, _ONWARD),
    "top right": (_ONWARD, _BACK),
    "bottom left": (_BACK, _ONWARD),
    "bottom right": (_BACK, _BACK),
}
"""How an image is turned so that this corner is the first."""
_SIDES: Final = ("top", "bottom", "left", "right")


class _Corner(NamedTuple):
    """An open corner, turned to be the first: which pixels of its box are open."""

    name: str
    flip: Flip
    open: Flags


def fill_corners(pixels: Pixels, canvas: Canvas) -> tuple[Pixels, tuple[str, ...]]:
    """The image with its transparent corners filled, and what has been done, in sentences. The array is not written to.

    Only corners are filled beside which the image grows and whose sides are opaque (or evenly translucent). No other
    pixel changes, except that the outermost ones of an opaque side become opaque if resampling has blurred them.
    """
    if pixels.shape[2] == 3 or pixels[..., 3].min() == 255:
        return pixels, ()
    alpha = pixels[..., 3]
    level = _level(alpha)
    fades = level < OPAQUE and (alpha > level + TOLERANCE).mean() > 1 - _OPAQUE_SIDE
    if level <= FAINT or fades:
        return pixels, ()
    solid = _solid(alpha, level)
    grows = _growing(alpha, canvas)
    corners = [corner for corner in _corners(solid) if any(grows[side] for side in corner.name.split())]
    blurred = solid & (alpha < level - TOLERANCE)
    edges = [_BLUR * grows[side] for side in _SIDES]
    blurred[edges[0] : len(blurred) - edges[1], edges[2] : blurred.shape[1] - edges[3]] = False
    pixels, notes = pixels.copy(), []
    if corners:
        names = ", ".join(corner.name for corner in corners)
        notes.append(f"The rounded corners were transparent and have been filled with what lies beside them: {names}.")
    for corner in corners:
        _fill(pixels[corner.flip], solid[corner.flip], corner.open, level)
    if blurred.any():
        notes.append("The outermost pixels were translucent and have been filled with what lies behind them.")
        for lines, mask in zip(from_all_sides(pixels), from_all_sides(blurred), strict=True):
            for depth in range(_BLUR):
                lines[depth, mask[depth], :3] = lines[_BLUR, mask[depth], :3]
        pixels[blurred, 3] = level
    return pixels, tuple(notes)


def _growing(alpha: Pixels, canvas: Canvas) -> dict[str, bool]:
    height, width = alpha.shape
    below, beyond = canvas.height - canvas.y - height, canvas.width - canvas.x - width
    return dict(zip(_SIDES, (canvas.y > 0, below > 0, canvas.x > 0, beyond > 0), strict=True))


def from_all_sides(plane: PlaneT) -> tuple[PlaneT, PlaneT, PlaneT, PlaneT]:
    """Views whose first row is the plane's top, bottom, left and right side."""
    upright = plane.swapaxes(0, 1)
    return plane, plane[::-1], upright, upright[::-1]


def border(plane: PlaneT) -> PlaneT:
    """The outermost values, the corners twice."""
    return np.concatenate([view[0] for view in from_all_sides(plane)])


def _level(alpha: Pixels) -> int:
    """The alpha that the visible border mostly has. It is read behind the outermost pixels, which may be blurred."""
    inner = alpha[_BLUR:-_BLUR, _BLUR:-_BLUR] if min(alpha.shape) > 4 * _BLUR else alpha
    counts = np.bincount(border(inner), minlength=256)
    counts[: FAINT + 1] = 0
    return int(counts.argmax())


def _solid(alpha: Pixels, level: int) -> Flags:
    """Where the image is as opaque as its border, or is but for a blurred edge."""
    solid = alpha >= level - TOLERANCE
    if min(alpha.shape) <= 4 * _BLUR:
        return solid
    faint = alpha <= FAINT
    for lines, out_of_sight in zip(from_all_sides(solid), from_all_sides(faint), strict=True):
        for depth in range(_BLUR):
            blurred = ~lines[depth] & ~out_of_sight[depth] & lines[_BLUR]
            if blurred.mean() > 0.5:
                lines[depth] |= blurred
    return solid


def _open_box(solid: Flags) -> Flags | None:
    """The open pixels of the first corner, as a box of flags; None if that is no open corner but something larger."""
    height, width = solid.shape
    if solid[0, 0]:
        return None
    quarter = ~solid[: (height + 1) // 2, : (width + 1) // 2]
    from_side, from_top = np.logical_and.accumulate(quarter, axis=1), np.logical_and.accumulate(quarter, axis=0)
    high, wide = int(from_side[:, 0].argmin()), int(from_top[0].argmin())
    if high == 0 or wide == 0:
        return None  # open as far as the middle
    box = from_side[:high, :wide] & from_top[:high, :wide]
    small = high <= _SMALL_CORNER * height and wide <= _SMALL_CORNER * width
    return box if small or box.mean() <= _ROUNDING else None


def _corners(solid: Flags) -> list[_Corner]:
    """The open corners beside which the border is opaque; none if it is nowhere straight, as a disc's is not."""
    found = {name: _open_box(solid[flip]) for name, flip in _CORNERS.items()}
    corners = [_Corner(name, _CORNERS[name], box) for name, box in found.items() if box is not None]
    closed = solid.copy()
    for corner in corners:
        closed[corner.flip][: corner.open.shape[0], : corner.open.shape[1]] = True
    if not any(_is_straight(name, view[0], corners) for name, view in zip(_SIDES, from_all_sides(solid), strict=True)):
        return []
    return [corner for corner in corners if _opaque_beside(closed[corner.flip], corner)]


def _is_straight(side: str, line: Flags, corners: list[_Corner]) -> bool:
    boxes = [corner.open.shape for corner in corners if side in corner.name]
    arcs = [wide / high**0.5 if side in ("top", "bottom") else high / wide**0.5 for high, wide in boxes]
    return bool(line.sum() > _STRAIGHT * max(arcs, default=0))


def _opaque_beside(closed: Flags, corner: _Corner) -> bool:
    """Whether both sides go on opaque after the corner, which is the first of `closed`, in which all are closed."""
    stretches = (closed[0, corner.open.shape[1] :], closed[corner.open.shape[0] :, 0])
    return all(line[: max(1, len(line) // 4)].mean() >= _OPAQUE_SIDE for line in stretches)


def _fill(pixels: Pixels, solid: Flags, is_open: Flags, level: int) -> None:
    """Fill the first corner in place."""
    high, wide = is_open.shape
    around = max(8, max(high, wide) // 2)
    window = pixels[: high + around, : wide + around]
    known = solid[: high + around, : wide + around]
    colours = window[..., :3].astype(np.float32)
    size = max(high, wide)
    edge = np.zeros((*known.shape, 1), np.float32)
    edge[:high, :wide, 0] = is_open
    beside = known & (_spread(edge, max(1, size // 12))[..., 0] > 0)
    plane, likeness = _plane(colours, known, beside if beside.any() else known)
    y, x = np.nonzero(is_open)
    edge_y, edge_x = _beyond_edge(is_open, known, y, x, 1)
    mirror_y, mirror_x = _beyond_edge(is_open, known, y, x, 2)
    seen = known[edge_y, edge_x] & known[mirror_y, mirror_x]
    inner = colours[mirror_y, mirror_x]
    of_edge = np.abs(colours[edge_y, edge_x] - inner).mean(-1)[seen]
    of_plane = np.abs(plane[mirror_y, mirror_x] - inner).mean(-1)[seen]
    if seen.any() and np.median(of_plane) > np.median(of_edge) + 1:
        # Several things meet the corner, a window's title and its sidebar: each goes on from the edge.
        filled = np.where(seen[:, None], colours[edge_y, edge_x], plane[y, x])
    else:
        colours -= plane
        ground = _mean(colours, likeness, max(2, size // 6))
        detail = (colours - ground) * likeness[..., None]
        lumps = _LUMPS * 1.48 * np.median(np.abs(detail[likeness > 0.5]), axis=0)
        filled = plane[y, x] + ground[y, x] + np.clip(detail[mirror_y, mirror_x], -lumps, lumps)
    window[y, x, :3] = np.clip(filled + 0.5, 0, 255)
    window[y, x, 3] = level
    nearly = window[: high + 1, : wide + 1, 3]
    nearly[known[: high + 1, : wide + 1] & (nearly < level)] = level  # the last traces of the corner's soft edge


def _plane(colours: Floats, known: Flags, beside: Flags) -> tuple[Floats, Floats]:
    """For each channel the plane through the known pixels that look like those `beside` the corner, and how much each
    pixel does (0 to 1): what lies off the plane is another thing, and has no say."""
    places = np.stack(np.broadcast_arrays(1, *np.ogrid[: known.shape[0], : known.shape[1]]), -1).astype(np.float32)
    places[..., 1:] /= max(known.shape)
    weights = beside.astype(np.float32)
    plane = colours
    for round_ in range(_ROUNDS):
        y, x = np.nonzero(weights)
        chosen = slice(None, None, max(1, len(y) // _SAMPLES))
        near, values, weight = places[y, x][chosen], colours[y, x][chosen], weights[y, x][chosen, None]
        plane = places @ np.linalg.lstsq(near * weight, values * weight, rcond=None)[0]
        distance = np.abs(colours - plane).mean(-1)
        if round_ == 0:
            usual = max(1.0, float(np.median(distance[beside])))
        weights = known / (1 + (distance / (_UNLIKE * usual)) ** 2) ** 2
    return plane, weights


def _mean(values: Floats, weights: Floats, radius: int) -> Floats:
    """A soft weighted mean around each pixel, 0 where nothing within three times `radius` has weight."""
    spread = _spread(np.concatenate([values * weights[..., None], weights[..., None]], -1, dtype=np.float32), radius)
    mean: Floats = np.where(spread[..., 3:] > 1e-5, spread[..., :3] / np.maximum(spread[..., 3:], 1e-5), 0)
    return mean


def _spread(values: Floats, radius: int) -> Floats:
    """Blurred, as far as three times `radius`."""
    for _ in range(3):
        for axis in (0, 1):
            values = _running_mean(values, radius, axis)
    return values


def _running_mean(values: Floats, radius: int, axis: int) -> Floats:
    padding = [(0, 0)] * 3
    padding[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, padding), axis, dtype=np.float64)
    ends = np.arange(2 * radius + 1, sums.shape[axis])
    return ((sums.take(ends, axis) - sums.take(ends - 2 * radius - 1, axis)) / (2 * radius + 1)).astype(np.float32)


def _beyond_edge(is_open: Flags, within: Flags, y: Ints, x: Ints, times: int) -> tuple[Ints, Ints]:
    """Where the open pixels come to lie when they move this many times their distance from the corner's edge: once is
    the pixel just behind it, twice their mirror image.

    The edge is taken for the line from where it is met going right to where it is met going down. `within` is as large
    as the array that they stay in.
    """
    right = (is_open.sum(1)[y] - x).astype(np.float32)
    down = (is_open.sum(0)[x] - y).astype(np.float32)
    both = right**2 + down**2
    beyond_y, beyond_x = np.ceil(times * down * right**2 / both), np.ceil(times * right * down**2 / both)
    rows, columns = within.shape
    return np.minimum(y + beyond_y.astype(np.intp), rows - 1), np.minimum(x + beyond_x.astype(np.intp), columns - 1)
