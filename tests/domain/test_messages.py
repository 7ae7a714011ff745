"""Every refusal says what is wrong and what to do, in whole sentences."""

import ast
from collections.abc import Iterator
from pathlib import Path

import outpaint_mcp
from outpaint_mcp.domain import errors
from outpaint_mcp.domain.errors import OutpaintError

SOURCE = Path(outpaint_mcp.__file__).parent
KINDS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, OutpaintError)}
SHOWN_AS_CODE = {"plan.shown"}
"""What an advice may end with though it is no sentence: text to be copied."""


def raised() -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Where each error is built, its message, and its advice if it has one of its own."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in KINDS:
                    advice = node.args[1] if len(node.args) > 1 else None
                    yield f"{file.relative_to(SOURCE)}:{node.lineno}", node.args[0], advice


def ending(text: ast.expr) -> str | None:
    """How a text ends, as far as the source tells; None where it does not."""
    match text:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=[*_, ast.Constant(value=str(value))]):
            return value
        case ast.JoinedStr(values=[*_, ast.FormattedValue(value=value)]):
            return "." if ast.unparse(value) in SHOWN_AS_CODE else None
    return None


def test_messages_and_advice_are_whole_sentences() -> None:
    found = list(raised())
    assert len(found) > 150, "they are found at all"
    broken = [
        f"{where}: {text!r}"
        for where, message, advice in found
        for part in (message, advice)
        if part is not None and (text := ending(part)) is not None and not text.endswith((".", "?"))
    ]
    assert broken == []


def test_every_kind_of_error_has_an_advice_of_its_own_for_where_none_is_given() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OutpaintError)]
    # A class that only others derive from has no code either.
    for kind in (one for one in kinds if hasattr(one, "code")):
        assert kind("It is wrong.").advice.endswith("."), kind.__name__
