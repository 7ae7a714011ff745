"""PNG and JPEG files taken apart: what is pixels, what says how they look, and what is neither.

Whatever is neither (texts, thumbnails, profiles of tools, private chunks) never reaches the decoder, so that its size,
or a fault in it, refuses no image. Bytes in, bytes out: nothing is decoded here, and nothing raises on a broken file;
what cannot be taken apart is left for the decoder to judge.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PNG_START: Final = b"\x89PNG\r\n\x1a\n"
JPEG_START: Final = b"\xff\xd8\xff"
JPEG_END: Final = b"\xff\xd9"
MAX_PROFILE: Final = 16_000_000
"""Bytes of a colour profile; those of scanners and presses have some megabytes."""

MAX_SCANS: Final = 100
"""Of a JPEG; programs write about ten. Each scan passes over all pixels, and may itself be a few bytes long."""
MAX_SEGMENTS: Final = 10_000
"""Of a JPEG; the largest profile has 255."""

_BOXES: Final = 100_000
"""Bytes of an AVIF or HEIC file within which it says what it is."""
_COLOUR_TAGS: Final = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""How the numbers of a PNG are meant where no profile says it, with the length of each chunk."""
_ALPHA: Final = {0: 2, 2: 6}
"""The length of a tRNS chunk by colour type; a palette's has one byte for each of its colours, or fewer."""
_SCAN: Final = 0xDA
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
"""A marker at which a segment begins. The others have none: FF00 and restart markers belong to a scan's data, and FF
before a marker is padding. Decoders skip whatever lies between two segments."""
_APP_PREFIXES: Final = {
    0xE0: (b"JFIF\0", 14),
    0xE1: (b"Exif\0\0", 14),
    0xE2: (b"ICC_PROFILE\0", 15),
    0xEE: (b"Adobe", 12),
}
"""The application segments that say how the pixels are meant: how each begins, and how long it is at least."""


COPYRIGHT: Final = "the copyright notice"
TEXTS: Final = "texts and comments"
DEPTH: Final = "the bits of each channel beyond 8"
FRAMES: Final = "all frames or pages but the first"
OTHERS: Final = "the other images of a multi-picture file (MPF)"
_MPF_ENTRIES: Final = 0xB002
_MPF_PREVIEWS: Final = frozenset({0x030000, 0x010001, 0x010002})
"""The types of images in a multi-picture file that are the image itself, or smaller ones of it (CIPA DC-007)."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A file without what is neither pixels nor about them.

    `data` is what is decoded. `profile` is a PNG's. `colour_tags` are chunks of a PNG, also where a file of another
    format says the same. `left_out` are the kinds of what was, `COPYRIGHT` and those below it. `cut_off` says that a
    PNG or a JPEG has no end. `segments` and `scans` are a JPEG's, counted to one above their limits.
    """

    data: bytes
    profile: bytes | None = None
    colour_tags: bytes = b""
    left_out: frozenset[str] = frozenset()
    cut_off: bool = False
    segments: int = 0
    scans: int = 0


def contents_of(data: bytes) -> Contents:
    """What of a file is pixels and about them; all of it, where it is neither a PNG nor a JPEG."""
    if data.startswith(PNG_START):
        return _png_contents(data)
    if data.startswith(JPEG_START):
        return _jpeg_contents(data)
    return Contents(data, colour_tags=_box_colours(data))


def _box_colours(data: bytes) -> bytes:
    """What an AVIF or HEIC image says of its colours, as a PNG says the same."""
    found = re.search(rb"colrnclx\0(.)\0(.)", data[:_BOXES], re.DOTALL) if data[4:8] == b"ftyp" else None
    # Whatever the file holds, the decoder gives full-range RGB.
    return b"" if found is None or b"\2" in found.groups() else chunk(b"cICP", found[1] + found[2] + b"\0\1")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_contents(data: bytes) -> Contents:
    kept = [PNG_START]
    tags: list[bytes] = []
    profile: bytes | None = None
    left_out: set[str] = set()
    depth, colour_type, ended = 8, 0, False
    for kind, start, end in chunks(data):
        body = data[start:end]
        if not kind[0] & 0x20:  # a critical chunk: as it is, faults included
            # The last one, if the file ends within it, as far as it goes.
            kept.append(data[start - 8 : end + 4] if end + 4 <= len(data) else chunk(kind, body))
            if kind == b"IHDR" and len(body) == 13:
                depth, colour_type = body[8], body[9]
                left_out |= {DEPTH} if depth > 8 else set()
            ended = kind == b"IEND"
        elif zlib.crc32(kind + body) != int.from_bytes(data[end : end + 4], "big"):
            continue
        elif kind == b"tRNS":
            if len(body) == _ALPHA.get(colour_type) or (colour_type == 3 and 0 < len(body) <= 256):
                kept.append(chunk(kind, _transparent_as_decoded(body, colour_type, depth)))
        elif kind == b"eXIf" or (kind == b"pHYs" and len(body) == 9):
            kept.append(chunk(kind, body))
        elif kind == b"iCCP":
            profile = profile or _inflated_profile(body)
        elif len(body) == _COLOUR_TAGS.get(kind):
            tags.append(chunk(kind, body))
        elif kind == b"acTL" and len(body) == 8 and int.from_bytes(body[:4], "big") > 1:
            left_out.add(FRAMES)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and not body.startswith((b"XML:com.adobe.xmp\0", b"Raw profile ")):
            left_out.add(COPYRIGHT if body.startswith((b"Copyright\0", b"Author\0")) else TEXTS)
        if ended:
            break
    if not ended:
        kept.append(chunk(b"IEND", b""))
    return Contents(b"".join(kept), profile, b"".join(tags), frozenset(left_out), cut_off=not ended)


