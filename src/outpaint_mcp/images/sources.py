"""Reads what a client gives as `image` unless it is an http(s) URL: a ``data:`` URI, a ``file:`` URI or a path.

Everything here may read a disk or take a while, and is called in a thread. No message holds the data or the path: the
client knows them, and they should not get into a log.
"""

import base64
import binascii
import os
import re
import stat
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError, OutpaintError
from outpaint_mcp.images.size_limit import too_large

_MAX_PATH: Final = 4096  # characters; no system has longer paths
_PIECE: Final = 1 << 20
_SHORT: Final = 100
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_GIVE_AN_IMAGE: Final = "Give an http(s) URL, a file path or a data: URI of an image."


def scheme_of(ref: str) -> str | None:
    """The lower-case scheme if `ref` is a URL or URI, None if it is a path (also one such as ``C:\\x`` or ``a:b``)."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://|(data|file|https?|ftp|blob|javascript|mailto):", ref, re.IGNORECASE)
    return (found[1] or found[2]).lower() if found else None


def data_of(uri: str, max_bytes: int) -> bytes:
    """The bytes of a ``data:`` URI, in base64 or percent-encoded.

    Base64 is read in both alphabets, broken into lines or not, padded or not, also where ``+`` has become a space.

    Raises:
        InvalidImageError: it is malformed, or holds more than `max_bytes`.
    """
    if len(uri) > 3 * max_bytes + 1000:  # each byte percent-encoded
        raise too_large(max_bytes)
    head, comma, body = uri.partition(",")
    if not comma:
        if (cut := re.match(r"data:.{0,100}?;base64[:;\s]*", uri, re.IGNORECASE)) is None:
            raise InvalidImageError(
                "The data: URI has no comma.", "Write data:image/png;base64, and after it the image's bytes in base64."
            )
        head, body = cut[0], uri[cut.end() :]
    if scheme_of(body) == "data":
        return data_of(body, max_bytes)
    data = unquote_to_bytes(body)
    if re.search(r"[:;]\s*base64\s*($|[:;])", head, re.IGNORECASE) or is_base64_of_image(body):
        try:
            data = _decoded(data)
        except (binascii.Error, ValueError):
            if re.search(rb"[<>\[\]{}]|\.\.\.|\xe2\x80\xa6", data):
                raise _placeholder() from None
            raise InvalidImageError("The data: URI is not valid base64.", "Encode the image's bytes again.") from None
        if len(data) < _SHORT and not data.isascii() and not _is_image(data):
            # Words, which happen to be base64.
            raise _placeholder()
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


def is_base64_of_image(text: str) -> bool:
    """Whether a text begins as the base64 of an image does."""
    # So near to its beginning no image has a + that could have become a space.
    packed = unquote_to_bytes("".join(text[:80].split())[:16])
    try:
        return len(text) >= 40 and _is_image(_decoded(packed))
    except (binascii.Error, ValueError):
        return False


def _is_image(data: bytes) -> bool:
    return (
        re.match(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\0\0|II\*\0|MM\0\*|....(ftyp|jP  )", data, re.DOTALL)
        is not None
    )


def _decoded(body: bytes) -> bytes:
    """
    Raises:
        ValueError: it is no base64.
    """
    # Line ends are sometimes escaped twice, slashes too.
    body = body.strip(b" \t\r\n\"'`").replace(b"\\n", b"").replace(b"\\r", b"").replace(b"\\/", b"/")
    if _lost_plus(body):
        body = body.replace(b" ", b"+")
    packed = b"".join(body.split()).translate(_URL_SAFE).rstrip(b"=")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)


def _lost_plus(body: bytes) -> bool:
    """Whether the spaces were ``+`` before somebody took the base64 for a form's field."""
    if b" " not in body or re.search(rb"[+\r\n\t_-]", body):
        return False
    with_spaces, without = len(body), len(body) - body.count(b" ")
    if (with_spaces % 4 == 0) != (without % 4 == 0):
        return with_spaces % 4 == 0
    *lines, last = (len(piece) for piece in body.split(b" "))
    return len(set(lines)) > 1 or last > lines[0]


