"""A sandbox on a clock that is moved by hand, and clients that call it directly, without sockets."""

import io
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import ManualClock, PlainPainter, Sandbox, SandboxSettings

ORIGIN = "http://127.0.0.1:9"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def outgoing() -> list[httpx2.Request]:
    """The requests that the sandbox itself sent."""
    return []


@pytest.fixture
def image_bytes() -> bytes:
    """A PNG of 60 x 40."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def settings(clock: ManualClock, outgoing: list[httpx2.Request], image_bytes: bytes) -> SandboxSettings:
    def outside(request: httpx2.Request) -> httpx2.Response:
        """What the sandbox meets on this machine: an image, a text, and a receiver of webhooks."""
        outgoing.append(request)
        if request.url.path == "/refuses":
            return httpx2.Response(500)
        if request.url.path == "/text":
            return httpx2.Response(200, text="no image")
        return httpx2.Response(200, content=image_bytes) if request.method == "GET" else httpx2.Response(204)

    return SandboxSettings(
        seconds_per_state=1.0, clock=clock, painter=PlainPainter(), transport=httpx2.MockTransport(outside)
    )


@pytest.fixture
def sandbox(settings: SandboxSettings) -> Iterator[Sandbox]:
    sandbox = Sandbox(settings)
    yield sandbox
    sandbox.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., httpx2.AsyncClient]]:
    """Makes a client of a sandbox's vendor, with its key unless another is given."""
    clients: list[httpx2.AsyncClient] = []

    def connect(sandbox: Sandbox, vendor: str, key: str | None = None) -> httpx2.AsyncClient:
        side = sandbox.vendors[vendor]
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=sandbox.app),
            base_url=f"{ORIGIN}/{vendor}",
            headers={side.key_header: f"{side.key_prefix}{side.key}" if key is None else key},
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.aclose()


@pytest.fixture
def size_of() -> Callable[[httpx2.Response], tuple[int, int]]:
    """Width and height of an image in an answer."""

    def size(answer: httpx2.Response) -> tuple[int, int]:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("image/")
        with Image.open(io.BytesIO(answer.content)) as image:
            return image.size

    return size
