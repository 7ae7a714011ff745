"""The protocol's conformance suites (`@modelcontextprotocol/conformance`), run against a server over HTTP."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ..node_tools import NODE, NODE_MODULES

SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    "released": ("@modelcontextprotocol/conformance",),
    "next": ("conformance-next",),
    "modern": ("conformance-next", "--spec-version", "2026-07-28"),
}
"""Each suite's package and options.

The released suite knows the protocol to 2025-11-25, the alpha also 2026-07-28 and the tasks extension. The alpha runs
what both protocols have at the older one, unless it is told otherwise.
"""


async def failures(suite: str, url: str, folder: Path) -> dict[str, list[str]]:
    """Run a whole suite: what failed in each scenario, nothing where it passed.

    A scenario of which no check succeeded has not passed either: the suite skipped it.

    Args:
        suite: one of `SUITES`.
        url: the server's.
        folder: an empty one, for the suite's report.
    """
    package, *options = SUITES[suite]
    program = NODE_MODULES / package / "dist" / "index.js"
    command = [str(NODE), str(program), "server", "--url", url, "--suite", "all", "--output-dir", str(folder)]
    with anyio.fail_after(120):
        await anyio.run_process([*command, *options], check=False, env={**os.environ, "NO_COLOR": "1"})
    return await anyio.to_thread.run_sync(_failures_in, folder)


def _failures_in(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for report in folder.glob("*/checks.json"):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", report.parent.name)
        checks: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
        found[scenario] = [
            f"{one['id']}: {one.get('errorMessage', '')}" for one in checks if one["status"] in ("FAILURE", "WARNING")
        ]
        if not found[scenario] and not any(one["status"] == "SUCCESS" for one in checks):
            found[scenario] = ["nothing was checked"]
    return found
