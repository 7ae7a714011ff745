"""What lies wholly inside a photograph and is unlike all that its border shows: the image without it is continued, so
that no piece of it is ever repeated."""

from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from outpaint_mcp.providers.local.poisson import conjugate_gradients, divergence
from outpaint_mcp.providers.local.subject import Floats, OpenSides, Pixels, geodesic, luma_chroma, shrink

_THUMBNAIL: Final = 128
_EDGE: Final = 2  # pixels: what comes nearer to the border touches it
_FAR: Final = (25.0, 40.0)  # grey levels on the way from the border: from here on it may be an object, then it is
_UNLIKE: Final = ((25.0, 45.0), (8.0, 16.0))  # grey levels from all colours of the border: its core, all of it
_SPECK: Final = 5  # cells: what is smaller is texture
_GROWTH: Final = 8  # times that an object is widened by half a speck
_OUTLINE: Final = 5  # cells around an object that its outline and its shadow may lie in
_ITERATIONS: Final = 200


def without_enclosed(pixels: Pixels, sides: OpenSides) -> Pixels:
    """The image with the colours of their surroundings in place of objects. The array is not written to."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _THUMBNAIL / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    thumbnail = shrink(pixels, *size).astype(np.float32)
    found = _objects(_with_its_edge(thumbnail, pixels), sides)
    if not found.any():
        return pixels
    mask = Image.fromarray((found * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(_OUTLINE))
    free = (np.asarray(mask) > 0)[..., None].astype(np.float32)
    thumbnail *= 1 - free
    thumbnail += conjugate_gradients(divergence(thumbnail) * free, free, iterations=_ITERATIONS)
    filled = shrink(np.clip(thumbnail + 0.5, 0, 255).astype(np.uint8), width, height)
    mask = mask.filter(ImageFilter.BoxBlur(1)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(Image.composite(Image.fromarray(filled), Image.fromarray(pixels), mask))


def _with_its_edge(thumbnail: Floats, pixels: Pixels) -> Floats:
    """The thumbnail whose outermost cells show the outermost pixels alone."""
    shown = thumbnail.copy()
    height, width = thumbnail.shape[:2]
    shown[0], shown[-1] = (shrink(part, width, 1)[0] for part in (pixels[:_EDGE], pixels[-_EDGE:]))
    shown[:, 0], shown[:, -1] = (shrink(part, 1, height)[:, 0] for part in (pixels[:, :_EDGE], pixels[:, -_EDGE:]))
    return shown


def _objects(thumbnail: Floats, sides: OpenSides) -> Floats:
    """How surely each cell belongs to one, 0 to 1."""
    colours = luma_chroma(thumbnail)
    edges = (colours[0], colours[-1], colours[:, 0], colours[:, -1])
    grows = (sides.top, sides.bottom, sides.left, sides.right)
    border = np.concatenate([edge for edge, is_open in zip(edges, grows, strict=True) if is_open])[::2]
    far = _between(geodesic(colours, sides), _FAR)
    squares = (border**2).sum(1) - 2 * colours.reshape(-1, colours.shape[2]) @ border.T
    nearest = np.sqrt(np.maximum(squares.min(1).reshape(far.shape) + (colours**2).sum(-1), 0))
    core, whole = (Image.fromarray((far * _between(nearest, unlike) * 255).astype(np.uint8)) for unlike in _UNLIKE)
    opened = core.filter(ImageFilter.MinFilter(_SPECK)).filter(ImageFilter.MaxFilter(_SPECK))
    # What is connected with it and somewhat unlike the border is the rest of the object.
    for _ in range(_GROWTH):
        opened = ImageChops.darker(opened.filter(ImageFilter.MaxFilter(_SPECK)), whole)
    found = np.asarray(opened).astype(np.float32)
    found /= 255
    return found


def _between(values: Floats, ends: tuple[float, float]) -> Floats:
    part: Floats = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return part
