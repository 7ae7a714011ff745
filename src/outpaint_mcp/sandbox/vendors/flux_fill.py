"""FLUX.1 Fill [pro] as several vendors offer it: it extends an image by a preset."""

from typing import Literal

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Extended, ImageSpec, Placed
from outpaint_mcp.sandbox.image_store import StoredUpload

# How far one side grows is not documented; by half the image, as a zoom of 1.5 adds in all.
SIDE_SHARE = 0.5
Preset = Literal[
    "Zoom out 1.5x", "Zoom out 2x", "Make square", "Left outpaint", "Right outpaint", "Top outpaint", "Bottom outpaint"
]


def by_preset(source: StoredUpload, preset: Preset) -> ImageSpec:
    """The image that a preset makes of `source`."""
    image, width, height = source.image, source.width, source.height
    match preset:
        case "Zoom out 1.5x":
            return Extended.of(image, 1.5)
        case "Zoom out 2x":
            return Extended.of(image, 2.0)
        case "Make square":
            return Extended.of(image, 1.0, (1, 1))
    more_x, more_y = max(1, round(width * SIDE_SHARE)), max(1, round(height * SIDE_SHARE))
    if preset in ("Left outpaint", "Right outpaint"):
        x = more_x if preset == "Left outpaint" else 0
        return Placed.of(image, Frame(width + more_x, height, x, 0, width, height))
    y = more_y if preset == "Top outpaint" else 0
    return Placed.of(image, Frame(width, height + more_y, 0, y, width, height))
