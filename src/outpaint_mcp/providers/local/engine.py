"""The engine's one door: an array and a canvas in, the extended array out.

It strings the stages together (`period` where there is one; else `ground`, and where that does not suffice `complete`,
`recolour` and `render`), and deals with what they do not want to know: transparency, originals too small for patches,
and canvases too large for one step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil, log
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from outpaint_mcp.providers.local.complete import Flags, complete, open_sides
from outpaint_mcp.providers.local.confidence import confidence_of, worst
from outpaint_mcp.providers.local.corners import FAINT, OPAQUE
from outpaint_mcp.providers.local.detail import Detail
from outpaint_mcp.providers.local.enclosed import without_enclosed
from outpaint_mcp.providers.local.ground import Ground
from outpaint_mcp.providers.local.kind import Kind, kind_of
from outpaint_mcp.providers.local.levels import steps_together, whole
from outpaint_mcp.providers.local.period import Pattern, Repeats
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.recolour import Correction
from outpaint_mcp.providers.local.render import render
from outpaint_mcp.providers.local.rim import without_rim
from outpaint_mcp.providers.local.subject import Pixels
from outpaint_mcp.providers.local.transparency import (
    continue_shadow,
    continued_alpha,
    has_shadow,
    trusted,
    without_hidden_colours,
)

if TYPE_CHECKING:
    from outpaint_mcp.domain.task import Confidence  # at run time it would bring pydantic

Quality = Literal["fast", "balanced", "best"]

WORK_SIDE: Final[dict[str, int]] = {"fast": 256, "balanced": 384, "best": 640}  # cells of the canvas's longer side
_SMALLEST: Final = 12  # pixels: below that there is no room for a patch and its surroundings
_BESIDE: Final = 8  # pixels of the original beside what is continued, in which its outline lies
_LARGEST_STEP: Final = 4  # times the width or height; beyond that one offset field would be nearly all invention
_LARGEST_STEP_OF_PATTERN: Final = 1.55  # the same; what is farther out cannot be copied from within the image


def extend(
    pixels: Pixels,
    canvas: Canvas,
    *,
    quality: Quality,
    seed: int,
    progress: Callable[[float], None],
    on_confidence: "Callable[[dict[str, Confidence]], None] | None" = None,
) -> Pixels:
    """Extend `pixels` (height x width x 3 or 4 channels, 8 bits, alpha last and not multiplied in) to `canvas`.

    The original's pixels are in the answer unchanged. The same arguments give the same answer on one machine.
    `progress` hears rising numbers up to 1; what it raises ends the work. `on_confidence` hears once how far the new
    area at each growing side can be trusted, if anything was drawn.

    Raises:
        ValueError: `pixels` is no such array, or the original does not lie wholly on the canvas.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError("pixels must be a height x width x 3 or 4 array of 8-bit numbers")
    height, width, channels = pixels.shape
    if min(canvas.x, canvas.y) < 0 or canvas.x + width > canvas.width or canvas.y + height > canvas.height:
        raise ValueError("the original must lie wholly on the canvas")
    pencil = _Pencil(WORK_SIDE[quality], seed, progress)
    if channels == 4:
        drawn = _extend_with_alpha(pixels, canvas, pencil)
    else:
        drawn = _extend_in_steps(np.ascontiguousarray(pixels), canvas, None, pencil)
    drawn[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = pixels
    if on_confidence is not None and pencil.confidence:
        on_confidence(pencil.confidence)
    progress(1.0)
    return drawn


@dataclass(slots=True)
class _Pencil:
    """How it is drawn, and in the end how far that can be trusted."""

    work_side: int
    seed: int
    progress: Callable[[float], None]
    confidence: "dict[str, Confidence]" = field(default_factory=dict)


def _extend_with_alpha(pixels: Pixels, canvas: Canvas, pencil: _Pencil) -> Pixels:
    """The colours are drawn where the new area is visible; the alpha goes on by itself, unless it is a texture."""
    if pixels[..., 3].min() == 255:
        drawn = np.full((canvas.height, canvas.width, 4), 255, np.uint8)
        colours = np.ascontiguousarray(pixels[..., :3])
        drawn[..., :3] = _extend_in_steps(colours, canvas, None, pencil)
        return drawn
    alpha = continued_alpha(pixels[..., 3], canvas)
    usable = trusted(pixels[..., 3], alpha)
    if alpha is None:
        return _extend_in_steps(without_hidden_colours(pixels), canvas, usable, pencil)
    drawn = np.zeros((canvas.height, canvas.width, 4), np.uint8)
    drawn[..., 3] = alpha
    alpha[canvas.y : canvas.y + pixels.shape[0], canvas.x : canvas.x + pixels.shape[1]] = 0
    rows = _span(np.any(alpha, axis=1), canvas.y, pixels.shape[0])
    columns = _span(np.any(alpha, axis=0), canvas.x, pixels.shape[1])
    if alpha.any():
        # Drawn is only what is visible, from the part of the original that it continues.
        own = _within(rows, canvas.y, pixels.shape[0]), _within(columns, canvas.x, pixels.shape[1])
        part = Canvas(
            columns.stop - columns.start,
            rows.stop - rows.start,
            canvas.x + own[1].start - columns.start,
            canvas.y + own[0].start - rows.start,
        )
        uneven, shadow = alpha[alpha > 0].min() < alpha.max(), has_shadow(pixels)
        least = OPAQUE if uneven and shadow else FAINT + 1
        plain = without_hidden_colours(pixels[own], least)
        usable = usable[own] & (pixels[own][..., 3] >= least)
        if shadow or not uneven:
            plain = np.ascontiguousarray(plain[..., :3])
        # Else the alpha is drawn as well, though not used: so what is faint is continued from what is faint.
        area = drawn[rows, columns]
        area[..., :3] = _extend_in_steps(plain, part, usable, pencil)[..., :3]
        area[..., :3] *= area[..., 3:] > 0
        if uneven and shadow:
            continue_shadow(drawn, pixels, canvas)
    return drawn


def _span(visible: Flags, start: int, length: int) -> slice:
    """The rows (or columns) to draw: what is visible of the new area, and the original's own beside it.

    Where the original's own lie all on one side of what is visible, it grows there; else it grows across them, and only
    those are of use that are continued.
    """
    places = np.flatnonzero(visible)
    first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (start, start + length)
    if first >= start and last <= start + length:
        return slice(max(start, first - _BESIDE), min(start + length, last + _BESIDE))
    return slice(min(start, first), max(start + length, last))


def _within(span: slice, start: int, length: int) -> slice:
    """The original's own rows (or columns) among these."""
    return slice(max(0, span.start - start), min(length, span.stop - start))


def _extend_in_steps(pixels: Pixels, canvas: Canvas, usable: Flags | None, pencil: _Pencil) -> Pixels:
    """`usable` says which pixels may be copied, None that all may."""
    repeats = Repeats.of(pixels) if usable is None else None
    largest = _LARGEST_STEP if repeats is None else _LARGEST_STEP_OF_PATTERN
    steps = list(_steps(pixels.shape[0], pixels.shape[1], canvas, largest))
    drawn = pixels
    for done, step in enumerate(steps):

        def progress_of_all(part: float, done: int = done) -> None:
            pencil.progress((done + part) / len(steps))

        height, width = drawn.shape[:2]
        if repeats is not None and done:
            repeats = Repeats.of(drawn)
        drawn = _extend_once(drawn, step, usable, repeats, pencil, progress_of_all)
        if usable is not None:
            below, beyond = step.height - step.y - height, step.width - step.x - width
            usable = np.pad(usable, ((step.y, below), (step.x, beyond)), constant_values=True)
    return drawn if steps else drawn.copy()


def _extend_once(
    pixels: Pixels,
    canvas: Canvas,
    usable: Flags | None,
    repeats: Repeats | None,
    pencil: _Pencil,
    progress: Callable[[float], None],
) -> Pixels:
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST:
        below, beyond = canvas.height - canvas.y - height, canvas.width - canvas.x - width
        return np.pad(pixels, ((canvas.y, below), (canvas.x, beyond), (0, 0)), mode="edge")
    if repeats is not None and (pattern := Pattern(pixels, canvas, repeats)).holds:
        drawn = np.empty((canvas.height, canvas.width, pixels.shape[2]), np.uint8)
        for rows, columns, copied in pattern.parts():
            drawn[rows, columns] = copied
            progress(rows.stop / canvas.height)
        sides = open_sides(height, width, canvas).names()
        pencil.confidence = worst(pencil.confidence, dict.fromkeys(sides, "high"))
    else:
        drawn = _continued(pixels, canvas, usable, pencil, progress)
    drawn[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = pixels
    return drawn


def _continued(
    pixels: Pixels,
    canvas: Canvas,
    usable: Flags | None,
    pencil: _Pencil,
    progress: Callable[[float], None],
) -> Pixels:
    """The ground goes on where it is plain; elsewhere patches are copied."""
    sides, kind = open_sides(pixels.shape[0], pixels.shape[1], canvas), kind_of(pixels)
    if kind is Kind.PHOTOGRAPH:
        pixels = without_enclosed(without_rim(pixels, sides), sides)
    ground = Ground(pixels, canvas, sides, kind, pencil.seed)
    together = kind is Kind.PHOTOGRAPH and steps_together(pixels)
    if ground.suffices:
        pencil.confidence = worst(pencil.confidence, confidence_of(ground, None))
        drawn = np.empty((canvas.height, canvas.width, pixels.shape[2]), np.uint8)
        for rows, columns, (colours, grain, *_) in ground.parts():
            drawn[rows, columns] = np.clip(whole(colours + grain, together=together), 0, 255)
            progress(rows.stop / canvas.height)
        return drawn
    field = complete(
        pixels,
        canvas,
        usable=usable,
        work_side=pencil.work_side,
        seed=pencil.seed,
        progress=lambda part: progress(0.7 * part),
    )
    pencil.confidence = worst(pencil.confidence, confidence_of(ground, field))
    correction = Correction(field, canvas, *pixels.shape[:2])
    drawn = render(
        pixels, canvas, field, correction, together=together, progress=lambda part: progress(0.75 + 0.2 * part)
    )
    detail: Detail | None = None
    for rows, columns, drawn_there in ground.parts():
        detail = detail or Detail(drawn, correction, canvas, *pixels.shape[:2], together=together)
        drawn[rows, columns] = detail.laid(drawn[rows, columns], *drawn_there, rows=rows, columns=columns)
        progress(0.95 + 0.05 * rows.stop / canvas.height)
    return drawn


def _steps(height: int, width: int, canvas: Canvas, largest: float) -> Iterator[Canvas]:
    """The canvases to draw one after the other, each around the one before. None if the canvas is the original."""
    x, y = canvas.x, canvas.y
    while (height, width) != (canvas.height, canvas.width):
        growth = max(canvas.height / height, canvas.width / width)
        left_to_do = max(1, ceil(log(growth, largest)))
        top, new_height = _next(height, y, canvas.height, left_to_do)
        left, new_width = _next(width, x, canvas.width, left_to_do)
        yield Canvas(new_width, new_height, left, top)
        height, width, y, x = new_height, new_width, y - top, x - left


def _next(side: int, before: int, final: int, steps: int) -> tuple[int, int]:
    """How much to add before the original now, and how long the side is then, to be `final` after `steps` even steps.

    `before` is how much has to be added before it in all.
    """
    if steps == 1:
        return before, final
    longer = ceil(side * (final / side) ** (1 / steps))
    return (longer - side) * before // max(1, final - side), longer
