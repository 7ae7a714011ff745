"""Decodes untrusted image files: the only place where Pillow opens bytes that a client or a vendor sent.

The size is checked by the header before anything is decoded, only the four formats of the web are tried, and whatever
is wrong with a file becomes one `InvalidImageError`. Decoding a hostile or a huge image takes time and memory, so
servers call this in a worker process.
"""

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from outpaint_mcp.domain.errors import InvalidImageError

MAX_INPUT_PIXELS: Final = 40_000_000
MAX_OUTPUT_PIXELS: Final = 80_000_000
MIME_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}

# What Pillow's decoders are known to raise on broken files, besides OSError (which UnidentifiedImageError is).
# RuntimeError and AssertionError come from inside the PNG and GIF plug-ins. MemoryError is not among them: an image
# within the limit that does not fit into memory is a shortage of this machine, not a fault of the file.
_BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


def open_image(data: bytes | Path) -> Image.Image:
    """The decoded image, upright, in the mode that the file has; of an animation the first frame. ``info`` keeps the
    ICC profile, and ``format`` is lost where the image had to be rotated.

    Raises:
        InvalidImageError: not a complete JPEG, PNG, WebP or GIF image of at most `MAX_INPUT_PIXELS`.
    """
    return _decode(data)[1]


def measure(data: bytes | Path) -> tuple[str, int, int]:
    """The MIME type, width and height of an image, in pixels as a viewer shows it (EXIF orientation applied).

    It is decoded as a whole, so that a truncated file is found here and not when it is drawn.

    Raises:
        InvalidImageError: as for `open_image`.
    """
    name, image = _decode(data)
    return MIME_TYPES[name], image.width, image.height


def preview_jpeg(path: Path, max_side: int = 512, max_bytes: int = 100_000) -> bytes:
    """A small JPEG of the image at `path`: neither side above `max_side` pixels, at most `max_bytes` long where any
    quality can reach that. Transparent parts are shown on white.

    Raises:
        InvalidImageError: as for `open_image`, for at most `MAX_OUTPUT_PIXELS`.
    """
    image = _decode(path, MAX_OUTPUT_PIXELS)[1]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    side = max_side
    while True:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in (85, 70, 55, 40):
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes or side <= 16:
                return buffer.getvalue()
        side = side * 2 // 3


def _decode(data: bytes | Path, max_pixels: int = MAX_INPUT_PIXELS) -> tuple[str, Image.Image]:
    """The format's name and the upright image."""
    try:
        encoded = data if isinstance(data, bytes) else data.read_bytes()
    except OSError as error:
        raise InvalidImageError(f"The image's file cannot be read ({error.strerror or error}).") from error
    if not encoded:
        raise InvalidImageError("The image is empty: it has no bytes.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(encoded), formats=tuple(MIME_TYPES))
            name = "JPEG" if image.format == "MPO" else image.format  # what phones call a JPEG with two images
            if name not in MIME_TYPES:
                raise InvalidImageError("The image is not a JPEG, PNG, WebP or GIF file.")
            _check_size(image.width, image.height, max_pixels)
            image.load()
            upright = ImageOps.exif_transpose(image)
    except InvalidImageError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidImageError("The image is not a JPEG, PNG, WebP or GIF file.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImageError(f"The image has more than {max_pixels:,} pixels.") from error
    except _BROKEN as error:
        raise InvalidImageError("The image is damaged or cut short: it cannot be decoded.") from error
    return name, upright


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < 1:
        raise InvalidImageError("The image has no pixels.")
    if width * height > max_pixels:
        megapixels = math.ceil(width * height / 1e5) / 10
        raise InvalidImageError(
            f"The image has {megapixels} megapixels ({width}x{height}), the limit is {max_pixels // 1_000_000}.",
            "Give a smaller image.",
        )
