"""How the alpha of an image goes on beyond its border, and which of its pixels may lend their colours.

No alpha is copied from elsewhere: each pixel of the border says how its row or column goes on. Where the border is
transparent or fades out (a window's shadow, a cut-out object), the new area is transparent; where it is opaque, or
evenly translucent, it goes on as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from outpaint_mcp.providers.local.corners import FAINT, OPAQUE, TOLERANCE, Flags, border, from_all_sides
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.subject import Floats, Pixels

_BLOCK: Final = 4  # pixels on a side: that near, a hidden pixel's colour may be another visible one's
_STRIP: Final = (0.05, 4, 64)  # what is looked at along a side: a part of the short side, least and most in pixels
_SLIGHT: Final = 32  # an alpha at which what fades out may end at once
_FADES: Final = 0.9  # of its alpha at the strip's inner edge: what has less at the border fades out
_CLOSES: Final = 1 / 3  # of its width: an outline that would close within this only touches the border
_MOSTLY: Final = 0.65  # of the border: a picture that is visible there is no logo on transparent ground
_WHOLE: Final = 0.9  # of a side that is visible a little further in
_SOFT: Final = 2  # pixels at an end of a stretch that smoothing has made translucent
_GAP: Final = 3  # pixels
_EVEN: Final = 0.95  # of a stretch: the rest are specks
_ONE_COLOUR: Final = 8  # levels by which most of a shadow's colours differ at most
_BUSY: Final = 6  # stretches on a side
_ROUGH: Final = 6.0  # levels from one pixel to the next, on average


@dataclass(frozen=True, slots=True)
class _Side:
    """How one side goes on: the alpha of each row or column, and the part of it that is lost per pixel outward."""

    alpha: Pixels
    fall: Floats
    touched: bool
    busy: bool = False
    outlined: bool = False  # the border is uneven, and behind it all is visible: a stamp, torn paper

    def end(self, place: int) -> "_Side":
        """Its first (0) or last (-1) row or column alone."""
        return _Side(self.alpha[place : place + 1 or None], self.fall[place : place + 1 or None], self.touched)

    def at(self, distance: int) -> Pixels:
        """The alpha `distance` pixels outside the border."""
        left = np.maximum(1 - self.fall * distance, 0)
        return (self.alpha * left + 0.5).astype(np.uint8)


def continued_alpha(alpha: Pixels, canvas: Canvas) -> Pixels | None:
    """The alpha of the whole canvas, for an original with this one (height x width).

    None if the border's alpha is a texture (lace, smoke), which has to be drawn as the colours are.
    """
    height, width = alpha.shape
    top, bottom, left, right = sides = _sides(alpha)
    below, beyond = canvas.height - canvas.y - height, canvas.width - canvas.x - width
    growing = zip(sides, (canvas.y, below, canvas.x, beyond), strict=True)
    if any(side.busy for side, margin in growing if margin):
        return None
    plane = np.zeros((canvas.height, canvas.width), np.uint8)
    rows, columns = slice(canvas.y, canvas.y + height), slice(canvas.x, canvas.x + width)
    plane[rows, columns] = alpha
    # Each side's view begins at the border and goes outward; so does each corner's.
    upward, downward = plane[: canvas.y][::-1], plane[canvas.y + height :]
    leftward, rightward = plane.T[: canvas.x][::-1], plane.T[canvas.x + width :]
    _go_on(upward[:, columns], top)
    _go_on(downward[:, columns], bottom)
    _go_on(leftward[:, rows], left)
    _go_on(rightward[:, rows], right)
    _go_on_both_ways(upward[:, : canvas.x][:, ::-1], top.end(0), left.end(0))
    _go_on_both_ways(upward[:, canvas.x + width :], top.end(-1), right.end(0))
    _go_on_both_ways(downward[:, : canvas.x][:, ::-1], bottom.end(0), left.end(-1))
    _go_on_both_ways(downward[:, canvas.x + width :], bottom.end(-1), right.end(-1))
    return plane


def has_shadow(pixels: Pixels) -> bool:
    """Whether what is translucent at the border has one colour, as a shadow has."""
    line = border(pixels)
    colours = line[_translucent(line), :3].astype(np.int16)
    if len(colours) == 0:
        return False
    return bool(np.quantile(np.abs(colours - np.median(colours, axis=0)).max(-1), 0.75) <= _ONE_COLOUR)


def continue_shadow(drawn: Pixels, pixels: Pixels, canvas: Canvas) -> None:
    """Let the colours of the translucent border go on straight. `drawn` is the canvas, which is written to."""
    height, width = pixels.shape[:2]
    rows, columns = slice(canvas.y, canvas.y + height), slice(canvas.x, canvas.x + width)
    for view, line in (
        (drawn[: canvas.y, columns], pixels[0]),
        (drawn[canvas.y + height :, columns], pixels[-1]),
        (drawn[rows, : canvas.x].swapaxes(0, 1), pixels[:, 0]),
        (drawn[rows, canvas.x + width :].swapaxes(0, 1), pixels[:, -1]),
    ):
        part = _translucent(line)
        view[:, part, :3] = line[part, :3] * (view[:, part, 3:] > 0)


def _translucent(line: Pixels) -> Flags:
    return (line[:, 3] > FAINT) & (line[:, 3] < OPAQUE)


def trusted(alpha: Pixels, canvas_alpha: Pixels | None) -> Flags:
    """Which pixels may be copied into the new area: not what is more transparent than the new area is."""
    seen = border(alpha) if canvas_alpha is None else border(canvas_alpha)
    seen = seen[seen > FAINT]
    least = np.quantile(seen, 0.1) if len(seen) else 0
    return alpha > max(FAINT, least - 2 * TOLERANCE)


def without_hidden_colours(pixels: Pixels, least: int = FAINT + 1) -> Pixels:
    """The image with the colours of pixels of an alpha below `least` replaced by those of others nearby.

    What a file holds where nobody sees it is arbitrary, mostly black, and would bleed into what is copied next to it.
    """
    hidden = pixels[..., 3] < least
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.zeros_like(pixels)
    # Push and pull: average the visible colours over ever larger blocks, then fill each hole from the finest one.
    levels = [_sums_of_blocks(pixels, hidden)]
    while levels[-1].shape[0] > 1 or levels[-1].shape[1] > 1:
        finer = levels[-1]
        padded = np.pad(finer, ((0, finer.shape[0] % 2), (0, finer.shape[1] % 2), (0, 0)))
        levels.append(padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2])
    filled = levels[-1][..., :3] / levels[-1][..., 3:]
    for level in reversed(levels[:-1]):
        height, width = level.shape[:2]
        filled = filled.repeat(2, 0)[:height].repeat(2, 1)[:, :width]
        seen = level[..., 3] > 0
        filled[seen] = level[seen, :3] / level[seen, 3:]
    result = pixels.copy()
    colours = np.clip(filled + 0.5, 0, 255).astype(np.uint8)
    for number, row in enumerate(colours):
        band = slice(number * _BLOCK, (number + 1) * _BLOCK)
        result[band, :, :3][hidden[band]] = row.repeat(_BLOCK, 0)[np.nonzero(hidden[band])[1]]
    return result


def _sums_of_blocks(pixels: Pixels, hidden: Flags) -> Floats:
    """Of each block the sum of its visible colours, and how many they are. As floats, all pixels need much memory."""
    height, width = (-(-side // _BLOCK) for side in hidden.shape)
    sums = np.empty((height, width, 4), np.float32)
    starts = np.arange(0, hidden.shape[1], _BLOCK)
    for number in range(height):
        band = slice(number * _BLOCK, (number + 1) * _BLOCK)
        seen = pixels[band] * ~hidden[band, :, None]
        seen[..., 3] = ~hidden[band]
        sums[number] = np.add.reduceat(seen.sum(0, dtype=np.float32), starts)
    return sums


def remarks(pixels: Pixels, drawn: Pixels, image_format: str) -> Iterator[str]:
    """What a client should know of the transparency of the image drawn from `pixels`, in sentences."""
    if drawn.shape[2] == 3 or drawn[..., 3].min() == 255:
        return
    if drawn.size > pixels.size and np.count_nonzero(drawn[..., 3]) == np.count_nonzero(pixels[..., 3]):
        yield "The image's border is transparent, so the new area is transparent too."
    if image_format == "jpeg":
        yield "A JPEG has no transparency: the transparent parts are white. The formats png and webp keep it."


def _sides(alpha: Pixels) -> tuple[_Side, _Side, _Side, _Side]:
    """How the top, bottom, left and right side go on."""
    short = min(alpha.shape)
    part, least, most = _STRIP
    depth = min(max(round(part * short), least), most, short)
    top, bottom, left, right = (_side(view[: 2 * depth], depth, short) for view in from_all_sides(alpha))
    sides = top, bottom, left, right
    seen = [(side.alpha > FAINT) & (side.fall == 0) for side in sides]
    cut = sum(one.any() for one in seen)
    tight = cut > 1 and all(side.touched for side in sides) and np.concatenate(seen).mean() < _MOSTLY
    if tight or all(side.outlined or not side.alpha.any() for side in sides):
        # Cropped to what is visible: a logo that touches all sides is not cut by any.
        top, bottom, left, right = (_Side(np.zeros_like(side.alpha), side.fall, True) for side in sides)
    return top, bottom, left, right


def _side(view: Pixels, depth: int, short: int) -> _Side:
    """How a side goes on, from the `depth` rows (or columns) along it, outermost first, and as many behind them."""
    strip, behind = view[:depth], view[depth:]
    alpha, fall = np.zeros_like(strip[0]), np.zeros(strip.shape[1], np.float32)
    rough, touched, stretches = 0.0, False, _stretches(strip[0] > FAINT)
    for first, last in stretches:
        seen = strip[:, first:last].astype(np.float32)
        outer, inner = float(seen[0].mean()), float(seen[-1].mean())
        if _only_touches(strip, first, last):
            touched = True
            continue
        alpha[first:last], steady = _without_specks(strip[0], first, last)
        if outer < _FADES * inner:
            fade = outer * (len(strip) - 1) / (inner - outer)
            if outer <= _SLIGHT:
                alpha[first:last] = 0
                continue
            if fade < short / 2:
                fall[first:last] = 1 / fade
        touched = True
        if not steady:
            rough += float(np.abs(np.diff(seen[0])).sum())
    busy = len(stretches) > _BUSY or rough > _ROUGH * len(alpha)
    outlined = len(stretches) > 2 and bool(behind.size) and (behind > FAINT).mean() >= _WHOLE
    return _Side(alpha, fall, touched, busy, outlined)


def _without_specks(line: Pixels, first: int, last: int) -> tuple[Pixels, bool]:
    """The alpha of a stretch, and whether it is even: then it is one number, but for its soft ends."""
    stretch = line[first:last].copy()
    inner = stretch[_SOFT if first > 0 else 0 : len(stretch) - (_SOFT if last < len(line) else 0)]
    if len(inner) == 0:
        return stretch, True
    level = np.median(inner)
    even = np.mean(np.abs(inner - level) <= TOLERANCE) >= _EVEN
    if even:
        inner[:] = level
    return stretch, bool(even)


def _stretches(flags: Flags) -> list[tuple[int, int]]:
    """The first and the place after the last of each run of true flags; a gap of a few pixels ends none."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    first, last = steps[::2], steps[1::2]
    apart = first[1:] - last[:-1] > _GAP
    starts = first[np.concatenate([[True], apart])[: len(first)]]
    return list(zip(starts.tolist(), last[np.concatenate([apart, [True]])[: len(last)]].tolist(), strict=True))


