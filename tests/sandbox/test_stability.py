"""Stability AI in the sandbox, held against its page."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import Fault, Sandbox, SandboxSettings

ROUTE = "/v2beta/stable-image/edit/outpaint"


def png(width: int = 96, height: int = 64, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "stability")


async def sent(
    client: httpx2.AsyncClient, image: bytes | None = None, accept: str = "image/*", **fields: Any
) -> httpx2.Response:
    files = {"image": ("image.png", png() if image is None else image)}
    return await client.post(ROUTE, data=fields, files=files, headers={"accept": accept})


async def test_the_answer_is_the_image_or_json_that_holds_it(
    client: httpx2.AsyncClient, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    # The published example's amounts.
    drawn = await sent(client, left="512", down="512", right="512", up="512", output_format="jpeg")
    assert drawn.headers["finish-reason"] == "SUCCESS"
    # The sandbox draws nothing larger.
    assert size_of(drawn) == (1024, 995)
    told = (await sent(client, accept="application/json", left="48", seed="7", style_preset="tile-texture")).json()
    assert (told["finish_reason"], told["seed"]) == ("SUCCESS", 7)
    with Image.open(io.BytesIO(base64.b64decode(told["image"]))) as image, Image.open(io.BytesIO(png())) as own:
        assert image.size == (144, 64)
        assert image.convert("RGB").crop((48, 0, 144, 64)).tobytes() == own.convert("RGB").tobytes()


async def test_what_the_filter_stops_is_a_200_with_a_blurred_image(
    client: httpx2.AsyncClient, sandbox: Sandbox
) -> None:
    clear = await sent(client, up="8")
    for accept in ("image/*", "application/json"):
        sandbox.faults.add(Fault(vendor="stability", on="submit", fault="fail"))
        stopped = await sent(client, accept=accept, up="8")
        assert stopped.status_code == 200
        if accept == "image/*":
            assert stopped.headers["finish-reason"] == "CONTENT_FILTERED"
            assert stopped.content != clear.content
        else:
            assert stopped.json()["finish_reason"] == "CONTENT_FILTERED"


@pytest.mark.parametrize(
    ("image", "fields"),
    [
        (None, {}),
        (None, {"left": "0"}),
        (None, {"left": "2001"}),
        (None, {"left": "-1"}),
        (None, {"left": "1.5"}),
        (None, {"top": "8"}),
        (None, {"left": "8", "creativity": "1.1"}),
        (None, {"left": "8", "seed": "4294967295"}),
        (None, {"left": "8", "prompt": "a" * 10_001}),
        (None, {"left": "8", "output_format": "gif"}),
        (None, {"left": "8", "style_preset": "Not A Word"}),
        (png(63, 100), {"left": "8"}),
        (png(161, 64), {"left": "8"}),
        (png(96, 64, "GIF"), {"left": "8"}),
        (b"no image", {"left": "8"}),
    ],
)
async def test_what_the_page_does_not_allow_is_rejected(
    client: httpx2.AsyncClient, sandbox: Sandbox, image: bytes | None, fields: dict[str, Any]
) -> None:
    answer = await sent(client, image, **fields)
    assert answer.status_code == 400
    assert answer.json().keys() == {"id", "name", "errors"}
    assert answer.json()["name"] == "bad_request"
    assert not sandbox.orders()


async def test_a_bad_key_an_empty_account_and_too_large_a_request(
    client: httpx2.AsyncClient, sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    assert (await sent(connect(sandbox, "stability", "Bearer wrong"), left="8")).status_code == 401
    poor = connect(Sandbox(SandboxSettings(balance=3)), "stability")
    refused = await sent(poor, left="8")
    assert (refused.status_code, refused.json().keys()) == (402, {"id", "name", "message"})
    assert (await poor.get("/v1/user/balance")).json() == {"credits": 3}
    assert (await sent(client, bytes(11_000_000), left="8")).status_code == 413
    assert not sandbox.orders()