def _transparent_as_decoded(body: bytes, colour_type: int, depth: int) -> bytes:
    """A tRNS chunk's body that names the transparent grey or colour as Pillow (13.0) decodes it, since Pillow does not:
    2 and 4 bits are spread over 8, and of the 16 bits of a colour the upper 8 are left."""
    if colour_type == 0 and depth in (2, 4):
        return struct.pack(">H", int.from_bytes(body, "big") * 255 // ((1 << depth) - 1) & 255)
    if colour_type == 2 and depth == 16:
        return b"".join(b"\0" + body[at : at + 1] for at in (0, 2, 4))
    return body


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Of each chunk the kind, and where its body begins and ends; the last one may end beyond the file."""
    at = len(PNG_START)
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, end
        at = end + 4


def _inflated_profile(body: bytes) -> bytes | None:
    """The colour profile in an iCCP chunk; None if it is broken or larger than `MAX_PROFILE`."""
    inflating = zlib.decompressobj()
    try:
        profile = inflating.decompress(body.partition(b"\0")[2][1:], MAX_PROFILE)
    except zlib.error:
        return None
    return profile if inflating.eof else None


def _jpeg_contents(data: bytes) -> Contents:
    kept = [data[:2]]
    left_out: set[str] = set()
    segments, scans, first_scan, end = 0, 0, 0, 0
    for marker, start, end in _segments(data):
        segments += 1
        if marker == _SCAN:
            scans += 1
            first_scan = first_scan or start
        if segments > MAX_SEGMENTS or scans > MAX_SCANS:
            break
        if scans:
            continue
        body = data[start + 4 : end]
        if _is_about_pixels(marker, body):
            kept.append(data[start:end])
        elif marker == 0xE2 and body.startswith(b"MPF\0") and _names_other_images(body[4:]):
            left_out.add(OTHERS)
        elif marker == 0xED and b"\x1c\x02\x74" in body:  # as IPTC has it
            left_out.add(COPYRIGHT)
        elif marker == 0xFE:
            left_out.add(TEXTS)
    ended = data.find(JPEG_END, end)
    if scans:
        # Whatever lies behind the end (a video, other images) is not the image.
        kept.append(data[first_scan : ended + len(JPEG_END)] if ended >= 0 else data[first_scan:])
        data = b"".join(kept)
    return Contents(data, left_out=frozenset(left_out), cut_off=ended < 0, segments=segments, scans=scans)


def _names_other_images(index: bytes) -> bool:
    """Whether the index of a multi-picture file names an image that is not the file's own or a preview of it."""
    order = "<" if index.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(order + "I", index, 4)
        (count,) = struct.unpack_from(order + "H", index, at)
        for entry in range(min(count, 100)):
            tag, _, size, start = struct.unpack_from(order + "HHII", index, at + 2 + 12 * entry)
            if tag == _MPF_ENTRIES:
                images = [struct.unpack_from(order + "I", index, start + 16 * one)[0] for one in range(size // 16)]
                return any(attributes & 0xFFFFFF not in _MPF_PREVIEWS for attributes in images)
    except struct.error:
        pass
    return False


def _is_about_pixels(marker: int, body: bytes) -> bool:
    if 0xE0 <= marker <= 0xEF:
        prefix, least = _APP_PREFIXES.get(marker, (b"", 0))
        return prefix != b"" and body.startswith(prefix) and len(body) >= least
    return marker != 0xFE  # a comment


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each segment of a JPEG the marker, and where it begins and ends, as libjpeg finds them.

    Of a scan that is the header; its data are passed over. Nothing more comes after the end marker (a preview or a
    second image), or where the file is broken.
    """
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        start, body = found.span()
        end = body + int.from_bytes(data[body : body + 2], "big")
        if found[1] == b"\xd9" or body + 2 > len(data) or end > len(data):
            return
        # A length below 2 does not count itself: decoders skip nothing then.
        at = max(end, body + 2)
        yield found[1][0], start, at


def last_scan(data: bytes) -> tuple[int, bool] | None:
    """Where the last scan of a JPEG begins, and whether all it holds is the last bit of some coefficients.

    None unless every scan has begun that the pixels need, down to the last bit of every coefficient.
    """
    components: set[int] = set()
    scanned: dict[tuple[int, int], int] = {}  # the lowest bit known of each component's coefficients
    at, refines = 0, False
    for marker, start, end in _segments(data):
        header = data[start + 4 : end]
        if marker in _FRAMES:
            components = set(header[6::3])
        if marker != _SCAN:
            continue
        count = header[0] if header else 0
        if len(header) != 4 + 2 * count:
            return None
        first, last, bits = header[-3:]
        for component in header[1 : 1 + 2 * count : 2]:
            scanned |= {(component, place): bits & 15 for place in range(first, min(last, 63) + 1)}
        at, refines = start, bits == 0x10
    whole = bool(components) and all(scanned.get((one, place)) == 0 for one in components for place in range(64))
    return (at, refines) if whole else None
