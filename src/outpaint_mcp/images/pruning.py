"""Deletes stored images that are too old or too many, and unfinished files that were left over.

Only files with names that this program gives are deleted: the folders may have been there before it, with files of
others.
"""

import re
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

_STALE_SECONDS: Final = 3600.0
_UNFINISHED: Final = re.compile(r"[0-9a-f]{32}")
_IMAGE: Final = re.compile(r"\.?[0-9a-f]{64}\.[a-z0-9]{2,5}(\.[0-9]+)?")
"""A stored image, or one that a worker has not finished writing."""


def prune_folders(
    folders: Collection[Path], incoming: Path, oldest: float, max_bytes: int, keep: Collection[str]
) -> int:
    """Delete what is left over in `incoming`, what was stored before `oldest` (seconds since the epoch), and then the
    oldest until `max_bytes` are left; images named after a hash in `keep` stay. Returns how many files were deleted.
    """
    deleted = sum(
        delete(file) for file, when, _ in _files(incoming, _UNFINISHED) if when < time.time() - _STALE_SECONDS
    )
    files = sorted((file for folder in folders for file in _files(folder, _IMAGE)), key=lambda file: file[1])
    excess = sum(size for *_, size in files) - max_bytes
    for file, when, size in files:
        if file.stem not in keep and (when < oldest or excess > 0) and delete(file):
            deleted += 1
            excess -= size
    return deleted


def _files(folder: Path, named: re.Pattern[str]) -> list[tuple[Path, float, int]]:
    """The files in `folder` with such names, each with the time of its last change and its size in bytes."""
    found = []
    for file in folder.iterdir() if folder.is_dir() else ():
        if named.fullmatch(file.name) is None:
            continue
        try:
            status = file.lstat()
        except FileNotFoundError:  # another process prunes too
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((file, status.st_mtime, status.st_size))
    return found


def delete(file: Path) -> bool:
    """Delete a file if it is there and can be; returns whether it was."""
    try:
        file.unlink()
    except OSError:  # gone already, or (on Windows) being read
        return False
    return True
