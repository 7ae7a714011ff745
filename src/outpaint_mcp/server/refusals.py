"""Says what is wrong with a call's arguments: what each must be, and where that is for which there is no argument.

No message holds a value: it may be a secret, or long.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from outpaint_mcp.domain.errors import InvalidRequestError

_MOST: Final = 5
"""Problems that are told at once."""

_SIZE: Final = "zoom and aspect_ratio set the size of the new image."
_OPTIONS: Final = "What only some providers have goes into provider_options, under their own name; see list_providers."
_ELSEWHERE: Final[tuple[tuple[str, str, str], ...]] = (
    # The words of an unknown name, in the order in which they are looked for; the argument that it is about; the hint.
    ("webhook callback hook notify notification", "webhook_url", "webhook_url is the URL that the provider calls."),
    ("mask maskurl inpaint", "zoom", "No mask is needed: all that lies outside of the image is painted."),
    ("model engine vendor service backend", "provider", "provider chooses who extends it; see list_providers."),
    ("ratio aspect ar proportions orientation", "aspect_ratio", "aspect_ratio is the shape of the new image."),
    (
        "direction directions side sides edge edges anchor position gravity align alignment placement left right top "
        "bottom up down north south east west horizontal vertical center centre offset x y padding pad margin margins "
        "border borders expand extend expansion extension crop",
        "sides",
        'sides says where the new area lies, such as ["left"]; zoom says how much.',
    ),
    (
        "seed quality n count num number variants variations samples batch format style steps guidance cfg strength "
        "negative sampler stylize chaos creativity safety background options params parameters",
        "provider_options",
        _OPTIONS,
    ),
    ("width height size dimension dimensions resolution pixels px scale factor percent w h canvas", "zoom", _SIZE),
    ("index variant", "image_index", "image_index chooses an image of a task."),
    ("id ids task job order parent", "task_id", "task_id is the task whose image is meant."),
    (
        "image images img picture photo file filename filepath path url uri link src source base64 b64 data input",
        "image",
        "image is the URL, path or data: URI of the image.",
    ),
    ("wait timeout sync async block blocking", "wait_seconds", "wait_seconds is how long the call waits."),
    ("text description caption instruction instructions query", "prompt", "prompt says what to paint."),
    ("again force retry redo regenerate", "repeat", "repeat orders the same again."),
    ("priority fast turbo relax", "speed", "speed is relax, fast or turbo."),
)


def refusal(
    error: ValidationError, names: Iterable[str], properties: Mapping[str, Mapping[str, Any]]
) -> InvalidRequestError:
    """Every problem of a call in a sentence each.

    Args:
        error: what pydantic found.
        names: the tool's arguments.
        properties: the JSON schema of each, with an example of its values.
    """
    known = list(names)
    problems: list[str] = []
    unknown: list[str] = []
    advice: str | None = None
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0])[:60] if problem["loc"] else "arguments"
        if problem["type"] == "extra_forbidden":
            unknown.append(name)
        elif problem["type"] == "missing":
            problems.append(f"The argument {name} is missing.")
        else:
            problems.append(f"{name} must be {_wanted(problem, properties.get(name, {}))}.")
            if name == "zoom":
                advice = _zoom_advice(problem["input"])
    if unknown:
        problems.append(_no_argument(unknown[:_MOST], known))
    return InvalidRequestError(" ".join(dict.fromkeys(problems[:_MOST])), advice)


def _no_argument(unknown: list[str], known: list[str]) -> str:
    many = len(unknown) > 1
    names = f"There {'are no arguments' if many else 'is no argument'} {_listed([repr(one) for one in unknown], 'and')}"
    if not known:
        return f"{names}: the tool has none."
    hints = dict.fromkeys(hint for one in unknown if (hint := _hint(one, known)))
    return " ".join([f"{names}.", *hints, f"The arguments are {', '.join(known)}."])


def _hint(name: str, known: list[str]) -> str | None:
    """Where the thing is that an unknown argument asks for; only arguments that there are get named."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).strip("_").lower()
    if snake in known:
        return f"Write {snake}."
    words = set(snake.split("_"))
    for these, argument, hint in _ELSEWHERE:
        if argument in known and not words.isdisjoint(these.split()):
            return hint
    close = [one for one in known if set(one.split("_")) <= words]
    close = close or difflib.get_close_matches(snake, known, n=1, cutoff=0.7)
    return f"Is {close[0]} meant?" if close else None


def _wanted(problem: ErrorDetails, schema: Mapping[str, Any]) -> str:
    """What a value must be, with one that would do."""
    example = schema.get("examples", [None])[0]
    such_as = "" if example is None else f", such as {example if isinstance(example, str) else json.dumps(example)}"
    match schema:
        case {"enum": choices}:
            return _listed(choices, "or")
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "array", "items": {"enum": choices}}:
            return f"a list of {_listed(choices, 'or')}{such_as}"
        case {"type": "integer" | "number" as kind}:
            article = "a whole number" if kind == "integer" else "a number"
            return f"{article} from {schema['minimum']:g} to {schema['maximum']:g}{such_as}"
        case {"type": "object"}:
            return f"an object{such_as}"
        case {"pattern": _}:
            return f"width:height{such_as}"
        case {"maxLength": most} if problem["type"] in ("string_too_long", "string_too_short"):
            return f"text of 1 to {most} characters{such_as}"
    return f"text{such_as}"


def _zoom_advice(zoom: Any) -> str | None:
    """How to come by a zoom that lies outside of the limits."""
    if not isinstance(zoom, int | float):
        return None
    if 100 <= zoom <= 200:
        return f"For {zoom:g} % give {zoom / 100:g}."
    if 2 < zoom < 2.01:
        return "Give 2."
    if 2 < zoom <= 16:
        zooms = []
        while zoom > 2:
            zooms.append("2")
            zoom /= 2
        zooms.append(f"{zoom:.3g}")
        return f"For more, extend the result again by its task_id: zoom {', then '.join(zooms)}."
    if 0.5 <= zoom < 1:
        return f"If the old image is to fill {zoom:g} of the new one's width, give {1 / zoom:.3g}."
    return None


def _listed(words: list[str], last: str) -> str:
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end
