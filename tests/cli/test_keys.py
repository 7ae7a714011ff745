"""Keys that `install` asks for: on a terminal, without echo, into the client's file or the system's keyring."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from outpaint_mcp.cli.clients import Machine
from outpaint_mcp.cli.install import REDACTED, carry_out, plan_change, report
from outpaint_mcp.cli.key_prompt import ask_for_keys

KEY = "fal-0123456789abcdef:s3cr3t"
ENGINE = "http://127.0.0.1:8188"
COMMAND = ("/opt/tools/bin/outpaint-mcp",)
VARIABLES = {"fal": "FAL_KEY", "legnext": "LEGNEXT_API_KEY"}
# A keyring that is a file, for processes that are told to use it.
FILE_KEYRING = """
import json, os, pathlib
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    priority = 1
    path = pathlib.Path(os.environ["KEYRING_FILE"])

    def _all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service, username):
        return self._all().get(f"{service} {username}")

    def set_password(self, service, username, password):
        self.path.write_text(json.dumps({**self._all(), f"{service} {username}": password}))

    def delete_password(self, service, username):
        self.path.write_text(json.dumps({k: v for k, v in self._all().items() if k != f"{service} {username}"}))
"""


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """A process's whose home is this folder, with a keyring of its own."""
    (home / "file_keyring.py").write_text(FILE_KEYRING)
    kept = {name: os.environ[name] for name in ("PATH", "COV_CORE_CONFIG", "TERM") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(home),
        "PYTHON_KEYRING_BACKEND": "file_keyring.Keyring",
        "KEYRING_FILE": str(home / "keyring.json"),
        **more,
    }


def on_a_terminal(arguments: Sequence[str], typed: Sequence[tuple[str, str]], environment: Mapping[str, str]) -> str:
    """Run a command on a terminal; at each prompt something is typed. Everything that the terminal showed."""
    import pty

    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "outpaint_mcp", *arguments]
    process = subprocess.Popen(
        command, stdin=inner, stdout=inner, stderr=inner, env=dict(environment), start_new_session=True
    )
    os.close(inner)
    shown, answers, until = "", list(typed), time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if select.select([outer], [], [], 0.2)[0]:
                try:
                    piece = os.read(outer, 65536)
                except OSError:
                    break
                shown += piece.decode()
                if answers and answers[0][0] in shown:
                    os.write(outer, answers.pop(0)[1].encode() + b"\n")
            elif process.poll() is not None:
                break
        assert process.wait(20) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(outer)
    assert not answers, f"never asked: {answers}; {shown}"
    return shown


