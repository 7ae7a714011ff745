"""Finds the one address of an image in what was written around it: Markdown, HTML, JSON, a sentence, bare base64. Pure.

Chats hand images on in all these forms. No message holds what was given: it may be private.
"""

import html
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.domain.values import QUOTES
from outpaint_mcp.images.sources import is_base64_of_image, scheme_of

_SEARCHED: Final = 8_000
"""Characters; in a longer text, which holds the image's data, only its beginning can be a wrapper."""
_SCHEMES: Final = frozenset({"http", "https", "data", "file", "outpaint"})
# Possessive quantifiers, here and below: no text takes more than a moment.
_TITLE: Final = r"""(?:\s++(?:"[^"]*"|'[^']*'|\([^()]*\)))?+\s*+"""
_MARKDOWN: Final = re.compile(rf"(!?)\[[^\[\]]*\]\(\s*+(<[^<>]*>|[^()\s]*+(?:\([^()\s]*\)[^()\s]*+)*+){_TITLE}\)")
_MARKDOWN_WITH_SPACES: Final = re.compile(
    rf"!?\[[^\[\]]*\]\(\s*+([^<>\n]+?){_TITLE}\)|!?\[\[([^\[\]|]+)(?:\|[^\[\]]*)?\]\]"
)
_HTML: Final = re.compile(
    r"""<(img|image|source|a)\b[^<>]*?(?<![\w-])(?:src|href)\s*+=\s*+("[^"]*"|'[^']*'|[^\s"'<>]+)""", re.IGNORECASE
)
_ANGLES: Final = re.compile(r"<((?:https?|file|data|outpaint):[^<>\s|]*)(?:\|[^<>]*)?>", re.IGNORECASE)
_URL: Final = re.compile(
    r"""(?<![\w:])(?:https?|outpaint|file)://(?:\[[0-9a-f:.]+\])?[^\s<>"'`\\^{|}\[\]\u201c\u201d\u2018\u2019]+""",
    re.IGNORECASE,
)
_DATA: Final = re.compile(r"""(?<![\w:])data:image/[^\s<>"'`\\()\[\]{}]++""", re.IGNORECASE)
_KEY: Final = re.compile(r"(?:ur[li]|href|src|link|path|file|filename|image|data|base64|b64|b64_json)$", re.IGNORECASE)
_LABEL: Final = re.compile(
    r"(?:image|photo|picture|file|image ?path|file ?path|file ?name|path|source|src|ur[li])(?: ?= ?|: )", re.IGNORECASE
)
_BASE64: Final = re.compile(r"(?:[a-z]+/[a-z0-9.+-]+[;,:]\s*)?;?base64\s*[,:;]\s*", re.IGNORECASE)
_IN_A_CHAT: Final = re.compile(
    r"(?:sandbox|attachment|blob|cid|content|computer|clipboard|file-service|sediment|upload):.*"
    r"|/?mnt/(?:data|user-data|uploads)/.*"
    r"|file[-_][A-Za-z0-9_-]{6,}"
    r"|\W*+(?:(?:the|my|your|this|attached|uploaded|pasted|generated|above|current|previous|latest|last|first|original"
    r"|input|source|base64|encoded|users?|user's)[ _-])*+"
    r"(?:image|img|photo|picture|screenshot|attachment|file|upload|clipboard)"
    r"(?:[\s_#:(-]*+(?:\d++|id|ur[li]|path|data|string|here))*+\W*+",
    re.IGNORECASE | re.DOTALL,
)


def unwrapped(text: str) -> str:
    """The address that a text holds, or the text itself if it is no wrapper that is known.

    Raises:
        InvalidImageError: it holds several.
    """
    if text.lower().startswith("sandbox:"):
        return text[len("sandbox:") :]
    if re.match(r"(?:https?|data|file)%3A", text, re.IGNORECASE):
        return unquote(text)
    if text and text[0] in QUOTES and text[-1] in QUOTES:
        return text.strip(QUOTES + " \r\n")
    if label := _LABEL.match(text):
        return text[label.end() :]
    for found in (_of_json(text), _of_markup(text), _of_sentence(text)):
        different = list(dict.fromkeys(found))
        if len(different) > 1:
            raise InvalidImageError(
                f"The image holds {len(different)} addresses.", "Give one of them and nothing around it."
            )
        if different and different[0]:
            return different[0]
    if data := _as_data(text):
        return data
    return text[1:-1] if text[:1] + text[-1:] in ("<>", "()", "[]") else text


def is_of_a_chat(text: str) -> bool:
    """Whether a text is how a chat names what was put into it, or stands in an image's place: nothing to read here."""
    return len(text) < 300 and _IN_A_CHAT.fullmatch(text) is not None


def _of_json(text: str) -> list[str]:
    if not text.startswith(("{", "[")):
        return []
    try:
        leaves = list(_leaves(json.loads(text)))
    except (ValueError, RecursionError):
        return []
    addresses = [value for _, value in leaves if scheme_of(value) in _SCHEMES]
    return addresses or [value for key, value in leaves if _KEY.search(key) and value]


def _leaves(value: Any, key: str = "image") -> Iterator[tuple[str, str]]:
    """The texts in a JSON value, each with the key that it stands under."""
    if isinstance(value, str):
        yield key, value.strip()
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)


def _of_markup(text: str) -> list[str]:
    """What Markdown or HTML shows, or else what they link to."""
    shown: list[str] = []
    linked: list[str] = []
    for found in _each(_MARKDOWN, text):
        (shown if found[1] else linked).append(html.unescape(found[2].strip("<>")))
    for found in _each(_HTML, text):
        (linked if found[1].lower() == "a" else shown).append(html.unescape(found[2].strip("\"'")).strip())
    if not shown and not linked and len(text) <= _SEARCHED and (whole := _MARKDOWN_WITH_SPACES.fullmatch(text)):
        linked.append(html.unescape(whole[1] or whole[2]))
    return shown or linked


def _of_sentence(text: str) -> list[str]:
    angles = [found[1] for found in _each(_ANGLES, text)]
    if angles:
        return angles
    if _DATA.search(text[:_SEARCHED]) and (data := _DATA.search(text)):
        return [data[0]]
    return [_ended(found[0]) for found in _each(_URL, text)]


def _each(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    if len(text) <= _SEARCHED:
        yield from pattern.finditer(text)
    elif found := pattern.match(text):
        yield found


def _ended(url: str) -> str:
    """A URL out of a sentence without the sentence's punctuation."""
    while url and (url[-1] in ".,;:!?*]" or (url[-1] == ")" and url.count("(") < url.count(")"))):
        url = url[:-1]
    return url


def _as_data(text: str) -> str | None:
    """Base64 of an image without ``data:`` before it as a ``data:`` URI."""
    if prefix := _BASE64.match(text):
        return f"data:;base64,{text[prefix.end() :]}"
    return f"data:;base64,{text}" if is_base64_of_image(text) else None
