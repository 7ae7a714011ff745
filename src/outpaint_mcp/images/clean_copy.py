"""What of an image may leave this machine: its upright pixels and their colour profile, and nothing else.

Files of cameras and editors hold more: the place, the owner, texts, thumbnails, a motion photo's video. A list of what
to take out would always miss something, so the pixels are written into a new file.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, JpegImagePlugin

from outpaint_mcp.images.canvas_copy import on_canvas
from outpaint_mcp.images.colours import colours_of
from outpaint_mcp.images.containers import DEPTH, contents_of
from outpaint_mcp.images.decode import open_image
from outpaint_mcp.images.formats import MIME_TYPES, open_untrusted

_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_LOSSY: Final = frozenset({"HEIF", "AVIF", "JPEG2000"})
"""Formats of photographs that few vendors read; as PNG they would grow tenfold."""
_COMMON: Final = frozenset({"JPEG", "PNG", "WEBP"})
_ORIENTATION: Final = 0x0112
_SMOOTH: Final = frozenset({"L", "RGB", "RGBA", "CMYK"})
"""Modes in which pixels can be averaged."""
_QUALITY: Final = 95
_PNG_LEVEL: Final = 3
_PROFILES: Final = {
    "CMYK": b"CMYK",
    "RGB": b"RGB ",
    "RGBA": b"RGB ",
    "P": b"RGB ",
    "L": b"GRAY",
    "LA": b"GRAY",
    "I;16": b"GRAY",
}
"""The kind of colours that a profile must be for, by the image's mode."""


@dataclass(frozen=True, slots=True)
class CleanCopy:
    """A file that may leave this machine: its bytes and their type, its width and height in pixels, notes on what it
    lacks.

    `needless` says that the image was as it leaves: it was not turned or scaled, and every vendor reads its format.
    """

    data: bytes
    mime_type: str
    width: int
    height: int
    needless: bool
    notes: tuple[str, ...] = ()


def clean_copy(
    path: Path, size: tuple[int, int] | None = None, canvas: tuple[int, int, int, int] | None = None
) -> CleanCopy:
    """A new file of the image at `path`. Of an animation it holds the first frame.

    Args:
        path: the image.
        size: what it is scaled to, in pixels, if not its own.
        canvas: the canvas that it is put on (see `on_canvas`); the file is a PNG then.

    JPEG and WebP stay what they are, other photographs become JPEG, and the rest PNG. A JPEG keeps its quantisation and
    subsampling, so that it loses next to nothing and does not grow.

    Raises:
        InvalidImageError: as for `open_image`.
    """
    image = open_image(path)
    data = path.read_bytes()
    with open_untrusted(contents_of(data).data) as original:
        file_format, options = _format(original, image, data)
        needless = original.format in _COMMON and original.getexif().get(_ORIENTATION, 1) == 1
        needless = needless and not getattr(original, "is_animated", False)
    grey = image.mode in ("L", "LA", "1") or image.mode.startswith("I")
    colours = colours_of(image.info["colour_tags"])
    profile = image.info.get("icc_profile") or (colours and colours.profile(grey=grey))
    lost = [what for what in image.info["lost"] if not (what == DEPTH and image.mode.startswith("I"))]
    notes = [image.info["cut_off"], f"Not sent with the image: {'; '.join(lost)}." if lost else ""]
    if size not in (None, image.size):
        needless = False
        image = _scaled(image, size)
    if canvas is not None:
        needless, file_format, options = False, "PNG", {"compress_level": _PNG_LEVEL}
        image = on_canvas(image, canvas)
    if file_format == "PNG":
        image = _fit_for_png(image)
    clear = image.info.get("transparency")
    image.info = {} if clear is None else {"transparency": clear}
    if isinstance(profile, bytes) and profile[16:20] == _PROFILES.get(image.mode):
        options["icc_profile"] = profile
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    told = tuple(filter(None, notes))
    return CleanCopy(buffer.getvalue(), MIME_TYPES[file_format], image.width, image.height, needless, told)


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    info = image.info
    if image.mode not in _SMOOTH:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        info = {name: value for name, value in info.items() if name != "transparency"}
    scaled = image.resize(size, Image.Resampling.LANCZOS)
    scaled.info = info
    return scaled


def _format(original: Image.Image, image: Image.Image, data: bytes) -> tuple[str, dict[str, Any]]:
    if isinstance(original, JpegImagePlugin.JpegImageFile):
        return "JPEG", _as_before(original)
    if original.format == "WEBP":
        return "WEBP", {"lossless": b"VP8L" in data[:4096], "quality": _QUALITY, "method": 2, "exact": True}
    if original.format in _LOSSY and image.mode in ("L", "RGB"):
        return "JPEG", {"quality": _QUALITY, "subsampling": 0}
    return "PNG", {"compress_level": _PNG_LEVEL}


def _as_before(original: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """How a JPEG is written with the losses that it has already."""
    tables = original.quantization
    subsampling = JpegImagePlugin.get_sampling(original)
    if not tables or sorted(tables) != list(range(len(tables))) or max(map(max, tables.values())) > 255:
        return {"quality": _QUALITY, "subsampling": 0}
    return {"qtables": tables, "subsampling": max(subsampling, 0)}


def _fit_for_png(image: Image.Image) -> Image.Image:
    if image.mode in _PNG_MODES:
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I").convert("I;16")
    if image.mode == "I":
        return image.convert("I;16")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
