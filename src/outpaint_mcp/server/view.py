"""The view that hosts with MCP Apps show beside a task: `view.html`, as the resource that the tools name.

It loads nothing and asks no host: what it shows comes through the client, images as ``data:`` URLs. So it declares no
domains. https://modelcontextprotocol.io/extensions/apps, specification of 2026-01-26.
"""

from pathlib import Path
from typing import Any, Final

from mcp_types import TextResourceContents

from outpaint_mcp.server.client_profiles import APP_MIME_TYPE

VIEW: Final = "ui://outpaint/view.html"
TOOL_META: Final[dict[str, Any]] = {"ui": {"resourceUri": VIEW}}
"""Of the tools whose results the view shows."""
_META: Final[dict[str, Any]] = {"ui": {"csp": {}, "permissions": {"clipboardWrite": {}}, "prefersBorder": True}}


def view_contents() -> TextResourceContents:
    """The view's document; it is read each time, since a conversation needs it a few times."""
    html = Path(__file__).with_name("view.html").read_text(encoding="utf-8")
    return TextResourceContents(uri=VIEW, text=html, mime_type=APP_MIME_TYPE, _meta=_META)
