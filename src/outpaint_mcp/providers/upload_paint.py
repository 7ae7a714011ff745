"""Midjourney's upload-paint operation, which several vendors pass on under the same field names: a picture of one's own
is put on a larger canvas, and what a mask covers is painted. Knows sizes and field names, no vendor.

That a small picture on a large canvas makes an outpaint, and that an area's width and height are the canvas's, is
inferred: no documentation says so.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final
from urllib.parse import urlsplit

from outpaint_mcp.domain.errors import InvalidRequestError, UnsupportedFeatureError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest

MIN_SIDE: Final = 500
MAX_SIDE: Final = 4096
MAX_URL: Final = 1024

RESERVED: Final = {
    "imgUrl": "image",
    "canvas": "zoom and aspect_ratio",
    "imgPos": "zoom and aspect_ratio",
    "mask": "zoom and aspect_ratio",
}
"""The fields that `paint_fields` writes, and the arguments that stand for them."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The canvas's size, and where the picture lies on it, in pixels of the new picture."""

    canvas_width: int
    canvas_height: int
    x: int
    y: int
    width: int
    height: int


def check_paint_request(title: str, request: OutpaintRequest) -> None:
    """Refuse what is known to be impossible before the picture is looked at.

    Raises:
        InvalidRequestError: there is no prompt.
        UnsupportedFeatureError: the picture is no URL that the vendor could fetch.
    """
    if not request.prompt:
        raise InvalidRequestError(f"{title} needs a prompt to extend a picture of one's own.", "Give a prompt.")
    if request.image is not None:
        _check_url(title, request.image)


def check_paint_image(title: str, request: OutpaintRequest, picture: InputImage) -> None:
    """Refuse what is impossible with this very picture.

    Raises:
        UnsupportedFeatureError: it has no public URL, or the new picture's sides cannot both be 500 to 4096 pixels.
        InvalidRequestError: the new picture would not be larger.
    """
    _check_url(title, picture.url or "")
    place(title, picture.width, picture.height, request.zoom, request.aspect_ratio)


def place(title: str, width: int, height: int, zoom: float, ratio: AspectRatio | None) -> Placement:
    """Centre a picture of `width` x `height` pixels on the smallest canvas of `ratio` that is `zoom` times as wide and
    tall, the whole scaled so that both sides of the canvas lie in `MIN_SIDE` to `MAX_SIDE`.

    Raises:
        UnsupportedFeatureError: the canvas is too long and narrow for that.
        InvalidRequestError: there is nothing to paint.
    """
    wide, tall = width * Fraction(str(zoom)), height * Fraction(str(zoom))
    if ratio is not None:
        target = Fraction(ratio.width, ratio.height)
        wide, tall = max(wide, tall * target), max(tall, wide / target)
    if max(wide, tall) > min(wide, tall) * Fraction(MAX_SIDE, MIN_SIDE):
        raise UnsupportedFeatureError(
            f"{title} paints sides of {MIN_SIDE} to {MAX_SIDE} pixels; the new picture would be too narrow.",
            "Give another aspect_ratio, or name another provider.",
        )
    scale = min(Fraction(MAX_SIDE) / max(wide, tall), max(Fraction(1), Fraction(MIN_SIDE) / min(wide, tall)))
    canvas_width, canvas_height = (min(max(round(side * scale), MIN_SIDE), MAX_SIDE) for side in (wide, tall))
    inner_width = min(max(round(width * scale), 1), canvas_width)
    inner_height = min(max(round(height * scale), 1), canvas_height)
    if (inner_width, inner_height) == (canvas_width, canvas_height):
        raise InvalidRequestError(
            "The new picture would be no larger than the old one.", "Give a zoom above 1, or another aspect_ratio."
        )
    x, y = (canvas_width - inner_width) // 2, (canvas_height - inner_height) // 2
    return Placement(canvas_width, canvas_height, x, y, inner_width, inner_height)


def paint_fields(title: str, order: Order, picture: InputImage) -> dict[str, Any]:
    """The fields of the order for `picture`, the prompt and the callback apart."""
    at = place(title, picture.width, picture.height, order.zoom, order.aspect_ratio)
    right, bottom = at.x + at.width, at.y + at.height
    ring = (
        (0, 0, at.canvas_width, at.y),
        (0, bottom, at.canvas_width, at.canvas_height),
        (0, at.y, at.x, bottom),
        (right, at.y, at.canvas_width, bottom),
    )
    return {
        "imgUrl": picture.url,
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


def _check_url(title: str, url: str) -> None:
    try:
        usable = urlsplit(url).scheme.lower() in ("http", "https")
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL:
        raise UnsupportedFeatureError(
            f"{title} takes a picture of one's own only by a public http(s) URL of at most {MAX_URL} characters.",
            "Give such a URL, or name a provider that takes files (list_providers shows them).",
        )
