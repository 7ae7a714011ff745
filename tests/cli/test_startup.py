import subprocess
import sys
from pathlib import Path

LISTED = """
import sys
sys.modules["rich"] = None  # the SDK imports it wherever it is installed; it is none of our dependencies
import anyio
from mcp import Client
import contextlib
import types
import outpaint_mcp.cli.main  # what the command imports
import outpaint_mcp.cli.serve
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.app import build_server

async def main():
    # The service itself is opened after the answer, so here is none.
    async with Client(build_server(LazyService(lambda: contextlib.nullcontext(types.SimpleNamespace())))) as client:
        assert len((await client.list_tools()).tools) == 3
        print(sorted({"PIL", "numpy", "sqlite3", "outpaint_mcp.tasks.service", "pydantic_settings"} & set(sys.modules)))

anyio.run(main)
"""


def test_nothing_that_the_tools_list_does_not_need_is_imported_before_it() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_command_line_is_parsed_without_the_arguments_of_the_tools_and_without_the_sdk() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "outpaint_mcp", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "outpaint_mcp.cli.main" in imported
    assert not {"mcp", "outpaint_mcp.server.arguments", "outpaint_mcp.settings", "PIL", "numpy"} & imported


def test_a_service_of_one_machine_imports_nothing_of_what_several_share(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import anyio
from outpaint_mcp import Settings, open_service
from outpaint_mcp.domain.request import OutpaintRequest
from PIL import Image

async def main(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    async with open_service(Settings(data_dir=folder / "data", file_roots=(folder,))) as service:
        await service.outpaint(OutpaintRequest(image=str(folder / "a.png"), zoom=1.5), wait_seconds=45)

anyio.run(main, Path(sys.argv[1]))
extra = {"procrastinate", "psycopg", "psycopg_pool", "obstore", "outpaint_mcp.storage.postgres"}
print(sorted(extra & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
