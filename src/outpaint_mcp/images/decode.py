"""Decodes untrusted image files: the only place where Pillow opens bytes that a client or a vendor sent.

The size is checked by the header before anything is decoded, only the formats of formats.py are tried, and whatever
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

from PIL import ExifTags, Image, UnidentifiedImageError

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.images.besides import besides
from outpaint_mcp.images.containers import (
    MAX_SCANS,
    MAX_SEGMENTS,
    Contents,
    contents_of,
)
from outpaint_mcp.images.cut_off import is_cut_off, refusal, restored_jpeg, restored_png, restored_rows
from outpaint_mcp.images.formats import MIME_TYPES, open_untrusted
from outpaint_mcp.images.small_copy import SmallCopy

MAX_INPUT_PIXELS: Final = 120_000_000
MAX_CHECKED_PIXELS: Final = 40_000_000
"""Above this many a vendor may need no more than the size, so that `measure` does not decode the image."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation, what makes the image upright."""
_PER_INCH: Final = {2: 1.0, 3: 2.54}
"""By EXIF resolution unit."""
_SIDEWAYS: Final = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))

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


def open_image(data: bytes | Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The decoded image, upright, in the mode that the file has; of an animation the first frame.

    ``info`` keeps the ICC profile; ``colour_tags``, the chunks of a PNG that say how its colours are meant; ``dpi``,
    None if unknown; ``lost``, what else the file holds in words; ``cut_off``, what the client should know of pixels
    that were missing at the file's end. ``format`` is lost where the image had to be rotated.

    A JPEG is decoded at a half, a quarter or an eighth of its size if that is `at_least` as wide and tall, which saves
    time and memory.

    Raises:
        InvalidImageError: not a complete image of a known format, of at most `MAX_INPUT_PIXELS`.
    """
    return _decode(data, at_least=at_least)[1]


def measure(data: bytes | Path) -> tuple[str, int, int]:
    """The MIME type, width and height of an image, in pixels as a viewer shows it (EXIF orientation applied).

    It is decoded as a whole, so that a truncated file is found here and not when it is drawn; above
    `MAX_CHECKED_PIXELS` only the header is read.

    Raises:
        InvalidImageError: as for `open_image`.
    """
    name, image = _decode(data, whole=MAX_CHECKED_PIXELS)
    width, height = image.size
    if width * height > MAX_CHECKED_PIXELS and _turn(image) in _SIDEWAYS:
        width, height = height, width
    return MIME_TYPES[name], width, height


def shrink(path: Path, copy: SmallCopy) -> tuple[str, bytes]:
    """The MIME type and the bytes of a small copy of the image at `path`.

    Raises:
        InvalidImageError: as for `open_image`.
    """
    image = open_image(path, (copy.side, copy.side))
    name, mode = "JPEG", "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if copy.transparent:
            name, mode = "WEBP", "RGBA"
        else:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(mode)
    side = copy.side
    while True:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in (85, 70, 55, 40):
            buffer = io.BytesIO()
            image.save(buffer, name, quality=quality, optimize=True)
            if buffer.tell() <= copy.length or side <= 16:
                return MIME_TYPES[name], buffer.getvalue()
        side = side * 2 // 3


def _decode(
    data: bytes | Path, *, whole: int = MAX_INPUT_PIXELS, at_least: tuple[int, int] | None = None
) -> tuple[str, Image.Image]:
    """The format's name and the upright image; as it lies in the file and not decoded above `whole` pixels."""
    try:
        encoded = data if isinstance(data, bytes) else data.read_bytes()
    except OSError as error:
        raise InvalidImageError(
            f"The image's file cannot be read ({error.strerror or error}).", "Call again, or give another image."
        ) from error
    if not encoded:
        raise InvalidImageError("The image is empty: it has no bytes.")
    contents = contents_of(encoded)
    _check_parts(contents)
    cut_off = ""
    try:
        with warnings.catch_warnings():
            # Pillow's own warning of many pixels too: `_check_size` knows better.
            warnings.simplefilter("ignore")
            image = upright = open_untrusted(contents.data)
            _check_size(image.width, image.height)
            if image.width * image.height <= whole:
                image, cut_off = _loaded(contents, image, at_least)
                upright = _upright(image)
    except InvalidImageError:
        raise
    except UnidentifiedImageError as error:
        if is_cut_off(error, contents.data):
            raise refusal() from error
        raise InvalidImageError("The file is not an image, or in no format that is read here.") from error
    except Image.DecompressionBombError as error:
        side = math.isqrt(MAX_INPUT_PIXELS)
        raise InvalidImageError(
            f"The image has many more than {MAX_INPUT_PIXELS // 1_000_000} megapixels.",
            f"Scale it down to {side}x{side} pixels, or as many in another shape.",
        ) from error
    except _BROKEN as error:
        if is_cut_off(error, contents.data):
            raise refusal() from error
        raise InvalidImageError("The image is damaged or cut short: it cannot be decoded.") from error
    if contents.profile is not None:
        upright.info["icc_profile"] = contents.profile
    # Of a PNG cICP goes before the profile, elsewhere a profile before such tags.
    tagged = image.format == "PNG" or "icc_profile" not in upright.info
    upright.info["colour_tags"] = contents.colour_tags if tagged else b""
    upright.info["lost"] = () if whole < MAX_INPUT_PIXELS else besides(encoded, contents, image)
    upright.info["cut_off"] = cut_off
    return image.format or "", upright


def _loaded(contents: Contents, image: Image.Image, at_least: tuple[int, int] | None) -> tuple[Image.Image, str]:
    """The decoded pixels, as they lie in the file, and what the client should know if the file is cut off."""

    def load(image: Image.Image) -> None:
        if at_least is not None:
            image.draft(None, at_least[::-1] if _turn(image) in _SIDEWAYS else at_least)
        image.load()

    try:
        load(image)
    except OSError as error:
        if contents.cut_off:
            return restored_png(contents.data) if image.format == "PNG" else restored_jpeg(contents.data, load)
        if image.format in ("BMP", "TIFF") and is_cut_off(error, contents.data):
            return restored_rows(contents.data)
        raise
    return image, ""


def _upright(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it: EXIF orientation applied. What else EXIF holds may be broken."""
    turn, dpi = _turn(image), _resolution(image)
    upright = image if turn is None else image.transpose(turn)
    upright.info["dpi"] = dpi[::-1] if dpi is not None and turn in _SIDEWAYS else dpi
    return upright


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch across and down, as the image lies in the file; None if it does not say, or says nonsense."""
    try:
        exif = image.getexif()
        tags = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        per_inch = _PER_INCH.get(exif.get(ExifTags.Base.ResolutionUnit, 2))
        found = image.info.get("dpi")
        if per_inch is not None and (found is None or image.format == "JPEG") and all(tag in exif for tag in tags):
            # Of a JPEG also where Pillow found it there: it takes the one across for both.
            from_exif = (float(exif[tags[0]]) * per_inch, float(exif[tags[1]]) * per_inch)
            found = from_exif if found is None or found[0] == found[1] == from_exif[0] else found
        across, down = map(float, found or ())
    except _BROKEN:
        return None
    return (across, down) if 1 <= across <= 65_535 and 1 <= down <= 65_535 else None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return None


def _check_parts(contents: Contents) -> None:
    """Refuse a JPEG that would keep the decoder busy for much longer than its pixels do."""
    for count, most, what in ((contents.scans, MAX_SCANS, "scans"), (contents.segments, MAX_SEGMENTS, "segments")):
        if count > most:
            raise InvalidImageError(
                f"The JPEG has more than {most:,} {what}.", "Save it anew as an ordinary JPEG, or give a PNG."
            )


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise InvalidImageError("The image has no pixels.")
    if width * height > MAX_INPUT_PIXELS:
        megapixels = math.ceil(width * height / 1e5) / 10
        part = math.sqrt(MAX_INPUT_PIXELS / (width * height))
        raise InvalidImageError(
            f"The image has {megapixels} megapixels ({width}x{height}), the limit is {MAX_INPUT_PIXELS // 1_000_000}.",
            f"Scale it down to {max(1, int(width * part))}x{max(1, int(height * part))} or less.",
        )
