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


@dataclass(frozen=True, slots=True)
class Contents:
    """A file without what is neither pixels nor about them.

    `data` is what is decoded. `profile` and `colour_tags` (whole PNG chunks) are a PNG's. `frames` is how many images
    an animation or a multi-picture file has. `copyrighted` says that a notice was left out. `deep` says that the file
    has more than 8 bits for each channel. `segments` and `scans` are a JPEG's, counted to one above their limits.
    """

    data: bytes
    profile: bytes | None = None
    colour_tags: bytes = b""
    frames: int = 1
    copyrighted: bool = False
    deep: bool = False
    segments: int = 0
    scans: int = 0


def contents_of(data: bytes) -> Contents:
    """What of a file is pixels and about them; all of it, where it is neither a PNG nor a JPEG."""
    if data.startswith(PNG_START):
        return _png_contents(data)
    if data.startswith(JPEG_START):
        return _jpeg_contents(data)
    return Contents(data)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_contents(data: bytes) -> Contents:
    kept = [PNG_START]
    tags: list[bytes] = []
    profile: bytes | None = None
    frames, copyrighted, depth, colour_type, ended = 1, False, 8, 0, False
    for kind, start, end in _chunks(data):
        body = data[start:end]
        if not kind[0] & 0x20:  # a critical chunk: as it is, faults included
            kept.append(data[start - 8 : end + 4] if end + 4 <= len(data) else _restored(data, kind, start, end))
            if kind == b"IHDR" and len(body) == 13:
                depth, colour_type = body[8], body[9]
            ended = kind == b"IEND"
        elif zlib.crc32(kind + body) != int.from_bytes(data[end : end + 4], "big"):
            continue
        elif kind == b"tRNS":
            if len(body) == _ALPHA.get(colour_type) or (colour_type == 3 and 0 < len(body) <= 256):
                kept.append(chunk(kind, body))
        elif kind == b"eXIf" or (kind == b"pHYs" and len(body) == 9):
            kept.append(chunk(kind, body))
        elif kind == b"iCCP":
            profile = profile or _inflated_profile(body)
        elif len(body) == _COLOUR_TAGS.get(kind):
            tags.append(chunk(kind, body))
        elif kind == b"acTL" and len(body) == 8:
            frames = int.from_bytes(body[:4], "big")
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            copyrighted |= body.startswith(b"Copyright\0") or b"dc:rights" in body
        if ended:
            break
    if not ended:
        kept.append(chunk(b"IEND", b""))
    return Contents(b"".join(kept), profile, b"".join(tags), frames, copyrighted, depth > 8)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Of each chunk the kind, and where its body begins and ends; the last one may end beyond the file."""
    at = len(PNG_START)
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, end
        at = end + 4


def _restored(data: bytes, kind: bytes, start: int, end: int) -> bytes:
    """A critical chunk at which the file ends: with the checksum that was cut off, if nothing else was."""
    return chunk(kind, data[start:end]) if end <= len(data) else data[start - 8 :]


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
    frames, copyrighted, segments, scans, first_scan = 1, False, 0, 0, 0
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
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            frames = 2
        elif marker in (0xE1, 0xED):  # XMP; IPTC's copyright notice
            copyrighted |= b"dc:rights" in body or b"\x1c\x02\x74" in body
    if scans:
        kept.append(data[first_scan:])
        data = b"".join(kept)
    return Contents(data, frames=frames, copyrighted=copyrighted, segments=segments, scans=scans)


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


def names_all_scans(data: bytes) -> bool:
    """Whether a JPEG has begun every scan that its pixels need, down to the last bit of every coefficient."""
    components: set[int] = set()
    scanned: dict[tuple[int, int], int] = {}  # the lowest bit known of each component's coefficients
    for marker, start, end in _segments(data):
        header = data[start + 4 : end]
        if marker in _FRAMES:
            components = set(header[6::3])
        if marker != _SCAN:
            continue
        count = header[0] if header else 0
        if len(header) != 4 + 2 * count:
            return False
        first, last, bits = header[-3:]
        for component in header[1 : 1 + 2 * count : 2]:
            scanned |= {(component, place): bits & 15 for place in range(first, min(last, 63) + 1)}
    return bool(components) and all(scanned.get((one, place)) == 0 for one in components for place in range(64))
