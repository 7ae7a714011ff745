"""The workflows: each Python that the package promises is tested as a wheel before anything is published, by trust."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parent.parent
WORKFLOWS = PROJECT / ".github" / "workflows"


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))
    return found


def promised() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."
    return [one.removeprefix("Programming Language :: Python :: ") for one in project["classifiers"] if prefix in one]


@pytest.mark.parametrize(("name", "job"), [("ci", "wheel"), ("release", "test")])
def test_the_wheel_is_tested_on_each_python_that_is_promised(name: str, job: str) -> None:
    found = workflow(name)["jobs"][job]
    assert found["strategy"]["matrix"]["python"] == promised() == ["3.11", "3.12", "3.13", "3.14"]
    assert "scripts/test-wheel" in [step.get("run") for step in found["steps"]]


def test_nothing_is_published_before_the_tests_and_no_token_is_stored() -> None:
    jobs = workflow("release")["jobs"]
    assert jobs["pypi"]["needs"] == "test"
    assert jobs["bundle"]["needs"] == "test"
    assert jobs["registry"]["needs"] == "pypi"
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert jobs["pypi"]["environment"] == "pypi"
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert workflow("release")["permissions"] == workflow("ci")["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_script_that_a_workflow_runs_is_there(path: Path) -> None:
    for job in workflow(path.stem)["jobs"].values():
        for step in job["steps"]:
            for word in str(step.get("run", "")).split():
                if word.startswith(("scripts/", ".ci/")):
                    assert (PROJECT / word).stat().st_mode & 0o111, word
