"""The five vendors' protocols on loopback, to try and to test clients without a key and without paying.

Written from the vendors' documentation alone. It imports no adapter and shares no code with one, so that a mistake in
either shows.
"""

from outpaint_mcp.sandbox.app import VENDORS, Sandbox, create_sandbox, environment
from outpaint_mcp.sandbox.faults import Fault, Faults
from outpaint_mcp.sandbox.pictures import PlainPainter
from outpaint_mcp.sandbox.seeds import SEEDS, Seed, seed_id
from outpaint_mcp.sandbox.serving import serve_sandbox, serving
from outpaint_mcp.sandbox.settings import ManualClock, SandboxSettings
from outpaint_mcp.sandbox.tasks import Order

__all__ = [
    "SEEDS",
    "VENDORS",
    "Fault",
    "Faults",
    "ManualClock",
    "Order",
    "PlainPainter",
    "Sandbox",
    "SandboxSettings",
    "Seed",
    "create_sandbox",
    "environment",
    "seed_id",
    "serve_sandbox",
    "serving",
]
