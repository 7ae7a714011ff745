"""Files and folders that are their owner's alone, whatever the process's umask: 0600 and 0700."""

import os
import stat
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def open_private(path: str | Path, flags: int) -> int:
    """Open a file that only its owner can read; an `opener` of `open`."""
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)
    return descriptor


def is_open_to_others(path: Path) -> bool:
    """Whether other users of this machine can use a file or folder."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def narrow(path: Path) -> None:
    """Take other users' access to a file away, if it is this user's.

    Raises:
        OSError: it is not there.
    """
    if is_open_to_others(path) and path.stat().st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
