"""Writes what is generated: the tables of the README and of docs/ between their markers, the variables in server.json.

--check writes nothing and says whether all of it is up to date.
"""

import base64
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlencode

import reference

from outpaint_mcp.domain import errors
from outpaint_mcp.providers import HttpProvider, SelfHosted, provider_classes
from outpaint_mcp.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent


def prices() -> str:
    """The providers in short, from their declarations."""
    lines = ["| provider | extends | price |", "|---|---|---|"]
    for name, one in provider_classes().items():
        lines.append(f"| [`{name}`]({one.docs_url}) | {', '.join(one.sources)} | {one.price} |")
    return "\n".join(lines)


def settings() -> str:
    """The settings, from their declarations."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or field.default_factory is not None else f"`{field.default}`"
        default = {"`True`": "`true`", "`False`": "`false`", "`()`": ""}.get(default, default)
        lines.append(f"| `OUTPAINT_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def codes() -> str:
    """The errors, from their classes."""
    lines = ["| code | what it means | what to do, if the error does not say more |", "|---|---|---|"]
    for one in vars(errors).values():
        if isinstance(one, type) and "code" in vars(one):
            meaning = (one.__doc__ or "").replace("``", "`")
            lines.append(f"| `{one.code}` | {meaning} | {one.default_advice} |")
    return "\n".join(lines)


UVX = {"command": "uvx", "args": ["outpaint-mcp"]}
"""What starts the released package in a host: uv fetches it on first use."""


def badges() -> str:
    """Links that install the server with a click, by cursor.com/docs/mcp/install-links and VS Code's MCP guide.

    GitHub shows no link to `cursor:` or `vscode:`, so each goes by its maker's redirecting page.
    """
    config = base64.b64encode(json.dumps(UVX, separators=(",", ":")).encode()).decode()
    cursor = "https://cursor.com/en/install-mcp?" + urlencode({"name": "outpaint", "config": config})
    entry = json.dumps({"name": "outpaint", **UVX}, separators=(",", ":"))
    vscode = "https://insiders.vscode.dev/redirect?" + urlencode({"url": "vscode:mcp/install?" + quote(entry, safe="")})
    return f"[Add to Cursor]({cursor}) · [Add to VS Code]({vscode})"


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "prices": ("README.md", prices),
    "badges": ("README.md", badges),
    "links": ("docs/hosts.md", badges),
    "settings": ("docs/settings.md", settings),
    "errors": ("docs/errors.md", codes),
    **reference.PARTS,
}
"""What is generated: each part's page, and what makes it."""


def generated(part: str, text: str) -> str:
    """The text of a part's page with its table as it is to be.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = f"<!-- begin {part} -->\n", f"\n<!-- end {part} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + begin + PARTS[part][1]() + end + after


def provider_variables(one: type[HttpProvider]) -> list[dict[str, Any]]:
    """What configures a provider: a key, or the address of an engine."""
    if not issubclass(one, SelfHosted):
        used = f"The API key of {one.title} ({one.docs_url}); without it that provider is not used."
        return [{"name": one.key_env, "description": used, "isSecret": True, "isRequired": False}]
    address = f"The address of your {one.title} ({one.docs_url}); without it that provider is not used."
    login = f"The Authorization header for what stands before your {one.title}, such as Bearer abc; most need none."
    named = "The file of your own workflow, exported in the API format, with titled nodes; by default a built-in graph."
    workflow = {"name": one.workflow_env(), "description": named, "format": "filepath", "isRequired": False}
    return [
        {"name": one.base_url_env(), "description": address, "isRequired": False},
        *([workflow] if one.takes_workflow else []),
        {"name": one.key_env, "description": login, "isSecret": True, "isRequired": False},
    ]


def server_json(text: str) -> str:
    """`server.json` with the variables of the providers' keys and of the settings that stdio has."""
    whole = json.loads(text)
    variables: list[dict[str, Any]] = [
        variable
        for one in provider_classes().values()
        if issubclass(one, HttpProvider)
        for variable in provider_variables(one)
    ]
    for name, field in Settings.model_fields.items():
        description = (field.description or "").replace("`", "")
        if description.startswith("Over HTTP") or name.startswith(("oauth_", "poll_")):
            continue
        variable: dict[str, Any] = {"name": f"OUTPAINT_{name.upper()}", "description": description}
        kinds = {kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)}
        if get_origin(field.annotation) is Literal:
            variable["choices"] = list(get_args(field.annotation))
        elif bool in kinds:
            variable["format"] = "boolean"
        elif Path in kinds:
            variable["format"] = "filepath"
        elif {int, float} & kinds:
            variable["format"] = "number"
        if field.default is not None and field.default_factory is None:
            default = field.default
            variable["default"] = str(default).lower() if isinstance(default, bool) else str(default)
        variables.append(variable)
    whole["packages"][0]["environmentVariables"] = variables
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    check = "--check" in sys.argv[1:]
    outdated = 0
    pages = [(name, functools.partial(generated, part)) for part, (name, _) in PARTS.items()]
    for name, make in (*pages, ("server.json", server_json)):
        page = PROJECT / name
        text = page.read_text(encoding="utf-8")
        wanted = make(text)
        if wanted == text:
            continue
        outdated += 1
        if check:
            print(f"{name} is not up to date: run .venv/bin/python scripts/readme.py")
        else:
            page.write_text(wanted, encoding="utf-8")
    return int(check and outdated > 0)


if __name__ == "__main__":
    sys.exit(main())
