"""Black Forest Labs in the sandbox, held against its page."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import ManualClock, Sandbox

ROUTE = "/v1/flux-tools/outpainting-v1"
URL = "http://127.0.0.1:9/own.png"
"""An image of 60x40."""


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "bfl")


def order(**changes: Any) -> dict[str, Any]:
    return {"input_image": URL, "width": 96, "height": 64, "reference_offset_x": 36, "reference_offset_y": 0, **changes}


async def test_an_order_is_polled_to_an_image_that_lives_ten_minutes(
    client: httpx2.AsyncClient,
    clock: ManualClock,
    image_bytes: bytes,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    ordered = await client.post(ROUTE, json=order(input_image=base64.b64encode(image_bytes).decode()))
    taken = ordered.json()
    assert taken["polling_url"].endswith(f"/bfl/v1/get_result?id={taken['id']}")
    seen = []
    for _ in range(4):
        polled = (await client.get("/v1/get_result", params={"id": taken["id"]})).json()
        seen.append(polled["status"])
        clock.advance(1)
    assert seen == ["Pending", "Reasoning", "Generating", "Ready"]
    sample = polled["result"]["sample"]
    assert size_of(await client.get(sample)) == (96, 64)
    clock.advance(601)
    assert (await client.get(sample)).status_code == 404


async def test_a_webhook_is_signed_and_takes_the_place_of_the_polling_url(
    client: httpx2.AsyncClient, sandbox: Sandbox, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    hook = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_secret": "s"}
    taken = (await client.post(ROUTE, json=order(**hook))).json()
    assert "polling_url" not in taken
    clock.advance(3)
    await sandbox.webhooks.deliver()
    (sent,) = [one for one in outgoing if one.method == "POST"]
    assert sent.headers["x-bfl-signature"] == f"sha256={hmac.new(b's', sent.content, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"width": 63}, 422),
        ({"width": "96"}, 422),
        ({"unknown": 1}, 422),
        ({"seed": 1}, 422),
        ({"mode": "turbo"}, 422),
        ({"safety_tolerance": 6}, 422),
        ({"reference_offset_x": 37}, 422),
        ({"reference_offset_x": -1}, 422),
        ({"input_image": "no base64"}, 400),
    ],
)
async def test_what_the_page_does_not_allow_is_rejected(
    client: httpx2.AsyncClient, sandbox: Sandbox, change: dict[str, Any], status: int
) -> None:
    assert (await client.post(ROUTE, json=order(**change))).status_code == status
    assert not sandbox.orders()


async def test_an_unknown_task_is_told_by_its_state(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/get_result", params={"id": "none"})
    assert (answer.status_code, answer.json()["status"]) == (404, "Task not found")
