import argparse
import re
import subprocess
import sys
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from outpaint_mcp.cli.options import add_model_options, given_arguments, number, whole_number
from outpaint_mcp.server.arguments import OutpaintArguments


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Arguments(BaseModel):
    source: str | None = None
    brush_size: Annotated[float, Field(ge=0.5, le=3, description="How wide, in % of the image")] = 1
    layers: Annotated[int | None, Field(ge=1, description="How many")] = None
    colour: Annotated[Colour | None, Field(description="Which")] = None
    dry: bool = False
    smooth: bool = True
    extras: Annotated[dict[str, Any], Field(default_factory=dict)]
    secret: str | None = None


def parser() -> argparse.ArgumentParser:
    built = argparse.ArgumentParser(prog="paint")
    add_model_options(built, Arguments, flags={"source": "source", "extras": "--extra"}, left_out={"secret"})
    return built


def parsed(*arguments: str) -> dict[str, Any]:
    return given_arguments(parser().parse_args(arguments), Arguments)


def test_every_field_is_an_option_of_its_type() -> None:
    assert parsed(
        *("a.png", "--brush-size", "2.5", "--layers", "3", "--colour", "red"),
        *("--dry", "--no-smooth", "--extra", "a=1", "--extra", "b=2"),
    ) == {
        "source": "a.png",
        "brush_size": "2.5",
        "layers": "3",
        "colour": "red",
        "dry": True,
        "smooth": False,
        "extras": ["a=1", "b=2"],
    }


def test_what_is_not_given_is_left_to_the_model() -> None:
    assert parsed() == {}


def test_a_field_that_is_left_out_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--secret", "s")
    assert ended.value.code == 2
    assert "unrecognized arguments: --secret" in capsys.readouterr().err


def test_the_help_shows_description_range_and_default() -> None:
    shown = " ".join(parser().format_help().split())
    assert "How wide, in % of the image (0.5 to 3, default: 1)" in shown
    assert "--colour {red,blue}" in shown


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (number(), "inf", "'inf' is not a finite number"),
        (number(0), "inf", "is not a finite number of 0 or more"),
        (number(highest=2), "2.1", "'2.1' is not a finite number of at most 2"),
        (whole_number(1, 9), "9" * 400, "' is not a whole number from 1 to 9"),
    ],
)
def test_numbers_are_finite_and_within_their_limits(parse: Any, text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        parse(text)


def test_outpaint_has_each_argument_of_the_tool_but_those_that_only_a_server_needs() -> None:
    command = [sys.executable, "-m", "outpaint_mcp", "outpaint", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    flags = set(re.findall(r"--([a-z-]+)", done.stdout)) - {"help", "output", "json"}
    renamed = {"task-id": "task", "provider-options": "option"}
    names = (name.replace("_", "-") for name in OutpaintArguments.model_fields)
    without = {"image", "webhook-url", "webhook-secret", "webhook-events", "wait-seconds"}
    assert flags == {renamed.get(name, name) for name in names} - without
    assert "[IMAGE]" in done.stdout
