"""A pattern that repeats itself (stripes, a checkerboard, squared paper, dots, bricks) goes on by its own period.

The shifts under which an image agrees with itself are the minima of its mean squared difference to itself, by shift,
which its autocorrelation gives (the cumulated evidence of He and Sun, "Statistics of Patch Offsets for Image
Completion", 2012, of all places at once; a minimum has to lie behind a barrier, as in the pitch detector of de
Cheveigné and Kawahara, "YIN", 2002). Each part of the new area is then a copy of the image under one of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from outpaint_mcp.providers.local.lines import running_mean
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.subject import Floats, Pixels, shrink

Numbers = NDArray[Any]
Flags = NDArray[np.bool_]

_STUDIED_SIDE: Final = 512  # pixels of the longer side on which shifts are looked for
_SMALLEST: Final = 24  # pixels: less does not show a pattern
_REACH: Final = 0.8  # of a side: under farther shifts too little of the image lies on itself
_VARIED: Final = 0.25  # of the image's variance: where less of it overlaps, agreement says nothing
_CONTRAST: Final = 3.0  # grey levels: fainter than that, nothing is a pattern
_AGREES: Final = (0.5, 0.16)  # of the squared difference of unrelated places: at a period, at first and in the end
_PARTS, _EVEN = 4, 0.4  # parts of each side, in each of which colours vary this much of what they do in most
_NEARLY: Final = 0.3  # of the same, under shifts that may be used
_BARRIER: Final = 0.3  # of the same: how much more has to lie on the way to a period
_COUNTED: Final = 0.2  # of what lies on itself, at least
_WAY: Final = np.arange(1, 16) / 16
_TILES: Final = 8  # of the short side, each copied under one shift
_FOR_ALL: Final = 12  # shifts that tell what is not of the pattern
_MOSTLY: Final = 0.4  # of them, under which a place that is not of it is unlike
_THICK: Final = 0.01  # of the short side: half of how thick such a place is at least
_COVERING, _APART = 0.55, 0.15  # of the reach: how far these shifts go, and lie apart
_SMALLEST_TILE: Final = 16  # pixels
_TRIED: Final = 12  # shifts for each
_REFINED: Final = 3  # of them, at full size
_FARTHER: Final = 0.02  # times its length in sides counts a shift, as if it were mismatch
_COMPARED: Final = 40  # rows and columns of a tile's surroundings that are looked at
_LEAST_BESIDE: Final = 4  # of these
_FAR_OFF: Final = 48.0  # grey levels: more does not count more
_FITS: Final = 0.25  # of the difference of unrelated places, by which a tile's surroundings may be more than noise
_MOST: Final = 0.85  # of a side's tiles that have to fit
_SIDES: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, slots=True)
class Repeats:
    """The shifts under which an image agrees with itself: y and x in pixels of the studied size, downward and upward,
    and by how much it does not, 0 to 1."""

    shifts: Numbers
    mismatch: Floats
    noise: float
    """By how many grey levels places differ that are a period apart, on average."""
    contrast: float
    """The same of places that have nothing to do with each other."""
    foreign: Flags
    """Which pixels of the studied size are not of the pattern."""

    @classmethod
    def of(cls, pixels: Pixels) -> Self | None:
        """Those of `pixels` (height x width x channels); None if they have no period, or show it less than twice."""
        height, width = pixels.shape[:2]
        if min(height, width) < _SMALLEST:
            return None
        part = min(1.0, _STUDIED_SIDE / max(height, width))
        rows, columns = max(_SMALLEST, round(height * part)), max(_SMALLEST, round(width * part))
        small = shrink(pixels, columns, rows).astype(np.float32)
        plane = _principal(small)
        if plane.std() < _CONTRAST:
            return None
        mismatch = _mismatch(plane, np.ones(plane.shape, bool))
        if not _has_period(mismatch, _AGREES[0]):
            return None
        noise, foreign = _foreign(small, _apart(mismatch, _AGREES[0]))
        if foreign.any():
            mismatch = _mismatch(plane, ~foreign)
            noise, foreign = _foreign(small, _apart(mismatch, _AGREES[0]))
        if not _has_period(mismatch, _AGREES[1]) or not _is_everywhere(plane, foreign):
            return None
        shifts = _minima(mismatch, _NEARLY)
        colours = small.reshape(-1, small.shape[2])
        mixed = np.random.default_rng(0).permutation(colours)
        contrast = float(_difference(colours, mixed).mean())
        both_ways = np.concatenate([shifts, -shifts])
        return cls(both_ways, _at(mismatch, both_ways), noise, contrast, foreign)


class Pattern:
    """A canvas on which the image goes on by its period.

    `holds` says whether it does: the image must have its period at all four sides. What repeats only somewhere (the
    lines of a form, a row of icons) are objects.
    """

    def __init__(self, pixels: Pixels, canvas: Canvas, repeats: Repeats) -> None:
        self._pixels, self._canvas, self._repeats = pixels, canvas, repeats
        self._height, self._width = pixels.shape[:2]
        self._scale = np.array(repeats.foreign.shape) / (self._height, self._width)
        self._shifts = (repeats.shifts / self._scale).round().astype(int)
        self._counts = np.pad(repeats.foreign.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        self._tile = max(_SMALLEST_TILE, -(-min(self._height, self._width) // _TILES))
        most = repeats.noise + _FITS * repeats.contrast
        self.holds = all(
            np.mean([self._best_shift(rows, columns)[1] < most for rows, columns in self._beside(*side)]) >= _MOST
            for side in _SIDES
        )

    def parts(self) -> Iterator[tuple[slice, slice, Pixels]]:
        """Rows and columns of the new area, and what they show."""
        canvas = self._canvas
        for down, rows in _spans(self._height, canvas.y, canvas.height, self._tile):
            for across, columns in _spans(self._width, canvas.x, canvas.width, self._tile):
                if down or across:
                    (y, x), _ = self._best_shift(rows, columns)
                    source = self._pixels[_moved(rows, -y), _moved(columns, -x)]
                    yield _moved(rows, canvas.y), _moved(columns, canvas.x), source

    def _beside(self, down: int, across: int) -> Iterator[tuple[slice, slice]]:
        """The tiles just outside a side."""
        tile, height, width = self._tile, self._height, self._width
        for at_row, rows in _spans(height, tile, height + 2 * tile, tile):
            for at_column, columns in _spans(width, tile, width + 2 * tile, tile):
                if (at_row, at_column) == (down, across):
                    yield rows, columns

    def _best_shift(self, rows: slice, columns: slice) -> tuple[tuple[int, int], float]:
        """The shift under which the image beside this part is like the image beside its source, and how unlike, in
        grey levels."""
        inside = self._inside(rows, columns, self._shifts)
        shifts, mismatch = self._shifts[inside], self._repeats.mismatch[inside]
        far = np.hypot(*(shifts / (self._height, self._width)).T)
        cost = mismatch + _FARTHER * far + 2 * self._foreign_share(rows, columns, shifts)
        best = shifts[np.argsort(cost, kind="stable")[:_TRIED]]
        if len(best) == 0:
            return (0, 0), np.inf
        unlike = [self._difference_beside(rows, columns, shift) for shift in map(tuple, best.tolist())]
        cost = np.array(unlike) + _FAR_OFF * self._foreign_share(rows, columns, best)
        refined = [self._refined(rows, columns, tuple(best[one].tolist())) for one in cost.argsort()[:_REFINED]]
        return min(refined, key=lambda one: one[1])

    def _refined(self, rows: slice, columns: slice, shift: tuple[int, int]) -> tuple[tuple[int, int], float]:
        """The best shift at full size of those that look like this one at the studied size, and its difference."""
        least, step = self._difference_beside(rows, columns, shift), round(0.5 / float(self._scale.min()))
        while step:
            y, x = shift
            around = np.array([(y + step * down, x + step * across) for down in (-1, 0, 1) for across in (-1, 0, 1)])
            for tried in map(tuple, around[self._inside(rows, columns, around)].tolist()):
                difference = self._difference_beside(rows, columns, tried)
                if difference < least:
                    least, shift = difference, tried
            step //= 2
        return shift, least

    def _inside(self, rows: slice, columns: slice, shifts: Numbers) -> Flags:
        """Which of the shifts copy these rows and columns from within the image."""
        y, x = shifts.T
        inside: Flags = (rows.start >= y) & (rows.stop <= y + self._height)
        inside &= (columns.start >= x) & (columns.stop <= x + self._width)
        return inside

    def _difference_beside(self, rows: slice, columns: slice, shift: tuple[int, int]) -> float:
        """The mean difference, by what is of the pattern, of the part of the image that is nearest to these rows and
        columns to where the shift takes it."""
        (y, x), here, there, known = shift, [], [], []
        for span, by, length, scale in (
            (_nearest(rows, self._height), y, self._height, self._scale[0]),
            (_nearest(columns, self._width), x, self._width, self._scale[1]),
        ):
            first, last = max(span.start, by), min(span.stop, length + by)
            if last - first < _LEAST_BESIDE:
                return _FAR_OFF
            here.append(np.arange(first, last, -(-(last - first) // _COMPARED)))
            there.append(here[-1] - by)
            known.append([(places * scale).astype(int) for places in (here[-1], there[-1])])
        foreign = self._repeats.foreign
        own = ~(foreign[np.ix_(known[0][0], known[1][0])] | foreign[np.ix_(known[0][1], known[1][1])])
        if own.mean() < _COUNTED:
            return _FAR_OFF
        one, other = self._pixels[np.ix_(*here)].astype(np.float32), self._pixels[np.ix_(*there)]
        return float(_difference(one, other)[own].mean())

    def _foreign_share(self, rows: slice, columns: slice, shifts: Numbers) -> Numbers:
        """How much of where each shift copies these rows and columns from is not of the pattern."""
        y, x = shifts.T
        top, bottom = (((edge - y) * self._scale[0]).round().astype(int) for edge in (rows.start, rows.stop))
        left, right = (((edge - x) * self._scale[1]).round().astype(int) for edge in (columns.start, columns.stop))
        counts = self._counts
        count = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
        share: Numbers = count / np.maximum((bottom - top) * (right - left), 1)
        return share


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _nearest(span: slice, length: int) -> slice:
    """The span moved into the image, as far as it lies outside."""
    size = min(span.stop - span.start, length)
    start = min(max(span.start, 0), length - size)
    return slice(start, start + size)


def _spans(length: int, before: int, whole: int, tile: int) -> Iterator[tuple[int, slice]]:
    """A side of the canvas in tiles, counted from the image's first pixel: -1 those before it, 0 within, 1 behind."""
    for outside, first, last in ((-1, -before, 0), (0, 0, length), (1, length, whole - before)):
        for start in range(first, last, tile):
            yield outside, slice(start, min(start + tile, last))


