"""Which image formats are read, and how others are recognised by their first bytes, so that a refusal can name them."""

import contextlib
import importlib
import io
import re
from typing import Final

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from outpaint_mcp.domain.errors import InvalidImageError

MIME_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "JPEG2000": "image/jp2",
}
"""The MIME type of each format that is read, by Pillow's name for it; HEIF only where the extra `heif` is installed."""
_AS_JPEG: Final = "Export it as JPEG."
_AS_PNG: Final = "Export it as PNG."
_A_FRAME: Final = "Give one frame of it as JPEG or PNG."
_RAW: Final = "a camera's RAW photo"
_FLAGS: Final = re.DOTALL | re.IGNORECASE
_HEIC: Final = frozenset(b"heic heix heim heis hevc hevx mif1 msf1".split())
_OTHERS: Final = (
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE\s+svg.*?>\s*)?<svg[\s>]", "an SVG drawing", _AS_PNG),
    (rb"\x1f\x8b", "a compressed file (perhaps SVGZ)", _AS_PNG),
    (rb"\s*<(!doctype\s+html|html|head|body)", "a web page", "Give the direct link to the image itself."),
    (rb"%PDF-", "a PDF document", "Export the page as PNG or JPEG."),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", _AS_PNG),
    (rb"8BP[SB]", "a Photoshop document", "Export it from there as PNG or JPEG."),
    (rb"gimp xcf", "a GIMP document", "Export it from there as PNG or JPEG."),
    (rb"\xff\x0a|\x00{3}\x0cJXL \r\n\x87\n", "a JPEG XL image", "Export it as JPEG or PNG."),
    (rb"II\*\x00.{4}CR|IIU\x00|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb|\x00MRM|II\x1a\x00", _RAW, _AS_JPEG),
    (rb"\x00\x00\x01\x00|\x00\x00\x02\x00", "an icon (ICO)", _AS_PNG),
    (rb"icns", "an icon (ICNS)", _AS_PNG),
    (rb"\x76\x2f\x31\x01|#\?RA", "an HDR image (OpenEXR or Radiance)", "Export it as JPEG or PNG, tone-mapped."),
    (rb"DDS ", "a texture (DDS)", _AS_PNG),
    (rb"qoif", "a QOI image", _AS_PNG),
    (rb"P[1-7][\s#]", "a PNM image", _AS_PNG),
    (rb"\x1aE\xdf\xa3|RIFF.{4}AVI |\x00\x00\x01\xba|FLV\x01|OggS", "a video", _A_FRAME),
    (rb"PK\x03\x04", "a ZIP archive or office document", "Give the image out of it."),
    (rb"\s*[{\[]\s*[\"{\[\]}]", "JSON", "Give the image itself, or the direct link to it."),
    (rb"version https://git-lfs", "a Git LFS pointer, not the image", "Fetch the image with git lfs pull."),
)
"""What is not read: how it begins, what it is, and what to do."""
_PHOTOMETRIC, _SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 262, 254, 330, 50706
_RAW_PIXELS = (32803, 34892)

# These and no others: a process that opens one image would else load forty more plugins first (45 ms, November 2026).
for _plugin in ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Png", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")
with contextlib.suppress(ImportError):
    importlib.import_module("pillow_heif").register_heif_opener(thumbnails=False)


def open_untrusted(data: bytes) -> Image.Image:
    """The image with nothing decoded yet but its header; only the formats of `MIME_TYPES` are tried.

    Raises:
        InvalidImageError: it is in another format, which the error names.
        OSError, and what else Pillow raises: it is broken.
    """
    formats = [name for name in MIME_TYPES if name in Image.EXTENSION.values()]
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if (name := _named(data)) is None:
            raise
        raise InvalidImageError(f"The image is {name[0]}, which is not read here.", name[1]) from None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image):
        raise InvalidImageError(f"The image is {_RAW}, which is not read here.", _AS_JPEG)
    return image


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF is a camera's RAW photo, of which only a thumbnail would be read."""
    tags = image.tag_v2
    # A first page that says it is a reduced one hides the pixels in pages below it; alone it is an ordinary image.
    thumbnail = tags.get(_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags
    return thumbnail or _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _RAW_PIXELS


def _named(data: bytes) -> tuple[str, str] | None:
    """What a file is that is not read, and what to do; None if that is not known."""
    if data[4:8] == b"ftyp":
        brands = re.findall(rb"....", data[8 : min(int.from_bytes(data[:4], "big"), 64)], re.DOTALL)
        if b"avif" in brands or b"avis" in brands:
            return "an AVIF image, broken or without the decoder for it", _AS_JPEG
        if b"crx " in brands:
            return _RAW, _AS_JPEG
        if _HEIC & set(brands):
            return "a HEIC photo", "Export it as JPEG, or have the operator install the extra: outpaint-mcp[heif]."
        return "a video", _A_FRAME
    return next(((name, advice) for start, name, advice in _OTHERS if re.match(start, data[:4096], _FLAGS)), None)
