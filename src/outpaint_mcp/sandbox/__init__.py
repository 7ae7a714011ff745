"""The vendors' own side: a server on loopback that speaks their protocols, to try and test clients without a key.

Written from the vendors' documentation alone. It imports no adapter and shares no code with one, so that a mistake in
either shows.
"""

from outpaint_mcp.sandbox.app import Sandbox, create_sandbox
from outpaint_mcp.sandbox.faults import Fault, Faults
from outpaint_mcp.sandbox.painters import PlainPainter
from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.serving import serve_sandbox, serving
from outpaint_mcp.sandbox.settings import ManualClock, SandboxSettings
from outpaint_mcp.sandbox.tasks import Order
from outpaint_mcp.sandbox.vendors import SEEDS, VENDORS, environment, seed_id

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