def _only_touches(strip: Pixels, first: int, last: int) -> bool:
    """Whether what meets the border in this stretch ends there by itself, as a circle does, and is not cut by it."""
    least = strip[:, first:last].max() / 2
    wide = int((strip[0, first:last] >= least).sum())
    deep = min(len(strip) - 1, max(2, wide // 2))
    for begin, end in _stretches(strip[deep] >= least):
        if begin < last and end > first:
            growth = (end - begin) - wide
            return growth > 0 and 0 < wide * deep / growth < max(2, wide * _CLOSES)
    return False


def _go_on(view: Pixels, side: _Side) -> None:
    """Fill the area beside one side; its first row is next to the border."""
    if not side.fall.any():
        view[...] = side.alpha
        return
    for distance, row in enumerate(view, 1):
        row[...] = side.at(distance)


def _go_on_both_ways(view: Pixels, one: _Side, other: _Side) -> None:
    """Fill the area at a corner as far as both sides go on there; it begins at the original's corner."""
    if view.size == 0:
        return
    if one.fall.any() or other.fall.any():
        across = np.concatenate([other.at(distance) for distance in range(1, view.shape[1] + 1)])
        for distance, row in enumerate(view, 1):
            np.minimum(one.at(distance), across, out=row)
    else:
        view[...] = min(one.alpha[0], other.alpha[0])
