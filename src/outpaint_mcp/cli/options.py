"""Command-line options made from the fields of a pydantic model, and the types that numeric options have."""

import argparse
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import BaseModel


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

    def parse(text: str) -> float:
        return _within(_parsed(float, text, "a number"), lowest, highest)

    return parse


def whole_number(lowest: int | None = None, highest: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes a whole number within these limits."""

    def parse(text: str) -> int:
        return int(_within(_parsed(int, text, "a whole number"), lowest, highest))

    return parse


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


def _parsed(kind: Callable[[str], float], text: str, what: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def _within(value: float, lowest: float | None, highest: float | None) -> float:
    low, high = -math.inf if lowest is None else lowest, math.inf if highest is None else highest
    if low <= value <= high and abs(value) != math.inf:
        return value
    if math.isinf(low) and math.isinf(high):
        expected = "be finite"
    elif math.isinf(low):
        expected = f"be at most {high:g}"
    elif math.isinf(high):
        expected = f"be {low:g} or more"
    else:
        expected = f"lie between {low:g} and {high:g}"
    raise argparse.ArgumentTypeError(f"must {expected}")
