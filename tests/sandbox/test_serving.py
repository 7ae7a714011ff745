"""The sandbox on a real socket: what only the network can show."""

from collections.abc import Callable

import anyio
import httpx2
import pytest
from anyio.abc import SocketAttribute, SocketStream

from outpaint_mcp.sandbox import (
    Fault,
    PlainPainter,
    Sandbox,
    SandboxSettings,
    environment,
    seed_id,
    serve_sandbox,
    serving,
)

ORDER = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 1.5}
KEY = {"x-api-key": environment("")["LEGNEXT_API_KEY"]}


@pytest.fixture
def real() -> Sandbox:
    return Sandbox(SandboxSettings(seconds_per_state=0, painter=PlainPainter()))


def connect(base_url: str) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(verify=False)
    return httpx2.AsyncClient(base_url=base_url, headers=KEY, transport=transport, trust_env=False)


async def test_a_task_goes_from_order_to_image_over_http(
    real: Sandbox, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    async with serving(real) as base_url, connect(base_url) as client:
        done = (await client.post("/legnext/v1/outpaint", json=ORDER)).json()
        image = done["output"]["image_urls"][0]
        assert image.startswith(f"{base_url}/images/legnext/")
        assert size_of(await client.get(image)) == (384, 384)
        # An image that the sandbox itself serves can be the client's own image elsewhere.
        paint = {
            "imgUrl": image,
            "canvas": {"width": 768, "height": 768},
            "imgPos": {"x": 192, "y": 192, "width": 384, "height": 384},
            "mask": {"areas": [{"width": 768, "height": 768, "points": [0, 0, 768, 0, 768, 192]}]},
            "remixPrompt": "a lake",
        }
        painted = (await client.post("/legnext/v1/upload-paint", json=paint)).json()
        assert size_of(await client.get(painted["output"]["image_urls"][0])) == (768, 768)


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_dropped_connection_ends_without_an_answer_and_the_next_works(real: Sandbox, accepted: bool) -> None:
    real.faults.add(Fault(vendor="legnext", on="submit", fault="drop", accepted=accepted))
    async with serving(real) as base_url, connect(base_url) as client:
        # One exchange first, so that the dropped one is on a connection that was in use.
        assert (await client.get("/legnext/account/balance")).status_code == 200
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await client.post("/legnext/v1/outpaint", json=ORDER)
        assert real.order_count("legnext", "outpaint") == int(accepted)
        assert (await client.post("/legnext/v1/outpaint", json=ORDER)).status_code == 200


async def test_webhooks_arrive_by_themselves(real: Sandbox) -> None:
    arrived: list[bytes] = []
    news = anyio.Event()

    async def hook(stream: SocketStream) -> None:
        async with stream:
            received = b""
            while b'"completed"' not in received:
                received += await stream.receive()
            await stream.send(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        arrived.append(received)
        news.set()

    async with serving(real) as base_url, connect(base_url) as client, anyio.create_task_group() as group:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        group.start_soon(listener.serve, hook)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        with anyio.fail_after(5):
            await client.post("/legnext/v1/outpaint", json=ORDER | {"callback": f"http://127.0.0.1:{port}/hook"})
            await news.wait()
        group.cancel_scope.cancel()
    await listener.aclose()
    assert arrived[0].startswith(b"POST /hook HTTP/1.1")


async def test_other_hosts_are_neither_bound_nor_answered(real: Sandbox) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.com"):  # noqa: S104
        with pytest.raises(ValueError, match="loopback"):
            async with serving(real, host):
                pass
    async with serving(real) as base_url, connect(base_url) as client:
        assert (await client.get("/", headers={"host": "example.com"})).status_code == 421


async def test_a_taken_port_is_an_error(real: Sandbox) -> None:
    async with serving(real) as base_url:
        with pytest.raises(OSError, match="in use"):
            async with serving(real, port=int(base_url.rpartition(":")[2])):
                pass


async def test_serve_sandbox_tells_its_address_and_stops_when_cancelled() -> None:
    ready = anyio.Event()
    seen: list[str] = []

    def on_ready(base_url: str) -> None:
        seen.append(base_url)
        ready.set()

    async with anyio.create_task_group() as group:
        group.start_soon(serve_sandbox, "localhost", 0, None, on_ready)
        with anyio.fail_after(10):
            await ready.wait()
        async with connect(seen[0]) as client:
            assert (await client.get("/")).status_code == 200
        group.cancel_scope.cancel()
    async with connect(seen[0]) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("/")
