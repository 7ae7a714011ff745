"""What MCP clients bear, by the name that they give themselves: how long a call may last, and resource links.

A client whose name is not here is an agent framework as likely as not: it gets a short call and no links, which every
client was found to bear. Version, protocol era and progress tokens are no columns, since no client is known that one of
them tells from another of the same name. Names: `mcp-client-capabilities` 0.0.14 and the Inspector's package; limits:
reports of the hosts' users and runs of the frameworks. All of November 2026.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from outpaint_mcp.domain.request import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """What a client bears.

    `wait_seconds` is how long a call lasts that does not say so itself. `resource_links`: whether one link per image
    does more good than harm.
    """

    wait_seconds: float
    resource_links: bool


UNKNOWN: Final = ClientProfile(wait_seconds=3.5, resource_links=False)
"""Anybody else.

The calls of the OpenAI Agents SDK 0.24, Google ADK 2.13 and AutoGen 0.7.5 end after 5 s. A link breaks the whole result
in AutoGen, Semantic Kernel 1.45 and Anthropic's SDK helpers 2.14, becomes an image that models' APIs refuse in
LangChain's adapters 0.3.2, and five further frameworks drop it.
"""

_PROFILES: Final[tuple[tuple[str, ClientProfile], ...]] = (
    # Claude Desktop ends a call after 60 s or about 4 minutes, claude.ai after 45 to 60 s; both have this name.
    ("claudeai", ClientProfile(40, resource_links=True)),
    # Shows a link as text. No limit is known: what calls lasted so far without complaint.
    ("claudecode", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True)),
    # Ends a call after about 5 minutes, and saves what is linked.
    ("visualstudiocode*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True)),
    # Shows images. No limit is known.
    ("cursor", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True)),
    ("cursorvscode", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True)),
    # Copilot in JetBrains' editors ends a call after 30 s; what it does with a link is not known.
    ("jetbrains*copilot*", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=False)),
    # Ends a call after 60 s, and opens what is linked.
    ("mcpinspector*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True)),
    ("inspectorcl*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True)),
)


def profile_of(name: str | None) -> ClientProfile:
    """What the client of this name (``clientInfo.name``) bears; its case, signs and proxy do not matter."""
    bare = re.sub(r"[^a-z0-9]", "", re.sub(r"\(via [^)]*\)", "", (name or "")[:200].lower()))
    return next((profile for pattern, profile in _PROFILES if fnmatchcase(bare, pattern)), UNKNOWN)
