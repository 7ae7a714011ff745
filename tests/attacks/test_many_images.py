"""A client that hands in very many images, slow ones and hostile ones: another client's image is extended meanwhile."""

import base64
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketAttribute, SocketStream
from mcp import Client
from mcp_types import TextContent
from PIL import Image

from ..transports.processes import called, http_server
from .target import Target, refusal, tokens_of

WAITS = 3
MANY = 60
"""More than are read and drawn at the same time for one client, and wait besides."""
SECONDS = 30.0
"""How long another client may take on a busy machine; behind all of the first one's images it would take minutes."""


def encoded(width: int, height: int, image_format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, image_format, **options)
    return "data:;base64," + base64.b64encode(buffer.getvalue()).decode()


SMALL = encoded(48, 32, "PNG")


@dataclass(frozen=True, slots=True)
class Shared:
    greedy: Client
    modest: Client


@pytest.fixture(scope="module")
async def shared(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    """Two clients of one server."""
    folder = tmp_path_factory.mktemp("shared")
    file, tokens = tokens_of(folder, "greedy", "modest")
    environment = {
        "OUTPAINT_DATA_DIR": str(folder / "data"),
        "OUTPAINT_TOKENS_FILE": str(file),
        "OUTPAINT_ALLOW_PRIVATE_URLS": "true",
        "OUTPAINT_MAX_WAITS": str(WAITS),
        "PATH": "/usr/bin",
    }
    async with http_server(environment) as server:
        target = Target(httpx2.URL(server.base_url).port or 0)
        async with target.client(token=tokens[0]) as greedy, target.client(token=tokens[1]) as modest:
            yield Shared(greedy, modest)


async def extended(client: Client) -> None:
    """Have a small image extended while others do what they do."""
    with anyio.fail_after(SECONDS):
        task = await called(client, "outpaint", image=SMALL, provider="local", zoom=1.5, wait_seconds=20, repeat=True)
    assert task["status"] == "succeeded"


async def test_images_that_never_come_delay_nobody_else_and_are_bounded(shared: Shared) -> None:
    refused = []

    async def order(url: str) -> None:
        result = await shared.greedy.call_tool("outpaint", {"image": url, "provider": "local", "wait_seconds": 0})
        (first, *_) = result.content
        assert isinstance(first, TextContent)
        refused.append(first.text)

    async def hang(stream: SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent, anyio.create_task_group() as tasks:
        tasks.start_soon(silent.serve, hang)
        port = silent.extra(SocketAttribute.local_port)  # noqa: S610 (not Django's)
        for number in range(MANY):
            tasks.start_soon(order, f"http://127.0.0.1:{port}/{number}")
        await extended(shared.modest)
        tasks.cancel_scope.cancel()
    # On a slow machine some of those that are read or wait return too.
    told = [one for one in refused if not one.startswith("[not_ready] ")]
    assert told
    for one in told:
        assert one.startswith(f"[rate_limited] {WAITS} images of yours are waiting already. Nothing was ordered.")


async def test_long_drawings_delay_nobody_else_and_are_bounded(shared: Shared) -> None:
    large = encoded(1600, 1200, "JPEG")
    options = {"quality": "best", "variants": 4}
    for number in range(MANY):
        order = {"image": large, "provider": "local", "zoom": 2, "provider_options": {**options, "seed": number}}
        result = await shared.greedy.call_tool("outpaint", {**order, "wait_seconds": 0})
        if result.is_error:
            break
    (told, *_) = result.content
    assert isinstance(told, TextContent)
    assert told.text.startswith(f"[rate_limited] {WAITS} drawings of yours are waiting already. Nothing was ordered.")
    await extended(shared.modest)


async def test_a_jpeg_of_very_many_scans_is_refused(shared: Shared) -> None:
    head, comma, body = encoded(640, 480, "JPEG", progressive=True).partition(",")
    data = base64.b64decode(body)
    last = data.rindex(b"\xff\xda")
    scan = data[last : last + 2 + data[last + 3]] + bytes(4)
    hostile = base64.b64encode(data[:-2] + scan * 20_000 + data[-2:]).decode()
    told = await refusal(shared.greedy, "outpaint", image=head + comma + hostile, provider="local", wait_seconds=0)
    assert told.startswith("[invalid_image] The JPEG has more than 100 scans.")
