"""Adds a member to a JSON object in its text, where everything else stays as it was, to the byte.

Parsing and serialising anew would change the file's layout; no library that keeps the layout of JSON was found.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Member:
    """The offsets of a member of an object in the text: of its key, of its value, and of the end of both."""

    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Style:
    """The layout of the file. `indent` is that of one level; None for a file that is one line."""

    indent: str | None
    newline: str

    def line(self, depth: int) -> str:
        return "" if self.indent is None else self.newline + self.indent * depth

    def rendered(self, value: Any, depth: int) -> str:
        text = as_json(value, self.indent)
        return text if self.indent is None else text.replace("\n", self.line(depth))


def as_json(value: Any, indent: str | None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # A lone surrogate can be in JSON only escaped.
    return json.dumps(value, indent=indent) if re.search("[\ud800-\udfff]", text) else text


def decoded(data: bytes) -> tuple[str, bytes]:
    """The text, and the byte order mark that some Windows programs put before it.

    Raises:
        ValueError: it is not UTF-8.
    """
    mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    try:
        return data[len(mark) :].decode(), mark
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def read_object(text: str) -> tuple[dict[str, Member], int, Style]:
    """The members of the top-level object, the offset of its closing brace, and its layout.

    Raises:
        ValueError: it is not a JSON object, or one that different parsers read differently.
    """
    try:
        whole = json.loads(text, object_pairs_hook=_unambiguous, parse_constant=_no_constant)
    except _Ambiguous as problem:
        raise ValueError(str(problem)) from None
    except (ValueError, RecursionError) as error:
        if _is_commented(text):
            raise ValueError("it holds comments or trailing commas, which are not supported here") from None
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"it is not valid JSON{where}") from None
    if not isinstance(whole, dict):
        raise ValueError("it is not a JSON object")
    members, end = members_of(text, _after_space(text, 0))
    first = re.search(r"\{[ \t]*\r?\n([ \t]+)\"", text)
    compact = bool(members) and "\n" not in text.strip()
    indent = None if compact else first[1] if first else "  "
    return members, end, Style(indent, "\r\n" if "\r\n" in text else "\n")


def members_of(text: str, brace: int) -> tuple[dict[str, Member], int]:
    """The members of the object that begins at `brace`, in order, and the offset of its end. The text is valid JSON."""
    decoder = json.JSONDecoder()
    found: dict[str, Member] = {}
    at = _after_space(text, brace + 1)
    while text[at] != "}":
        key, after = decoder.raw_decode(text, at)
        value = _after_space(text, _after_space(text, after) + 1)
        _, end = decoder.raw_decode(text, value)
        found[key] = Member(at, value, end)
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found, at


def with_member(
    text: str,
    brace: int,
    members: Mapping[str, Member],
    end: int,
    style: Style,
    depth: int,
    key: str,
    value: Any,
) -> str:
    """The text with one more member at the end of the object from `brace` (or the first one after it) to `end`."""
    member = f"{json.dumps(key)}: {style.rendered(value, depth)}"
    if members:
        last = list(members.values())[-1].end
        return f"{text[:last]},{style.line(depth) or ' '}{member}{text[last:]}"
    brace = text.index("{", brace)
    return f"{text[: brace + 1]}{style.line(depth)}{member}{style.line(depth - 1)}{text[end:]}"


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


class _Ambiguous(ValueError):
    """Valid for this parser, and read differently by others."""


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Ambiguous("it holds a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise _Ambiguous(f"it holds {name}, which is not JSON")


def _is_commented(text: str) -> bool:
    """Whether it is JSON apart from comments and trailing commas."""
    bare = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or " ", text, flags=re.DOTALL)
    bare = re.sub(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', lambda found: found[1] or "", bare)
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True
