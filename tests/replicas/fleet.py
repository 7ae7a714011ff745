"""Servers and workers that share a database and a bucket, each a process with a folder of its own."""

import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from mcp_types import BlobResourceContents

from outpaint_mcp.storage.postgres.seal import new_key

from ..s3_server import S3Server
from ..transports.processes import HttpServer, Start, Vendors, http_server, open_vendors, until, variables, worker


class Fleet:
    """What starts them, each with the environment that they share.

    `running` are those that are kept running, by name.
    """

    def __init__(
        self, start: Start, folder: Path, vendors: Vendors, database_url: str, s3_server: S3Server, **more: str
    ) -> None:
        self._start = start
        self._folder = folder
        self._vendors = vendors
        self._shared = {
            **s3_server.environment,
            "OUTPAINT_DATABASE_URL": database_url,
            "OUTPAINT_SEAL_KEY": new_key(),
            "OUTPAINT_IMAGES_URL": f"s3://{s3_server.new_bucket()}",
            "OUTPAINT_WORKERS": "true",
            "OUTPAINT_LOG_LEVEL": "INFO",
            **more,
        }
        self.running: dict[str, HttpServer] = {}

    def _environment(self, name: str) -> dict[str, str]:
        return variables(self._folder / name, self._vendors, **self._shared)

    def server(self, name: str) -> AbstractAsyncContextManager[HttpServer]:
        return http_server(self._environment(name), start=self._start)

    def worker(self, name: str, *options: str) -> AbstractAsyncContextManager[HttpServer]:
        return worker(self._environment(name), *options, start=self._start)

    async def keep_running(self, name: str, start: Callable[[], AbstractAsyncContextManager[HttpServer]]) -> None:
        """Run a process, and another one in its place whenever it ends."""
        while True:
            async with start() as self.running[name]:
                await self.running[name].ended.wait()
            del self.running[name]

    async def any_of(self, *names: str) -> HttpServer:
        """The first of these that runs."""
        await until(lambda: any(name in self.running for name in names), 90)
        return next(self.running[name] for name in names if name in self.running)


@contextlib.asynccontextmanager
async def fleet(
    start: Start, folder: Path, database_url: str, s3_server: S3Server, **more: str
) -> AsyncIterator[tuple[Vendors, Fleet]]:
    async with open_vendors() as vendors:
        yield vendors, Fleet(start, folder, vendors, database_url, s3_server, **more)


async def image_of(server: HttpServer, task: dict[str, Any]) -> bytes:
    async with server.client() as client:
        (found,) = (await client.read_resource(task["images"][0]["resource_uri"])).contents
    assert isinstance(found, BlobResourceContents)
    return base64.b64decode(found.blob)