def _difference(one: Numbers, other: Numbers) -> Floats:
    difference: Floats = np.minimum(np.abs(one - other), _FAR_OFF).mean(-1)
    return difference


def _principal(colours: Floats) -> Floats:
    """The one plane that tells most colours apart."""
    values = colours - colours.mean((0, 1))
    flat = values.reshape(-1, values.shape[2])
    main = np.linalg.eigh(flat.T @ flat)[1][:, -1]
    plane: Floats = values @ main.astype(np.float32)
    return plane


def _mismatch(plane: Floats, counted: Flags) -> Floats:
    """The mean squared difference of the plane to itself under each shift, relative to that of unrelated places, by
    what is counted of it (Padfield, "Masked Object Registration in the Fourier Domain", 2012).

    Row and column 0 are the shifts of no pixels down and of _REACH to the left; upward shifts say the same.
    """
    height, width = plane.shape
    reach_y, reach_x = int(_REACH * height), int(_REACH * width)
    size = tuple(-(-side // 64) * 64 for side in (height + reach_y, width + reach_x))  # transformed fast
    values = plane * counted
    y, x = np.arange(reach_y + 1), np.arange(-reach_x, reach_x + 1)
    spectrum = np.fft.rfft2(values, size)

    def summed(spectrum: Numbers) -> Numbers:
        return np.fft.irfft2(spectrum, size)[np.ix_(y, x)]

    product = summed(np.abs(spectrum) ** 2)
    if counted.all():
        count, total, squares = (
            np.outer(height - y, width - np.abs(x)),
            *(_sums_of_overlaps(one, y, x) for one in (values, values**2)),
        )
    else:
        ones = np.fft.rfft2(counted.astype(np.float32), size)
        count = summed(np.abs(ones) ** 2)
        # Of each two places both what is here and what is there: twice the real part.
        total, squares = (summed(2 * (one * ones.conj()).real) for one in (spectrum, np.fft.rfft2(values**2, size)))
    count = np.maximum(2 * count, 1e-9)
    variance = np.maximum(squares / count - (total / count) ** 2, 1e-9)
    mismatch = (squares - 2 * product) / count / variance
    overlap = np.outer(height - y, width - np.abs(x))
    mismatch[(variance < _VARIED * plane.var()) | (count < _COUNTED * overlap)] = 2
    found: Floats = mismatch.astype(np.float32)
    return found


def _sums_of_overlaps(plane: Floats, y: Numbers, x: Numbers) -> Numbers:
    """What the plane and its shifted copy hold together where they overlap, under each shift of `y` down and `x` to
    the right."""
    height, width = plane.shape
    sums = np.pad(plane.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    # By how much each loses on the left and on the right, `x` or the opposite of it.
    left, right = np.maximum(x, 0), np.maximum(-x, 0)
    here = sums[height - y][:, width - left] - sums[height - y][:, right]
    below = sums[-1] - sums[y]
    found: Numbers = here + below[:, width - right] - below[:, left]
    return found


def _minima(mismatch: Floats, most: float) -> Numbers:
    """The shifts at which it is low and nowhere around lower, y and x."""
    reach = mismatch.shape[1] // 2
    # Across row 0 the plane goes on as its own mirror image.
    padded = np.pad(np.concatenate([mismatch[1:2, ::-1], mismatch]), ((0, 1), (1, 1)), constant_values=2)
    least = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    least = np.minimum(np.minimum(least[:, :-2], least[:, 1:-1]), least[:, 2:])
    y, x = np.nonzero((mismatch <= least + 1e-6) & (mismatch < most))
    shifts = np.stack([y, x - reach], -1)
    return shifts[shifts.any(1)]


def _at(mismatch: Floats, shifts: Numbers) -> Floats:
    """The values at shifts that lie within its reach."""
    upward = shifts[:, :1] < 0
    y, x = np.where(upward, -shifts, shifts).T
    values: Floats = mismatch[y, x + mismatch.shape[1] // 2]
    return values


def _has_period(mismatch: Floats, most: float) -> bool:
    """Whether a shift is a period: a barrier lies before it, and the image agrees under twice the shift as well."""
    shifts = _minima(mismatch, most)
    if len(shifts) == 0:
        return False
    reach = np.array([len(mismatch) - 1, mismatch.shape[1] // 2])
    level = _at(mismatch, shifts)
    between = np.stack([_at(mismatch, (shifts * part).round().astype(int)) for part in _WAY])
    twice = np.full(len(shifts), 2.0)
    for step in np.ndindex(3, 3):
        tried = 2 * shifts + step - 1
        reached = (np.abs(tried) <= reach).all(1)
        twice[reached] = np.minimum(twice[reached], _at(mismatch, tried[reached]))
    return bool(((between.max(0) > level + _BARRIER) & (twice < most + 0.1)).any())


def _is_everywhere(plane: Floats, foreign: Flags) -> bool:
    """Whether the pattern covers the image. The lines of a form and a row of icons are objects on a ground."""
    deviations = []
    for rows in np.array_split(np.arange(plane.shape[0]), _PARTS):
        for columns in np.array_split(np.arange(plane.shape[1]), _PARTS):
            values = plane[np.ix_(rows, columns)][~foreign[np.ix_(rows, columns)]]
            if len(values) > _COUNTED * len(rows) * len(columns):
                deviations.append(float(values.std()))
    return min(deviations) > _EVEN * float(np.median(deviations)) if deviations else False


def _apart(mismatch: Floats, most: float) -> Numbers:
    """Some of the best shifts, far enough from each other that no object on the pattern covers itself under most."""
    shifts, reach = _minima(mismatch, most), np.array([len(mismatch), mismatch.shape[1] // 2])
    shifts = shifts[(np.abs(shifts) < _COVERING * reach).all(1)]
    shifts = shifts[np.argsort(_at(mismatch, shifts), kind="stable")]
    least = _APART * min(reach)
    shifts = shifts[np.hypot(*shifts.T) > least]
    chosen: list[Numbers] = []
    while len(shifts) and len(chosen) < _FOR_ALL:
        chosen.append(shifts[0])
        shifts = shifts[np.hypot(*(shifts - shifts[0]).T) > least]
    return np.array(chosen).reshape(-1, 2)


def _foreign(small: Floats, periods: Numbers) -> tuple[float, Flags]:
    """How much places differ that are a period apart, and which differ from most of those around them."""
    height, width = small.shape[:2]
    unlike, seen = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    compared = []
    for y, x in periods:
        here = slice(y, None), slice(max(x, 0), width + min(x, 0))
        there = slice(0, height - y), slice(max(-x, 0), width + min(-x, 0))
        difference = _difference(small[here], small[there])
        compared.append((here, there, difference))
        for part in (here, there):
            unlike[part] += difference > _FAR_OFF / 3 + float(difference.mean())
            seen[part] += 1
    # An object has an area; what is thin is a pattern's own edge that lies a part of a pixel off.
    thick = max(2, round(_THICK * min(height, width)))
    share = (unlike > _MOSTLY * np.maximum(seen, 1)).astype(np.float32)
    foreign: Flags = running_mean(running_mean(share, thick).swapaxes(0, 1), thick).swapaxes(0, 1) > 0.5
    noises = [difference[~(foreign[here] | foreign[there])] for here, there, difference in compared]
    return min((float(noise.mean()) for noise in noises if len(noise)), default=0.0), foreign
