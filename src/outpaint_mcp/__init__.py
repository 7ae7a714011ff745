"""outpaint-mcp: an MCP server that extends images beyond their borders.

Public are `create_server`, `open_service` and `Settings` here, and from `outpaint_mcp.providers` what a provider's file
needs. Everything else may change in any version.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outpaint_mcp.bootstrap import create_server, open_service
    from outpaint_mcp.domain.front import Front
    from outpaint_mcp.settings import Settings

__all__ = ["Front", "Settings", "__version__", "create_server", "open_service"]
__version__ = "0.1.0"

_HOMES = {
    "Front": "outpaint_mcp.domain.front",
    "Settings": "outpaint_mcp.settings",
    "create_server": "outpaint_mcp.bootstrap",
    "open_service": "outpaint_mcp.bootstrap",
}


if not TYPE_CHECKING:  # else every name would be one

    def __getattr__(name: str) -> Any:
        """Imports a public name when it is first used: the command line starts without most of them."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
