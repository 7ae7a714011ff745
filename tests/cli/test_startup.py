import subprocess
import sys

LISTED = """
import sys
sys.modules["rich"] = None  # the SDK imports it wherever it is installed; it is none of our dependencies
import anyio
from mcp import Client
import contextlib
import types
from outpaint_mcp import cli  # what the command imports
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.app import create_server

async def main():
    # The service itself is opened after the answer, so here is none.
    async with Client(create_server(LazyService(lambda: contextlib.nullcontext(types.SimpleNamespace())))) as client:
        assert len((await client.list_tools()).tools) == 3
        print(sorted({"PIL", "numpy", "sqlite3", "outpaint_mcp.tasks.service", "pydantic_settings"} & set(sys.modules)))

anyio.run(main)
"""


def test_nothing_that_the_tools_list_does_not_need_is_imported_before_it() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
