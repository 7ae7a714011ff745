"""What stands in the data folder, and that other users of the machine are kept out of it.

Modes are POSIX: on Windows nothing is changed, and nothing found.
"""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from outpaint_mcp.domain.private_files import is_open_to_others

STORE: Final = "store.db"
IMAGE_LINKS_KEY: Final = "image-links.key"
FILES_SECONDS: Final = 1.0
"""How long a start may take to narrow the files below folders that are closed already: 100,000 take 0.7 s, and half of
that once they are narrow."""
_FOLDERS: Final = frozenset({"sources", "images", "incoming", "jobs"})
_OF_THE_SYSTEM: Final = frozenset({"lost+found", ".DS_Store"})
"""What stands in a folder without anybody's doing."""


def _is_ours(name: str) -> bool:
    """Whether a name in the data folder is this program's: a folder of images, or a file with what SQLite keeps beside
    it, its copies and unfinished parts."""
    return name in _FOLDERS or name.startswith((STORE, IMAGE_LINKS_KEY))


def is_ours_alone(folder: Path) -> bool:
    """Whether a folder may be closed to others: this user owns it and there is nothing else in it.

    Never the root folder nor one right below it, a sticky one, or the user's home and what leads to it.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    place = folder.resolve()
    found = place.stat()
    return (
        os.name == "posix"
        and found.st_uid == os.geteuid()
        and not found.st_mode & stat.S_ISVTX
        and place.parent != Path(place.anchor)
        and not Path(os.path.expanduser("~")).resolve().is_relative_to(place)
        and all(_is_ours(name) or name in _OF_THE_SYSTEM for name in os.listdir(place))
    )


def ours_in(folder: Path) -> list[Path]:
    """This program's files and folders in the data folder.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    return sorted(path for path in folder.iterdir() if _is_ours(path.name))


def close_to_others(folder: Path) -> None:
    """Take other users' access to what is stored away, as far as this user can; `open_to_others` tells what is left.

    The data folder itself is closed if it `is_ours_alone`. Then come its folders, which protects all below them at
    once, and at last the files, for `FILES_SECONDS` at most. Links, and files of another user or with several hard
    links, are left: they may be somebody else's. No file is opened, since closing it would drop the locks that SQLite
    has on it in this process.
    """
    if os.name != "posix":
        return
    with suppress(OSError):  # not there yet, or not usable: whoever uses it next tells
        if is_ours_alone(folder):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~0o077)
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(filter(_is_ours, os.listdir(top)), key=lambda name: name not in _FOLDERS)
            _close(names, top)
            until = time.monotonic() + FILES_SECONDS
            for name in _FOLDERS.intersection(names):
                with suppress(OSError):
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                    try:
                        _close(os.listdir(below), below, until)
                    finally:
                        os.close(below)
        finally:
            os.close(top)


def _close(names: list[str], folder: int, until: float = float("inf")) -> None:
    """Narrow the modes of `names` in an open folder, in which nobody else may be able to replace them meanwhile."""
    place = os.fstat(folder)
    if place.st_uid not in (0, os.geteuid()) or (place.st_mode & 0o022 and not place.st_mode & stat.S_ISVTX):
        return
    for name in names:
        if time.monotonic() > until:
            return
        with suppress(OSError):  # deleted meanwhile, or on a file system without modes
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            private = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
            if found.st_mode & 0o077 and found.st_uid == os.geteuid() and private:
                os.chmod(name, stat.S_IMODE(found.st_mode) & ~0o077, dir_fd=folder)


def open_to_others(folder: Path) -> list[Path]:
    """What other users can use: the data folder, and what is ours in it unless the closed folder protects it.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    found = [folder] if is_open_to_others(folder) else []
    for path in ours_in(folder):
        with suppress(OSError):  # deleted meanwhile, or a link to nowhere
            has_other_ways = path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)
            if (found or has_other_ways) and is_open_to_others(path):
                found.append(path)
    return found
