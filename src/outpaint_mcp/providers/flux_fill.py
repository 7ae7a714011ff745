"""FLUX.1 Fill [pro] behind several vendors: it extends an image by a few presets, and by nothing in between."""

from typing import Final

from outpaint_mcp.domain.errors import UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio
from outpaint_mcp.providers.declarations import Argument, FrameFields, Zoom

_PRESETS: Final = {1.0: "Make square", 1.5: "Zoom out 1.5x", 2.0: "Zoom out 2x"}
_SQUARE: Final = AspectRatio(1, 1)
FLUX_FILL_ZOOM: Final = Zoom(values=tuple(_PRESETS))
FLUX_FILL_RATIO: Final = Argument("1:1, with zoom 1 (make square)")


def flux_fill_frame(wire: str) -> FrameFields:
    """The field `wire` with the preset that makes the frame."""
    return FrameFields(lambda frame: {wire: _preset(frame)}, (wire,), _check)


def _preset(frame: Frame) -> str | None:
    """The preset that makes a frame, however the frame was asked for; None if there is none."""
    for zoom, preset in _PRESETS.items():
        ratio = _SQUARE if zoom == 1 else None
        if Frame.around(frame.width, frame.height, zoom=zoom, aspect_ratio=ratio) == frame:
            return preset
    return None


def _check(title: str, frame: Frame) -> None:
    if _preset(frame) is None:
        raise UnsupportedFeatureError(
            f"{title} only makes your own image square (zoom 1, aspect_ratio 1:1), or zooms 1.5 or 2 in its own ratio.",
            "Give a zoom of 1.5 or 2 without aspect_ratio, or the aspect_ratio 1:1 with a zoom of 1.",
        )
