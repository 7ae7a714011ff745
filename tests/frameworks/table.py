"""The table of docs/frameworks.md: what the runner measured, and how each framework is connected, from its driver."""

import datetime
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "frameworks.md"
BEGIN: Final = "<!-- begin frameworks -->\n"
END: Final = "\n<!-- end frameworks -->"


@dataclass(frozen=True)
class Measured:
    """What one framework did: seconds until the model had the task's id, and whether the images still came with links
    or an inline image in the result (None: not measured)."""

    package: str
    seconds: float
    refusal: str
    links: bool | None = None
    preview: bool | None = None


# Name, and the longest that a call may last by default, read in the sources of the driver's versions, November 2026.
FRAMEWORKS: Final[Mapping[str, tuple[str, str]]] = {
    "agno_agent": ("Agno", "10 s"),
    "anthropic_helpers": ("Anthropic's SDK, Python", "none"),
    "anthropic_helpers_typescript": ("Anthropic's SDK, TypeScript", "60 s, its MCP client's"),
    "autogen_workbench": ("AutoGen", "5 s"),
    "crewai_agent": ("CrewAI", "30 s, then it calls again, twice"),
    "fastmcp_client": ("FastMCP's client", "none"),
    "google_adk_agent": ("Google ADK", "5 s"),
    "google_genai_calling": ("Google's Gen AI SDK", "none"),
    "haystack_agent": ("Haystack", "30 s"),
    "langchain_adapters": ("LangChain's adapters", "none"),
    "llama_index_agent": ("LlamaIndex", "30 s"),
    "microsoft_agent_framework": ("Microsoft Agent Framework", "none"),
    "openai_agents_sdk": ("OpenAI Agents SDK", "5 s"),
    "pydantic_ai_agent": ("Pydantic AI", "300 s"),
    "semantic_kernel_plugin": ("Semantic Kernel", "none"),
    "smolagents_tools": ("smolagents", "none (its 5 is ignored)"),
    "strands_agent": ("Strands", "none"),
    "typescript_sdk": ("TypeScript SDK 2.x", "60 s"),
    "typescript_sdk_1": ("TypeScript SDK 1.x", "60 s"),
    "vercel_ai_sdk": ("Vercel's AI SDK", "none"),
}


def write(measured: Mapping[str, Measured], drivers: Mapping[str, Path]) -> None:
    """Renews the page's table and snippets."""
    lines = [
        f"Measured on {datetime.datetime.now(datetime.UTC):%d %B %Y}, with other work on the machine.",
        "",
        "| framework | version | a call may last | id after | refusal's code | with links | with inline image |",
        "|---|---|---|---|---|---|---|",
    ]
    for driver, one in sorted(measured.items(), key=lambda item: FRAMEWORKS[item[0]][0].lower()):
        title, limit = FRAMEWORKS[driver]
        code = "yes" if one.refusal == "invalid_request" else "withheld"
        borne = " | ".join({True: "yes", False: "no", None: "-"}[it] for it in (one.links, one.preview))
        lines.append(f"| {title} | `{one.package}` | {limit} | {one.seconds:.1f} s | {code} | {borne} |")
    for driver in sorted(measured, key=lambda name: FRAMEWORKS[name][0].lower()):
        language = "python" if drivers[driver].suffix == ".py" else "javascript"
        lines += ["", f"## {FRAMEWORKS[driver][0]}", "", f"```{language}", snippet(drivers[driver].read_text()), "```"]
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + END + rest.split(END)[1])
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(PAGE)], check=True)


def snippet(driver: str) -> str:
    """The driver's lines from `connect:` to `:connect`, with the imports of what they name."""
    marked = re.search(r"(?m)^ *(?:#|//) connect:\n(.*?)\n *(?:#|//) :connect$", driver, re.DOTALL)
    assert marked, "no lines are marked"
    lines = textwrap.dedent(marked[1])
    imports = []
    for line in re.findall(r"(?m)^(?:from|import) .*$", driver):
        found = re.match(r"from [\w.]+ import (.+)|import \{? ?(.+?) ?\}? from", line)
        if found is None or "script" in line.partition("import")[0] or "/script.mjs" in line:
            continue
        names = re.findall(r"\w+", re.sub(r"\w+ as ", "", found[1] or found[2]))
        wanted = [name for name in names if re.search(rf"\b{name}\b", lines)]
        if found[1] and wanted:
            imports.append(f"{line.partition(' import ')[0]} import {', '.join(wanted)}")
        elif wanted:
            imports.append(line)
    whole = "\n".join([*imports, "", lines])
    for ours, real in (
        ("server.command", '"uvx"'),
        ("server.args", '["outpaint-mcp"]'),
        ("server.env", '{"LEGNEXT_API_KEY": "..."}'),
        ("(server)", '({ command: "uvx", args: ["outpaint-mcp"], env: { LEGNEXT_API_KEY: "..." } })'),
        ('shlex.join(["uvx", *["outpaint-mcp"]])', '"uvx outpaint-mcp"'),
    ):
        whole = whole.replace(ours, real)
    return f"{whole}\n    ..." if whole.endswith(":") else whole
