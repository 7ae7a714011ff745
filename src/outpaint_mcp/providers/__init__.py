"""The providers: one file per vendor, the engine on this machine, and what they are written with.

A vendor's file imports from here and from nowhere else in the program. The names are imported when one is first used,
so that the processes that draw, and a server that only lists its tools, do not pay for them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outpaint_mcp.providers.contract import *  # noqa: F403


if not TYPE_CHECKING:  # else every name would be one

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module("outpaint_mcp.providers.contract"), name)
