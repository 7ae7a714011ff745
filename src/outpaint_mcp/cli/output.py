"""Where the command line writes images: a name's suffix picks the format.

Only a name that was given is written over. Every other one, such as the numbered names of several images, is new.
"""

import argparse
import itertools
import mimetypes
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from outpaint_mcp.domain.task import Task
from outpaint_mcp.domain.values import FILE_FORMATS
from outpaint_mcp.images.sources import scheme_of

FORMATS: Final = {f".{suffix}": name for suffix, name in FILE_FORMATS.items()}
"""The format that a suffix means; every other suffix is a part of the name."""
MAX_STEM: Final = 100
"""Characters of the input's name that go into the output's; a URL's may be longer than a file's can be."""
_OTHERS: Final = frozenset((".avif", ".heic", ".heif", ".jxl", ".svg", ".dng", ".pdf"))
"""Suffixes of images that mimetypes or Pillow do not know everywhere."""


def output_path(text: str) -> Path:
    """The value of ``-o``: a file's name, or a folder that is there.

    Raises:
        argparse.ArgumentTypeError: it is neither, or has the suffix of a format that is not written.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a file such as wider.png, or a folder")
    path = Path(text)
    if not path.is_dir():
        if text.endswith(("/", os.sep)):
            raise argparse.ArgumentTypeError(f"there is no folder {text!r}; make it, or give one that is there")
        if _is_of_another_format(path.suffix.lower()):
            raise argparse.ArgumentTypeError(f"no {path.suffix} is written; give {', '.join(FORMATS)} or no suffix")
    return path


def format_of(target: Path | None) -> str | None:
    """The format that a file's name asks for; None if it asks for none."""
    return None if target is None or target.is_dir() else FORMATS.get(target.suffix.lower())


def default_output(image: str | None, task: Task) -> Path:
    """A name in the working folder, made from the input image's."""
    if image is None or not (scheme_of(image) in ("http", "https") or os.path.exists(image)):
        # As it was understood; what was given may be anything.
        image = task.request.get("image")
    if image is None or scheme_of(image) == "data":
        return Path("outpainted")
    stem = Path(urlsplit(image).path if scheme_of(image) else image).stem
    return Path((stem[:MAX_STEM] or "image") + "-outpainted")


def write_image(target: Path, *, given: bool, task: Task, index: int, data: bytes, mime_type: str) -> Path:
    """Write one image of a task; its suffix follows its type. Several are numbered, and named by task in a folder.

    Args:
        target: the file or folder.
        given: whether the user gave this very name.
        task: the task.
        index: which of its images.
        data: the image.
        mime_type: its type.

    Returns:
        Where it was written.

    Raises:
        OSError: it cannot be written.
    """
    kind = mime_type.partition("/")[2]
    suffix = next((one for one, name in FORMATS.items() if name == kind), f".{kind}")
    if target.is_dir():
        return _write_new(target / f"{task.id}-{index}{suffix}", data)
    stem, own = target.name, FORMATS.get(target.suffix.lower())
    if own is not None:
        stem, suffix = target.stem, target.suffix if own == kind else suffix
    if len(task.images) > 1:
        return _write_new(target.with_name(f"{stem}-{index}{suffix}"), data)
    path = target.with_name(f"{stem}{suffix}")
    if not given or path != target:
        return _write_new(path, data)
    path.write_bytes(data)
    return path


def _write_new(path: Path, data: bytes) -> Path:
    """Write a file that is not there yet, numbered if need be; one that holds the same already is as good."""
    names = itertools.chain([path.name], (f"{path.stem}-{number}{path.suffix}" for number in itertools.count(2)))
    for one in map(path.with_name, names):
        try:
            file = one.open("xb")
        except FileExistsError:
            if one.is_file() and one.stat().st_size == len(data) and one.read_bytes() == data:
                return one
            continue
        try:
            with file:
                file.write(data)
        except OSError:
            one.unlink()
            raise
        return one
    raise AssertionError("there is always another number")


def _is_of_another_format(suffix: str) -> bool:
    if not suffix or suffix in FORMATS:
        return False
    if suffix in _OTHERS or (mimetypes.guess_type(f"x{suffix}", strict=False)[0] or "").startswith("image/"):
        return True
    from PIL import Image

    return suffix in Image.registered_extensions()
