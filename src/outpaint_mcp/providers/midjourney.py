"""What is known of Midjourney itself, whoever passes its operations on: facts, and the rules for its prompts.

In a prompt there, ``--name`` is a parameter, and editors turn its dashes into a long one. ``--repeat`` (``--r``) and a
permutation, ``{red, green}``, make several jobs of one, each billed; a backslash takes a brace or a comma its meaning.
Midjourney's own documentation is the source, as is generally known: none of the vendors documents prompts. Whether it
reads a parameter in the forms that are refused here beyond the plain one (glued, cut short, in other letters) is not
known; a refusal costs nothing, and an order does.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.request import Feature, folded
from outpaint_mcp.providers.declarations import Argument

NO_V8_ZOOM: Final = "Midjourney V8 images have no zoom out (one public source, 2026)."
MEASURED_BUTTON: Final = "The 1.5x button was once measured to zoom 1.33 (one public source)."

_SEVERAL: Final = (
    "orders the image several times, each of them billed",
    "Leave it out; for another image, call again with repeat=true once the task is final.",
)
_VERSION: Final = ("the image that is extended decides", "Leave it out.")


def _argument(feature: Feature) -> tuple[str, str]:
    return f"the argument {feature.value} stands for", f"Leave it out and give {feature.value}."


_REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("repeat", "r"), _SEVERAL),
    **{feature.value.replace("_", ""): _argument(feature) for feature in Feature},
    **dict.fromkeys(("ar", "aspect"), _argument(Feature.ASPECT_RATIO)),
    **dict.fromkeys(("relax", "fast", "turbo"), _argument(Feature.SPEED)),
    **dict.fromkeys(("v", "version", "niji"), _VERSION),
}
"""The parameters, with nothing between their words, that must not be sent: what each does, and what to do."""
_SHORTEST: Final = 3
"""How few letters of a parameter's name are taken for it."""

# Dashes as the compatibility form NFKC leaves them. One of the first kind is a hyphen, and two are a parameter's.
_HYPHENS: Final = "\\-\u2010\u02d7\u2043\u058a\u05be\u30fc"
_LONG: Final = "\u2012-\u2015\u2212\u2e3a\u2e3b\u2e40\u30a0\u2500\u2501\u2796"
_PARAMETER: Final = re.compile(
    rf"(?<![{_HYPHENS}{_LONG}])(?P<dashes>[{_HYPHENS}{_LONG}]{{2,}}|[{_LONG}])(?P<gap>\s*)(?P<name>[a-z]+(?:[_-][a-z]+)*)"
    rf"(?P<valued>(?=\s*[:=]?\s*(?:\d|$|[{_HYPHENS}{_LONG}]{{2}}|[{_LONG}])))?"
)
_PROMPT_FIELDS: Final = frozenset({"prompt", "remixprompt", "text"})
_SPACES: Final = "\t\n\v\f\r\x85"
_FILLERS: Final = "\u115f\u1160\u2800\u3164"
"""Letters and symbols that show nothing."""


def prompt_argument(wire: str) -> Argument:
    """The declaration of a prompt that reaches Midjourney, in the field `wire`."""
    return Argument(
        "1 to 8192 characters; no --repeat, no {a,b}, nothing that an argument stands for (--ar, --zoom, ...)",
        wire,
        encode=folded,
        check=check_prompt,
    )


def options_argument(limits: str) -> Argument:
    """The declaration of `provider_options` whose fields reach Midjourney."""
    return Argument(limits, check=check_options)


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that says nothing, multiplies the bill, or contradicts an argument.

    Raises:
        InvalidRequestError: it does.
    """
    for char in prompt:
        if unicodedata.category(char) == "Cc" and char not in _SPACES:
            raise InvalidRequestError(
                f"The prompt holds the control character U+{ord(char):04X}.", "Leave it out; write plain text."
            )
    if all(unicodedata.category(char)[0] in "CZM" or char in _FILLERS or char in _SPACES for char in _plain(prompt)):
        raise InvalidRequestError(
            "The prompt is blank.", "Say what to paint in the new area, or leave prompt out if the provider needs none."
        )
    _check_text(prompt, "The prompt")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that would bring what a prompt must not hold; `metadata` is the client's own.

    Raises:
        InvalidRequestError: they would.
    """
    for key, value in _leaves({name: value for name, value in options.items() if name != "metadata"}):
        name = re.sub(r"[^a-z]", "", _plain(key))
        if name in _PROMPT_FIELDS and isinstance(value, str):
            raise InvalidRequestError(f"provider_options must not hold {key[:40]!r}.", "Use prompt instead.")
        if name in _REFUSED:
            why, advice = _REFUSED[name]
            raise InvalidRequestError(f"provider_options must not hold {key[:40]!r}, which {why}.", advice)
        for text in (key, value):
            if isinstance(text, str):
                _check_text(text, "provider_options")


def _check_text(text: str, where: str) -> None:
    plain = _plain(text)
    for found in _PARAMETER.finditer(plain):
        glued = len(found["dashes"]) == 1 and found.start() > 0 and plain[found.start() - 1].isalnum()
        if (found["gap"] or glued) and found["valued"] is None:
            # A dash between words, with words behind it.
            continue
        if (refusal := _refusal(re.sub(r"[_-]", "", found["name"]))) is not None:
            raise InvalidRequestError(f"{where} holds --{found['name'][:40]}, which {refusal[0]}.", refusal[1])
    if (variants := _permutation(plain)) is not None:
        raise InvalidRequestError(
            f"{where} holds {variants[:60]}, which makes an order of each variant, each of them billed.",
            "Name one variant, or write \\{ for a brace.",
        )


def _refusal(name: str) -> tuple[str, str] | None:
    """What a parameter does that it must not, and what to do; None if it may stand."""
    if name in _REFUSED or len(name) < _SHORTEST:
        return _REFUSED.get(name)
    return next((refusal for full, refusal in _REFUSED.items() if full.startswith(name)), None)


def _permutation(text: str) -> str | None:
    """The first ``{a,b}`` in a text whose braces and commas are not escaped."""
    open_: list[tuple[int, bool]] = []
    at = 0
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1
            case "{":
                open_.append((at, False))
            case "," if open_:
                open_[-1] = (open_[-1][0], True)
            case "}" if open_:
                start, several = open_.pop()
                if several:
                    return text[start : at + 1]
        at += 1
    return None


def _plain(text: str) -> str:
    """The text as a parser may read it at most: in plain small letters, without what shows nothing."""
    shown = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return "".join(shown).casefold()


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value within a JSON value that holds no others, with the key that it stands under."""
    left = [(key, value)]
    while left:
        key, item = left.pop()
        if isinstance(item, Mapping):
            left += [(str(name), one) for name, one in item.items()]
        elif isinstance(item, list | tuple):
            left += [(key, one) for one in item]
        else:
            yield key, item
