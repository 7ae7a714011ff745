"""The vendors and the servers that the tests of a module share."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from .processes import DOORS, Transport, Vendors, http_server, open_vendors, stdio_server, variables


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, so that servers can outlive a test."""
    return "asyncio"


@pytest.fixture(scope="module")
async def vendors(anyio_backend: str) -> AsyncIterator[Vendors]:
    async with open_vendors() as opened:
        yield opened


@pytest.fixture(scope="module", params=["stdio", *DOORS])
async def transport(
    request: pytest.FixtureRequest, vendors: Vendors, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Transport]:
    """One server process, reached in one of four ways."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    environment = variables(folder, vendors, OUTPAINT_FILE_ROOTS=str(folder))
    serve = _over_stdio if name == "stdio" else _over_http
    async with serve(name, folder, environment) as served:
        yield served


@contextlib.asynccontextmanager
async def _over_stdio(name: str, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Transport]:
    def another(**options: Any) -> contextlib.AbstractAsyncContextManager[Client]:
        return stdio_server(environment, **options)

    async with another() as client:
        yield Transport(name, client, another, folder)


@contextlib.asynccontextmanager
async def _over_http(name: str, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Transport]:
    async with http_server(environment) as server:

        def another(**options: Any) -> contextlib.AbstractAsyncContextManager[Client]:
            return server.client(name, **options)

        async with another() as client:
            yield Transport(name, client, another, folder)
