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
_GIVE_AN_IMAGE: Final = "Give an http(s) URL, a file path or a data: URI of an image."


def scheme_of(ref: str) -> str | None:
    """The lower-case scheme if `ref` is a URL or URI, None if it is a path (also one such as ``C:\\x`` or ``a:b``)."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://|(data|file|https?|ftp|blob|javascript|mailto):", ref, re.IGNORECASE)
    return (found[1] or found[2]).lower() if found else None


def data_of(uri: str, max_bytes: int) -> bytes:
    """The bytes of a ``data:`` URI, in base64 or percent-encoded.

    Raises:
        InvalidImageError: it is malformed, or holds more than `max_bytes`.
    """
    if len(uri) > 3 * max_bytes + 1000:  # each byte percent-encoded
        raise too_large(max_bytes)
    head, comma, body = uri.partition(",")
    if not comma:
        raise InvalidImageError(
            "The data: URI has no comma.", "Write data:image/png;base64, and after it the image's bytes in base64."
        )
    try:
        data = unquote_to_bytes(body)
        if head.rstrip().lower().endswith(";base64"):
            packed = b"".join(data.split()).rstrip(b"=")
            data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImageError("The data: URI is not valid base64.", "Encode the image's bytes again.") from None
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


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
            raise ForbiddenUrlError("The file: URI names another machine.", _GIVE_AN_IMAGE)
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


def copy_user_file(path: Path, part: Path, roots: Collection[Path], max_bytes: int) -> None:
    """Copy the user's file to `part`, if it lies in one of `roots` with all links resolved, and is a plain file.

    Raises:
        ForbiddenUrlError: it lies elsewhere.
        InvalidImageError: it is not there, not a plain file, or too large.
        OSError: `part` cannot be written.
    """
    missing = InvalidImageError("There is no file at the image's path, or it cannot be read.", "Give its full path.")
    try:
        allowed = [root.expanduser().resolve() for root in roots]
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):
        raise missing from None
    outside = ForbiddenUrlError(
        "The image's path lies outside the folders that may be read.",
        "Give an http(s) URL or a data: URI, or have the operator add the folder to OUTPAINT_FILE_ROOTS.",
    )
    if not any(real.is_relative_to(root) for root in allowed):
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
