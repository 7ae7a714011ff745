"""Command-line options made from the fields of a pydantic model, and the types that numeric options have."""

import argparse
import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

NumberT = TypeVar("NumberT", int, float)


def add_model_options(
    parser: argparse.ArgumentParser,
    model: type[BaseModel],
    *,
    flags: Mapping[str, str],
    left_out: Collection[str],
) -> None:
    """Give `parser` an option for each field of `model`, with the field's range, choices and description.

    A field that is not given leaves no attribute behind, so that the model's default holds. Values arrive as text and
    are read and checked by the model alone. An object is given as ``NAME=VALUE``, any number of times, and arrives as
    the list of these texts.

    Args:
        parser: what the options are added to.
        model: its JSON schema may have optional fields and enumerations, but neither unions nor nested models.
        flags: by field, the flags that do not follow from its name; one without dashes is positional.
        left_out: the fields that get no option.
    """
    schema = model.model_json_schema()
    for name, field in schema["properties"].items():
        if name not in left_out:
            flag = flags.get(name, "--" + name.replace("_", "-"))
            _add_option(parser, flag, name, _not_null(field, schema.get("$defs", {})))


def given_arguments(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` that were given on the command line."""
    return {name: value for name, value in vars(options).items() if name in model.model_fields}


def number(lowest: float | None = None, highest: float | None = None) -> Callable[[str], float]:
    """The type of an option that takes a finite number within these limits."""

    return _parser(float, "a finite number", lowest, highest)


def whole_number(lowest: int | None = None, highest: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes a whole number within these limits."""

    return _parser(int, "a whole number", lowest, highest)


def _add_option(parser: argparse.ArgumentParser, flag: str, name: str, field: Mapping[str, Any]) -> None:
    how: dict[str, Any] = {"metavar": f"{{{','.join(field['enum'])}}}" if "enum" in field else name.upper()}
    match field.get("type"):
        case "boolean":
            how = {"action": argparse.BooleanOptionalAction if field.get("default") else "store_true"}
        case "object":
            how = {"action": "append", "metavar": "NAME=VALUE"}
    if flag.startswith("-"):
        how["dest"] = name
    else:
        how["nargs"] = "?"
    parser.add_argument(flag, default=argparse.SUPPRESS, help=_help(field), **how)


def _help(field: Mapping[str, Any]) -> str:
    text: str = field.get("description", "")
    default = field.get("default")
    notes = []
    if "minimum" in field and "maximum" in field:
        notes.append(f"{field['minimum']:g} to {field['maximum']:g}")
    if default not in (None, False, {}):
        notes.append(f"default: {default:g}" if isinstance(default, float) else f"default: {default}")
    return (f"{text} ({', '.join(notes)})" if notes else text).replace("%", "%%")


def _not_null(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a field's values other than null, which stands for a value that is not given."""
    (kind,) = (choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null")
    if "$ref" in kind:
        kind = definitions[kind["$ref"].rpartition("/")[2]]
    return {**kind, **field}


def _parser(
    kind: Callable[[str], NumberT], what: str, lowest: float | None, highest: float | None
) -> Callable[[str], NumberT]:
    expected = what + _words(lowest, highest)

    def parse(text: str) -> NumberT:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if abs(value) != math.inf and (lowest is None or lowest <= value) and (highest is None or value <= highest):
                return value
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not {expected}")

    return parse


def _words(lowest: float | None, highest: float | None) -> str:
    if lowest is None:
        return "" if highest is None else f" of at most {highest:g}"
    return f" of {lowest:g} or more" if highest is None else f" from {lowest:g} to {highest:g}"


PORT = whole_number(0, 65535)
"""The type of an option that is a port; 0 is any free one."""
