"""What a URL leads to that is a document and no image: web pages, JSON and XML, by their beginnings."""

import re
from pathlib import Path
from typing import Final

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.domain.web_page import is_web_page, title_of

_HEAD_BYTES: Final = 64 * 1024
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_XML: Final = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml\b|<!DOCTYPE\b|<[A-Za-z][\w:.-]*[\s>/])", re.IGNORECASE)
_JSON: Final = re.compile(rb"(\xef\xbb\xbf)?\s*([{\[]\s*[\"{\[\]}\d]|\"|null\b|true\b|false\b)")


def refuse_document(path: Path, host: str, mime_type: str) -> None:
    """
    Args:
        path: what was downloaded.
        host: from where.
        mime_type: what the host calls it, which decides nothing alone: many hosts name their images wrongly.

    Raises:
        InvalidImageError: it is a web page, JSON or XML; SVG is not meant here, which is refused as what it is.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    name = _named(head, mime_type)
    if name is not None:
        raise InvalidImageError(
            f"The URL leads to {name} on {host}, and not to an image.", "Give the direct link to the image itself."
        )


def _named(head: bytes, mime_type: str) -> str | None:
    is_markup = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    if is_web_page(head) or (is_markup and "html" in mime_type and "xml" not in mime_type):
        title = title_of(head).replace("“", "'").replace("”", "'")
        return f"a web page (“{title}”)" if title else "a web page"
    if is_markup:
        return "an XML document" if _XML.match(head) and not _SVG.search(head[:4096]) else None
    return "JSON" if _JSON.match(head) else None
