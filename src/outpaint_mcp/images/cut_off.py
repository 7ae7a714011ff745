"""Files that are cut off near their end, as broken downloads are: which of their pixels are missing.

An image is read where next to none are, since every viewer shows it. What is missing then continues what lies above
it: the grey that a decoder leaves there must not be extended.
"""

import re
import zlib
from collections.abc import Callable
from math import ceil
from typing import Final

from PIL import Image, ImageChops

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.images.containers import JPEG_END, PNG_START, chunk, chunks, last_scan
from outpaint_mcp.images.formats import open_untrusted

LARGEST_PART: Final = 1 / 32
"""Of the pixels that may be missing."""
_LARGEST_COARSE_PART: Final = 1 / 4
"""Of the pixels that may lack the last bit of their coefficients, which is seen as a little noise."""
_LAST_ROWS: Final = 17
"""Of a JPEG: one row of blocks, and the line above that is smoothed with it."""
_BLOCK: Final = 8
_MOST_BYTES: Final = 1 << 20
"""That are added to a file whose pixels lie in it as they are."""
_OTHER_DATA: Final = bytes(85 + place * 89 % 127 for place in range(4000))
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced PNG: the first pixel across and down, and the steps."""
_UP: Final = b"\2"
"""The filter of a row of a PNG that holds the differences from the row above."""


def refusal(part: float | None = None) -> InvalidImageError:
    """The error of a file of which this part of the pixels is missing, if that is known."""
    missing = "" if part is None else f": about {max(part, 0.01):.0%} of its pixels are missing"
    return InvalidImageError(
        f"The image's file is cut off{missing}.", "Give the whole file: save or download it again."
    )


def _note(part: float) -> str:
    share = f"{max(part, 1e-4):.2%}"
    return f"The image's file is cut off: its last pixels ({share}) are missing, and continue those beside them."


def restored_jpeg(data: bytes, load: Callable[[Image.Image], None]) -> tuple[Image.Image, str]:
    """The pixels of a JPEG without its end, and what the client should know of them.

    `load` decodes an opened image, maybe at a part of its size.

    Where data is missing the decoder draws grey; where other data is there instead it draws that. So the first pixels
    in which the two differ are the first that are missing.

    Raises:
        InvalidImageError: more is missing than may be.
        OSError: it is broken in another way.
    """
    if (scan := last_scan(data)) is None:
        raise refusal()
    full = open_untrusted(data).height
    image, other = (_loaded(data.rstrip(b"\xff") + more, load) for more in (b"", _OTHER_DATA))
    differing = ImageChops.difference(image, other)
    if (box := differing.getbbox()) is None:
        return image, ""
    left, top = box[:2]
    if scan[1]:
        block = ceil(_BLOCK * image.height / full)
        return _without_last_bit(image, differing, top, block, _loaded(data[: scan[0]], load))
    width, height = image.width - left, image.height - top
    part = width * height / (image.width * image.height)
    if part > LARGEST_PART or height > ceil(_LAST_ROWS * image.height / full):
        raise refusal(part)
    beside = (left, top - 1, image.width, top) if top else (left - 1, 0, left, image.height)
    image.paste(image.crop(beside).resize((width, height)), (left, top))
    return image, _note(part)


def restored_rows(data: bytes) -> tuple[Image.Image, str]:
    """As `restored_jpeg`, for a file whose pixels lie in it as they are, from the top down or from the bottom up.

    Raises:
        InvalidImageError: more is missing than may be.
    """
    try:
        image, other = (open_untrusted(data + more) for more in (bytes(_MOST_BYTES), b"\x55" * _MOST_BYTES))
        differing = ImageChops.difference(image, other).getbbox()
    except (OSError, ValueError):
        raise refusal() from None
    if differing is None:
        return image, ""
    left, top, right, bottom = differing
    width, height = right - left, bottom - top
    part = width * height / (image.width * image.height)
    if part > LARGEST_PART:
        raise refusal(part)
    beside = (left, top - 1, right, top) if top else (left, bottom, right, bottom + 1)
    image.paste(image.crop(beside).resize((width, height)), (left, top))
    return image, _note(part)


def _loaded(data: bytes, load: Callable[[Image.Image], None]) -> Image.Image:
    image = open_untrusted(data + JPEG_END)
    load(image)
    return image


def _without_last_bit(
    image: Image.Image, differing: Image.Image, top: int, block: int, coarse: Image.Image
) -> tuple[Image.Image, str]:
    """The image with `coarse`, the one without its last scan, from the block on within which that scan is cut off."""
    width, height = image.size
    bottom = min(top + block, height)
    first = differing.crop((0, top, width, bottom)).getbbox()
    left = first[0] if first is not None else 0
    part = ((width - left) * (bottom - top) + width * (height - bottom)) / (width * height)
    if part > _LARGEST_COARSE_PART:
        raise refusal()
    for box in ((left, top, width, bottom), (0, bottom, width, height)):
        if box[3] > box[1]:
            image.paste(coarse.crop(box), box)
    return image, f"The image's file is cut off: its last pixels ({part:.2%}) lack some of their detail."


def restored_png(data: bytes) -> tuple[Image.Image, str]:
    """As `restored_jpeg`, for a PNG.

    Raises:
        InvalidImageError: more is missing than may be.
        OSError, and what else Pillow raises: it is broken in another way.
    """
    parts = [(kind, data[start:end]) for kind, start, end in chunks(data)]
    header = next(body for kind, body in parts if kind == b"IHDR")
    size, row = _lengths(header)
    inflating = zlib.decompressobj()
    pixels = inflating.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"), size)
    missing = size - len(pixels)
    if missing / size > LARGEST_PART:
        raise refusal(missing / size)
    # So little lies in the last rows, all of one length: what is missing of one differs by nothing from what its
    # filter predicts, and each after it is like the one above.
    whole, rest = divmod(missing, row)
    pixels += bytes(rest) + (_UP + bytes(row - 1)) * whole
    before = b"".join(chunk(kind, body) for kind, body in parts if kind not in (b"IDAT", b"IEND"))
    image = open_untrusted(PNG_START + before + chunk(b"IDAT", zlib.compress(pixels, 0)) + chunk(b"IEND", b""))
    image.load()
    return image, _note(missing / size) if missing else ""


def _lengths(header: bytes) -> tuple[int, int]:
    """How many bytes the rows of a PNG have, those of their filters included: all rows, and each of the last ones."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS.get(header[9], 1)
    size = last = 0
    for x, y, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            last = 1 + -(-columns * bits // 8)
            size += rows * last
    return size, last


def is_cut_off(error: Exception, data: bytes) -> bool:
    """Whether that is why a file cannot be decoded: the decoder says so, or the file that it is longer."""
    return re.search(r"truncat|unexpected end|not enough", str(error), re.IGNORECASE) is not None or _ends_early(data)


def _ends_early(data: bytes) -> bool:
    if data.startswith(b"RIFF"):  # WebP
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data[:4] in (b"II*\0", b"MM\0*"):  # TIFF
        return int.from_bytes(data[4:8], "little" if data.startswith(b"I") else "big") + 2 > len(data)
    if data[4:8] not in (b"ftyp", b"jP  "):
        return False
    at = 0  # the boxes of AVIF, HEIC and JPEG 2000
    while at + 16 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return False
        at += size
    return at > len(data)
