"""Writes this server's entry into a host's configuration file, and takes it out again.

The file is the host's and its user's: outside of the one entry not a byte of it changes, so the text is edited where
the entry stands and not written anew from what was parsed. What cannot be understood in full is left alone, and the
user gets the lines to paste. No key is ever written. Knows neither the environment nor this machine: both are given.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outpaint_mcp.cli.json_edit import Member, as_json, decoded, members_of, read_object, with_member
from outpaint_mcp.domain.errors import ConfigurationError

SERVER_NAME = "outpaint"
"""What the server is called in a host's file."""
KEPT = "(kept as it is)"
"""Stands for what the user put into the entry's `env`, which is shown to nobody."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where programs keep their settings.

    `platform` is as in `sys.platform`. `folders` holds those environment variables that move such folders and are set:
    ``APPDATA``, ``LOCALAPPDATA``, ``XDG_CONFIG_HOME``, ``CLAUDE_CONFIG_DIR``, ``COPILOT_HOME``.
    """

    home: Path
    platform: str
    folders: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Path:
        """Where desktop programs keep a user's settings."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self.moved("APPDATA", self.home / "AppData" / "Roaming")
        return self.moved("XDG_CONFIG_HOME", self.home / ".config")

    def moved(self, variable: str, usual: Path) -> Path:
        """The folder that `variable` names, or the usual one; a relative path is none."""
        path = Path(self.folders.get(variable, ""))
        return path if path.is_absolute() else usual


@dataclass(frozen=True, slots=True)
class Client:
    """A host: where its file lies, under which key it lists its servers, and what an entry holds besides the command.

    `reload` says what makes the host read the file again.
    """

    name: str
    title: str
    path: Callable[[Machine], Path]
    reload: str
    key: str = "mcpServers"
    extra: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def _claude_desktop(machine: Machine) -> Path:
    usual = machine.settings / "Claude" / "claude_desktop_config.json"
    if machine.platform != "win32":
        return usual
    # Installed from its MSIX package, as by default since February 2026, it sees a Roaming folder of the package's own
    # (github.com/anthropics/claude-code/issues/26073, looked up in November 2026).
    packages = machine.moved("LOCALAPPDATA", machine.home / "AppData" / "Local") / "Packages"
    found = [path / "LocalCache" / "Roaming" / "Claude" / usual.name for path in sorted(packages.glob("Claude_*"))]
    in_use = [path for path in found if path.exists()] or found
    if len(in_use) > 1:
        raise ConfigurationError(
            "Claude Desktop is installed more than once, and which one is used is not known.",
            "Add the server by hand; --print shows the entry: " + ", ".join(map(str, in_use)),
        )
    return in_use[0] if in_use else usual


def _zed(machine: Machine) -> Path:
    if machine.platform == "darwin":
        return machine.home / ".config" / "zed" / "settings.json"
    return machine.settings / ("Zed" if machine.platform == "win32" else "zed") / "settings.json"


# Where each one's documentation says so; all looked up in November 2026.
_CLIENTS = (
    # modelcontextprotocol.io/quickstart/user; on Linux (not official) the folder that Electron gives every program
    Client("claude-desktop", "Claude Desktop", _claude_desktop, "Quit it wholly and start it again."),
    # code.claude.com/docs/en/mcp: user scope; CLAUDE_CONFIG_DIR moves it
    Client(
        "claude-code",
        "Claude Code",
        lambda machine: machine.moved("CLAUDE_CONFIG_DIR", machine.home) / ".claude.json",
        "Start a new session.",
        extra={"type": "stdio"},
        note="It writes this file itself while it runs: if the entry is gone later, end all its sessions and repeat.",
    ),
    # cursor.com/docs/mcp
    Client(
        "cursor",
        "Cursor",
        lambda machine: machine.home / ".cursor" / "mcp.json",
        "Switch the server on in its settings, under MCP.",
    ),
    # code.visualstudio.com/docs/copilot/reference/mcp-configuration: the user profile's mcp.json
    Client(
        "vscode",
        "VS Code",
        lambda machine: machine.settings / "Code" / "User" / "mcp.json",
        "Run: MCP: List Servers, and start it there.",
        key="servers",
        extra={"type": "stdio"},
        note="In place of a key, env can hold ${input:NAME}, with NAME described under inputs: VS Code then asks for "
        "the key and keeps it.",
    ),
    # docs.windsurf.com/windsurf/cascade/mcp
    Client(
        "windsurf",
        "Windsurf",
        lambda machine: machine.home / ".codeium" / "windsurf" / "mcp_config.json",
        "Press the refresh button of its list of MCP servers.",
    ),
    # docs.github.com/en/copilot/how-tos/copilot-cli/customize-copilot/add-mcp-servers
    Client(
        "copilot-cli",
        "GitHub Copilot CLI",
        lambda machine: machine.moved("COPILOT_HOME", machine.home / ".copilot") / "mcp-config.json",
        "Start it again.",
        extra={"type": "local", "tools": ["*"]},
    ),
    # geminicli.com/docs/tools/mcp-server
    Client(
        "gemini-cli",
        "Gemini CLI",
        lambda machine: machine.home / ".gemini" / "settings.json",
        "Start it again.",
    ),
    # kiro.dev/docs/mcp/configuration. It throws a whole result away over a resource link.
    Client(
        "kiro",
        "Kiro",
        lambda machine: machine.home / ".kiro" / "settings" / "mcp.json",
        "It reads the file by itself.",
        env={"OUTPAINT_RESOURCE_LINKS": "false"},
    ),
    # lmstudio.ai/docs/app/mcp
    Client(
        "lm-studio",
        "LM Studio",
        lambda machine: machine.home / ".lmstudio" / "mcp.json",
        "It reads the file by itself.",
        note="Its button Edit mcp.json shows the file that it reads, should the server not appear.",
    ),
    # zed.dev/docs/ai/mcp
    Client("zed", "Zed", _zed, "It reads the file by itself.", key="context_servers"),
)
CLIENTS: Mapping[str, Client] = {client.name: client for client in _CLIENTS}
"""The hosts that are known, by the name that the command line uses."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to one file; `after` equals `before` where nothing is.

    `before` is None where there is no file. `shown` is the entry as it will stand, for the user to see or to paste.
    """

    client: Client
    path: Path
    before: bytes | None
    after: bytes | None
    shown: str
    removes: bool = False

    @property
    def changes(self) -> bool:
        return self.after != self.before


def command_of(argv0: str, executable: str) -> tuple[str, ...]:
    """What starts this very server: the script that runs, or this Python with the module's name.

    Args:
        argv0: as in `sys.argv`.
        executable: as in `sys.executable`.
    """
    script = Path(argv0)
    for path in (script, script.with_name(script.name + ".exe")):
        if path.name.removesuffix(".exe") == "outpaint-mcp" and path.is_file():
            # Not resolved: installers put a link where it stays over updates.
            return (str(path.absolute()),)
    return (executable, "-m", "outpaint_mcp")


def plan_change(name: str, machine: Machine, command: Sequence[str], *, uninstall: bool = False) -> Plan:
    """Read a host's file and work out what it should be. Writes nothing.

    Args:
        name: one of `CLIENTS`.
        machine: whose home and which platform.
        command: what starts the server, its first part an absolute path.
        uninstall: take the entry out, in place of writing it.

    Raises:
        ConfigurationError: the host is not known; or its file cannot be read, or is not wholly understood, or holds
            another server under this name. The advice has the lines to paste.
    """
    client = CLIENTS.get(name)
    if client is None:
        raise ConfigurationError(
            f"{name[:80]!r} is no client that is known.",
            f"There are {', '.join(CLIENTS)}; for another one see the README.",
        )
    # A file kept elsewhere and linked to stays where it is kept.
    path = client.path(machine).resolve()
    entry = {**client.extra, "command": command[0], "args": list(command[1:])}
    if client.env:
        entry["env"] = dict(client.env)
    pasted = _shown(client, entry)
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", "") from error
    try:
        text, mark = decoded(before or b"")
        if not text.strip():
            fresh = mark + pasted.encode() + b"\n"
            return Plan(client, path, before, before if uninstall else fresh, pasted, uninstall)
        after, shown = _without(text, client) if uninstall else _with(text, client, entry)
    except ValueError as problem:
        by_hand = f"Take the entry {SERVER_NAME} out yourself." if uninstall else f"Add this yourself:\n{pasted}"
        raise ConfigurationError(f"{path} is left as it was: {problem}.", by_hand) from None
    return Plan(client, path, before, mark + after.encode(), shown or pasted, uninstall)


def carry_out(plan: Plan) -> Path | None:
    """Write what was planned, whole or not at all; returns the copy of the file as it was, if there was one.

    Raises:
        ConfigurationError: it cannot be written, or the file has changed since it was read.
    """
    if not plan.changes or plan.after is None:
        return None
    part: Path | None = None
    try:
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{plan.path.name}.", dir=plan.path.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(plan.after)
            file.flush()
            os.fsync(file.fileno())
        backup = None
        if plan.before:
            # Only its owner may read a new file, since keys will stand in it; an old one keeps its mode.
            part.chmod(plan.path.stat().st_mode & 0o7777)
            backup = _backup(plan.path, plan.before)
        now = plan.path.read_bytes() if plan.path.exists() else None
        if now != plan.before:
            if backup is not None:
                backup.unlink()
            raise ConfigurationError(f"{plan.path} was changed by somebody else meanwhile.", "Run the command again.")
        part.replace(plan.path)
        return backup
    except OSError as error:
        raise ConfigurationError(
            f"{plan.path} cannot be written: {error.strerror}.", f"Add this yourself:\n{plan.shown}"
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()


def told(plan: Plan, command: Sequence[str], keys: Sequence[str], *, printed: bool, backup: Path | None = None) -> str:
    """What the user is told: what was done (or, if `printed`, would be), and what is left to do.

    Args:
        plan: what it was.
        command: what starts the server.
        keys: the environment variables that hold the providers' keys.
        printed: whether nothing was written.
        backup: the copy of the file as it was.
    """
    would = "would be" if printed else "was"
    if plan.removes:
        if not plan.changes:
            return f"{plan.client.title} has no entry {SERVER_NAME}: nothing to remove from {plan.path}"
        lines = [f"The entry {SERVER_NAME} {would} removed from {plan.path}"]
        if backup is not None:
            lines.append(f"The file as it was, keys included: {backup}")
        if not printed:
            lines.append(f"{plan.client.title}: {plan.client.reload}")
        return "\n".join(lines)
    if plan.changes:
        lines = [f"This {would} written to {plan.path}", plan.shown]
    else:
        lines = [f"This stands in {plan.path} already", plan.shown]
    if backup is not None:
        lines.append(f"The file as it was: {backup}")
    lines.append(f"{plan.client.title}: {plan.client.reload}")
    lines.append(f'No key is needed to begin. Keys go into the entry\'s "env": {", ".join(keys)}.')
    if plan.client.note:
        lines.append(plan.client.note)
    if any(part.startswith("archive-v") for part in Path(command[0]).parts):
        lines.append("The command lies in uv's cache, which gets cleaned: uv tool install outpaint-mcp, then again.")
    return "\n".join(lines)


def _backup(path: Path, data: bytes) -> Path:
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak" if number == 1 else f"{path.name}.bak-{number}")
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return backup


# The entry


def _with(text: str, client: Client, entry: dict[str, Any]) -> tuple[str, str]:
    """The text with the entry in it, and the entry as it stands then.

    Raises:
        ValueError: the text is not wholly understood; says why.
    """
    members, end, style = read_object(text)
    container = members.get(client.key)
    if container is None:
        return with_member(text, 0, members, end, style, 1, client.key, {SERVER_NAME: entry}), _shown(client, entry)
    servers, servers_end = _servers(text, client, container)
    there = servers.get(SERVER_NAME)
    if there is None:
        added = with_member(text, container.value, servers, servers_end, style, 2, SERVER_NAME, entry)
        return added, _shown(client, entry)
    found = json.loads(text[there.value : there.end])
    _must_be_ours(found)
    merged = {**found, **entry}
    if not isinstance(found.get("env") or {}, dict):
        raise ValueError(f"the env of {SERVER_NAME} is no object")
    env = {**entry.get("env", {}), **(found.get("env") or {})}
    if env:
        merged["env"] = env
    elif "env" in found:
        merged["env"] = found["env"]
    if "args" not in found and not entry["args"]:
        # An entry without arguments says the same.
        del merged["args"]
    # Whoever looks on may see our own settings, and nothing that the user put there.
    shown = {**merged, **({"env": {key: client.env.get(key, KEPT) for key in env}} if env else {})}
    if merged == found:
        return text, _shown(client, shown)
    return text[: there.value] + style.rendered(merged, 2) + text[there.end :], _shown(client, shown)


def _without(text: str, client: Client) -> tuple[str, str]:
    members, _, _ = read_object(text)
    container = members.get(client.key)
    if container is None:
        return text, ""
    servers, end = _servers(text, client, container)
    there = servers.get(SERVER_NAME)
    if there is None:
        return text, ""
    _must_be_ours(json.loads(text[there.value : there.end]))
    order = list(servers.values())
    index = order.index(there)
    if len(order) == 1:
        first, last = container.value + 1, end
    elif index + 1 < len(order):
        first, last = there.start, order[index + 1].start
    else:
        first, last = order[index - 1].end, there.end
    return text[:first] + text[last:], ""


def _must_be_ours(found: Any) -> None:
    words: list[Any] = []
    if isinstance(found, dict):
        args = found.get("args")
        words = [found.get("command"), *(args if isinstance(args, list) else ())]
    if not any(isinstance(word, str) and re.search(r"\boutpaint[-_]mcp\b", word) for word in words):
        raise ValueError(f"another server is called {SERVER_NAME} there")


def _shown(client: Client, entry: Mapping[str, Any]) -> str:
    return as_json({client.key: {SERVER_NAME: entry}}, "  ")


def _servers(text: str, client: Client, container: Member) -> tuple[dict[str, Member], int]:
    if text[container.value] != "{":
        raise ValueError(f"its {client.key} is no object")
    return members_of(text, container.value)
