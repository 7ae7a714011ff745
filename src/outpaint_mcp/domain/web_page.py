"""Web pages that come where something else was expected: how they begin, and their titles. Pure."""

import html
import re
from typing import Final

MAX_TITLE: Final = 80
_LOOKED_AT: Final = 64 * 1024
_BEGINNING: Final = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|title|meta)\b",
    re.DOTALL | re.IGNORECASE,
)
_TITLE: Final = re.compile(rb"<title\b[^>]*>([^<]{1,2000})", re.IGNORECASE)


def is_web_page(data: bytes) -> bool:
    """Whether a file is HTML, by its beginning."""
    return _BEGINNING.match(data[:4096]) is not None


def title_of(data: bytes) -> str:
    """A page's title as one line of at most `MAX_TITLE` characters; empty where it has none."""
    found = _TITLE.search(data[:_LOOKED_AT])
    if found is None:
        return ""
    text = html.unescape(found[1].decode("utf-8", "replace"))
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1] + "…"
