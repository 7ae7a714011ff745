"""The browser and the servers that the tests of a module share, and what these tests need."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..node_tools import needs_node
from ..transports.processes import http_server, open_vendors, variables
from .chat import Chat
from .chromium import CHROMIUM, open_chromium

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "OUTPAINT_TEST_EVERYTHING" not in os.environ, reason="needs Chromium"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for mark in (needs_node, needs_chromium):
                item.add_marker(mark)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For a module, so that the browser outlives a test, and no longer: other tests have loops of their own."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chat(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chat]:
    folder = tmp_path_factory.mktemp("chat")
    async with contextlib.AsyncExitStack() as stack:
        vendors = await stack.enter_async_context(open_vendors())
        server = await stack.enter_async_context(http_server(variables(folder, vendors)))
        yield Chat(await stack.enter_async_context(open_chromium()), server, vendors)
