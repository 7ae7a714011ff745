"""Bria in the sandbox, held against its page."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox

HERE = "http://127.0.0.1:9/picture.png"


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "bria")


def expand(**changes: Any) -> dict[str, Any]:
    """An order for the image of 60 x 40 pixels, which is made twice as wide to the left and is scaled by half."""
    placed = {"canvas_size": [60, 20], "original_image_size": [30, 20], "original_image_location": [30, 0]}
    body = {"image": HERE, **placed, **changes}
    return {name: value for name, value in body.items() if value is not None}


async def ordered(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/image/edit/expand", json=expand(**changes))
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def drawn(client: httpx2.AsyncClient, clock: ManualClock, **changes: Any) -> Image.Image:
    taken = await ordered(client, **changes)
    clock.advance(1)
    shown = (await client.get(f"/status/{taken['request_id']}")).json()
    answer = await client.get(shown["result"]["image_url"])
    return Image.open(io.BytesIO(answer.content)).convert("RGB")


async def test_an_order_is_taken_worked_on_and_ends_with_an_image_for_three_days(
    client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    taken = await ordered(client)
    assert taken == {
        "request_id": taken["request_id"],
        "status_url": f"http://127.0.0.1:9/bria/v2/status/{taken['request_id']}",
    }
    asked = await client.get(taken["status_url"])
    assert (asked.status_code, asked.json()) == (200, {"request_id": taken["request_id"], "status": "IN_PROGRESS"})
    clock.advance(1)
    done = (await client.get(f"/status/{taken['request_id']}")).json()
    assert (done["status"], done["result"].keys()) == ("COMPLETED", {"image_url", "seed", "prompt"})
    url = done["result"]["image_url"]
    assert (await client.get(url)).status_code == 200
    clock.advance(3 * 24 * 3600 + 1)
    assert (await client.get(url)).status_code != 200


async def test_the_image_is_scaled_to_its_size_and_lies_at_its_place(
    client: httpx2.AsyncClient, clock: ManualClock, image_bytes: bytes
) -> None:
    for image in (HERE, base64.b64encode(image_bytes).decode()):
        picture = await drawn(client, clock, image=image)
        assert picture.size == (60, 20)
        new, old = picture.crop((0, 0, 30, 20)), picture.crop((30, 0, 60, 20))
        assert len(new.getcolors() or []) == 1
        assert len(old.getcolors() or []) > 10


@pytest.mark.parametrize(("ratio", "size"), [("1:1", (60, 60)), (3.0, (120, 40)), (0.5, (60, 120))])
async def test_an_aspect_ratio_goes_before_the_canvas(
    client: httpx2.AsyncClient, clock: ManualClock, ratio: Any, size: tuple[int, int]
) -> None:
    assert (await drawn(client, clock, aspect_ratio=ratio)).size == size


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"zoom": 2}, 422, "zoom"),
        ({"canvas_size": [5001, 5000]}, 422, "5000x5000"),
        ({"canvas_size": [60.5, 20]}, 422, "canvas_size"),
        ({"canvas_size": [60]}, 422, "canvas_size"),
        ({"original_image_size": None}, 422, "original_image_size"),
        ({"original_image_location": [31, 0]}, 422, "canvas"),
        ({"aspect_ratio": "21:9"}, 422, "aspect_ratio"),
        ({"aspect_ratio": 3.5}, 422, "aspect_ratio"),
        ({"image": "data:image/png;base64,AAAA"}, 400, "prefix"),
        ({"image": "AAAA"}, 400, "image"),
        ({"image": "https://elsewhere.example/a.png"}, 400, "loopback"),
        ({"seed": "1"}, 422, "seed"),
    ],
)
async def test_what_its_page_does_not_allow_is_rejected(
    client: httpx2.AsyncClient, sandbox: Sandbox, changes: dict[str, Any], status: int, told: str
) -> None:
    answer = await client.post("/image/edit/expand", json=expand(**changes))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == status
    assert told in error["details"]
    assert sandbox.order_count("bria", "outpaint") == 0


async def test_a_gif_is_not_among_the_types_it_reads(client: httpx2.AsyncClient) -> None:
    buffer = io.BytesIO()
    Image.new("L", (60, 40)).save(buffer, "GIF")
    image = base64.b64encode(buffer.getvalue()).decode()
    assert (await client.post("/image/edit/expand", json=expand(image=image))).status_code == 415


async def test_a_synchronous_order_is_answered_with_the_image(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/image/edit/expand", json=expand(sync=True, prompt="a lake"))
    assert (answer.status_code, answer.json().keys()) == (200, {"request_id", "result"})
    assert answer.json()["result"]["prompt"] == "a lake"


async def test_a_request_that_failed_or_that_there_is_not(
    client: httpx2.AsyncClient, sandbox: Sandbox, clock: ManualClock
) -> None:
    sandbox.faults.add(Fault(vendor="bria", on="submit", fault="fail", message="No person was found", code=460))
    taken = await ordered(client)
    clock.advance(1)
    failed = await client.get(f"/status/{taken['request_id']}")
    assert failed.status_code == 200
    assert failed.json() == {
        "request_id": taken["request_id"],
        "status": "ERROR",
        "error": {"code": 460, "message": "No person was found", "details": ""},
    }
    assert (await client.get("/status/another")).status_code == 404
    assert (await client.get("/status/another", headers={"api_token": "wrong"})).status_code == 401
