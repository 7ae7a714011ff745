"""The generated parts of the pages in docs/, from what the program declares; scripts/readme.py writes them."""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp import Client

from outpaint_mcp import Settings, create_server
from outpaint_mcp.cli.clients import CLIENTS, Machine
from outpaint_mcp.cli.install import plan_change
from outpaint_mcp.cli.main import parser_for
from outpaint_mcp.domain.request import SourceKind
from outpaint_mcp.providers import HttpProvider, Provider, SelfHosted, provider_classes
from outpaint_mcp.sandbox import SEEDS, VENDORS, Fault
from outpaint_mcp.sandbox.faults import FAULT_DESCRIPTIONS
from outpaint_mcp.server.client_profiles import profile_of


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# Providers

KINDS = {SourceKind.IMAGE: "your own image", SourceKind.TASK: "a task's image"}


def overview() -> str:
    """The providers side by side."""
    rows = []
    for name, one in provider_classes().items():
        features = [set(map(str, one.limits(kind))) for kind in KINDS]
        has = ["yes" if found else "" for found in features]
        rows.append([f"[{name}](#{name})", *has, any_of("prompt", features), any_of("sides", features), one.original])
    return table(["provider", *KINDS.values(), "prompt", "sides", "the original's pixels"], rows)


def any_of(feature: str, found: Iterable[set[str]]) -> str:
    return "yes" if any(feature in one for one in found) else ""


def providers() -> str:
    """Each provider with all that it declares."""
    return "\n\n".join(provider_section(name, one) for name, one in provider_classes().items())


def provider_section(name: str, one: type[Provider]) -> str:
    # A list of facts, then what each argument may be.
    facts = {
        "Extends": ", ".join(one.sources),
        **configuration(one),
        "Price": one.price,
        "A daily limit in USD counts": counted(name, one),
        "The original's pixels": one.original,
        "How long image URLs live": one.image_lifetime,
    }
    lines = [f"### {name}", ""]
    lines += [f"[{one.title}]({one.docs_url.removeprefix('docs/')}). {one.note}".rstrip(), ""]
    lines += [f"- **{what}**: {words}" for what, words in facts.items()]
    for kind, label in KINDS.items():
        if limits := one.limits(kind):
            lines += [
                "",
                table([f"for {label}", "what it may be"], ([f"`{f.value}`", words] for f, words in limits.items())),
            ]
    return "\n".join(lines)


def configuration(one: type[Provider]) -> dict[str, str]:
    """By which variables it is configured."""
    if issubclass(one, SelfHosted):
        login = f"`{one.key_env}` holds the Authorization header for what stands before it, if anything does"
        workflow = {"Workflow of your own": f"`{one.workflow_env()}`"} if one.takes_workflow else {}
        return {"Address": f"`{one.base_url_env()}`; {login}", **workflow}
    return {"Key": f"`{one.key_env}`" if issubclass(one, HttpProvider) else "none"}


def counted(name: str, one: type[Provider]) -> str:
    """What an order counts towards the daily limit in USD."""
    if not one.costs_money:
        return "nothing"
    own = f"{name.upper()}_USD_PER_ORDER"
    usual = ", ".join(f"${usd:g} for an {step.value}" for step, usd in one.usd.items())
    if one.usd_for is not Provider.usd_for:
        return (
            f"what the order at hand comes to by that price; `{own}` replaces it, and is needed where it says nothing"
        )
    return f"{usual}; `{own}` replaces it" if usual else f"`{own}`, which it needs"


def keys() -> str:
    """The variables of each provider."""
    rows = []
    for name, one in provider_classes().items():
        if issubclass(one, HttpProvider):
            rows.append(
                [
                    f"`{name}`",
                    f"`{one.key_env}`",
                    f"`{name.upper()}_BASE_URL`",
                    one.base_url or "none: it is needed",
                    f"`{name.upper()}_USD_PER_ORDER`" if one.costs_money else "",
                ]
            )
    return table(["provider", "API key", "address", "default address", "price of an order"], rows)


# Hosts

HOST_NAMES = {
    "claude-desktop": "claude-ai",
    "claude-code": "claude-code",
    "cursor": "cursor",
    "vscode": "Visual Studio Code",
}
"""The name that a host gives itself, where it is known to the program."""
PLATFORMS = {"darwin": "macOS", "linux": "Linux", "win32": "Windows"}


