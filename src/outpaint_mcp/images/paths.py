"""Reads an image's reference as it is meant. Looks at the disk, and only in the folders that may be read.

A file is taken exactly as it is named if it is there. Else a name is read without quotes, escapes and the like, and
then as the one file whose name looks the same: screenshots' names have spaces that nobody types, and a letter with an
accent is written in two ways.
"""

import html
import itertools
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError, OutpaintError
from outpaint_mcp.domain.values import QUOTES
from outpaint_mcp.images.sources import lies_within, path_of, scheme_of
from outpaint_mcp.images.wrappers import is_of_a_chat, unwrapped

_MOST_WRAPPERS: Final = 4
"""How deep an address may be wrapped: base64 in JSON in Markdown."""
_MOST_NAMES: Final = 50_000
"""How many names of a folder are compared."""
_HOME: Final = re.compile(
    r"(?:\$\{?HOME\}?|\$\{?env:USERPROFILE\}?|%USERPROFILE%|%HOMEDRIVE%%HOMEPATH%)(?=[/\\])", re.IGNORECASE
)
_WINDOWS: Final = re.compile(r"(?:file:/{0,3})?/?(?:([A-Za-z]):[\\/]|\\\\)(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?::[0-9]+)?/\S+$", re.IGNORECASE)
_UNTOLD: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no message can hold."""
_ALIKE: Final = str.maketrans(
    "\u2018\u2019\u201a\u02bc\u201c\u201d\u201e\u2010\u2012\u2013\u2014\u2212", "''''\"\"\"-----"
)


@dataclass(frozen=True, slots=True)
class Meant:
    """The http(s) URL, ``data:`` URI or path that a text means, and what the client should know of it."""

    ref: str
    notes: tuple[str, ...] = ()


def meant(ref: str, roots: Collection[Path]) -> Meant:
    """What a text means that a client gave as `image`.

    Args:
        ref: the text.
        roots: the folders that may be read.

    Raises:
        InvalidImageError, ForbiddenUrlError: it holds several addresses, or names no file that this machine can have.
    """
    for _ in range(_MOST_WRAPPERS):
        if scheme_of(ref) in ("http", "https", "data"):
            return Meant(ref)
        if _is_file(ref, roots):
            return Meant(ref)
        if scheme_of(ref) == "file" or (is_of_a_chat(ref) and not ref.lower().startswith("sandbox:")):
            break
        inner = unwrapped(ref).strip()
        if inner == ref:
            break
        ref = inner
    if roots and (found := _file_like(ref, roots)) is not None:
        return Meant(str(found), (f"The image that was read is {str(found)!r}.",))
    if is_of_a_chat(ref):
        refused = InvalidImageError if scheme_of(ref) is None else ForbiddenUrlError
        raise refused(
            "The image is named as in a chat, whose files this server cannot read.",
            f"Give its http(s) URL{', its full path on this machine' if roots else ''} or its data: URI.",
        )
    if roots and sys.platform != "win32" and (windows := _WINDOWS.fullmatch(ref)) is not None:
        raise _windows_path(windows[1], windows[2])
    if scheme_of(ref) is None and _HOST.match(ref):
        raise InvalidImageError(
            "The image is neither a whole URL nor a path that is there.", "If it is a URL, write https:// before it."
        )
    if roots and scheme_of(ref) is None and ref and not os.path.isabs(os.path.expanduser(ref)) and ".." not in ref:
        raise InvalidImageError(
            "There is no file of this name in the working folder.",
            "Give its full path on this machine, an http(s) URL or a data: URI; what only a chat has cannot be read.",
        )
    return Meant(ref)


def _is_file(ref: str | Path, roots: Collection[Path]) -> bool:
    try:
        real = lies_within(path_of(ref) if isinstance(ref, str) else ref, roots)
        return real is not None and real.is_file()
    except (OutpaintError, OSError, ValueError, RuntimeError):
        return False


def _file_like(ref: str, roots: Collection[Path]) -> Path | None:
    """The file that is meant by what is not exactly its name.

    Raises:
        InvalidImageError: several are.
    """
    paths = list(dict.fromkeys(Path(os.path.expanduser(one)).absolute() for one in _readings(ref)))
    for path in paths:
        if _is_file(path, roots):
            return path
    found = list(dict.fromkeys(like for path in paths for like in _alike(path, roots) if _is_file(like, roots)))
    if len(found) > 1:
        names = ", ".join(ascii(path.name) for path in found[:5])
        raise InvalidImageError(
            f"There is no file of exactly this name, and {len(found)} that look like it: {names}.",
            "Rename one of them.",
        )
    return found[0] if found else None


def _readings(ref: str) -> Iterator[str]:
    """A path as it may be meant, likelier ones first."""
    if scheme_of(ref) == "file":
        # A # or ? or % that was not encoded.
        rest = re.sub(r"^file:(?://(?:localhost)?(?=[/~]))?", "", ref, flags=re.IGNORECASE)
        texts = [] if rest.startswith("//") else [unquote(rest), rest]
    else:
        bare = ref.removeprefix("@").strip(QUOTES + " ")
        texts = [bare, bare.rstrip(".,;:"), html.unescape(bare)]
        if sys.platform != "win32":
            try:
                words = shlex.split(ref.removeprefix("@"))
            except ValueError:
                words = []
            texts += [words[0]] if len(words) == 1 else []
            texts.append(re.sub(r"\\(.)", r"\1", bare))
    for text in texts:
        if _HOME.match(text):
            text = _HOME.sub(lambda _: str(Path.home()), text).replace("\\", "/")
        if text and "\0" not in text:
            yield text
            if "%" in text and scheme_of(ref) != "file":
                yield unquote(text)


def _alike(path: Path, roots: Collection[Path]) -> Iterator[Path]:
    """The paths that look like this one and are there. Only folders that may be read are looked into."""
    reached = [Path(path.anchor)]
    for part in path.parts[1:]:
        exact = [folder / part for folder in reached if os.path.lexists(folder / part)]
        reached = exact or [one for folder in reached for one in _names_alike(folder, part, roots)]
    yield from reached


def _names_alike(folder: Path, name: str, roots: Collection[Path]) -> Iterator[Path]:
    try:
        if lies_within(folder, roots) is None:
            return
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, _MOST_NAMES):
                if _folded(entry.name) == _folded(name) and not _UNTOLD.search(entry.name):
                    yield folder / entry.name
    except (OSError, ValueError, RuntimeError):
        return


def _folded(name: str) -> str:
    """What a name looks like: one form of each letter, plain spaces, quotes and dashes, nothing invisible."""
    plain = unicodedata.normalize("NFKC", name).translate(_ALIKE)
    return " ".join("".join(char for char in plain if unicodedata.category(char) != "Cf").split())


def _windows_path(drive: str | None, rest: str) -> InvalidImageError:
    system = {"linux": "Linux", "darwin": "macOS"}.get(sys.platform, sys.platform)
    mounted = f"/mnt/{drive.lower()}" if drive else ""
    advice = "Give its path on this machine, an http(s) URL or a data: URI."
    if mounted and os.path.isdir(mounted):
        advice = f"Here drive {drive} is {mounted}: write {mounted}/ and forward slashes."
    return InvalidImageError(f"The image's path is one of Windows, and this server runs on {system}.", advice)


def default_roots(home: Path, data_dir: Path, working: Path) -> tuple[Path, ...]:
    """Where `image` paths may lie on stdio: home, the data, and the working folder where it is a project's."""
    roots = [home, data_dir]
    if working != Path(working.anchor) and not home.is_relative_to(working):
        roots.append(working)
    return tuple(roots)
