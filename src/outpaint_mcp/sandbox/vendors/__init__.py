"""The list of the vendors that the sandbox plays, and what follows from it: the seeded tasks and the settings to use.

A new vendor is a file here and a line in `_CLASSES`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.vendors.apiframe import Apiframe
from outpaint_mcp.sandbox.vendors.apimart import APIMart
from outpaint_mcp.sandbox.vendors.base import Vendor
from outpaint_mcp.sandbox.vendors.bfl import Bfl
from outpaint_mcp.sandbox.vendors.bria import Bria
from outpaint_mcp.sandbox.vendors.comfyui import ComfyUI
from outpaint_mcp.sandbox.vendors.fal import Fal
from outpaint_mcp.sandbox.vendors.iopaint import IOPaint
from outpaint_mcp.sandbox.vendors.legnext import Legnext
from outpaint_mcp.sandbox.vendors.openai import OpenAI
from outpaint_mcp.sandbox.vendors.piapi import PiAPI
from outpaint_mcp.sandbox.vendors.replicate import Replicate
from outpaint_mcp.sandbox.vendors.sdapi import Sdapi
from outpaint_mcp.sandbox.vendors.stability import Stability
from outpaint_mcp.sandbox.vendors.vtrix import Vtrix

_CLASSES: tuple[type[Vendor], ...] = (
    PiAPI,
    Vtrix,
    Apiframe,
    APIMart,
    Legnext,
    Bfl,
    Fal,
    Bria,
    Replicate,
    Stability,
    OpenAI,
    ComfyUI,
    Sdapi,
    IOPaint,
)

VENDORS: Mapping[str, type[Vendor]] = MappingProxyType({vendor.name: vendor for vendor in _CLASSES})
"""Every vendor by its name, in the order in which the sandbox shows them."""

SEEDS: tuple[Seed, ...] = tuple(seed for vendor in _CLASSES for seed in vendor.seeds)
"""The seeded tasks of all vendors, in their order."""


def seed_id(vendor: str, *, grid: bool) -> str:
    """The id of the vendor's seeded grid, or of its seeded single image.

    Raises:
        KeyError: there is no such vendor.
        StopIteration: it has no tasks to extend.
    """
    return next(seed.id for seed in VENDORS[vendor].seeds if seed.is_grid == grid and not seed.foreign)


def environment(base_url: str) -> dict[str, str]:
    """The settings that make outpaint-mcp use the sandbox at `base_url` (no slash at the end)."""
    variables: dict[str, str] = {}
    for name, vendor in VENDORS.items():
        variables |= vendor.environment(f"{base_url}/{name}")
    # Images and webhooks are on loopback here, and a task takes about two seconds.
    variables["OUTPAINT_ALLOW_PRIVATE_URLS"] = "true"
    variables["OUTPAINT_POLL_SECONDS"] = "0.3,0.3"
    return variables