def host(name: str) -> str:
    """A host's configuration file and the entry in it, as `install` writes them."""
    client = CLIENTS[name]
    homes = {"darwin": "~", "linux": "~", "win32": "%USERPROFILE%"}
    files: dict[str, list[str]] = {}
    for platform, title in PLATFORMS.items():
        path = str(client.path(Machine(Path(homes[platform]), platform)))
        if platform == "win32":
            path = path.replace("%USERPROFILE%/AppData/Roaming", "%APPDATA%").replace("/", "\\")
        files.setdefault(path, []).append(title)
    entry = plan_change(name, Machine(Path("/nowhere"), "linux"), ["outpaint-mcp"]).shown
    profile = profile_of(HOST_NAMES.get(name))
    parts = [
        f"```sh\noutpaint-mcp install {name}\n```",
        table(["system", "file"], ([", ".join(titles), f"`{path}`"] for path, titles in files.items())),
        f"```json\n{entry}\n```",
        f"Then: {client.reload}",
    ]
    parts += [client.note] if client.note else []
    parts.append(f"A call waits for up to {profile.wait_seconds:g} seconds; then the model asks again with `get_task`.")
    return "\n\n".join(parts)


# Tools


@functools.cache
def published() -> dict[str, list[dict[str, Any]]]:
    """What a client is shown: tools, prompts, resources and their templates."""

    async def ask() -> dict[str, Any]:
        # Listing the tools has the server open its data folder.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            async with Client(create_server(Settings(data_dir=folder))) as client:
                answers = (
                    await client.list_tools(),
                    await client.list_prompts(),
                    await client.list_resources(),
                    await client.list_resource_templates(),
                )
        return dict(
            pair for one in answers for pair in one.model_dump(mode="json", by_alias=True, exclude_none=True).items()
        )

    return anyio.run(ask)


HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
MEANINGS = {
    "id": "The task's id, `op-...`",
    "provider": "Who made it",
    "remote_id": "The provider's own id",
    "status": "See [Money](money.md#what-each-status-means)",
    "images": "The new images; see below",
    "cost": "What the provider says it took; see below",
    "failure": "Why it failed or is `unknown`; see below",
    "request": "The order as it was understood; no image data, no secret",
    "steps": "The orders of the task, such as `upscale`, then `outpaint`",
    "notes": "What is worth knowing: what was scaled, what a file held that was not sent, what was opened",
    "created_at": "When the order was written",
    "updated_at": "When anything changed last",
    "finished_at": "When it became final",
    "index": "From 1",
    "mime_type": "Such as `image/png`",
    "width": "Pixels",
    "height": "Pixels",
    "amount": "In the provider's unit",
    "usd": "The same in USD, where it is known",
    "code": "One of the [codes](errors.md)",
    "message": "In words",
    "provider_code": "The provider's own code",
    "retryable": "Whether the same order may succeed later",
    "name": "Its name, as in the argument `provider`",
    "Step.name": "What was ordered",
    "title": "Its title",
    "configured": "Whether it can be used now",
    "original": "What becomes of the original's pixels: `exact`, `pasted back` or `redrawn`",
    "needs": "The environment variables that are missing",
    "features": "For each kind of source (`picture`, your own image; `task`), each argument with its limits",
    "zoom": "For each kind of source, the zooms",
    "source": "What it extends",
    "price": "In words, with its date",
    "image_lifetime": "How long its image URLs live",
    "note": "What else to know",
    "Place.x": "Its left edge; with all of the new image's width as 1",
    "Place.y": "Its top edge; with all of the new image's height as 1",
    "Place.width": "Its width, likewise",
    "Place.height": "Its height, likewise",
    "docs_url": "Where to read on",
    "providers": "The providers, in the order in which `auto` tries them; see below",
}
"""The fields of results whose schema is kept free of words, since some frameworks hand it to the model."""


def tool(name: str) -> str:
    """A tool as clients are shown it."""
    found = published_tool(name)
    hints = [f"`{one}` {str(found['annotations'][one]).lower()}" for one in HINTS if one in found["annotations"]]
    parts = [f"*{found['title']}.* " + found["description"].replace("\n", " "), f"Annotations: {', '.join(hints)}."]
    given = found["inputSchema"]
    rows = [
        [f"`{argument}`", described(one, required=argument in given.get("required", [])), one["description"]]
        for argument, one in given.get("properties", {}).items()
    ]
    parts.append(table(["argument", "type", "meaning"], rows) if rows else "It takes no arguments.")
    return "\n\n".join(parts)


def described(schema: Mapping[str, Any], *, required: bool) -> str:
    """An argument's type, and what it is where it is left out."""
    default = f"; default `{json.dumps(schema['default'])}`" if "default" in schema else ""
    return kind(schema) + (", required" if required else default)


def published_tool(name: str) -> dict[str, Any]:
    return next(one for one in published()["tools"] if one["name"] == name)


def result(name: str) -> str:
    """The fields of a tool's structured result, and of the objects within it."""
    schema = published_tool(name)["outputSchema"]
    definitions = schema.get("$defs", {})
    parts = [fields(schema, definitions)]
    for title, one in definitions.items():
        if "properties" in one:
            parts += [f"`{title}`:", fields(one, definitions, title)]
    return "\n\n".join(parts)


