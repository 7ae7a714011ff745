"""Addresses of images over HTTP: whoever has one sees that image for a day, and nobody sees another."""

import base64
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client
from mcp_types import BlobResourceContents, Implementation, ResourceLink

from outpaint_mcp.sandbox import seed_id
from outpaint_mcp.storage.key_file import read_key
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.image_links import ImageLinks
from outpaint_mcp.tasks.view import view
from outpaint_mcp.web.token_file import add_token

from ..serving import picture
from .processes import HttpServer, Vendors, called, http_server, text_of, variables

PUBLIC_URL = "https://outpaint.example.org"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A server whose clients need a token, and a task of one of them whose images were drawn by it."""

    server: HttpServer
    folder: Path
    variables: dict[str, str]
    token: str
    task: dict[str, Any]

    @property
    def url(self) -> str:
        found: str = self.task["images"][0]["url"]
        return found

    @property
    def key_file(self) -> Path:
        return self.folder / "data" / "image-links.key"


def order_of(folder: Path, **changes: Any) -> dict[str, Any]:
    image = "data:image/png;base64," + base64.b64encode(picture(folder).read_bytes()).decode()
    options = {"variants": 2, "quality": "fast"}
    return {
        "image": image,
        "zoom": 1.25,
        "provider": "local",
        "provider_options": options,
        "wait_seconds": 45,
        **changes,
    }


@pytest.fixture(scope="module")
async def drawn(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Drawn]:
    folder = tmp_path_factory.mktemp("images")
    token = add_token(folder / "tokens", "ann")
    settings = variables(folder, vendors, OUTPAINT_TOKENS_FILE=str(folder / "tokens"))
    async with http_server(settings) as server:
        async with server.client(token=token) as client:
            task = await called(client, "outpaint", **order_of(folder))
        yield Drawn(server, folder, settings, token, task)


async def got(url: str, method: str = "GET", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.request(method, url, headers=headers)


async def bytes_of(client: Client, image: dict[str, Any]) -> bytes:
    (contents,) = (await client.read_resource(image["resource_uri"])).contents
    assert isinstance(contents, BlobResourceContents)
    return base64.b64decode(contents.blob)


@pytest.mark.parametrize("door", ["http", "http-legacy", "sse"])
async def test_an_image_that_was_drawn_has_an_address_in_text_structure_and_links(drawn: Drawn, door: str) -> None:
    host = Implementation(name="claude-ai", version="1")
    async with drawn.server.client(door, token=drawn.token, client_info=host) as client:
        result = await client.call_tool("get_task", {"task_id": drawn.task["id"]})
        links = [block.uri for block in result.content if isinstance(block, ResourceLink)]
        images = result.structured_content["images"]
        assert links == [image["url"] for image in images]
        assert len(set(links)) == 2
        for image in images:
            assert image["url"].startswith(f"{drawn.server.base_url}/images/")
            assert f": {image['url']}\n" in text_of(result)
            answer = await got(image["url"])
            assert answer.content == await bytes_of(client, image)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    until = datetime.fromisoformat(result.structured_content["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < until <= timedelta(hours=25)


async def test_an_image_is_safe_to_show_and_is_saved_on_demand(drawn: Drawn) -> None:
    shown, saved, head = await got(drawn.url), await got(f"{drawn.url}?download"), await got(drawn.url, "HEAD")
    name = f'filename="{drawn.task["id"]}-1.png"'
    assert shown.headers["content-disposition"] == f"inline; {name}"
    assert saved.headers["content-disposition"] == f"attachment; {name}"
    assert (head.content, head.headers["content-length"]) == (b"", str(len(shown.content)))
    for answer in (shown, saved, head):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
    assert (await got(drawn.url, "POST")).status_code == 405


async def test_an_address_that_was_changed_leads_nowhere(drawn: Drawn) -> None:
    base, token, name = drawn.url.rsplit("/", 2)
    expires, signature = token.split("-")
    other = drawn.task["images"][1]["url"].rsplit("/", 2)
    stranger = name.replace(name[3:25], "A" * 22)
    for changed in (
        f"{expires}-{'0' * 32}/{name}",
        f"{expires}-{signature[:-1]}/{name}",
        f"{int(expires) + 3600}-{signature}/{name}",
        f"{expires}-{signature}/{other[2]}",
        f"{other[1]}/{name}",
        f"{expires}-{signature}/{stranger}",
        f"{expires}-{signature}/{name.replace('.png', '.html')}",
        f"{signature}/{name}",
        f"{expires}-{'é' * 32}/{name}",
        f"{expires}-{signature}/..%2f..%2fstore.db",
    ):
        answer = await got(f"{base}/{changed}")
        assert answer.status_code == 404, changed
        if "%2f" not in changed:
            assert answer.text.startswith("[unknown_task] There is no image at this address. "), changed


async def test_an_address_that_is_over_says_how_to_get_another(drawn: Drawn) -> None:
    links = ImageLinks(drawn.server.base_url, read_key(drawn.key_file), now=lambda: time.time() - 30 * 3600)
    answer = await got(links.url(drawn.task["id"], 1, "image/png"))
    assert answer.status_code == 410
    assert re.fullmatch(
        rf"\[invalid_request\] This address was valid until \S+\. Call get_task with task_id={drawn.task['id']}: .*\n",
        answer.text,
    )
    if sys.platform != "win32":
        assert drawn.key_file.stat().st_mode & 0o777 == 0o600


async def test_the_address_of_an_image_is_that_image_where_one_is_to_be_extended(drawn: Drawn) -> None:
    async with drawn.server.client(token=drawn.token) as client:
        order = {"zoom": 1.2, "provider": "local", "wait_seconds": 45}
        first = await called(client, "outpaint", **order, task_id=drawn.task["id"], image_index=2)
        again = await called(client, "outpaint", **order, image=drawn.task["images"][1]["url"])
    assert again["id"] == first["id"]


async def test_an_address_outlives_the_server_and_its_image_being_deleted_is_said(
    vendors: Vendors, tmp_path: Path
) -> None:
    settings = variables(tmp_path, vendors, OUTPAINT_PUBLIC_URL=PUBLIC_URL)
    async with http_server(settings) as server, server.client() as client:
        task = await called(client, "outpaint", **order_of(tmp_path))
        url = task["images"][0]["url"]
        content = await bytes_of(client, task["images"][0])
    assert url.startswith(f"{PUBLIC_URL}/images/")
    async with http_server(settings) as server:
        here = server.base_url + urlsplit(url).path
        answer = await got(here, Host="outpaint.example.org")
        assert (answer.status_code, answer.content) == (200, content)
        for file in (tmp_path / "data" / "images").iterdir():
            file.unlink()
        gone = await got(here)
    assert gone.status_code == 410
    assert gone.text.startswith("[invalid_image] The image is no longer on this server.")


async def test_a_vendors_image_is_given_out_from_here_besides_and_alone_once_its_own_address_is_over(
    vendors: Vendors, tmp_path: Path
) -> None:
    order = {"task_id": seed_id("vtrix", grid=False), "provider": "vtrix", "zoom": 1.5}
    async with http_server(variables(tmp_path, vendors)) as server, server.client() as client:
        task = await called(client, "outpaint", **order, wait_seconds=0)
        vendors.finish()
        result = await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 45})
        (image, *_) = result.structured_content["images"]
        assert image["url"].startswith(vendors.base_url)
        assert image["copy_url"] in text_of(result)
        assert (await got(image["copy_url"])).content == await bytes_of(client, image)
        base_url = server.base_url
    store = SqliteStore(tmp_path / "data" / "store.db", "test")
    record = await store.get(task["id"])
    await store.aclose()
    assert record is not None
    for hours, over in ((23, False), (25, True)):
        then = time.time() + hours * 3600
        (later, *_) = view(record, links=ImageLinks(base_url, b"key", now=then.__float__)).images
        assert (later.url == later.copy_url) is over
