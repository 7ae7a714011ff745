"""The view of MCP Apps as a client gets it, and the copies of images for a screen; tests/browser looks at it."""

import base64
import io
import re
from pathlib import Path

import pytest
from mcp_types import BlobResourceContents, TextResourceContents
from PIL import Image

from outpaint_mcp.server.view import VIEW

from ..serving import ERAS, connected, picture, settings_for

pytestmark = pytest.mark.usefixtures("decoded_here")


@pytest.mark.parametrize("era", ERAS)
async def test_two_tools_name_a_view_that_is_small_and_asks_nobody(tmp_path: Path, era: str) -> None:
    async with connected(settings_for(tmp_path), era=era) as client:
        named = {tool.name: tool.meta for tool in (await client.list_tools()).tools}
        assert named == {
            "outpaint": {"ui": {"resourceUri": VIEW}},
            "get_task": {"ui": {"resourceUri": VIEW}},
            "list_providers": None,
        }
        (contents,) = (await client.read_resource(VIEW)).contents
    assert isinstance(contents, TextResourceContents)
    assert contents.mime_type == "text/html;profile=mcp-app"
    assert contents.meta is not None
    assert contents.meta["ui"]["csp"] == {}, "no domain is declared"
    assert len(contents.text.encode()) < 60_000
    assert re.findall(r"""(?:https?:)?//[\w.-]+\.\w+|@import|\bsrc=["']|\bhref=""", contents.text) == []


async def test_an_image_has_a_copy_for_a_screen(tmp_path: Path) -> None:
    large, clear = picture(tmp_path, width=2000, height=500), tmp_path / "clear.png"
    Image.new("RGBA", (60, 40), (10, 200, 30, 0)).save(clear)
    async with connected(settings_for(tmp_path)) as client:
        for file, size, mime_type in ((large, (1600, 400), "image/jpeg"), (clear, (72, 48), "image/webp")):
            order = {"image": str(file), "zoom": 1.2, "provider_options": {"quality": "fast"}}
            task = (await client.call_tool("outpaint", order)).structured_content
            (contents,) = (await client.read_resource(task["images"][0]["resource_uri"] + "/screen")).contents
            assert isinstance(contents, BlobResourceContents)
            assert contents.mime_type == mime_type
            with Image.open(io.BytesIO(base64.b64decode(contents.blob))) as image:
                assert image.size == size


async def test_a_task_tells_where_the_original_lies(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        order = {"image": str(picture(tmp_path)), "zoom": 1.5, "sides": ["left"]}
        task = (await client.call_tool("outpaint", order)).structured_content
    assert task["original"] == pytest.approx({"x": 1 / 3, "y": 0, "width": 2 / 3, "height": 1})