def fields(schema: Mapping[str, Any], definitions: Mapping[str, Any], title: str = "") -> str:
    rows = []
    for name, one in schema["properties"].items():
        meaning = one.get("description") or MEANINGS.get(f"{title}.{name}") or MEANINGS[name]
        rows.append([f"`{name}`", kind(one, definitions), meaning])
    return table(["field", "type", "meaning"], rows)


def kind(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(one, definitions) for one in schema["anyOf"]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"`{name}`" if "properties" in (definitions or {})[name] else kind((definitions or {})[name])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    named = schema["type"] if isinstance(schema["type"], str) else " or ".join(schema["type"])
    if named == "array":
        return f"list of {kind(schema['items'], definitions)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        named += f" from {low:g} to {high:g}" if high is not None else f" of {low:g} or more"
    if "maxLength" in schema:
        named += f" of up to {schema['maxLength']:,} characters"
    return named.replace("string", "date and time") if schema.get("format") == "date-time" else named


def prompts() -> str:
    """The prompts with their arguments."""
    rows = []
    for one in published()["prompts"]:
        given = [f"`{a['name']}`" + (" (required)" if a.get("required") else "") for a in one["arguments"]]
        rows.append([f"`{one['name']}`", one["title"], one["description"], ", ".join(given)])
    return table(["prompt", "in the menu", "what it asks for", "arguments"], rows)


def resources() -> str:
    """The resources and their templates."""
    found = [(one["uri"], one) for one in published()["resources"]]
    found += [(one["uriTemplate"], one) for one in published()["resourceTemplates"]]
    return table(
        ["address", "what it is", "type"], ([f"`{uri}`", one["description"], one["mimeType"]] for uri, one in found)
    )


# The command line and the sandbox


def commands() -> str:
    """Every command with its options."""
    return "\n\n".join(command_section(parser) for parser in parsers(parser_for(["outpaint"])))


def parsers(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    """The parsers of all commands, and of these commands' own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from (
                    parsers(one) if any(isinstance(a, argparse._SubParsersAction) for a in one._actions) else [one]
                )


def command_section(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper())
        takes = action.nargs != 0
        names = [f"`{one} {value}`" if takes else f"`{one}`" for one in action.option_strings] or [f"`{value}`"]
        rows.append([", ".join(names), (action.help or "").replace("%%", "%")])
    name = parser.prog.removeprefix("outpaint-mcp ")
    return f"### {name}\n\n" + (table(["option", "meaning"], rows) if rows else "It has no options.")


def faults() -> str:
    """What the sandbox can be told to do wrong."""
    return table(["`fault`", "what happens"], ([f"`{name}`", words] for name, words in FAULT_DESCRIPTIONS.items()))


def fault_fields() -> str:
    """What a fault is made of."""
    rows = []
    for name, one in Fault.model_json_schema()["properties"].items():
        values = "one of the above" if name == "fault" else kind(one)
        rows.append([f"`{name}`", values, "required" if "default" not in one else f"`{json.dumps(one['default'])}`"])
    return table(["field", "what it may be", "default"], rows)


def sandbox_vendors() -> str:
    """The vendors that the sandbox plays."""
    rows = []
    for name, one in VENDORS.items():
        seeds = [f"`{seed.id}`: {seed.what}" for seed in SEEDS if seed.vendor == name and not seed.foreign]
        rows.append(
            [
                f"`/{name}`",
                f"`{one.key}`" if one.key else "none",
                "<br>".join(seeds) or "none: it extends your own images",
            ]
        )
    return table(["path", "key", "finished tasks to extend"], rows)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "overview": ("docs/providers.md", overview),
    "providers": ("docs/providers.md", providers),
    "keys": ("docs/settings.md", keys),
    **{f"host-{name}": ("docs/hosts.md", functools.partial(host, name)) for name in CLIENTS},
    "outpaint": ("docs/tools.md", functools.partial(tool, "outpaint")),
    "get_task": ("docs/tools.md", functools.partial(tool, "get_task")),
    "list_providers": ("docs/tools.md", functools.partial(tool, "list_providers")),
    "task": ("docs/tools.md", functools.partial(result, "outpaint")),
    "provider-list": ("docs/tools.md", functools.partial(result, "list_providers")),
    "prompts": ("docs/tools.md", prompts),
    "resources": ("docs/tools.md", resources),
    "commands": ("docs/command-line.md", commands),
    "sandbox-vendors": ("docs/sandbox.md", sandbox_vendors),
    "faults": ("docs/sandbox.md", faults),
    "fault-fields": ("docs/sandbox.md", fault_fields),
}
"""What is generated for docs/: each part's page, and what makes it."""
