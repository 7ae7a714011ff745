"""The files that images are stored in: how they are named, begun, filled and put into their place. All of it blocks."""

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError
from outpaint_mcp.domain.private_files import make_folder, narrow, open_private
from outpaint_mcp.images.sources import data_of

_EXTENSIONS: Final = {
    f"image/{name}": name for name in ("jpeg", "png", "webp", "gif", "avif", "heic", "tiff", "bmp", "jp2")
}

_OWN: Final = "stored:"
_STORED: Final = re.compile(rf"{_OWN}([0-9a-f]{{64}}\.[a-z0-9]{{2,5}})")


def cannot_store(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The server cannot store images ({error.strerror or 'disk error'}).",
        "Have the operator check OUTPAINT_DATA_DIR: its disk space and its permissions.",
    )


def make_part(part: Path) -> None:
    """Begin an empty file that is private to this user."""
    make_folder(part.parent)
    os.close(open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def write_data(part: Path, ref: str, max_bytes: int) -> None:
    """Write what a ``data:`` URI holds."""
    part.write_bytes(data_of(ref, max_bytes))


def append(part: Path, data: bytes) -> None:
    with part.open("ab") as file:
        file.write(data)


def link(path: Path, part: Path) -> None:
    """A hard link to one of our own files; a copy where the file system has no hard links."""
    try:
        part.unlink()
        os.link(path, part)
    except FileNotFoundError:
        raise InvalidImageError("The image is no longer on this machine.", "Order it again.") from None
    except OSError:
        make_part(part)
        part.write_bytes(path.read_bytes())


def link_into(path: Path, folder: Path) -> None:
    """The same file under the same name in another folder, where it may be already."""
    make_folder(folder)
    other = folder / path.name
    try:
        os.link(path, other)
    except FileExistsError:
        pass
    except OSError:  # no hard links
        with open(other, "wb", opener=open_private) as file:
            file.write(path.read_bytes())


def names_of(folder: Path) -> set[str]:
    """The names of the files in a folder, which need not be there."""
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def hash_of(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, and its size in bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def move_to(part: Path, path: Path, stored_at: float | None = None) -> None:
    """Put a file that is complete into its place, as stored now, or at another time in seconds since the epoch."""
    make_folder(path.parent)
    narrow(part)
    os.replace(part, path)
    # Where both are links to one file already, nothing was moved.
    part.unlink(missing_ok=True)
    # `prune` goes by when an image was last stored.
    os.utime(path, None if stored_at is None else (stored_at, stored_at))


def file_name(sha256: str, mime_type: str) -> str:
    """What a stored image is called.

    Raises:
        ValueError: no stored image can have these.
    """
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None or mime_type not in _EXTENSIONS:
        raise ValueError(f"{sha256[:64]!r} of type {mime_type[:64]!r} cannot be an image of ours")
    return f"{sha256}.{_EXTENSIONS[mime_type]}"


def url_of(name: str) -> str:
    """How a task's record names a stored image, wherever the folders lie on the machine that reads it."""
    return _OWN + name


def name_in(url: str) -> str | None:
    """The name of the stored image that such an URL names; None if it is another URL."""
    found = _STORED.fullmatch(url)
    return None if found is None else found[1]