def entry_in(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / ".cursor" / "mcp.json").read_text())["mcpServers"]["outpaint"]
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_a_key_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text('{"mcpServers": {}}')
    path.chmod(0o644)
    typed = [("Names of those", "fal comfyui"), ("FAL_KEY (not shown", KEY), ("COMFYUI_BASE_URL, such as", ENGINE)]
    shown = on_a_terminal(["install", "cursor"], typed, environment_of(tmp_path))
    assert entry_in(tmp_path)["env"] == {"FAL_KEY": KEY, "COMFYUI_BASE_URL": ENGINE}
    assert KEY not in shown
    assert f'"FAL_KEY": "{REDACTED}"' in shown
    assert path.stat().st_mode & 0o777 == 0o600, "it holds a key now"
    again = on_a_terminal(["install", "cursor"], [("Names of those", "")], environment_of(tmp_path))
    assert "FAL_KEY (has one)" in again
    assert entry_in(tmp_path)["env"] == {"FAL_KEY": KEY, "COMFYUI_BASE_URL": ENGINE}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_key_in_the_keyring_is_not_in_the_file_and_the_server_finds_it(tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    asked = [("COMFYUI_BASE_URL, such as", "127.0.0.1:8188"), ("That is no address", ENGINE)]
    typed = [("Names of those", "FAL_KEY comfyui"), ("FAL_KEY (not shown", KEY), *asked]
    shown = on_a_terminal(["install", "cursor", "--keyring"], typed, environment)
    assert KEY not in shown + (tmp_path / ".cursor" / "mcp.json").read_text()
    assert "In the system's keyring: FAL_KEY." in shown
    assert entry_in(tmp_path)["env"] == {"OUTPAINT_KEYRING": "true", "COMFYUI_BASE_URL": ENGINE}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "outpaint_mcp", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, **more}, capture_output=True, text=True, check=False, timeout=60
        )

    listed = json.loads(run("providers", "--json", OUTPAINT_KEYRING="true").stdout)["providers"]
    assert {one["name"] for one in listed if one["configured"]} == {"fal", "local"}
    assert "FAL_KEY is in the system's keyring." in run("doctor", OUTPAINT_KEYRING="true").stdout
    locked = run("providers", OUTPAINT_KEYRING="true", PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring")
    assert locked.returncode == 2
    assert locked.stderr.startswith("[configuration] The system's keyring cannot be read (NoKeyringError).")
    missing = run("providers", OUTPAINT_KEYRING="true", PYTHON_KEYRING_BACKEND="no_such_module.Keyring")
    assert missing.stderr.startswith("[configuration] The system's keyring cannot be read (")
    assert "Keys in the system's keyring stay there" in run("install", "cursor", "--uninstall").stdout
    run("install", "cursor", "--keyring")
    removed = run("install", "cursor", "--uninstall", "--keyring")
    assert "Deleted from the system's keyring: FAL_KEY." in removed.stdout
    assert json.loads((tmp_path / "keyring.json").read_text()) == {}


def asked(lines: Sequence[str], keys: Sequence[str]) -> tuple[dict[str, str], str]:
    shown: list[str] = []
    left, secrets = list(lines), list(keys)
    found = ask_for_keys(
        VARIABLES, [], ask=lambda _: left.pop(0), ask_secretly=lambda _: secrets.pop(0), tell=shown.append
    )
    assert not left + secrets
    return found, "\n".join(shown)


def test_what_cannot_be_a_key_is_asked_for_again_and_never_repeated() -> None:
    found, shown = asked(["fal"], ["Bearer s3cr3t-0123456789", f" {KEY} "])
    assert found == {"FAL_KEY": KEY}
    assert "part of a header" in shown
    found, shown = asked(["legnext"], ["your-key"] * 3)
    assert found == {}
    assert "LEGNEXT_API_KEY is left as it is." in shown
    found, shown = asked(["fal"], [f"export FAL_KEY={KEY}", f"FAL_KEY={KEY}", f"$env:FAL_KEY='{KEY}'"])
    assert found == {}
    assert shown.count("the variable's name besides the key") == 2
    assert KEY not in shown
    found, _ = asked(["legnext"], ["aGVsbG8gd29ybGQsIGhlcmUgSSBhbQ=="])
    assert found, "base64 ends in = rightly"
    found, shown = asked([KEY, "FAL_KEY, legnext"], ["", KEY])
    assert found == {"LEGNEXT_API_KEY": KEY}
    assert KEY not in shown


def test_without_a_terminal_nothing_is_asked_and_an_end_of_input_is_no_key() -> None:
    def nothing(_: str) -> str:
        raise EOFError

    assert ask_for_keys(VARIABLES, [], ask=nothing, ask_secretly=nothing, tell=lambda _: None) == {}
    keys = iter([KEY])
    ended = ask_for_keys(
        VARIABLES,
        [],
        ask=lambda _: "fal legnext",
        ask_secretly=lambda _: next(keys, None) or nothing(""),
        tell=lambda _: None,
    )
    assert ended == {"FAL_KEY": KEY}, "what was given before counts"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_key_in_the_file_that_goes_before_the_keyrings_is_told(tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    path = tmp_path / ".cursor" / "mcp.json"
    carry_out(plan_change("cursor", Machine(tmp_path, "linux"), COMMAND, keys={"FAL_KEY": "0ld-k3y-0123456789"}))
    typed = [("Names of those", "fal"), ("FAL_KEY (not shown", KEY)]
    shown = on_a_terminal(["install", "cursor", "--keyring"], typed, environment)
    assert f"{path} holds another FAL_KEY, which is used instead: delete it there." in shown.replace("\r", "")


@pytest.mark.parametrize(
    "before",
    [
        None,
        "{}",
        '{"mcpServers": {"other": {"command": "x"}}}',
        '{"mcpServers": {"outpaint": {"command": "outpaint-mcp", "env": {"FAL_KEY": "0ld-k3y", "MINE": "s3cr3t"}}}}',
    ],
)
def test_wherever_the_entry_goes_the_key_is_written_and_not_shown(tmp_path: Path, before: str | None) -> None:
    if before is not None:
        (tmp_path / ".cursor").mkdir()
        (tmp_path / ".cursor" / "mcp.json").write_text(before)
    plan = plan_change("cursor", Machine(tmp_path, "linux"), COMMAND, keys={"FAL_KEY": KEY})
    carry_out(plan)
    env = entry_in(tmp_path)["env"]
    assert isinstance(env, dict)
    assert env["FAL_KEY"] == KEY
    assert env.get("MINE") == ("s3cr3t" if before and "MINE" in before else None)
    words = report(plan, COMMAND, ["FAL_KEY"], printed=False)
    assert not any(secret in words for secret in (KEY, "s3cr3t", "0ld-k3y"))
    assert "It holds FAL_KEY now: keep it private." in words


def test_a_file_that_is_not_understood_shows_no_key_either(tmp_path: Path) -> None:
    (tmp_path / ".cursor").mkdir()
    (tmp_path / ".cursor" / "mcp.json").write_text("[]")
    with pytest.raises(Exception, match="was not changed") as refused:
        plan_change("cursor", Machine(tmp_path, "linux"), COMMAND, keys={"FAL_KEY": KEY})
    assert KEY not in str(refused.value)
    assert REDACTED in str(refused.value)
