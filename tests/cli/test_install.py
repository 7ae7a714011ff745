import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import outpaint_mcp
from outpaint_mcp.cli.clients import CLIENTS, Machine
from outpaint_mcp.cli.install import REDACTED, Plan, carry_out, command_of, plan_change, report
from outpaint_mcp.cli.settings_checks import known_variables
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.self_hosted import SelfHosted
from outpaint_mcp.settings import Settings

COMMAND = ("/opt/tools/bin/outpaint-mcp",)
SERVER_JSON: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent.parent.parent / "server.json").read_text(encoding="utf-8")
)


def linux(home: Path, **folders: str) -> Machine:
    return Machine(home, "linux", folders)


def install(home: Path, name: str = "cursor", command: Sequence[str] = COMMAND, *, uninstall: bool = False) -> Plan:
    plan = plan_change(name, linux(home), command, uninstall=uninstall)
    carry_out(plan)
    return plan


def cursor_file(home: Path, text: str | bytes) -> Path:
    path = home / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_gets_an_entry_under_its_own_key_and_loses_it_again(
    tmp_path: Path, name: str, platform: str
) -> None:
    machine = Machine(tmp_path, platform)
    plan = plan_change(name, machine, (sys.executable, "-m", "outpaint_mcp"))
    assert plan.path.is_relative_to(tmp_path.resolve())
    assert plan.changes
    assert not plan.path.exists(), "planning writes nothing"
    assert carry_out(plan) is None, "there was nothing to copy"
    entry = json.loads(plan.path.read_text())[CLIENTS[name].key]["outpaint"]
    assert (entry["command"], entry["args"]) == (sys.executable, ["-m", "outpaint_mcp"])
    assert not any("KEY" in key for key in entry.get("env", {}))
    assert not plan_change(name, machine, (sys.executable, "-m", "outpaint_mcp")).changes, "again is nothing new"

    carry_out(plan_change(name, machine, COMMAND, uninstall=True))
    assert json.loads(plan.path.read_text()) == {CLIENTS[name].key: {}}
    assert not plan_change(name, machine, COMMAND, uninstall=True).changes


@pytest.mark.parametrize(
    ("name", "platform", "place"),
    [
        ("claude-desktop", "darwin", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", ".config/Claude/claude_desktop_config.json"),
        ("claude-code", "win32", ".claude.json"),
        ("vscode", "darwin", "Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", "AppData/Roaming/Code/User/mcp.json"),
        ("vscode", "linux", ".config/Code/User/mcp.json"),
        ("windsurf", "linux", ".codeium/windsurf/mcp_config.json"),
        ("zed", "darwin", ".config/zed/settings.json"),
        ("zed", "win32", "AppData/Roaming/Zed/settings.json"),
    ],
)
def test_each_platform_has_its_own_place(tmp_path: Path, name: str, platform: str, place: str) -> None:
    assert plan_change(name, Machine(tmp_path, platform), COMMAND).path == (tmp_path / place).resolve()


def test_a_folder_that_the_environment_moves_is_followed_unless_it_is_relative(tmp_path: Path) -> None:
    moved = plan_change("vscode", linux(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "elsewhere")), COMMAND)
    assert moved.path == (tmp_path / "elsewhere/Code/User/mcp.json").resolve()
    usual = plan_change("vscode", linux(tmp_path, XDG_CONFIG_HOME="elsewhere"), COMMAND)
    assert usual.path == (tmp_path / ".config/Code/User/mcp.json").resolve()
    code = plan_change("claude-code", linux(tmp_path, CLAUDE_CONFIG_DIR=str(tmp_path / "c")), COMMAND)
    assert code.path == (tmp_path / "c/.claude.json").resolve()


def test_a_packaged_claude_desktop_is_found_and_two_of_them_are_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "win32")
    inside = tmp_path / "AppData/Local/Packages/Claude_abc/LocalCache/Roaming/Claude"
    inside.mkdir(parents=True)
    assert plan_change("claude-desktop", machine, COMMAND).path.parent == inside.resolve()
    other = tmp_path / "AppData/Local/Packages/Claude_def/LocalCache/Roaming/Claude"
    other.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="more than once"):
        plan_change("claude-desktop", machine, COMMAND)
    (other / "claude_desktop_config.json").write_text("{}")
    assert plan_change("claude-desktop", machine, COMMAND).path.parent == other.resolve(), "the one that is used"


MESSY = (
    '{\r\n\t"theme" :"dark", "size": 1.50, "big": 123456789012345678901234567890,\r\n'
    '\t"text": "\\u00fc // no comment, ü",\r\n'
    '\t"mcpServers": {\r\n\t\t"other": {"command":"x",   "env": {"KEY": "s3cret"}}\r\n\t},\r\n\t"last": [1,2 ,3]\r\n}'
)


