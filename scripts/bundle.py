"""Packs the server as an MCP bundle (manifest 0.4, runtime uv), with a field for each key: see scripts/bundle.

The host's uv installs what pyproject.toml names on first use. The manifest follows from `server.json`, whose variables
follow from the providers and the settings.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "src")
SETTINGS = (
    "OUTPAINT_MAX_USD_PER_DAY",
    "OUTPAINT_MAX_ORDERS_PER_DAY",
    "OUTPAINT_CONFIRM_ABOVE_USD",
    "OUTPAINT_PROVIDERS",
    "OUTPAINT_FILE_ROOTS",
    "OUTPAINT_DATA_DIR",
)
"""What a host's form asks for besides keys: little enough to be read."""


def manifest() -> dict[str, Any]:
    """The bundle's manifest."""
    server = json.loads((PROJECT / "server.json").read_text(encoding="utf-8"))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    variables = {one["name"]: one for one in server["packages"][0]["environmentVariables"]}
    shown = [name for name, one in variables.items() if one.get("isSecret")] + list(SETTINGS)
    return {
        "manifest_version": "0.4",
        "name": project["name"],
        "display_name": "Outpaint",
        "version": project["version"],
        "description": server["description"],
        "author": {"name": project["authors"][0]["name"], "url": project["urls"]["Homepage"]},
        "homepage": project["urls"]["Homepage"],
        "license": project["license"],
        "keywords": project["keywords"],
        "server": {
            "type": "uv",
            "entry_point": "src/outpaint_mcp/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "outpaint-mcp"],
                "env": {name: f"${{user_config.{name.lower()}}}" for name in shown},
            },
        },
        "tools": [
            {"name": "outpaint", "description": "Extend an image beyond its borders"},
            {"name": "get_task", "description": "Status and images of a task"},
            {"name": "list_providers", "description": "Which providers can extend images"},
        ],
        "prompts_generated": True,
        "compatibility": {
            "platforms": ["darwin", "win32", "linux"],
            "runtimes": {"python": project["requires-python"]},
        },
        "user_config": {name.lower(): _field(variables[name]) for name in shown},
    }


def _field(variable: dict[str, Any]) -> dict[str, Any]:
    """A field of the host's form. What is left empty must have a default, or the host hands its placeholder over."""
    secret = bool(variable.get("isSecret"))
    name = variable["name"]
    title = name if secret else name.removeprefix("OUTPAINT_").replace("_", " ").capitalize().replace("usd", "USD")
    found = {"type": "string", "title": title, "description": variable["description"], "required": False, "default": ""}
    return {**found, "sensitive": True} if secret else found


def main(target: Path) -> int:
    command = ["node", str(PROJECT / ".node" / "node_modules" / "@anthropic-ai" / "mcpb" / "dist" / "cli" / "cli.js")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in FILES:
            source = PROJECT / one
            if source.is_dir():
                shutil.copytree(source, folder / one, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, folder / one)
        (folder / "manifest.json").write_text(json.dumps(manifest(), indent=2) + "\n", encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        for arguments in (["validate", str(folder / "manifest.json")], ["pack", str(folder), str(target)]):
            subprocess.run([*command, *arguments], check=True)  # noqa: S603
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "dist" / "outpaint-mcp.mcpb"))
