"""Every refusal says what is wrong and what to do, in whole sentences."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import outpaint_mcp
from outpaint_mcp.domain import errors
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.task import Failure

SOURCE = Path(outpaint_mcp.__file__).parent
KINDS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, OutpaintError)}
FINDINGS = ("problem", "warning")
"""The findings of `doctor`, whose advice may be a command to be copied."""
ENDS = (".", "?")
SHOWN_AS_CODE = {"plan.shown"}
"""What an advice may end with though it is no sentence: text to be copied."""


def raised() -> Iterator[tuple[str, ast.expr]]:
    """Where each error, failure of a task and finding of `doctor` is built; each message and each advice.

    A text that is given by a name is every text that the name is given in that file.
    """
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        named: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named[node.targets[0].id].append(node.value)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                given = node.args[:2] if name in KINDS else node.args[1:2] if name in FINDINGS else []
                if name in (*KINDS, Failure.__name__):
                    given = [*given, *(one.value for one in node.keywords if one.arg in ("message", "advice"))]
                for text in given:
                    for one in named.get(text.id, []) if isinstance(text, ast.Name) else [text]:
                        yield f"{file.relative_to(SOURCE)}:{one.lineno}", one


def ending(text: ast.expr) -> str | None:
    """How a text ends, as far as the source tells; None where it does not."""
    match text:
        case ast.IfExp(body=one, orelse=other):
            return next((end for end in (ending(one), ending(other)) if end and not end.endswith(ENDS)), None)
        case ast.BinOp(op=ast.Add(), right=right):
            return ending(right)
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=[*_, ast.Constant(value=str(value))]):
            return value
        case ast.JoinedStr(values=[*_, ast.FormattedValue(value=value)]):
            return "." if ast.unparse(value) in SHOWN_AS_CODE else None
    return None


def test_messages_and_advice_are_whole_sentences() -> None:
    found = list(raised())
    assert len(found) > 300, "they are found at all"
    broken = [
        f"{where}: {end!r}" for where, text in found if (end := ending(text)) is not None and not end.endswith(ENDS)
    ]
    assert broken == []


def test_every_kind_of_error_has_an_advice_of_its_own_for_where_none_is_given() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OutpaintError)]
    # A class that only others derive from has no code either.
    for kind in (one for one in kinds if hasattr(one, "code")):
        assert kind("It is wrong.").advice.endswith("."), kind.__name__
