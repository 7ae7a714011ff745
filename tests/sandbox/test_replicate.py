"""Replicate in the sandbox, held against its page."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox

EXPAND = "/v1/models/bria/expand-image/predictions"
FLUX = "/v1/models/black-forest-labs/flux-fill-pro/predictions"
IMAGE = "http://127.0.0.1:8000/a.png"
CANVAS = {"aspect_ratio": "none", "canvas_size": [90, 40], "original_image_size": [60, 40]}
HOOK = {"webhook": "http://127.0.0.1:8000/hook"}


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "replicate")


def expand(**changes: Any) -> dict[str, Any]:
    return {"image": IMAGE, "original_image_location": [30, 0]} | CANVAS | changes


async def prediction(client: httpx2.AsyncClient, given: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/predictions/{given['id']}")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_a_prediction_ends_with_the_image_on_its_canvas_for_an_hour(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    answer = await client.post(EXPAND, json={"input": expand(prompt="sea")})
    assert answer.status_code == 201
    given = answer.json()
    assert (given["model"], given["version"], given["output"]) == ("bria/expand-image", "hidden", None)
    assert given["urls"]["get"].endswith(f"/replicate/v1/predictions/{given['id']}")
    seen = [given["status"]]
    for _ in range(2):
        clock.advance(1)
        seen.append((await prediction(client, given))["status"])
    assert seen == ["starting", "processing", "succeeded"]
    done = await prediction(client, given)
    assert (done["error"], done["data_removed"]) == (None, False)
    assert size_of(await client.get(done["output"])) == (90, 40)
    clock.advance(3601)
    late = await prediction(client, given)
    assert (late["status"], late["output"], late["data_removed"]) == ("succeeded", None, True)
    assert (await client.get(done["output"])).status_code == 404


async def test_a_file_is_uploaded_and_named_by_its_url_for_an_hour(
    client: httpx2.AsyncClient,
    clock: ManualClock,
    image_bytes: bytes,
    outgoing: list[httpx2.Request],
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    assert (await client.post("/v1/files", files={"file": ("a.png", image_bytes)})).status_code == 422
    uploaded = await client.post("/v1/files", files={"content": ("a.png", image_bytes, "image/png")})
    assert uploaded.status_code == 201
    url = uploaded.json()["urls"]["get"]
    order = {"input": {"image": url, "prompt": "sea", "outpaint": "Zoom out 1.5x"}}
    given = (await client.post(FLUX, json=order)).json()
    assert outgoing == [], "a file of its own is not fetched"
    clock.advance(2)
    assert size_of(await client.get((await prediction(client, given))["output"])) == (90, 60)
    by_version = {**order, "version": "black-forest-labs/flux-fill-pro"}
    assert (await client.post("/v1/predictions", json=by_version)).status_code == 201


@pytest.mark.parametrize(
    ("path", "order", "told"),
    [
        (EXPAND, {"input": {"image": IMAGE, **CANVAS}}, "original_image_location"),
        (EXPAND, {"input": expand(canvas_size=[5001, 40])}, "5000x5000"),
        (EXPAND, {"input": expand(original_image_location=[31, 0])}, "must lie on a canvas"),
        (EXPAND, {"input": expand(aspect_ratio="7:5")}, "aspect_ratio"),
        (EXPAND, {"input": expand(image="")}, "image_url"),
        (EXPAND, {"input": expand(zoom=2)}, "zoom"),
        (EXPAND, {"input": expand(image="data:image/png;base64," + 400_000 * "A")}, "256 KB"),
        (EXPAND, {"input": expand(), "webhook": "http://example.com/h"}, "webhook"),
        (EXPAND, {"input": expand(), **HOOK, "webhook_events_filter": ["progress"]}, "webhook_events_filter"),
        (EXPAND, {"input": expand(), "version": "bria/expand-image"}, "version"),
        (FLUX, {"input": {"image": IMAGE, "outpaint": "Zoom out 3x"}}, "outpaint"),
        (FLUX, {"input": {"image": IMAGE, "outpaint": "Make square", "steps": 51}}, "steps"),
    ],
)
async def test_a_bad_order_is_422_and_says_why(
    sandbox: Sandbox, client: httpx2.AsyncClient, path: str, order: dict[str, Any], told: str
) -> None:
    answer = await client.post(path, json=order)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert sandbox.orders("replicate") == ()


async def test_a_ratio_makes_the_canvas_ignored_and_is_square_by_default(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    given = (await client.post(EXPAND, json={"input": {"image": IMAGE, "canvas_size": [90, 40]}})).json()
    clock.advance(2)
    assert size_of(await client.get((await prediction(client, given))["output"])) == (60, 60)


async def test_webhooks_are_signed_with_the_accounts_secret(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    secret = base64.b64decode((await client.get("/v1/webhooks/default/secret")).json()["key"].removeprefix("whsec_"))
    events = {"webhook_events_filter": ["start", "completed"]}
    given = (
        await client.post(FLUX, json={"input": {"image": IMAGE, "outpaint": "Make square"}} | HOOK | events)
    ).json()
    clock.advance(2)
    outgoing.clear()
    await sandbox.webhooks.deliver()
    assert [json.loads(one.content)["status"] for one in outgoing] == ["processing", "succeeded"]
    assert json.loads(outgoing[1].content) == await prediction(client, given)
    for one in outgoing:
        text = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.content
        expected = base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()
        assert one.headers["webhook-signature"] == f"v1,{expected}"
        assert one.headers["webhook-timestamp"] == f"{clock.now:.0f}"


async def test_predictions_fail_and_are_cancelled(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    sandbox.faults.add(Fault(vendor="replicate", on="submit", fault="fail", message="flagged as sensitive"))
    failing = (await client.post(EXPAND, json={"input": expand()})).json()
    stopped = (await client.post(EXPAND, json={"input": expand()})).json()
    assert (await client.post(f"/v1/predictions/{stopped['id']}/cancel")).json()["status"] == "canceled"
    clock.advance(2)
    assert (await prediction(client, stopped))["status"] == "canceled"
    failed = await prediction(client, failing)
    assert (failed["status"], failed["error"], failed["output"]) == ("failed", "flagged as sensitive", None)
    assert (await client.get("/v1/predictions/nobodys")).json()["detail"]
