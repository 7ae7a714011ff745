import subprocess
import sys

LISTED = """
import sys
sys.modules["rich"] = None  # the SDK imports it wherever it is installed; it is none of our dependencies
import anyio
from mcp import Client
from outpaint_mcp.cli import build_service
from outpaint_mcp.server import create_server
from outpaint_mcp.settings import read_settings

async def main():
    async with Client(create_server(build_service(read_settings())[0])) as client:
        assert len((await client.list_tools()).tools) == 3
    print(sorted({"PIL", "numpy", "sqlite3"} & set(sys.modules)))

anyio.run(main)
"""


def test_nothing_that_the_tools_list_does_not_need_is_imported_before_it() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
