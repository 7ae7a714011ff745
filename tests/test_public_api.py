"""The public names, and the example of embedding them."""

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from mcp import Client
from mcp.server import Server

import outpaint_mcp
from outpaint_mcp import Settings, create_server, open_service
from outpaint_mcp.web.uvicorn_server import base_url_of, listening, serving

from .serving import ERAS, picture, settings_for

EXAMPLE = Path(__file__).parent.parent / "examples" / "embedded.py"


def test_the_exported_names_are_these_and_no_more() -> None:
    assert sorted(outpaint_mcp.__all__) == ["Front", "Settings", "__version__", "create_server", "open_service"]
    for name in outpaint_mcp.__all__:
        assert getattr(outpaint_mcp, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        getattr(outpaint_mcp, "nothing")  # noqa: B009 (mypy knows that there is none)


def test_naming_the_package_imports_nothing_of_it() -> None:
    code = "import sys, outpaint_mcp; print(sorted(one for one in sys.modules if one.startswith('outpaint_mcp.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_of_one_s_own_extends_an_image(tmp_path: Path, era: str) -> None:
    server = create_server(settings_for(tmp_path))
    assert isinstance(server, Server)
    async with Client(server, mode=era) as client:
        result = await client.call_tool("outpaint", {"image": str(picture(tmp_path)), "zoom": 1.5, "wait_seconds": 45})
    assert result.structured_content["status"] == "succeeded"


async def test_the_service_is_used_without_mcp(tmp_path: Path) -> None:
    async with open_service(settings_for(tmp_path)) as service:
        assert "local" in [one.name for one in await service.list_providers() if one.configured]


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embedded", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    """The example's application on loopback; its base URL."""
    app = example().application(settings)
    listener = listening("127.0.0.1", 0)
    async with serving(app, listener), app.router.lifespan_context(app):
        yield base_url_of(listener)


async def test_the_example_serves_mcp_beside_a_page(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as url:
        async with httpx2.AsyncClient() as browser:
            assert "/mcp" in (await browser.get(url)).text
        async with Client(f"{url}/mcp") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == [
                "outpaint",
                "get_task",
                "list_providers",
            ]
            refused = await client.call_tool("outpaint", {"image": str(picture(tmp_path))})
    assert refused.is_error, "no path of this machine over HTTP"
