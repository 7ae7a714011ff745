"""A newcomer's path from an empty home folder: install, the file that the host reads, the server by it, an image."""

import base64
import io
import json
import os
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import BlobResourceContents, Implementation
from PIL import Image

from outpaint_mcp.server.client_profiles import UNKNOWN, profile_of

from ..serving import picture

HOSTS = {
    "claude-desktop": (".config/Claude/claude_desktop_config.json", "mcpServers", "claude-ai"),
    "claude-code": (".claude.json", "mcpServers", "claude-code"),
    "cursor": (".cursor/mcp.json", "mcpServers", "cursor-vscode"),
    "vscode": (".config/Code/User/mcp.json", "servers", "Visual Studio Code"),
}
"""Where each documents its file on Linux, under which key, and what it calls itself."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the places are those of Linux")
async def test_an_image_comes_from_the_server_that_the_hosts_files_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # A desktop program hands its servers little more than this.
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    entries = []
    for host, (place, key, name) in HOSTS.items():
        command = [sys.executable, "-m", "outpaint_mcp", "install", host]
        installed = await anyio.run_process(command, env=environment)
        assert str(home / place) in installed.stdout.decode()
        entry = json.loads((home / place).read_text())[key]["outpaint"]
        assert entry.pop("type", "stdio") == "stdio"
        assert entry.keys() <= {"command", "args", "env"}
        entries.append({"env": {}, **entry})
        assert profile_of(name) is not UNKNOWN, "it waits until the image is there"
    # So that one server is the server of all.
    assert all(entry == entries[0] for entry in entries)
    server = StdioServerParameters(
        command=entries[0]["command"], args=entries[0]["args"], env={**environment, **entries[0]["env"]}, cwd="/"
    )
    image = picture(home)
    async with Client(stdio_client(server), client_info=Implementation(name="claude-ai", version="1")) as client:
        task = (await client.call_tool("outpaint", {"image": str(image), "zoom": 1.5})).structured_content
        assert (task["status"], task["provider"]) == ("succeeded", "local")
        (contents,) = (await client.read_resource(task["images"][0]["resource_uri"])).contents
    assert isinstance(contents, BlobResourceContents)
    with Image.open(io.BytesIO(base64.b64decode(contents.blob))) as drawn:
        assert drawn.size == (72, 48)
    assert Path(task["images"][0]["url"].removeprefix("file://")).is_relative_to(home)
