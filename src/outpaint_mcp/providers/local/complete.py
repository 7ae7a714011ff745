"""Completes the ring around the original, coarse to fine: every new patch is given a place of the original to copy.

The scheme is Wexler, Shechtman and Irani, "Space-Time Completion of Video" (2007): find for each patch that touches the
ring its nearest patch in the original, let all patches vote for the pixels they cover, repeat, then refine on a finer
level. The search is PatchMatch (Barnes, Shechtman, Finkelstein, Goldman 2009): what is good for a neighbour is probably
good here, and near a good place lies a better one. Both are done for all patches at once instead of one after the
other, since NumPy is fast in no other way. Knows nothing of full-resolution pixels: it works on small ones ("cells").

Words: a *target* is a patch that touches the ring, named by its centre; its *source* is the centre of the patch of the
original that it copies. The *frame* is the canvas plus one patch radius all around, so that every patch is whole.

One file, since the search, the vote and the refinement share every array of a level.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.straight import straight_on
from outpaint_mcp.providers.local.subject import Floats, OpenSides, Pixels, resize, shrink, subject_map, texture_map

Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]

COARSEST_SIDE: Final = 28  # cells of the original's short side on the first level: composition before texture
SMALL_PATCH_BELOW: Final = 48  # cells: a 7x7 patch would hold too much of so small an original
ITERATIONS: Final = (8, 4, 2, 2, 1)  # per level; what the coarse levels decide the fine ones cannot repair
APPEARANCE: Final = 14  # numbers per patch; with the two of the position a row is one cache line of 64 bytes
POSITION_PRIOR: Final = (12.0, 0.5)  # from the coarsest level to the finest
SUBJECT_PENALTY: Final = 60.0  # grey levels
SUBJECT_RANGE: Final = (0.2, 0.6)  # of the subject map: below it is background, above it subject
TEXTURE_PENALTY: Final = 1.0
SOURCE_BAND: Final = (0.25, 0.4)  # least and most of the original's short side that sources may lie from a growing side
CONFIDENCE_FALL: Final = 1.6  # a vote is worth this much less per cell of distance from the original
CONFIDENCE_REACH: Final = 40
TOLERANCE: Final = 0.4  # how fast a vote loses weight with its cost, in medians of the cost
LABEL_CHANGE: Final = (60.0, 25.0)  # the cost of two neighbours with different offsets: coarse levels, finest level
EXACT_LEVELS: Final = 2
EXACT_PAIRS: Final = 30_000_000
GUESS_JITTER: Final = 1.5  # cells of the coarsest level
_GUESSED_ON: Final = 2  # the level on which it is seen how things leave the original
_LEAP: Final = 8  # cells: the farthest that an offset jumps in one step of propagation
_FORBIDDEN: Final = 1e12

NEIGHBOURS: Final = ((0, 1), (0, -1), (1, 0), (-1, 0))
DIAGONALS: Final = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclass(frozen=True, slots=True)
class Grid:
    """The geometry of one level, in cells: the original's size, how far the canvas reaches beyond, a patch's radius."""

    height: int
    width: int
    top: int
    bottom: int
    left: int
    right: int
    radius: int

    @property
    def origin_y(self) -> int:
        """The row of the frame where the original begins."""
        return self.top + self.radius

    @property
    def origin_x(self) -> int:
        """The column of the frame where the original begins."""
        return self.left + self.radius

    @property
    def frame_height(self) -> int:
        return self.height + self.top + self.bottom + 2 * self.radius

    @property
    def frame_width(self) -> int:
        return self.width + self.left + self.right + 2 * self.radius


@dataclass(frozen=True, slots=True)
class OffsetField:
    """The answer of one level: where each target copies from.

    `y`, `x` are the targets relative to the original's corner (so they may be negative), `source_y`, `source_x` the
    places in the original, `number` the index of the target at each cell of the frame, or -1 where there is none.
    `cells` is the original at this level, height x width x channels, `error` by how many grey levels each target's
    source differs from what it should show.
    """

    grid: Grid
    cells: Floats
    number: Ints
    y: Ints
    x: Ints
    source_y: Ints
    source_x: Ints
    error: Floats


def complete(
    pixels: Pixels,
    canvas: Canvas,
    *,
    usable: Flags | None = None,
    work_side: int,
    seed: int,
    progress: Callable[[float], None],
) -> OffsetField:
    """The offset field of the finest level, whose canvas has a longer side of about `work_side` cells.

    `pixels` is the original (height x width x channels, both sides at least 12), `usable` says which of its pixels
    may be copied (None: all), `progress` hears 0 to 1.
    """
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(seed)
    scales = level_scales(height, width, canvas, work_side)
    sides = open_sides(height, width, canvas)
    subject = np.clip((subject_map(pixels, sides) - SUBJECT_RANGE[0]) / (SUBJECT_RANGE[1] - SUBJECT_RANGE[0]), 0, 1)
    texture = texture_map(pixels)
    holes = None if usable is None or usable.all() else np.where(usable, 0, 255).astype(np.uint8)[..., None]
    effort = np.cumsum([scale**2 * (3 + iterations_on(level)) for level, scale in enumerate(scales)])
    field: OffsetField | None = None
    grids = [grid_of(height, width, canvas, scale) for scale in scales]
    base = shrink(pixels, grids[-1].width, grids[-1].height)
    for level, grid in enumerate(grids):
        finest = level == len(grids) - 1
        fineness = level / max(1, len(grids) - 1)
        prior = POSITION_PRIOR[0] * (POSITION_PRIOR[1] / POSITION_PRIOR[0]) ** fineness
        search = PatchSearch(
            shrink(base, grid.width, grid.height).astype(np.float32), grid, subject, texture, prior, reach(grid), rng
        )
        if holes is not None:
            search.avoid(shrink(holes, grid.width, grid.height)[..., 0])
        if field is None:
            seen = grids[min(_GUESSED_ON, len(grids) - 1)]
            cells = shrink(base, seen.width, seen.height).astype(np.float32)
            search.guess(*straight_on(cells, seen.top, seen.bottom, seen.left, seen.right))
        else:
            search.lift(field)
        search.run(
            iterations_on(level),
            exact=level < EXACT_LEVELS,
            wide=level == 0,
            spread=min(grid.radius, 2) if level >= len(grids) - 2 else grid.radius,
            last_spread=1 if finest else None,
        )
        search.settle(LABEL_CHANGE[1] if finest else LABEL_CHANGE[0])
        field = search.field()
        progress(float(effort[level] / effort[-1]))
    assert field is not None  # noqa: S101 - there is always one level
    return field


def iterations_on(level: int) -> int:
    """How many rounds of search and vote a level gets."""
    return ITERATIONS[min(level, len(ITERATIONS) - 1)]


def open_sides(height: int, width: int, canvas: Canvas) -> OpenSides:
    """Which sides of an original of this size grow."""
    return OpenSides(
        top=canvas.y > 0,
        bottom=canvas.y + height < canvas.height,
        left=canvas.x > 0,
        right=canvas.x + width < canvas.width,
    )


def level_scales(height: int, width: int, canvas: Canvas, work_side: int) -> list[float]:
    """Cells per pixel of every level, coarse to fine, each about twice the one before."""
    finest = min(1.0, work_side / max(canvas.width, canvas.height))
    coarsest = min(finest, COARSEST_SIDE / min(height, width))
    steps = max(0, ceil(log2(finest / coarsest) - 0.15))
    if steps == 0:
        return [finest]
    return [coarsest * (finest / coarsest) ** (i / steps) for i in range(steps + 1)]


def grid_of(height: int, width: int, canvas: Canvas, scale: float) -> Grid:
    """The grid at `scale` cells/pixel. An original too thin for a patch gets more cells across, as do its margins."""
    radius = 3 if min(height, width) * scale >= SMALL_PATCH_BELOW else 2
    rows, columns = max(2 * radius + 6, round(height * scale)), max(2 * radius + 6, round(width * scale))

    def margin(pixels: int, cells_per_pixel: float) -> int:
        return max(1, round(pixels * cells_per_pixel)) if pixels else 0

    return Grid(
        rows,
        columns,
        top=margin(canvas.y, rows / height),
        bottom=margin(canvas.height - canvas.y - height, rows / height),
        left=margin(canvas.x, columns / width),
        right=margin(canvas.width - canvas.x - width, columns / width),
        radius=radius,
    )


def reach(grid: Grid) -> float:
    """How deep the band of sources is, as a part of the original's short side: a longer way needs more variety."""
    growth = max(grid.top / grid.height, grid.bottom / grid.height, grid.left / grid.width, grid.right / grid.width)
    return min(max(SOURCE_BAND[0], 0.6 * growth), SOURCE_BAND[1])


