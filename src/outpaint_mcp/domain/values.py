"""Values as people and models write them, read as what they mean; what has no single meaning stays as it is. Pure.

Each function takes any value and returns one that the checks after it take, or else one that they refuse.
"""

import math
import re
from collections.abc import Collection
from fractions import Fraction
from typing import Any, Final

QUOTES: Final = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
FILE_FORMATS: Final = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
"""The formats in which images are written, by the suffixes of their files."""
INVISIBLE: Final = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters that come along when text is copied."""
_LONGEST: Final = 200
_FULL_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_NUMBER: Final = r"(?:[0-9]{1,20}(?:[.,][0-9]{0,40})?|\.[0-9]{1,40})"
_BETWEEN: Final = r"(?: ?(?:px)? ?[:;x\u00d7*/_\u2236\u2215\u00f7\u2013-] ?| by | to )"
_COMMON: Final = tuple(
    Fraction(width, height)
    for w, h in ((1, 1), (5, 4), (4, 3), (3, 2), (16, 10), (5, 3), (16, 9), (2, 1), (21, 9))
    for width, height in ((w, h), (h, w))
)
_WORDS: Final = {
    **dict.fromkeys(("landscape", "horizontal", "wide", "widescreen"), 1),
    **dict.fromkeys(("portrait", "vertical", "tall"), -1),
    "square": 0,
}
"""What a word says of a ratio: wider, square or taller."""
_WORD: Final = re.compile(rf"\b(?:{'|'.join(_WORDS)}|aspect|ratio|format)\b")
_MAX_PART: Final = 9999
_SIDES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("up", "above", "upper", "upwards", "north", "over"), ("top",)),
    **dict.fromkeys(("down", "below", "lower", "downwards", "south", "under"), ("bottom",)),
    "west": ("left",),
    "east": ("right",),
    **dict.fromkeys(("horizontal", "horizontally"), ("left", "right")),
    **dict.fromkeys(("vertical", "vertically"), ("top", "bottom")),
    **dict.fromkeys(("all", "everywhere", "every", "around"), ("left", "right", "top", "bottom")),
    **dict.fromkeys(("side", "sides", "only"), ()),
}
"""Other words for the sides."""
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def zoom(value: Any) -> Any:
    """``2x``, ``150%`` and ``1,5`` as numbers."""
    text = _bare(value)
    percent = re.search(r" ?(?:%|percent|per cent)$", text)
    found = _number(re.sub(r"^[x\u00d7] ?| ?[x\u00d7]$| ?times$", "", text[: percent.start()] if percent else text))
    return _no_flag(value) if found is None else float(found / 100 if percent else found)


def sides(value: Any) -> Any:
    """``left``, ``"left, right"``, ``top and bottom`` and ``horizontal`` as lists of sides; ``all`` as none given."""
    if isinstance(value, str):
        found = re.split(r" ?[,;+&/|] ?| and | ", re.sub(r"[\[\](){}\"']", " ", _bare(value)).strip())
    elif isinstance(value, list | tuple):
        found = [_bare(one) for one in value]
    else:
        return value
    named = [side for one in found if one for side in _SIDES.get(one, (one,))]
    return named or (None if any(found) else value)


def seconds(value: Any) -> Any:
    """``10 s`` as a number."""
    found = _number(re.sub(r" ?(?:s|secs?|seconds?)$", "", _bare(value)))
    return _no_flag(value) if found is None else float(found)


def whole(value: Any) -> Any:
    """``"2"``, ``2.0`` and ``#2`` as whole numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    found = _number(_bare(value).removeprefix("#"))
    return _no_flag(value) if found is None or found.denominator != 1 else int(found)


def flag(value: Any) -> Any:
    """``"True"`` and ``"no"`` as booleans."""
    return _FLAGS.get(_bare(value), value)


def choice(value: Any, choices: Collection[str]) -> Any:
    """One of `choices` whatever its case."""
    text = _bare(value)
    return text if text in choices else value


def file_format(value: Any) -> Any:
    """``JPG``, ``.jpeg`` and ``image/jpeg`` as ``jpeg``, and likewise of the other formats that are written."""
    return FILE_FORMATS.get(_bare(value).removeprefix("image/").removeprefix("."), value)


def name(value: Any) -> Any:
    """``"LegNext"`` as ``legnext``."""
    return _bare(value) or value


def aspect_ratio(value: Any) -> Any:
    """``16x9``, ``16/9``, ``1920 x 1080``, ``1.78``, ``2.39:1`` and ``square`` as ``W:H``.

    A word such as ``landscape`` stands for several ratios, and 16,9 for two numbers or one: they are none. Beside a
    ratio the word must fit.
    """
    match value:
        case [int() | float() as width, int() | float() as height]:
            text = f"{width}:{height}"
        case int() | float():
            text = str(value)
        case _:
            text = _bare(value)
    if text == "square":
        return "1:1"
    words = _WORD.findall(text)
    text = " ".join(_WORD.sub("", text).replace("(", " ").replace(")", " ").strip(",: ").split()) if words else text
    found = re.fullmatch(rf"({_NUMBER}){_BETWEEN}({_NUMBER})(?: ?px)?", text)
    width_text, height_text = (found[1], found[2]) if found else (text, "1")
    first, second = _number(width_text), _number(height_text)
    # Alone, 3.2 and 1920 are rather mistakes than ratios.
    if not first or not second or not (found or ("," not in text and Fraction(2, 5) <= first <= Fraction(12, 5))):
        return _no_flag(value)
    shape = (first > second) - (first < second)
    if any(_WORDS.get(word, shape) != shape for word in words):
        return value
    if second == 1:
        ratio = _meant(width_text, first)
    elif first == 1:
        ratio = 1 / _meant(height_text, second)
    else:
        ratio = first / second
    return f"{ratio.numerator}:{ratio.denominator}" if max(ratio.as_integer_ratio()) <= _MAX_PART else value


def _bare(value: Any) -> str:
    """A short text in lower case without full-width forms, surrounding quotes and a final dot, its white space folded;
    empty for every other value.
    """
    if not isinstance(value, str) or len(value) > _LONGEST:
        return ""
    text = " ".join(value.translate(_FULL_WIDTH).split()).strip(QUOTES + INVISIBLE + " ")
    return text.removesuffix(".").rstrip().lower()


def _no_flag(value: Any) -> Any:
    # Where a number is wanted, pydantic would take true for 1.
    return str(value) if isinstance(value, bool) else value


def _number(text: str) -> Fraction | None:
    """A plain number; a comma is a decimal one unless it can be a thousands separator."""
    if re.fullmatch(_NUMBER, text) is None or re.search(r",([0-9]{3}|)$", text):
        return None
    return Fraction(text.replace(",", "."))


def _meant(text: str, ratio: Fraction) -> Fraction:
    """The common ratio that a decimal was rounded or cut from (1.78 and 1.77 are 16:9), or else the decimal itself."""
    places = min(len(text.replace(",", ".").partition(".")[2]), 6)
    if places < 2:
        return ratio
    scale = 10**places
    written = round(ratio * scale)
    for one in _COMMON:
        if written in (math.floor(one * scale), round(one * scale)):
            return one
    return ratio if max(ratio.as_integer_ratio()) <= _MAX_PART else ratio.limit_denominator(1000)
