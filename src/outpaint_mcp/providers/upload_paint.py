"""Midjourney's upload-paint operation, which several vendors pass on under the same field names: your own image is put
on a larger canvas, and what a mask covers is painted. Knows sizes and field names, no vendor.

That a small image on a large canvas makes an outpaint, and that an area's width and height are the canvas's, is
inferred: no documentation says so.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from outpaint_mcp.domain.errors import UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import Feature
from outpaint_mcp.providers.declarations import Argument, FrameFields, Operation

MIN_SIDE: Final = 500
MAX_SIDE: Final = 4096
MAX_URL: Final = 1024


def _check_frame(title: str, frame: Frame) -> None:
    """Refuse a canvas whose sides cannot both be `MIN_SIDE` to `MAX_SIDE`, however it is scaled.

    Raises:
        UnsupportedFeatureError: it is too long and narrow for that.
    """
    longer, shorter = (side(frame.canvas_width, frame.canvas_height) for side in (max, min))
    if longer > shorter * Fraction(MAX_SIDE, MIN_SIDE):
        raise UnsupportedFeatureError(
            f"{title} paints sides of {MIN_SIDE} to {MAX_SIDE} pixels; the new image would be too narrow.",
            "Give an aspect_ratio between 1:8 and 8:1.",
        )


def scaled(frame: Frame) -> Frame:
    """The frame as the vendor paints it: the whole scaled so that both sides of the canvas lie in the limits, no more
    than it takes and never so far that the image fills it.
    """
    wide, tall = Fraction(frame.canvas_width), Fraction(frame.canvas_height)
    scale = min(MAX_SIDE / max(wide, tall), max(Fraction(1), MIN_SIDE / min(wide, tall)))
    canvas_width, canvas_height = (min(max(round(side * scale), MIN_SIDE), MAX_SIDE) for side in (wide, tall))
    return frame.scaled(scale, canvas_width, canvas_height)


def _paint_fields(frame: Frame) -> dict[str, Any]:
    at = scaled(frame)
    right, bottom = at.x + at.width, at.y + at.height
    ring = (
        (0, 0, at.canvas_width, at.y),
        (0, bottom, at.canvas_width, at.canvas_height),
        (0, at.y, at.x, bottom),
        (right, at.y, at.canvas_width, bottom),
    )
    return {
        "canvas": {"width": at.canvas_width, "height": at.canvas_height},
        "imgPos": {"width": at.width, "height": at.height, "x": at.x, "y": at.y},
        "mask": {
            "areas": [
                {
                    "width": at.canvas_width,
                    "height": at.canvas_height,
                    "points": [x0, y0, x1, y0, x1, y1, x0, y1],
                }
                for x0, y0, x1, y1 in ring
                # A side that does not grow has no area to paint.
                if x0 < x1 and y0 < y1
            ]
        },
    }


def paint_operation(path: str, *, prompt: Argument, webhook: Argument, options: Argument) -> Operation:
    """The operation at `path`; `prompt` and the others are declared as for a task's image."""
    return Operation(
        path,
        source=Argument(wire="imgUrl"),
        arguments={
            Feature.ASPECT_RATIO: Argument(f"any; both sides of the new image {MIN_SIDE} to {MAX_SIDE} pixels"),
            Feature.SIDES: Argument("any"),
            Feature.PROMPT: replace(prompt, limits=f"{prompt.limits}, required", required=True),
            Feature.WEBHOOK_URL: webhook,
            Feature.PROVIDER_OPTIONS: options,
        },
        frame=FrameFields(_paint_fields, ("canvas", "imgPos", "mask"), _check_frame),
        max_url=MAX_URL,
    )
