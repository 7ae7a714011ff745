"""PiAPI in the sandbox, held against its page."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox, SandboxSettings, seed_id

GRID = seed_id("piapi", grid=True)
SINGLE = seed_id("piapi", grid=False)


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "piapi")


def unified(task_type: str, **given: Any) -> dict[str, Any]:
    return {"model": "midjourney", "task_type": task_type, "input": given}


async def task(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = (await client.get(f"/api/v1/task/{task_id}")).json()
    assert answer["code"] == 200
    assert answer["message"] == "success"
    data: dict[str, Any] = answer["data"]
    return data


async def test_a_legacy_outpaint_walks_through_every_state_of_both_generations(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    submitted = await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE, "zoom_ratio": "1.5"})
    assert submitted.status_code == 200
    task_id = submitted.json()["task_id"]
    assert submitted.json() == {"task_id": task_id, "status": "success", "message": ""}
    seen, legacy = [], []
    for _ in range(4):
        seen.append((await task(client, task_id))["status"])
        legacy.append((await client.post("/mj/v2/fetch", json={"task_id": task_id})).json()["status"])
        clock.advance(1)
    assert seen == ["pending", "staged", "processing", "completed"]
    assert legacy == ["pending", "staged", "processing", "finished"]
    output = (await task(client, task_id))["output"]
    assert output["image_urls"] is None
    assert len(output["temporary_image_urls"]) == 4
    assert output["progress"] == 100
    assert size_of(await client.get(output["temporary_image_urls"][3])) == (384, 384)
    assert size_of(await client.get(output["image_url"])) == (768, 768)
    result = (await client.post("/mj/v2/fetch", json={"task_id": task_id})).json()["task_result"]
    assert result["temporary_image_urls"] == output["temporary_image_urls"]
    assert result["task_progress"] == 100


async def test_the_unified_answer_is_the_task_in_an_envelope(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    order = unified("outpaint", origin_task_id=SINGLE, zoom_ratio="2") | {"config": {"service_mode": "public"}}
    answer = (await client.post("/api/v1/task", json=order)).json()
    assert answer["code"] == 200
    assert answer["data"]["status"] == "pending"
    assert answer["data"]["config"]["service_mode"] == "public"
    assert answer["data"]["input"] == {"origin_task_id": SINGLE, "zoom_ratio": "2"}
    assert answer["data"]["error"]["code"] == 0
    assert answer["data"]["meta"]["ended_at"] == "0001-01-01T00:00:00Z"
    assert answer["data"]["meta"]["usage"] == {"type": "point", "frozen": 10.0, "consume": 0}
    clock.advance(3)
    done = await task(client, answer["data"]["task_id"])
    assert done["meta"]["usage"] == {"type": "point", "frozen": 0, "consume": 10.0}


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"zoom_ratio": "2"}, (512, 512)),
        ({}, (512, 512)),
        ({"zoom_ratio": "1"}, (256, 256)),
        ({"zoom_ratio": "1.25"}, (320, 320)),
        ({"zoom_ratio": "1.5", "aspect_ratio": "16:9"}, (688, 387)),
    ],
)
async def test_the_image_has_the_size_that_was_asked_for(
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
    given: dict[str, str],
    size: tuple[int, int],
) -> None:
    task_id = (await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE} | given)).json()["task_id"]
    clock.advance(3)
    width, height = size_of(await client.get((await task(client, task_id))["output"]["temporary_image_urls"][0]))
    # Which pixel a ratio that does not come out even is rounded to is the planner's affair.
    assert abs(width - size[0]) <= 8
    assert abs(height - size[1]) <= 8


@pytest.mark.parametrize(
    "given",
    [
        {"zoom_ratio": 1.5},
        {"zoom_ratio": "0.9"},
        {"zoom_ratio": "2.1"},
        {"zoom_ratio": "wide"},
        {"aspect_ratio": "16x9"},
        {"aspect_ratio": "0:9"},
        {"prompt": None},
        {"skip_prompt_check": "true"},
        {"zoomRatio": "2"},
        {"webhook_endpoint": "https://example.com:8443/hook"},
        {"origin_task_id": GRID},
        {"origin_task_id": "nobody"},
        {"origin_task_id": ""},
    ],
)
async def test_what_the_page_does_not_allow_is_rejected_and_costs_nothing(
    sandbox: Sandbox, client: httpx2.AsyncClient, given: dict[str, Any]
) -> None:
    answer = await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE} | given)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert sandbox.order_count("piapi", "outpaint") == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "midjourney", "task_type": "outpaint"},
        unified("outpaint"),
        unified("outpaint", origin_task_id=SINGLE, zoom_ratio=2),
        unified("outpaint", origin_task_id=GRID),
        unified("imagine", prompt="a lake"),
        unified("outpaint", origin_task_id=SINGLE) | {"model": "flux"},
        unified("outpaint", origin_task_id=SINGLE) | {"config": {"service_mode": "loud"}},
        unified("upscale", origin_task_id=GRID, index=1),
        unified("upscale", origin_task_id=GRID, index="5"),
        unified("upscale", origin_task_id=GRID, index="subtle"),
        unified("upscale", origin_task_id=SINGLE, index="1"),
    ],
)
async def test_a_unified_rejection_has_a_code_other_than_200(client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await client.post("/api/v1/task", json=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert answer.json()["message"]


async def test_no_key_and_a_wrong_key_are_401(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> None:
    stranger = connect(sandbox, "piapi", "wrong")
    assert (await stranger.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE})).status_code == 401
    assert (await stranger.get(f"/api/v1/task/{SINGLE}")).status_code == 401
    assert [received.auth for received in sandbox.requests("piapi")] == ["wrong", "wrong"]


async def test_bodies_that_are_no_json_are_rejected(client: httpx2.AsyncClient) -> None:
    form = await client.post("/mj/v2/outpaint", data={"origin_task_id": SINGLE})
    assert form.status_code == 400
    for broken in (b"{", b"[]", b'{"origin_task_id": NaN}'):
        answer = await client.post("/mj/v2/outpaint", content=broken, headers={"content-type": "application/json"})
        assert answer.status_code == 400


async def test_an_unknown_task_and_an_unknown_endpoint_are_rejected_in_the_vendors_shape(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.get("/api/v1/task/nobody")).json()["message"] == "task not found"
    assert (await client.post("/mj/v2/fetch", json={"task_id": "nobody"})).status_code == 400
    assert (await client.post("/mj/v2/imagine", json={})).status_code == 404
    assert (await client.put("/mj/v2/outpaint", json={})).status_code == 405


@pytest.mark.parametrize("legacy", [True, False])
async def test_an_upscale_gives_the_grids_image_and_can_then_be_outpainted(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, legacy: bool
) -> None:
    if legacy:
        submitted = await client.post("/mj/v2/upscale", json={"origin_task_id": GRID, "index": "3"})
        task_id = submitted.json()["task_id"]
    else:
        submitted = await client.post("/api/v1/task", json=unified("upscale", origin_task_id=GRID, index="3"))
        task_id = submitted.json()["data"]["task_id"]
    early = await client.post("/mj/v2/outpaint", json={"origin_task_id": task_id})
    assert early.status_code == 400
    assert "not finished" in early.json()["message"]
    clock.advance(3)
    output = (await task(client, task_id))["output"]
    assert output["temporary_image_urls"] is None
    third = (await task(client, GRID))["output"]["temporary_image_urls"][2]
    assert (await client.get(output["image_url"])).content == (await client.get(third)).content
    assert (await client.post("/mj/v2/outpaint", json={"origin_task_id": task_id})).status_code == 200
    assert sandbox.order_count("piapi", "upscale") == 1
    assert sandbox.order_count("piapi", "outpaint") == 1


async def test_an_upscaled_image_is_upscaled_again_by_words(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    answer = await client.post("/api/v1/task", json=unified("upscale", origin_task_id=SINGLE, index="2x"))
    clock.advance(3)
    output = (await task(client, answer.json()["data"]["task_id"]))["output"]
    assert size_of(await client.get(output["image_url"])) == (512, 512)


async def test_only_a_pending_task_can_be_cancelled(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    first, second = [
        (await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE})).json()["task_id"] for _ in range(2)
    ]
    cancelled = (await client.delete(f"/api/v1/task/{first}")).json()
    assert cancelled["data"]["status"] == "failed"
    assert cancelled["data"]["error"]["message"] == "task cancelled"
    clock.advance(1)
    late = await client.delete(f"/api/v1/task/{second}")
    assert late.status_code == 400
    clock.advance(3)
    assert (await task(client, first))["status"] == "failed"
    assert (await task(client, second))["status"] == "completed"


async def test_webhooks_echo_the_secret_and_carry_the_task(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    hook = {"webhook_endpoint": "http://127.0.0.1:8000/hook?token=abc", "webhook_secret": "s3cret"}
    task_id = (await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE} | hook)).json()["task_id"]
    assert await sandbox.webhooks.deliver() == 0
    clock.advance(3)
    assert await sandbox.webhooks.deliver() == 2
    assert {request.headers["x-webhook-secret"] for request in outgoing} == {"s3cret"}
    last = json.loads(outgoing[-1].content)
    assert last["timestamp"] == int(clock.now)
    assert last["data"]["task_id"] == task_id
    assert last["data"]["status"] == "completed"
    assert (await client.get(last["data"]["output"]["temporary_image_urls"][0])).status_code == 200
    assert {delivery.url for delivery in sandbox.deliveries()} == {"http://127.0.0.1:8000/hook"}


async def test_a_webhook_that_is_not_taken_is_tried_again(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    order = unified("outpaint", origin_task_id=SINGLE)
    order["config"] = {"webhook_config": {"endpoint": "http://127.0.0.1:8000/refuses", "secret": ""}}
    await client.post("/api/v1/task", json=order)
    clock.advance(2)
    await sandbox.webhooks.deliver()
    assert len(outgoing) == 3
    assert sandbox.deliveries()[0].outcome == "failed"


async def test_a_cancelled_task_pushes_nothing_more(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    order = {"origin_task_id": SINGLE, "webhook_endpoint": "http://127.0.0.1:8000/hook"}
    task_id = (await client.post("/mj/v2/outpaint", json=order)).json()["task_id"]
    await client.delete(f"/api/v1/task/{task_id}")
    clock.advance(3)
    await sandbox.webhooks.deliver()
    assert outgoing == []


async def test_a_failing_task_says_why_and_gives_the_points_back(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    sandbox.faults.add(Fault(vendor="piapi", on="submit", fault="fail", code=10001, message="banned prompt"))
    task_id = (await client.post("/mj/v2/outpaint", json={"origin_task_id": SINGLE})).json()["task_id"]
    clock.advance(3)
    failed = await task(client, task_id)
    assert failed["status"] == "failed"
    assert failed["error"] == {
        "code": 10001,
        "raw_message": "banned prompt",
        "message": "banned prompt",
        "detail": None,
    }
    assert failed["meta"]["usage"]["consume"] == 0
    legacy = (await client.post("/mj/v2/fetch", json={"task_id": task_id})).json()
    assert legacy["status"] == "failed"
    assert legacy["task_result"]["error_messages"] == ["banned prompt"]
    assert sandbox.vendors["piapi"].account.available(clock.now) == sandbox.settings.balance


async def test_some_plans_have_no_single_images(
    settings: SandboxSettings, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    plain = Sandbox(SandboxSettings(clock=settings.clock, painter=settings.painter, piapi_temporary_urls=False))
    output = (await task(connect(plain, "piapi"), GRID))["output"]
    assert "temporary_image_urls" not in output
    assert output["image_url"]


async def test_rejections_under_200_and_in_the_shape_of_a_task_can_be_asked_for(
    sandbox: Sandbox, client: httpx2.AsyncClient
) -> None:
    sandbox.faults.add(Fault(vendor="piapi", on="submit", fault="refused_in_200", message="no account"))
    answer = await client.post("/api/v1/task", json=unified("outpaint", origin_task_id=SINGLE))
    assert answer.status_code == 200
    assert answer.json() == {"code": 500, "data": None, "message": "no account"}
    sandbox.faults.add(Fault(vendor="piapi", on="submit", fault="job_shaped_refusal", message="no"))
    answer = await client.post("/api/v1/task", json=unified("outpaint", origin_task_id=SINGLE))
    assert answer.status_code == 403
    assert answer.json()["data"]["status"] == "failed"
    assert sandbox.order_count("piapi", "outpaint") == 0
