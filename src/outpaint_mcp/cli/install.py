"""`outpaint-mcp install`: writes this server's entry into an MCP client's configuration file, and removes it again.

The file belongs to the client and its user: not a byte outside of the one entry changes, so the text is edited in place
and not serialised anew from what was parsed. A file that is not fully understood is left alone, and the user gets the
lines to paste. Keys are written and never shown. Reads neither the environment nor this machine: both are passed in.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outpaint_mcp.cli.clients import CLIENTS, Client, Machine
from outpaint_mcp.cli.json_edit import Member, as_json, decoded, members_of, read_object, with_member
from outpaint_mcp.domain.errors import ConfigurationError

SERVER_NAME = "outpaint"
"""The server's name in a client's file."""
REDACTED = "(kept as it is)"
"""Stands for the values that the user put into the entry's `env`, which are never shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The change to one file; `after` equals `before` where nothing is to change.

    `before` is None where there is no file. `shown` is the entry as it will be, without keys, for the user to see or to
    paste. `keys` are the variables whose keys the entry gets.
    """

    client: Client
    path: Path
    before: bytes | None
    after: bytes | None
    shown: str
    removes: bool = False
    keys: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return self.after != self.before

    @property
    def variables(self) -> frozenset[str]:
        """The names of the environment variables in the entry, or in the one that is removed."""
        return frozenset(json.loads(self.shown)[self.client.key][SERVER_NAME].get("env", {}))


def command_of(argv0: str, executable: str) -> tuple[str, ...]:
    """The command that starts this very server: the running script, or this Python with the module's name.

    Args:
        argv0: as in `sys.argv`.
        executable: as in `sys.executable`.
    """
    script = Path(argv0)
    for path in (script, script.with_name(script.name + ".exe")):
        if path.name.removesuffix(".exe") == "outpaint-mcp" and path.is_file():
            # Not resolved: installers put a link where it stays valid over updates.
            return (str(path.absolute()),)
    return (executable, "-m", "outpaint_mcp")


def plan_change(
    name: str,
    machine: Machine,
    command: Sequence[str],
    *,
    uninstall: bool = False,
    keys: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """Read a client's file and work out what it should be. Writes nothing.

    Args:
        name: one of `CLIENTS`.
        machine: the home folder and the platform.
        command: what starts the server, its first part an absolute path.
        uninstall: remove the entry instead of writing it.
        keys: the keys that the entry gets, by environment variable; they replace those that it has.
        settings: other environment variables that replace those that it has, and may be shown.

    Raises:
        ConfigurationError: the client is not known; or its file cannot be read, or is not fully understood, or holds
            another server under this name. The advice has the lines to paste.
    """
    client = CLIENTS.get(name)
    if client is None:
        raise ConfigurationError(
            f"{name[:80]!r} is not a known client.",
            f"Known are {', '.join(CLIENTS)}; for another one see the README.",
        )
    # A file that is a link stays one: what it points to is edited.
    path = client.path(machine).resolve()
    entry = {**client.extra, "command": command[0], "args": list(command[1:])}
    env = {**client.env, **(settings or {})}
    if env:
        entry["env"] = env
    keys = dict(keys or {})
    pasted = _shown(client, {**entry, **({"env": env | dict.fromkeys(keys, REDACTED)} if keys else {})})
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}.", "Correct its permissions and run this again."
        ) from error
    try:
        text, mark = decoded(before or b"")
        if not text.strip():
            whole = _shown(client, {**entry, "env": env | keys} if keys else entry)
            fresh = mark + whole.encode() + b"\n"
            return Plan(client, path, before, before if uninstall else fresh, pasted, uninstall, tuple(keys))
        after, shown = _without(text, client) if uninstall else _with(text, client, entry, {**(settings or {}), **keys})
    except ValueError as problem:
        by_hand = f"Remove the entry {SERVER_NAME} yourself." if uninstall else f"Add this yourself:\n{pasted}"
        raise ConfigurationError(f"{path} was not changed: {problem}.", by_hand) from None
    return Plan(client, path, before, mark + after.encode(), shown or pasted, uninstall, tuple(keys))


def carry_out(plan: Plan) -> Path | None:
    """Write what was planned, atomically; returns the backup of the file as it was, if there was one.

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
            # Only its owner may read a new file, since it will hold keys; an existing one keeps its mode until it does.
            part.chmod(plan.path.stat().st_mode & (0o7700 if plan.keys else 0o7777))
            backup = _backup(plan.path, plan.before)
        now = plan.path.read_bytes() if plan.path.exists() else None
        if now != plan.before:
            if backup is not None:
                backup.unlink()
            raise ConfigurationError(f"{plan.path} was changed by another program meanwhile.", "Run the command again.")
        part.replace(plan.path)
        return backup
    except OSError as error:
        raise ConfigurationError(
            f"{plan.path} cannot be written: {error.strerror}.",
            f"Remove the entry {SERVER_NAME} yourself." if plan.removes else f"Add this yourself:\n{plan.shown}",
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()


def report(
    plan: Plan, command: Sequence[str], keys: Sequence[str], *, printed: bool, backup: Path | None = None
) -> str:
    """The text for the user: what was done (or, if `printed`, would be), and what is left to do.

    Args:
        plan: the change.
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
        lines = [f"{plan.path} holds this already", plan.shown]
    if backup is not None:
        lines.append(f"The file as it was: {backup}")
    lines.append(f"{plan.client.title}: {plan.client.reload}")
    if plan.keys:
        lines.append(f"It holds {', '.join(plan.keys)} now: keep it private.")
    else:
        lines.append(f'No key is needed to begin. Keys go into the entry\'s "env": {", ".join(keys)}.')
    if plan.client.note:
        lines.append(plan.client.note)
    if any(part.startswith("archive-v") for part in Path(command[0]).parts):
        lines.append("The command lies in uv's cache, which is cleaned: uv tool install outpaint-mcp, then again.")
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


def _with(text: str, client: Client, entry: dict[str, Any], given: Mapping[str, str]) -> tuple[str, str]:
    """The text with the entry in it, and the entry as it then is, without keys.

    `given` are variables that replace those that the entry has; such as are not the entry's own are keys.

    Raises:
        ValueError: the text is not fully understood; says why.
    """
    members, end, style = read_object(text)
    container = members.get(client.key)
    own = entry.get("env", {})
    whole = {**entry, "env": {**own, **given}} if given else entry
    pasted = _shown(client, {**entry, "env": {**dict.fromkeys(given, REDACTED), **own}} if given else entry)
    if container is None:
        return with_member(text, 0, members, end, style, 1, client.key, {SERVER_NAME: whole}), pasted
    servers, servers_end = _servers(text, client, container)
    there = servers.get(SERVER_NAME)
    if there is None:
        added = with_member(text, container.value, servers, servers_end, style, 2, SERVER_NAME, whole)
        return added, pasted
    found = json.loads(text[there.value : there.end])
    _must_be_ours(found)
    merged = {**found, **entry}
    if not isinstance(found.get("env") or {}, dict):
        raise ValueError(f"the env of {SERVER_NAME} is not an object")
    env = {**own, **(found.get("env") or {}), **given}
    if env:
        merged["env"] = env
    elif "env" in found:
        merged["env"] = found["env"]
    if "args" not in found and not entry["args"]:
        # An entry without args means the same.
        del merged["args"]
    # Our own settings may be shown, and nothing that the user put there.
    shown = {**merged, **({"env": {key: own.get(key, REDACTED) for key in env}} if env else {})}
    if merged == found:
        return text, _shown(client, shown)
    return text[: there.value] + style.rendered(merged, 2) + text[there.end :], _shown(client, shown)


def _without(text: str, client: Client) -> tuple[str, str]:
    """The text without the entry, and the variables that the entry had, as an entry without their values.

    Raises:
        ValueError: the text is not fully understood; says why.
    """
    members, _, _ = read_object(text)
    container = members.get(client.key)
    if container is None:
        return text, ""
    servers, end = _servers(text, client, container)
    there = servers.get(SERVER_NAME)
    if there is None:
        return text, ""
    found = json.loads(text[there.value : there.end])
    _must_be_ours(found)
    env = found.get("env")
    gone = {"env": dict.fromkeys(env, REDACTED)} if isinstance(env, dict) else {}
    order = list(servers.values())
    index = order.index(there)
    if len(order) == 1:
        first, last = container.value + 1, end
    elif index + 1 < len(order):
        first, last = there.start, order[index + 1].start
    else:
        first, last = order[index - 1].end, there.end
    return text[:first] + text[last:], _shown(client, gone)


def _must_be_ours(found: Any) -> None:
    words: list[Any] = []
    if isinstance(found, dict):
        args = found.get("args")
        words = [found.get("command"), *(args if isinstance(args, list) else ())]
    if not any(isinstance(word, str) and re.search(r"\boutpaint[-_]mcp\b", word) for word in words):
        raise ValueError(f"it holds another server called {SERVER_NAME}")


def _shown(client: Client, entry: Mapping[str, Any]) -> str:
    return as_json({client.key: {SERVER_NAME: entry}}, "  ")


def _servers(text: str, client: Client, container: Member) -> tuple[dict[str, Member], int]:
    if text[container.value] != "{":
        raise ValueError(f"its {client.key} is not an object")
    return members_of(text, container.value)
