"""What MCP clients bear and show: how long a call may last, resource links, inline images, and the extensions.

By the name that a client gives itself, as far as its users and runs of it tell. A client whose name is not here is an
agent framework as likely as not: it gets a short call and neither links nor images, which every client was found to
bear. Version, protocol era and progress tokens are no columns, since no client is known that one of them tells from
another of the same name. Nor are the extensions: a client declares them itself, which is better evidence than a list of
names, and holds for those that are not in it. Names: `mcp-client-capabilities` 0.0.14 and the Inspector's package;
limits: reports of the hosts' users and runs of the frameworks. All of November 2026.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from outpaint_mcp.domain.request import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS

APPS: Final = "io.modelcontextprotocol/ui"
APP_MIME_TYPE: Final = "text/html;profile=mcp-app"
"""The extension MCP Apps, and the type of the views that a client must say to render."""
TASKS: Final = "io.modelcontextprotocol/tasks"
"""The extension in which a call is answered with a task's handle."""


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """What a client bears and shows.

    `wait_seconds` is how long a call lasts that does not say so itself. `resource_links`: whether one link per image
    does more good than harm. `inline_images`: whether its user sees an image that a result holds. `apps`, `tasks`: the
    extensions that it declares.
    """

    wait_seconds: float
    resource_links: bool
    inline_images: bool = False
    apps: bool = False
    tasks: bool = False

    @property
    def preview(self) -> bool:
        """Whether a result holds a small image: where its user sees that, and no view that shows more."""
        return self.inline_images and not self.apps


UNKNOWN: Final = ClientProfile(wait_seconds=3.5, resource_links=False)
"""Anybody else.

The calls of the OpenAI Agents SDK 0.24, Google ADK 2.13 and AutoGen 0.7.5 end after 5 s. A link breaks the whole result
in AutoGen, Semantic Kernel 1.45 and Anthropic's SDK helpers 2.14, becomes an image that models' APIs refuse in
LangChain's adapters 0.3.2, and five further frameworks drop it. Five were tried with an inline image and bore it, but
hand it to the model, who pays for it.
"""

_PROFILES: Final[tuple[tuple[str, ClientProfile], ...]] = (
    # Claude Desktop ends a call after 60 s or about 4 minutes, claude.ai after 45 to 60 s; both have this name. An
    # image of up to 1 MB stands in the tool's result, which is folded: without apps there is no other picture.
    ("claudeai", ClientProfile(40, resource_links=True, inline_images=True)),
    # Shows a link as text, in a terminal. No limit is known: what calls lasted so far without complaint.
    ("claudecode", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True)),
    # Ends a call after about 5 minutes, saves what is linked, and shows images.
    ("visualstudiocode*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True, inline_images=True)),
    # Shows images. No limit is known.
    ("cursor", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True, inline_images=True)),
    ("cursorvscode", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=True, inline_images=True)),
    # Copilot in JetBrains' editors ends a call after 30 s; what it does with a link or an image is not known.
    ("jetbrains*copilot*", ClientProfile(DEFAULT_WAIT_SECONDS, resource_links=False)),
    # Ends a call after 60 s, and opens what is linked; whether it shows an image was not looked at.
    ("mcpinspector*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True)),
    ("inspectorcl*", ClientProfile(MAX_WAIT_SECONDS, resource_links=True)),
)


def profile_of(name: str | None, extensions: Mapping[str, Any] | None = None) -> ClientProfile:
    """What a client bears and shows.

    Args:
        name: ``clientInfo.name``; its case, signs and proxy do not matter.
        extensions: what its capabilities declare, each with its settings.
    """
    bare = re.sub(r"[^a-z0-9]", "", re.sub(r"\(via [^)]*\)", "", (name or "")[:200].lower()))
    found = next((profile for pattern, profile in _PROFILES if fnmatchcase(bare, pattern)), UNKNOWN)
    if not extensions:
        return found
    return replace(found, apps=_renders_apps(extensions.get(APPS)), tasks=TASKS in extensions)


def profile_for(ctx: ServerRequestContext[Any, Any]) -> ClientProfile:
    """What the client bears and shows that makes a request."""
    client, capabilities = ctx.session.client_params, ctx.session.client_capabilities
    name = None if client is None else client.client_info.name
    profile = profile_of(name, None if capabilities is None else capabilities.extensions)
    # A handle can be delivered on a modern connection only.
    return profile if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else replace(profile, tasks=False)


def _renders_apps(settings: Any) -> bool:
    types = settings.get("mimeTypes") if isinstance(settings, Mapping) else None
    return isinstance(types, list | tuple) and APP_MIME_TYPE in types
