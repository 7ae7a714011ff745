"""OpenAI's image edits in the sandbox, held against their page."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import Fault, Sandbox, SandboxSettings

ROUTE = "/images/edits"
BOX = (256, 0, 1024, 640)
"""Where the image lies on its canvas of 1024 x 640."""


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "openai")


def canvas(colour: str = "teal", size: tuple[int, int] = (1024, 640), mode: str = "RGBA", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    image.paste(Image.new("RGBA", (BOX[2] - BOX[0], BOX[3] - BOX[1]), colour), BOX[:2])
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


async def sent(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    fields = {
        "model": "gpt-image-2",
        "prompt": "a lake",
        "size": "1024x640",
        "image": canvas(),
        "mask": canvas("black"),
    }
    given = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    files = {name: (f"{name}.png", value) for name, value in given.items() if isinstance(value, bytes)}
    return await client.post(ROUTE, data={name: given[name] for name in given.keys() - files.keys()}, files=files)


async def test_the_answer_holds_the_image_with_its_new_area_where_the_mask_is_clear(client: httpx2.AsyncClient) -> None:
    answer = await sent(client, n="2", quality="low")
    body = answer.json()
    assert answer.headers["x-request-id"]
    assert (body["size"], body["quality"], body["output_format"]) == ("1024x640", "low", "png")
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"] == 150
    assert len(body["data"]) == 2
    with Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"]))) as drawn:
        assert drawn.size == (1024, 640)
        kept, new = drawn.getpixel((600, 320)), drawn.getpixel((10, 10))
    assert kept == (6, 134, 134), "like it was, and not the same"
    assert new != kept


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": None},
        {"prompt": ""},
        {"model": None},
        {"model": "dall-e-2"},
        {"model": "gpt-image-1.5"},
        {"size": "1024x650"},
        {"size": "1040x624"},
        {"size": "3856x2144"},
        {"size": "2064x672"},
        {"size": "large"},
        {"quality": "max"},
        {"input_fidelity": "high"},
        {"n": "11"},
        {"response_format": "url"},
        {"stream": "true"},
        {"image": None},
        {"image": "https://example.com/a.png"},
        {"image": b"no image"},
        {"image": canvas(mode="RGB", kind="GIF")},
        {"mask": b"no image"},
        {"mask": canvas(mode="RGB")},
        {"mask": canvas(size=(1040, 640))},
    ],
)
async def test_what_the_page_does_not_allow_is_rejected(
    client: httpx2.AsyncClient, sandbox: Sandbox, change: dict[str, Any]
) -> None:
    answer = await sent(client, **change)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert not sandbox.orders()


async def test_older_models_paint_three_sizes(client: httpx2.AsyncClient) -> None:
    answer = await sent(client, model="gpt-image-1.5", size="1536x1024", input_fidelity="high")
    assert answer.json()["size"] == "1536x1024"


async def test_moderation_and_an_empty_account_have_their_codes(
    client: httpx2.AsyncClient, sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    sandbox.faults.add(Fault(vendor="openai", on="submit", fault="fail"))
    blocked = await sent(client)
    assert (blocked.status_code, blocked.json()["error"]["type"]) == (400, "image_generation_user_error")
    assert blocked.json()["error"]["code"] == "moderation_blocked"
    poor = await sent(connect(Sandbox(SandboxSettings(balance=99)), "openai"))
    assert (poor.status_code, poor.json()["error"]["code"]) == (429, "insufficient_quota")
    stranger = await sent(connect(sandbox, "openai", "Bearer wrong"))
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not sandbox.orders()
