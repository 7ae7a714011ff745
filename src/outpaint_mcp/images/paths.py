"""Reads an image's reference as it is meant. Looks at the disk, and only in the folders that may be read."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError, OutpaintError
from outpaint_mcp.images.sources import lies_within, path_of, scheme_of
from outpaint_mcp.images.wrappers import is_of_a_chat, unwrapped

_MOST_WRAPPERS: Final = 4
"""How deep an address may be wrapped: base64 in JSON in Markdown."""


def meant(ref: str, roots: Collection[Path]) -> str:
    """The http(s) URL, ``data:`` URI or path that a text means. A text that is one of these is taken as it is.

    Args:
        ref: what the client gave.
        roots: the folders that may be read.

    Raises:
        InvalidImageError, ForbiddenUrlError: it holds several addresses, or names an image that only a chat has.
    """
    for _ in range(_MOST_WRAPPERS):
        if scheme_of(ref) in ("http", "https", "data", "file") or _is_file(ref, roots):
            return ref
        if is_of_a_chat(ref) and not ref.lower().startswith("sandbox:"):
            break
        inner = unwrapped(ref).strip()
        if inner == ref:
            break
        ref = inner
    if is_of_a_chat(ref):
        refused = InvalidImageError if scheme_of(ref) is None else ForbiddenUrlError
        raise refused(
            "The image is named as in a chat, whose files this server cannot read.",
            f"Give its http(s) URL{', its full path on this machine' if roots else ''} or its data: URI.",
        )
    return ref


def _is_file(ref: str, roots: Collection[Path]) -> bool:
    try:
        real = lies_within(path_of(ref), roots)
        return real is not None and real.is_file()
    except (OutpaintError, OSError, ValueError, RuntimeError):
        return False
