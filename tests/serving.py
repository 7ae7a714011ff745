"""Servers for tests: the real service over a folder of the test's own, behind the SDK's in-memory client."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.server import Server
from mcp_types import Implementation
from PIL import Image

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.domain.events import TaskEvents
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.tools import ResultShape
from outpaint_mcp.settings import Settings

ERAS = ("auto", "legacy")
"""The modes of the SDK's client: against our server `auto` speaks the modern protocol, `legacy` the handshake one."""


def settings_for(folder: Path, **changes: Any) -> Settings:
    return Settings(**{"data_dir": folder / "data", "file_roots": (folder,), **changes})


def server_for(settings: Settings, **options: Any) -> Server[None]:
    events = TaskEvents()
    lazy = LazyService(lambda: open_service(settings, events=events))
    return build_server(lazy, lambda: ResultShape(**options), events=events)


@contextlib.asynccontextmanager
async def connected(
    settings: Settings, *, era: str = "auto", name: str = "mcp-inspector", **options: Any
) -> AsyncIterator[Client]:
    """A client; by the name that it gives itself its calls last long, so that none ends before its task."""
    server = server_for(settings, **options)
    async with Client(server, mode=era, client_info=Implementation(name=name, version="1")) as client:
        yield client


def picture(folder: Path, *, width: int = 48, height: int = 32, name: str = "picture.png") -> Path:
    """A small picture of something with a gradient on a plain ground, which reaches no side: its ground goes on.

    Drawing anything else takes longer than starting the process that draws.
    """
    image = Image.new("RGB", (width, height), (90, 120, 160))
    thing = Image.linear_gradient("L").resize((max(1, width // 3), max(1, height // 3)))
    image.paste(thing.convert("RGB"), (width // 3, height // 3))
    path = folder / name
    image.save(path)
    return path