def test_not_a_byte_changes_outside_of_the_entry_and_removing_it_gives_the_first_file_back(tmp_path: Path) -> None:
    path = cursor_file(tmp_path, MESSY)
    install(tmp_path)
    after = path.read_bytes().decode()
    before_it, after_it = MESSY.split('"s3cret"}}')
    assert after.startswith(before_it + '"s3cret"}},\r\n\t\t"outpaint": {\r\n\t\t\t"command": "/opt/')
    assert after.endswith("]\r\n\t\t}" + after_it)
    assert "\n" not in after.replace("\r\n", ""), "the file's own line ends"
    assert list(json.loads(after)) == ["theme", "size", "big", "text", "mcpServers", "last"]
    install(tmp_path, uninstall=True)
    assert path.read_bytes().decode() == MESSY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ("{ \n }\n", {}),
        ('{"a":1}', {"a": 1}),
        ('\ufeff{\n "a": 1\n}\n', {"a": 1}),
        ('{"mcpServers":{}}', {}),
        ('{"mcpServers": {\n}, "a": {"mcpServers": {"outpaint": 1}}}', {"a": {"mcpServers": {"outpaint": 1}}}),
        ('\n  {\n    "a": "}{\\"",\n    "mcpServers": {\n    }\n  }\n', {"a": '}{"'}),
    ],
)
def test_files_of_every_layout_get_the_entry_once(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    path = cursor_file(tmp_path, text)
    install(tmp_path)
    written = path.read_bytes()
    whole = json.loads(written.decode("utf-8-sig"))
    assert whole.pop("mcpServers") == {"outpaint": {"command": COMMAND[0], "args": []}}
    assert whole == expected
    assert written.startswith(b"\xef\xbb\xbf") == text.startswith("\ufeff")
    install(tmp_path)
    assert path.read_bytes() == written


@pytest.mark.parametrize("place", [0, 1, 2])
def test_removing_leaves_the_other_servers_wherever_the_entry_stands(tmp_path: Path, place: int) -> None:
    names = ["one", "two"]
    names.insert(place, "outpaint")
    servers = {name: {"command": "outpaint-mcp", "args": ["a,b", "}"]} for name in names}
    path = cursor_file(tmp_path, json.dumps({"mcpServers": servers, "z": [1]}, indent=3))
    install(tmp_path, uninstall=True)
    assert path.read_text() == json.dumps(
        {"mcpServers": {name: servers[name] for name in ("one", "two")}, "z": [1]}, indent=3
    )


def test_what_the_user_put_into_the_entry_stays_and_is_not_shown(tmp_path: Path) -> None:
    entry = {"command": "uvx", "args": ["outpaint-mcp"], "env": {"LEGNEXT_API_KEY": "s3cret"}, "disabled": True}
    path = cursor_file(tmp_path, json.dumps({"mcpServers": {"outpaint": entry}}))
    plan = install(tmp_path)
    assert json.loads(path.read_text())["mcpServers"]["outpaint"] == {**entry, "command": COMMAND[0], "args": []}
    words = report(plan, COMMAND, ["LEGNEXT_API_KEY"], printed=True)
    assert "s3cret" not in words
    assert REDACTED in words
    again = plan_change("cursor", linux(tmp_path), COMMAND)
    assert not again.changes
    assert "s3cret" not in report(again, COMMAND, [], printed=False)


def test_the_file_as_it_was_is_kept_beside_it_and_no_copy_replaces_another(tmp_path: Path) -> None:
    path = cursor_file(tmp_path, '{"a": 1}')
    if os.name == "posix":
        path.chmod(0o640)
    first = carry_out(plan_change("cursor", linux(tmp_path), COMMAND))
    assert first is not None
    assert first.read_text() == '{"a": 1}'
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o640, "its mode stays"
        assert first.stat().st_mode & 0o777 == 0o600, "it may hold keys"
    second = carry_out(plan_change("cursor", linux(tmp_path), ("/new/outpaint-mcp",)))
    assert second is not None
    assert (first.read_text(), second != first) == ('{"a": 1}', True)
    assert carry_out(plan_change("cursor", linux(tmp_path), ("/new/outpaint-mcp",))) is None
    assert sorted(found.name for found in path.parent.iterdir()) == sorted([path.name, first.name, second.name])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "mcp.json"
    real.write_text("{}")
    link = tmp_path / ".cursor" / "mcp.json"
    link.parent.mkdir()
    link.symlink_to(real)
    install(tmp_path)
    assert link.is_symlink()
    assert "outpaint" in real.read_text()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{\n  // mine\n  "mcpServers": {},\n}', "comments or trailing commas"),
        ('{"a": /* x */ 1}', "comments or trailing commas"),
        ('{"a": [1,],}', "comments or trailing commas"),
        ('{\n"a": \n', r"not valid JSON \(line 3\)"),
        ("mcpServers: {}", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"mcpServers": []}', "mcpServers is not an object"),
        ('{"mcpServers": null}', "mcpServers is not an object"),
        ('{"a": 1, "a": 2}', "it holds a key twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "not valid JSON"),
        ('{"mcpServers": {"outpaint": {"command": "another-program"}}}', "another server called outpaint"),
        ('{"mcpServers": {"outpaint": {"url": "https://x/outpaint"}}}', "another server called outpaint"),
        ('{"mcpServers": {"outpaint": {"command": "outpaint-mcp", "env": [1]}}}', "env of outpaint is not an object"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
    ],
)
def test_what_is_not_fully_understood_is_left_untouched_with_the_lines_to_paste(
    tmp_path: Path, content: str | bytes, why: str
) -> None:
    path = cursor_file(tmp_path, content)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=why) as refused:
        install(tmp_path)
    assert json.loads(refused.value.advice.partition("\n")[2])["mcpServers"]["outpaint"]["command"] == COMMAND[0]
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_removing_does_not_touch_another_server_of_that_name(tmp_path: Path) -> None:
    cursor_file(tmp_path, '{"mcpServers": {"outpaint": {"command": "another-program"}}}')
    with pytest.raises(ConfigurationError, match="another server"):
        install(tmp_path, uninstall=True)


def test_a_file_that_changed_after_it_was_read_is_left_to_whoever_changed_it(tmp_path: Path) -> None:
    path = cursor_file(tmp_path, "{}")
    plan = plan_change("cursor", linux(tmp_path), COMMAND)
    path.write_text('{"new": 1}')
    with pytest.raises(ConfigurationError, match="changed by another program"):
        carry_out(plan)
    assert path.read_text() == '{"new": 1}'
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said_with_the_lines_to_paste(tmp_path: Path) -> None:
    (tmp_path / ".cursor").write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot be"):
        install(tmp_path)


def test_an_unknown_client_is_refused_with_the_list_of_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'emacs'") as refused:
        plan_change("emacs", linux(tmp_path), COMMAND)
    assert all(name in refused.value.advice for name in CLIENTS)


def test_the_command_is_the_script_that_runs_or_else_this_python(tmp_path: Path) -> None:
    script = tmp_path / "outpaint-mcp"
    assert command_of(str(script), "/usr/bin/python3") == ("/usr/bin/python3", "-m", "outpaint_mcp")
    script.touch()
    assert command_of(str(script), "/usr/bin/python3") == (str(script),)
    assert command_of("/x/outpaint_mcp/__main__.py", "/usr/bin/python3") == ("/usr/bin/python3", "-m", "outpaint_mcp")


def test_the_user_is_told_where_keys_go_what_changed_and_what_to_do_next(tmp_path: Path) -> None:
    keys = ["LEGNEXT_API_KEY", "PIAPI_API_KEY"]
    plan = plan_change("vscode", linux(tmp_path), ("/home/x/.cache/uv/archive-v0/abc/bin/outpaint-mcp",))
    words = report(plan, json.loads(plan.shown)["servers"]["outpaint"]["command"].splitlines(), keys, printed=True)
    assert "would be written to" in words
    assert all(key in words for key in keys)
    assert "uv tool install" in words
    removed = report(install(tmp_path, uninstall=True), COMMAND, keys, printed=False)
    assert "nothing to remove" in removed


def test_server_json_is_of_this_version_and_within_the_registrys_limits() -> None:
    (package,) = SERVER_JSON["packages"]
    assert SERVER_JSON["version"] == package["version"] == outpaint_mcp.__version__
    assert (package["registryType"], package["identifier"]) == ("pypi", "outpaint-mcp")
    assert package["transport"] == {"type": "stdio"}
    assert len(SERVER_JSON["description"]) <= 100
    assert SERVER_JSON["name"].count("/") == 1
    assert "registryBaseUrl" not in package


def test_server_json_names_every_key_as_secret_and_every_setting_that_stdio_has() -> None:
    variables = {one["name"]: one for one in SERVER_JSON["packages"][0]["environmentVariables"]}
    classes = provider_classes().values()
    keys = {one.key_env for one in classes if issubclass(one, HttpProvider)}
    assert {name for name, one in variables.items() if one.get("isSecret")} == keys
    assert not any(one.get("isRequired") for one in variables.values()), "the server starts without any"
    assert variables.keys() <= known_variables(provider_classes())
    settings = {
        f"OUTPAINT_{name.upper()}": one
        for name, one in Settings.model_fields.items()
        if not (one.description or "").startswith("Over HTTP") and not name.startswith(("oauth_", "poll_"))
    }
    engines = [one for one in classes if issubclass(one, SelfHosted)]
    own = {one.base_url_env() for one in engines} | {one.workflow_env() for one in engines if one.takes_workflow}
    assert variables.keys() - keys == settings.keys() | own
    for name, setting in settings.items():
        assert variables[name]["description"] == (setting.description or "").replace("`", ""), name
        default = None if setting.default_factory is not None else setting.default
        known = None if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert variables[name].get("default") == known, name
