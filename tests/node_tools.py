"""The programs that `scripts/node-tools` installs, for tests that run them."""

import os
from pathlib import Path
from typing import Final

import pytest

NODE_MODULES: Final = Path(__file__).parent.parent / ".node" / "node_modules"
NODE: Final = next(NODE_MODULES.glob("node-linux-*/bin/node"), Path("node"))
"""Node 22, whatever the system has."""

needs_node: Final = pytest.mark.skipif(
    not (NODE_MODULES.parent / ".installed").is_file() and "OUTPAINT_TEST_EVERYTHING" not in os.environ,
    reason="needs what scripts/node-tools installs",
)


def node_command(tool: str) -> list[str]:
    """What starts a program of `node_modules/.bin` with that Node."""
    return [str(NODE), str((NODE_MODULES / ".bin" / tool).resolve())]
