"""The MCP clients that `install` knows: where each keeps its configuration, and what an entry in it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outpaint_mcp.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Machine:
    """Where programs keep their settings.

    `platform` is as in `sys.platform`. `folders` holds the environment variables that move such folders, where set:
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
            return self.folder("APPDATA", self.home / "AppData" / "Roaming")
        return self.folder("XDG_CONFIG_HOME", self.home / ".config")

    def folder(self, variable: str, default: Path) -> Path:
        """The folder that `variable` names, or the default one; a relative path is ignored."""
        path = Path(self.folders.get(variable, ""))
        return path if path.is_absolute() else default


@dataclass(frozen=True, slots=True)
class Client:
    """A client: where its file lies, under which key it lists its servers, and what an entry holds besides the command.

    `reload` says what makes the client read the file again.
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
    default = machine.settings / "Claude" / "claude_desktop_config.json"
    if machine.platform != "win32":
        return default
    # Installed from its MSIX package, as by default since February 2026, it sees a Roaming folder of the package's own
    # (github.com/anthropics/claude-code/issues/26073, looked up in November 2026).
    packages = machine.folder("LOCALAPPDATA", machine.home / "AppData" / "Local") / "Packages"
    found = [path / "LocalCache" / "Roaming" / "Claude" / default.name for path in sorted(packages.glob("Claude_*"))]
    in_use = [path for path in found if path.exists()] or found
    if len(in_use) > 1:
        raise ConfigurationError(
            "Claude Desktop is installed more than once, and it is not known which one is in use.",
            "Add the server by hand; --print shows the entry: " + ", ".join(map(str, in_use)),
        )
    return in_use[0] if in_use else default


def _zed(machine: Machine) -> Path:
    if machine.platform == "darwin":
        return machine.home / ".config" / "zed" / "settings.json"
    return machine.settings / ("Zed" if machine.platform == "win32" else "zed") / "settings.json"


# As each one's documentation says; all looked up in November 2026.
_CLIENTS = (
    # modelcontextprotocol.io/quickstart/user; on Linux (not official) the folder that Electron gives every program
    Client("claude-desktop", "Claude Desktop", _claude_desktop, "Quit it completely and start it again."),
    # code.claude.com/docs/en/mcp: user scope; CLAUDE_CONFIG_DIR moves it
    Client(
        "claude-code",
        "Claude Code",
        lambda machine: machine.folder("CLAUDE_CONFIG_DIR", machine.home) / ".claude.json",
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
        note="Instead of a key, env can hold ${input:NAME}, with NAME described under inputs: VS Code then asks for "
        "the key and stores it.",
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
        lambda machine: machine.folder("COPILOT_HOME", machine.home / ".copilot") / "mcp-config.json",
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
    # kiro.dev/docs/mcp/configuration. It discards a whole result that holds a resource link.
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
"""The known clients, by the name that the command line uses."""
