"""Which providers there are: the built-in ones, and the plug-ins that are installed."""

import importlib
import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outpaint_mcp.providers.base import Provider

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "outpaint_mcp.providers"

BUILT_IN = {
    "comfyui": "outpaint_mcp.providers.comfyui.provider:Comfyui",
    "sdapi": "outpaint_mcp.providers.sdapi:Sdapi",
    "iopaint": "outpaint_mcp.providers.iopaint:IOPaint",
    "fal": "outpaint_mcp.providers.fal:Fal",
    "bfl": "outpaint_mcp.providers.bfl:Bfl",
    "bria": "outpaint_mcp.providers.bria:Bria",
    "replicate": "outpaint_mcp.providers.replicate:Replicate",
    "stability": "outpaint_mcp.providers.stability:Stability",
    "openai": "outpaint_mcp.providers.openai:OpenAI",
    "legnext": "outpaint_mcp.providers.legnext:Legnext",
    "apiframe": "outpaint_mcp.providers.apiframe:Apiframe",
    "apimart": "outpaint_mcp.providers.apimart:Apimart",
    "vtrix": "outpaint_mcp.providers.vtrix:Vtrix",
    "piapi": "outpaint_mcp.providers.piapi:Piapi",
    "local": "outpaint_mcp.providers.local.provider:LocalProvider",
}
"""In the order in which `auto` tries them; plug-ins come after them."""


def provider_classes() -> dict[str, "type[Provider]"]:
    """Every provider's class by its name: the built-in ones in the order of `auto`, then the installed plug-ins.

    A plug-in that cannot be loaded, is no whole `Provider` or has a name that is taken is left out with a warning.
    """
    from outpaint_mcp.providers.base import Provider

    classes: dict[str, type[Provider]] = {}
    for name, place in BUILT_IN.items():
        module, _, attribute = place.partition(":")
        classes[name] = getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found = point.load()
        except Exception:
            logger.warning("the provider plug-in %s cannot be loaded", point.name, exc_info=True)
            continue
        if not (isinstance(found, type) and issubclass(found, Provider)):
            logger.warning("the provider plug-in %s is not a Provider class", point.name)
        elif missing := (*found.undeclared(), *sorted(found.__abstractmethods__)):
            logger.warning("the provider plug-in %s lacks %s", point.name, ", ".join(missing))
        elif found.name in classes:
            logger.warning("the provider plug-in %s has the name %s, which is taken", point.name, found.name)
        else:
            classes[found.name] = found
    return classes


def key_variables() -> dict[str, str]:
    """The environment variable of each installed provider that takes a key, by the provider's name."""
    from outpaint_mcp.providers.http_provider import HttpProvider

    return {name: one.key_env for name, one in provider_classes().items() if issubclass(one, HttpProvider)}


def address_variables() -> dict[str, str]:
    """The environment variable of the address of each engine that the operator can run, by its name."""
    from outpaint_mcp.providers.self_hosted import SelfHosted

    return {name: one.base_url_env() for name, one in provider_classes().items() if issubclass(one, SelfHosted)}