def _placeholder() -> InvalidImageError:
    return InvalidImageError(
        "The data: URI holds a placeholder in place of the image's bytes, or is cut short.",
        "Give the whole image in base64, or better its URL or path.",
    )


def path_of(ref: str) -> Path:
    """The path that a path or a ``file:`` URI names, with nothing resolved or opened yet.

    Raises:
        InvalidImageError: it is neither.
        ForbiddenUrlError: it is on another machine.
    """
    if len(ref) > _MAX_PATH:
        raise InvalidImageError("The image is neither a URL nor a path nor a data: URI.", _GIVE_AN_IMAGE)
    if scheme_of(ref) == "file":
        try:
            parts = urlsplit(ref)
        except ValueError:
            raise InvalidImageError("The file: URI cannot be read.", _GIVE_AN_IMAGE) from None
        if parts.netloc.lower() not in ("", "localhost"):
            raise ForbiddenUrlError(
                "The file: URI has two slashes, and what follows them names another machine.",
                "Write three slashes for a file of this machine, as in file:///home/user/photo.png, or its plain path.",
            )
        ref = url2pathname(parts.path) if sys.platform == "win32" else unquote(parts.path)
    if not ref:
        raise InvalidImageError("The image is empty.", _GIVE_AN_IMAGE)
    if sys.platform == "win32" and re.match(r"[\\/]{2}", ref):  # even a look there would send the user's credentials
        raise ForbiddenUrlError("The path is on another machine.", _GIVE_AN_IMAGE)
    path = Path(ref)
    try:
        return path.expanduser()
    except RuntimeError:  # a ~user that does not exist
        return path


def lies_within(path: Path, roots: Collection[Path]) -> Path | None:
    """The path with all links resolved if it lies in one of `roots`, which may hold ``~``; else None.

    Raises:
        OSError, ValueError, RuntimeError: it cannot be resolved.
    """
    real = path.resolve()
    return real if any(real.is_relative_to(root.expanduser().resolve()) for root in roots) else None


def copy_user_file(path: Path, part: Path, roots: Collection[Path], max_bytes: int) -> None:
    """Copy the user's file to `part`, if it lies in one of `roots` with all links resolved, and is a plain file.

    Raises:
        ForbiddenUrlError: it lies elsewhere.
        InvalidImageError: it is not there, not a plain file, or too large.
        OSError: `part` cannot be written.
    """
    missing = InvalidImageError("There is no file at the image's path, or it cannot be read.", "Give its full path.")
    try:
        real = lies_within(path, roots)
    except (OSError, ValueError, RuntimeError):
        raise missing from None
    outside = ForbiddenUrlError(
        "The image's path lies outside the folders that may be read.",
        "Give an http(s) URL or a data: URI, or have the operator add the folder to OUTPAINT_FILE_ROOTS.",
    )
    if real is None:
        raise outside
    try:
        if not stat.S_ISREG(real.lstat().st_mode):
            raise InvalidImageError("The image's path is not a plain file's.", "Give the path of an image.")
        # If the last component has become a link or a pipe since, it is neither followed nor waited for.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        source = os.open(real, flags)
    except (OSError, ValueError):
        raise missing from None
    with os.fdopen(source, "rb") as opened:
        status = os.fstat(source)
        try:
            # Nor has a folder on the way been replaced: the path is still what was checked, and so is the open file.
            same = real.resolve() == real and os.path.samestat(real.lstat(), status)
        except (OSError, RuntimeError):
            raise missing from None
        if not (same and stat.S_ISREG(status.st_mode)):
            raise outside
        if status.st_size > max_bytes:
            raise too_large(max_bytes)
        _copy_opened(opened.read, part, max_bytes, missing)


def _copy_opened(read: Callable[[int], bytes], part: Path, max_bytes: int, unreadable: OutpaintError) -> None:
    copied = 0
    with part.open("wb") as target:
        while True:
            try:
                piece = read(_PIECE)
            except OSError:
                raise unreadable from None
            if not piece:
                return
            copied += len(piece)
            if copied > max_bytes:  # it has grown meanwhile
                raise too_large(max_bytes)
            target.write(piece)
