"""The command line in the tests' own process."""

import os
from pathlib import Path

import pytest

from outpaint_mcp.cli.main import main


class Command:
    """What a command does and says; a process of its own shows nothing more than the exit code, and takes a second.

    Each test file has at least one command in a process, where that is what users have.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for name in [name for name in os.environ if name.startswith("OUTPAINT_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("OUTPAINT_DATA_DIR", str(folder / "data"))
        monkeypatch.chdir(folder)
        self._monkeypatch = monkeypatch
        self._captured = capsys

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """The exit code, and what it wrote to stdout and to stderr."""
        with self._monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            code = main(arguments)
        return (code, *self._captured.readouterr())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capsys)
