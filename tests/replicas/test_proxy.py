"""The proxy of compose.platform.yaml, run for real in front of two servers and a worker, with its own configuration."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client

from ..images.test_library import DATA_URI
from ..preloading import Preloaded
from ..s3_server import S3Server
from ..transports.processes import DOORS, HttpServer, Start, Vendors, an_order, called, client_at, text_of, until
from .fleet import fleet

CONFIGURATION = Path(__file__).parent.parent.parent / "deploy" / "nginx.conf"
# Debian has it where only root looks.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None and "OUTPAINT_TEST_EVERYTHING" not in os.environ, reason="needs nginx")

TOKENS = [f"opt_of-client-{number}" for number in range(16)]
OF_AN_IMAGE = {"image": DATA_URI, "provider": "fal", "zoom": 1.5}
RARELY = "60,60"
"""When a vendor is polled: what is noticed sooner came with a callback."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Proxied:
    """Two servers behind nginx, and where it sent what."""

    vendors: Vendors
    servers: tuple[HttpServer, HttpServer]
    port: int
    log: Path

    def client(self, door: str, token: str = TOKENS[0]) -> contextlib.AbstractAsyncContextManager[Client]:
        path = "sse" if door == "sse" else "mcp"
        return client_at(f"http://127.0.0.1:{self.port}/{path}", door, token)

    def places(self, path: str) -> dict[str, set[str]]:
        """The servers that each token's requests to `path` came to."""
        found = defaultdict(set)
        for line in self.log.read_text().splitlines():
            server, token, uri = line.split("|")
            if uri.startswith(path):
                found[token.removeprefix("Bearer ")].add(server)
        return found

    @property
    def addresses(self) -> set[str]:
        return {server.base_url.removeprefix("http://") for server in self.servers}


def configuration(folder: Path, port: int, servers: tuple[HttpServer, HttpServer]) -> str:
    """The file's text with addresses of this machine; its log says where a request went."""
    text = CONFIGURATION.read_text()
    log = f"log_format places '$upstream_addr|$http_authorization|$uri'; access_log {folder}/places places;"
    for number, server in enumerate(servers, start=1):
        address = server.base_url.removeprefix("http://")
        text, count = re.subn(rf"server server-{number}:8000 resolve;", f"server {address};", text)
        assert count == 1
    listen = ("listen 8080;", f"listen 127.0.0.1:{port};")
    for old, new in (listen, (" /tmp/", f" {folder}/"), ("access_log off;", log)):
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.asynccontextmanager
async def proxied(start: Start, folder: Path, database_url: str, s3_server: S3Server) -> AsyncIterator[Proxied]:
    port = free_port()
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{token[4:]} {hashlib.sha256(token.encode()).hexdigest()}\n" for token in TOKENS))
    more = {
        "OUTPAINT_TOKENS_FILE": str(tokens),
        "OUTPAINT_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "OUTPAINT_POLL_SECONDS": RARELY,
    }
    async with (
        fleet(start, folder, database_url, s3_server, **more) as (vendors, programs),
        programs.server("first") as first,
        programs.server("second") as second,
        programs.worker("worker"),
    ):
        file = folder / "nginx.conf"
        file.write_text(configuration(folder, port, (first, second)))
        assert NGINX is not None, "nginx is not installed"
        command = [NGINX, "-e", "stderr", "-c", str(file), "-g", "daemon off;"]
        async with await anyio.open_process(command, stdout=None, stderr=None) as nginx:
            try:
                await until(lambda: answers(port))
                assert nginx.returncode is None
                yield Proxied(vendors, (first, second), port, folder / "places")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    nginx.terminate()


async def answers(port: int) -> bool:
    async with httpx2.AsyncClient(trust_env=False) as web:
        try:
            return (await web.get(f"http://127.0.0.1:{port}/readyz")).text == "ready"
        except httpx2.TransportError:
            return False


async def test_clients_of_each_kind_order_and_wait_through_it_vendors_call_back_and_images_are_read(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    async with proxied(preloaded, tmp_path, database_url, s3_server) as at:
        told: list[dict[str, Any]] = []

        async def order(door: str, prompt: dict[str, Any]) -> None:
            async with at.client(door) as client:
                told.append(await called(client, "outpaint", **prompt, wait_seconds=40))

        orders = {door: an_order() for door in DOORS}
        async with anyio.create_task_group() as clients:
            for door, prompt in orders.items():
                clients.start_soon(order, door, prompt)
            for prompt in orders.values():
                await at.vendors.taken(prompt["prompt"])
            at.vendors.finish()
        assert [task["status"] for task in told] == ["succeeded"] * len(DOORS)
        async with httpx2.AsyncClient(trust_env=False) as web:
            for task in told:
                for image in task["images"]:
                    assert image["copy_url"].startswith(f"http://127.0.0.1:{at.port}/images/")
                    shown = await web.get(image["copy_url"])
                    assert (shown.status_code, shown.headers["content-type"]) == (200, image["mime_type"])
        assert at.places("/webhooks/")


async def test_who_watches_a_task_is_told_at_once(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    async with proxied(preloaded, tmp_path, database_url, s3_server) as at, at.client("http") as client:
        task = await called(client, "outpaint", **an_order(), wait_seconds=0)
        with anyio.fail_after(20):
            async with client.listen(resource_subscriptions=[f"outpaint://tasks/{task['id']}"]) as events:
                at.vendors.finish()
                async for _ in events:
                    break


@pytest.mark.parametrize("door", ["http-legacy", "sse"])
async def test_a_session_stays_at_one_server_and_the_newest_protocol_goes_to_all(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server, door: str
) -> None:
    async with proxied(preloaded, tmp_path, database_url, s3_server) as at:

        async def call(door: str, token: str) -> None:
            async with at.client(door, token) as client:
                for _ in range(4):
                    await called(client, "list_providers")

        async with anyio.create_task_group() as clients:
            for token in TOKENS:
                clients.start_soon(call, door, token)
        paths = ("/sse", "/messages/") if door == "sse" else ("/mcp",)
        places = {token: set[str]().union(*(at.places(path)[token] for path in paths)) for token in TOKENS}
        assert all(len(one) == 1 for one in places.values()), places
        assert set[str]().union(*places.values()) == at.addresses
        await call("http", TOKENS[0])
        await call("http", TOKENS[0])
        assert at.places("/mcp")[TOKENS[0]] == at.addresses


async def test_what_one_server_had_goes_to_the_other_when_it_dies(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    async with proxied(preloaded, tmp_path, database_url, s3_server) as at:
        at.servers[0].signal(signal.SIGKILL)
        await at.servers[0].ended.wait()
        ordered: list[dict[str, Any]] = []

        async def order(door: str, token: str) -> None:
            arguments = {**OF_AN_IMAGE, "prompt": f"{door} {token}", "wait_seconds": 0}
            async with at.client(door, token) as client:
                while (result := await client.call_tool("outpaint", arguments)).is_error:
                    # The image is being read, and the machine is slow.
                    assert text_of(result).startswith("[not_ready]")
                assert isinstance(result.structured_content, dict)
                ordered.append(result.structured_content)

        async with anyio.create_task_group() as clients:
            for token in TOKENS[:6]:
                for door in DOORS:
                    clients.start_soon(order, door, token)
        assert len(at.vendors.sandbox.orders("fal")) == len({task["id"] for task in ordered}) == 6 * len(DOORS)