class PatchSearch:
    """One level: the targets, what may be copied, and the present choice (`source`, flat indices into the original).

    The cost of a choice is the squared distance of the two patches in the original's own principal components, plus a
    prior for sources near the target, plus penalties for copying subjects and for copying busy texture next to calm.
    The prior is a squared distance too, so it rides along as two more numbers of the features.
    """

    def __init__(
        self,
        cells: Floats,
        grid: Grid,
        subject: Floats,
        texture: Floats,
        prior: float,
        band: float,
        rng: np.random.Generator,
    ) -> None:
        self.cells = cells
        self.grid = grid
        self.rng = rng
        self.unit = np.float32((2 * grid.radius + 1) ** 2 * cells.shape[2])  # one grey level squared, over a patch
        self.pull = np.float32(sqrt(prior * 100 * self.unit) / min(grid.height, grid.width))
        self._place_targets()
        allowed = self._allowed_sources(band)
        self.allowed = np.flatnonzero(allowed)
        self._describe_sources(allowed)
        self._weigh_sources(allowed, subject, texture)
        self.wanted = np.empty((len(self.y), self.features.shape[1]), np.float32)
        self.wanted[:, -2] = self.near_y * self.pull
        self.wanted[:, -1] = self.near_x * self.pull
        self.source = np.zeros(len(self.y), np.intp)
        self.frame = np.zeros((grid.frame_height, grid.frame_width, cells.shape[2]), np.float32)
        self.cost = np.zeros(len(self.y), np.float32)

    # What does not change while the level is solved.

    def _place_targets(self) -> None:
        grid, p = self.grid, self.grid.radius
        inside = np.zeros((grid.frame_height, grid.frame_width), bool)
        inside[p:-p, p:-p] = True
        top, left = grid.origin_y, grid.origin_x
        inside[top + p : top + grid.height - p, left + p : left + grid.width - p] = False
        frame_y, frame_x = np.nonzero(inside)
        self.y, self.x = frame_y - top, frame_x - left
        # Neighbours are looked up in a table with a wide border, so that no step can leave it.
        self.stride = grid.frame_width + 2 * _LEAP
        self.number = np.full((grid.frame_height + 2 * _LEAP, self.stride), -1, np.intp)
        self.number[_LEAP:-_LEAP, _LEAP:-_LEAP][frame_y, frame_x] = np.arange(len(frame_y))
        self.slot = (frame_y + _LEAP) * self.stride + frame_x + _LEAP
        self.known = np.zeros((grid.frame_height, grid.frame_width), bool)
        self.known[top : top + grid.height, left : left + grid.width] = True
        self.home = self.y * grid.width + self.x  # what a source would be at offset zero
        self.near_y = np.clip(self.y, 0, grid.height - 1)
        self.near_x = np.clip(self.x, 0, grid.width - 1)
        away_y = np.maximum(-self.y, self.y - grid.height + 1)
        away_x = np.maximum(-self.x, self.x - grid.width + 1)
        away = np.clip(np.maximum(away_y, away_x), 0, CONFIDENCE_REACH)
        self.confidence = (CONFIDENCE_FALL ** -away.astype(np.float32)).astype(np.float32)

    def _allowed_sources(self, band: float) -> Flags:
        """Whole patches inside the original, in the band along the sides that grow."""
        grid, p = self.grid, self.grid.radius
        rows, columns = np.arange(grid.height)[:, None], np.arange(grid.width)[None]
        depth = np.full((grid.height, grid.width), grid.height + grid.width)
        for margin, distance in (
            (grid.top, rows),
            (grid.bottom, grid.height - 1 - rows),
            (grid.left, columns),
            (grid.right, grid.width - 1 - columns),
        ):
            if margin:
                depth = np.minimum(depth, distance)
        allowed = depth < max(round(band * min(grid.height, grid.width)) - p, p + 3)
        allowed[:p] = allowed[-p:] = False
        allowed[:, :p] = allowed[:, -p:] = False
        return allowed

    def _describe_sources(self, allowed: Flags) -> None:
        """Features of every patch of the original: its leading principal components, and its weighted position."""
        grid, p = self.grid, self.grid.radius
        patches = _patches(self.cells, p)
        sample = patches[allowed[p:-p, p:-p]].reshape(len(self.allowed), -1)
        if len(sample) > 5000:
            sample = sample[self.rng.choice(len(sample), 5000, replace=False)]
        self.mean = sample.mean(0, dtype=np.float32)
        centred = sample - self.mean
        leading = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :APPEARANCE]
        self.components = np.ascontiguousarray(leading, np.float32)
        features = np.zeros((grid.height, grid.width, APPEARANCE + 2), np.float32)
        for start in range(0, len(patches), 32):
            rows = patches[start : start + 32]
            flat = rows.reshape(*rows.shape[:2], -1)
            features[p + start : p + start + len(rows), p:-p, :APPEARANCE] = (flat - self.mean) @ self.components
        features[..., -2] = np.arange(grid.height, dtype=np.float32)[:, None] * self.pull
        features[..., -1] = np.arange(grid.width, dtype=np.float32)[None] * self.pull
        self.features = features.reshape(-1, APPEARANCE + 2)

    def _weigh_sources(self, allowed: Flags, subject: Floats, texture: Floats) -> None:
        grid, p = self.grid, self.grid.radius
        on_grid = Image.fromarray((resize(subject, grid.width, grid.height) * 255).astype(np.uint8))
        touched = np.asarray(on_grid.filter(ImageFilter.MaxFilter(2 * p + 1))).astype(np.float32) / 255
        penalty = np.where(allowed, 0, _FORBIDDEN) + SUBJECT_PENALTY**2 * self.unit * touched**2
        self.penalty = penalty.ravel().astype(np.float32)
        self.busy = resize(texture, grid.width, grid.height) * np.float32(sqrt(TEXTURE_PENALTY * self.unit))
        y, x = np.clip(self.y, p, grid.height - 1 - p), np.clip(self.x, p, grid.width - 1 - p)
        self.busy = self.busy.ravel()
        self.busy_here = self.busy[y * grid.width + x]

    def avoid(self, holes: Pixels) -> None:
        """Make sources dear that hold cells of these (255: wholly), dearer than any difference in colour."""
        size = 2 * self.grid.radius + 1
        touched = np.asarray(Image.fromarray(holes).filter(ImageFilter.MaxFilter(size))).astype(np.float32)
        self.penalty += self.unit * touched.ravel() ** 2

    # The first choice.

    def guess(self, shown: Floats, clear: Floats) -> None:
        """On the coarsest level: the frame shows this canvas as far as it is clear (0 to 1) that it does; else, as the
        source of each target, the nearest place of the original, jittered so that no stripes are learned."""
        grid, p = self.grid, self.grid.radius
        count = len(self.y)
        self._choose(
            self.near_y + self.rng.normal(size=count) * grid.height * 0.05,
            self.near_x + self.rng.normal(size=count) * grid.width * 0.05,
        )
        rows = np.arange(-grid.top, grid.height + grid.bottom)[:, None]
        columns = np.arange(-grid.left, grid.width + grid.right)[None]
        stray = self.rng.normal(size=(2, len(rows), columns.shape[1])) * GUESS_JITTER
        y = np.clip(np.clip(rows, 0, grid.height - 1) + stray[0], 0, grid.height - 1).astype(np.intp)
        x = np.clip(np.clip(columns, 0, grid.width - 1) + stray[1], 0, grid.width - 1).astype(np.intp)
        canvas = self.cells[y, x]
        straight, share = (
            shrink(np.clip(values + 0.5, 0, 255).astype(np.uint8), columns.shape[1], len(rows)).astype(np.float32)
            for values in (shown, 255 * clear)
        )
        canvas += (straight - canvas) * (share / 255)
        self.frame[:] = np.pad(canvas, ((p, p), (p, p), (0, 0)), mode="edge")
        self.frame[self.known] = self.cells.reshape(-1, self.cells.shape[2])

    def lift(self, coarse: OffsetField) -> None:
        """On the other levels: the coarser level's offsets, scaled."""
        grid, below = self.grid, coarse.grid
        rows, columns = grid.height / below.height, grid.width / below.width
        p = below.radius
        y = np.rint((self.y + 0.5) / rows - 0.5).astype(np.intp) + below.origin_y
        x = np.rint((self.x + 0.5) / columns - 0.5).astype(np.intp) + below.origin_x
        number = coarse.number[np.clip(y, p, below.frame_height - p - 1), np.clip(x, p, below.frame_width - p - 1)]
        offset_y = np.where(number >= 0, coarse.source_y[number] - coarse.y[number], 0)
        offset_x = np.where(number >= 0, coarse.source_x[number] - coarse.x[number], 0)
        self._choose(self.y + np.rint(offset_y * rows), self.x + np.rint(offset_x * columns))
        self.frame[self.known] = self.cells.reshape(-1, self.cells.shape[2])
        self.vote(self.confidence, self.grid.radius)

    def _choose(self, y: NDArray[np.number], x: NDArray[np.number]) -> None:
        grid, p = self.grid, self.grid.radius
        rows = np.clip(y, p, grid.height - 1 - p).astype(np.intp)
        columns = np.clip(x, p, grid.width - 1 - p).astype(np.intp)
        self.source = rows * grid.width + columns

    # Search and vote.

    def run(self, iterations: int, *, exact: bool, wide: bool, spread: int, last_spread: int | None) -> None:
        """`iterations` rounds. Each vote covers a patch of radius `spread`, the last one of `last_spread` if given:
        many overlapping votes agree on a composition, few keep it sharp."""
        longest = max(self.grid.height, self.grid.width)
        for iteration in range(iterations):
            last = iteration == iterations - 1
            self._look()
            if exact and len(self.allowed) * len(self.y) < EXACT_PAIRS:
                self._search_exactly()
            self._propagate((8, 4, 2, 1) if iteration == 0 else (2, 1, 1) if last else (3, 1))
            self._search_at_random(longest // 2 if wide and iteration < 2 else max(4, longest // (6 * 2**iteration)))
            typical = max(float(np.median(self.cost)), 4 * float(self.unit))
            trust = np.exp(-np.minimum(self.cost / np.float32(TOLERANCE * typical), 30))
            self.vote(self.confidence * trust + np.float32(1e-9), last_spread if last and last_spread else spread)

    def _look(self) -> None:
        """Describe what the frame shows at every target now, and what the present choice costs."""
        p = self.grid.radius
        patches = _patches(self.frame, p)
        y, x = self.y + self.grid.origin_y - p, self.x + self.grid.origin_x - p
        for start in range(0, len(y), 8192):
            part = slice(start, start + 8192)
            flat = patches[y[part], x[part]].reshape(len(y[part]), -1)
            self.wanted[part, :APPEARANCE] = (flat - self.mean) @ self.components
        self.cost = self._cost(self.source)

    def _cost(self, source: Ints, which: Ints | None = None) -> Floats:
        difference = np.take(self.features, source, axis=0, mode="clip")
        difference -= self.wanted if which is None else self.wanted[which]
        cost: Floats = np.einsum("nd,nd->n", difference, difference)
        cost += self.penalty[source]
        excess = (self.busy_here if which is None else self.busy_here[which]) - self.busy[source]
        np.maximum(excess, 0, out=excess)
        excess *= excess
        cost += excess
        return cost

    def _search_exactly(self) -> None:
        """All pairs at once, as one matrix product: affordable on the coarse levels, where it matters most.

        Leaves the texture penalty out, so a find must be clearly better to be taken.
        """
        candidates = self.features[self.allowed]
        own = np.einsum("nd,nd->n", candidates, candidates) + self.penalty[self.allowed]
        for start in range(0, len(self.y), 2048):
            part = slice(start, start + 2048)
            wanted = self.wanted[part]
            costs = wanted @ candidates.T
            costs *= -2
            costs += own
            best = costs.argmin(1)
            cost = costs[np.arange(len(best)), best] + np.einsum("nd,nd->n", wanted, wanted)
            better = cost < 0.9 * self.cost[part] - self.unit
            self.source[part] = np.where(better, self.allowed[best], self.source[part])
            self.cost[part] = np.where(better, cost, self.cost[part])

    def _propagate(self, steps: tuple[int, ...]) -> None:
        """Offer each target the offset of the target `step` cells away: jump flooding, since all move at once."""
        for step in steps:
            for down, right in NEIGHBOURS:
                which, offered = self._offsets_from(down * step, right * step)
                cost = self._cost(offered, which)
                better = cost < self.cost[which]
                which = which[better]
                self.source[which] = offered[better]
                self.cost[which] = cost[better]

    def _offsets_from(self, down: int, right: int, among: Ints | None = None) -> tuple[Ints, Ints]:
        """The targets that would change by taking the offset of the target `down`, `right` of them, and their new
        sources. A source that leaves the original on one side comes back on the other: it is judged like any other."""
        slots = self.slot if among is None else self.slot[among]
        number = self.number.ravel()[slots + (down * self.stride + right)]
        offered = self.source[number] - (down * self.grid.width + right)
        own = self.source if among is None else self.source[among]
        useful = np.flatnonzero((number >= 0) & (offered != own) & (offered >= 0) & (offered < len(self.penalty)))
        return (useful if among is None else among[useful]), offered[useful]

    def _search_at_random(self, radius: int) -> None:
        grid, p = self.grid, self.grid.radius
        count = len(self.y)
        while radius >= 1:
            y, x = np.divmod(self.source, grid.width)
            y += self.rng.integers(-radius, radius + 1, count)
            x += self.rng.integers(-radius, radius + 1, count)
            np.clip(y, p, grid.height - 1 - p, out=y)
            np.clip(x, p, grid.width - 1 - p, out=x)
            y *= grid.width
            y += x
            cost = self._cost(y)
            better = cost < self.cost
            self.source = np.where(better, y, self.source)
            self.cost = np.where(better, cost, self.cost)
            radius //= 2

    def vote(self, weight: Floats, spread: int) -> None:
        """Every target paints its source patch, as far as `spread` cells from its centre; a cell becomes their mean."""
        layers = self.cells.shape[2] + 1
        cells = np.concatenate([self.cells.reshape(-1, layers - 1), np.ones((len(self.penalty), 1), np.float32)], 1)
        weights = np.repeat(weight, layers).reshape(-1, layers)
        total = np.zeros((*self.known.shape, layers), np.float32)
        painted, source = np.empty_like(weights), np.empty_like(self.source)
        blocks = self._blocks(painted)
        for down in range(-spread, spread + 1):
            for right in range(-spread, spread + 1):
                np.add(self.source, down * self.grid.width + right, out=source)
                np.take(cells, source, axis=0, out=painted, mode="clip")
                painted *= weights
                for top, left, block in blocks:
                    rows, columns = top + down, left + right
                    total[rows : rows + block.shape[0], columns : columns + block.shape[1]] += block
        new = ~self.known & (total[..., -1] > 0)
        self.frame[new] = total[new, :-1] / total[new, -1:]

    def _blocks(self, values: Floats) -> list[tuple[int, int, Floats]]:
        """Views of the targets' values (targets x layers) as rectangles of the frame, each after its first row and
        column there: whole rows above and below the original, what is left and right of it between. To add them as
        such takes a third of the time that it takes one by one."""
        grid, p = self.grid, self.grid.radius
        above, beside = grid.origin_y, grid.height - 2 * p
        left, right, wide = grid.origin_x, grid.right + p, grid.frame_width - 2 * p
        first, last = above * wide, above * wide + beside * (left + right)
        layers = values.shape[1]
        middle = values[first:last].reshape(beside, left + right, layers)
        return [
            (p, p, values[:first].reshape(above, wide, layers)),
            (p + above, p, middle[:, :left]),
            (p + above, p + wide - right, middle[:, left:]),
            (p + above + beside, p, values[last:].reshape(-1, wide, layers)),
        ]

    def settle(self, change: float, sweeps: int = 3) -> None:
        """Clean the offset field: a Potts model, where each pair of neighbours with different offsets costs `change`
        squared grey levels, minimised by iterated conditional modes on the two colours of a checkerboard.

        It makes the copied regions large and their seams few, which shows more than any other part of the method.
        """
        price = np.float32(change * self.unit)
        nowhere = np.iinfo(np.intp).min
        offsets = np.full(self.number.size, nowhere, np.intp)
        offsets[self.slot] = self.source - self.home
        around = [down * self.stride + right for down, right in NEIGHBOURS + DIAGONALS]
        colours = [np.flatnonzero((self.y + self.x) % 2 == colour) for colour in (0, 1)]
        for sweep in range(sweeps):
            doubled = tuple((2 * down, 2 * right) for down, right in NEIGHBOURS) if sweep == 0 else ()
            for among in colours:
                for down, right in NEIGHBOURS + doubled:
                    which, offered = self._offsets_from(down, right, among)
                    slots = self.slot[which]
                    new, old = offered - self.home[which], offsets[slots]
                    balance = np.zeros(len(which), np.float32)
                    for step in around:
                        beside = offsets[slots + step]
                        balance += beside == old
                        balance -= beside == new
                    cost = self._cost(offered, which)
                    better = cost + price * balance < self.cost[which]
                    which = which[better]
                    self.source[which] = offered[better]
                    self.cost[which] = cost[better]
                    offsets[slots[better]] = new[better]

    def field(self) -> OffsetField:
        """The present choice as an answer."""
        source_y, source_x = np.divmod(self.source, self.grid.width)
        number = self.number[_LEAP:-_LEAP, _LEAP:-_LEAP]
        error = np.sqrt(np.maximum(self.cost, 0) / self.unit)
        return OffsetField(self.grid, self.cells, number, self.y, self.x, source_y, source_x, error)


def _patches(cells: Floats, radius: int) -> Floats:
    """All whole patches as a view: rows x columns x channels x side x side."""
    side = 2 * radius + 1
    return np.lib.stride_tricks.sliding_window_view(cells, (side, side), axis=(0, 1))
