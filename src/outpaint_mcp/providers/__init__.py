"""The providers: one file per vendor, and the engine on this machine. This file is their registry."""

import importlib
import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outpaint_mcp.providers.base import Provider

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "outpaint_mcp.providers"
DEFAULT_ORDER = ("legnext", "apiframe", "apimart", "vtrix", "piapi", "local")
"""The order in which `auto` tries the built-in providers; plug-ins come after them."""

_BUILT_IN = {
    "legnext": "outpaint_mcp.providers.legnext:Legnext",
    "apiframe": "outpaint_mcp.providers.apiframe:Apiframe",
    "apimart": "outpaint_mcp.providers.apimart:Apimart",
    "vtrix": "outpaint_mcp.providers.vtrix:Vtrix",
    "piapi": "outpaint_mcp.providers.piapi:Piapi",
    "local": "outpaint_mcp.providers.local.provider:LocalProvider",
}


def provider_classes() -> dict[str, "type[Provider]"]:
    """Every provider's class by its name: the built-in ones in `DEFAULT_ORDER`, then the installed plug-ins.

    A plug-in that cannot be loaded, is no `Provider` or has a name that is taken is left out with a warning.
    """
    from outpaint_mcp.providers.base import Provider

    classes: dict[str, type[Provider]] = {}
    for name in DEFAULT_ORDER:
        module, _, attribute = _BUILT_IN[name].partition(":")
        classes[name] = getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found = point.load()
        except Exception:
            logger.warning("the provider plug-in %s cannot be loaded", point.name, exc_info=True)
            continue
        if not (isinstance(found, type) and issubclass(found, Provider)):
            logger.warning("the provider plug-in %s is not a Provider class", point.name)
        elif found.name in classes:
            logger.warning("the provider plug-in %s has the name %s, which is taken", point.name, found.name)
        else:
            classes[found.name] = found
    return classes
