"""APIMart in the sandbox, held against its page."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import SEEDS, Fault, ManualClock, Sandbox, SandboxSettings, seed_id

GRID = seed_id("apimart", grid=True)
SINGLE = seed_id("apimart", grid=False)
(FOREIGN,) = (seed.id for seed in SEEDS if seed.foreign)
ZOOM = "/v1/midjourney/generations/zoom"
UPSCALE = "/v1/midjourney/generations/upscale"
IMAGINE = "/v1/midjourney/generations"


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "apimart")


async def order(client: httpx2.AsyncClient, path: str, **body: Any) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    (accepted,) = answer.json()["data"]
    assert answer.json()["code"] == 200
    assert accepted["status"] == "submitted"
    task_id: str = accepted["task_id"]
    assert task_id.startswith("task_")
    return task_id


async def drawn(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/v1/midjourney/{task_id}")).json()
    return body


async def wrapped(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/v1/tasks/{task_id}")).json()
    assert body["code"] == 200
    data: dict[str, Any] = body["data"]
    return data


async def test_a_zoom_is_seen_alike_through_both_polls(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    task_id = await order(client, ZOOM, task_id=SINGLE, zoom_ratio=1.5, index=1, speed="relax", metadata={"a": 1})
    own, general, images = [], [], []
    for _ in range(4):
        own.append((await drawn(client, task_id))["status"])
        images.append(len((await drawn(client, task_id))["image_urls"]))
        general.append((await wrapped(client, task_id))["status"])
        clock.advance(1)
    assert own == ["NOT_START", "SUBMITTED", "IN_PROGRESS", "SUCCESS"]
    assert general == ["submitted", "pending", "processing", "completed"]
    assert images == [0, 0, 4, 4]
    done = await drawn(client, task_id)
    assert (done["action"], done["progress"], done["fail_reason"]) == ("ZOOM", "100%", "")
    assert done["cost"] == 0.055
    assert size_of(await client.get(done["image_urls"][3])) == (384, 384)
    assert size_of(await client.get(done["grid_image_url"])) == (768, 768)
    result = (await wrapped(client, task_id))["result"]["images"]
    assert [url for image in result for url in image["url"]] == done["image_urls"]
    assert result[0]["expires_at"] == int(clock.now - 1) + 72 * 3600


@pytest.mark.parametrize(
    ("given", "side"),
    [
        ({}, 512),
        ({"zoom_ratio": 2}, 512),
        ({"zoom_ratio": 3.5}, 512),
        ({"zoom_ratio": 1.7}, 384),
        ({"zoom_ratio": 1}, 384),
    ],
)
async def test_only_the_two_buttons_are_drawn_whatever_the_ratio(
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
    given: dict[str, float],
    side: int,
) -> None:
    task_id = await order(client, ZOOM, task_id=SINGLE, **given)
    clock.advance(3)
    assert size_of(await client.get((await drawn(client, task_id))["image_urls"][0])) == (side, side)


async def test_the_button_that_custom_id_names_decides(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    buttons = {button["label"]: button["customId"] for button in (await drawn(client, SINGLE))["buttons"]}
    task_id = await order(client, ZOOM, task_id=SINGLE, custom_id=buttons["Zoom Out 1.5x"], zoom_ratio=2)
    clock.advance(3)
    assert size_of(await client.get((await drawn(client, task_id))["image_urls"][0])) == (384, 384)
    answer = await client.post(ZOOM, json={"task_id": SINGLE, "custom_id": "nobody"})
    assert answer.status_code == 400


async def test_a_grid_as_parent_is_rejected_in_the_pages_words(client: httpx2.AsyncClient) -> None:
    answer = await client.post(ZOOM, json={"task_id": GRID})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith("This action requires an upscaled task")
    assert set(error) == {"message", "type", "code", "param"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ZOOM, {}),
        (ZOOM, {"task_id": ""}),
        (ZOOM, {"task_id": SINGLE, "index": 0}),
        (ZOOM, {"task_id": SINGLE, "index": 5}),
        (ZOOM, {"task_id": SINGLE, "index": "1"}),
        (ZOOM, {"task_id": SINGLE, "zoom_ratio": "2"}),
        (ZOOM, {"task_id": SINGLE, "zoom_ratio": -1}),
        (ZOOM, {"task_id": SINGLE, "speed": "warp"}),
        (ZOOM, {"task_id": SINGLE, "metadata": "a"}),
        (ZOOM, {"task_id": SINGLE, "prompt": "a lake"}),
        (UPSCALE, {"task_id": GRID}),
        (UPSCALE, {"task_id": GRID, "index": 5}),
        (UPSCALE, {"task_id": SINGLE, "index": 1}),
        (IMAGINE, {"prompt": ""}),
    ],
)
async def test_a_bad_body_is_rejected(
    sandbox: Sandbox, client: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert sandbox.orders("apimart") == ()


async def test_keys_foreign_tasks_and_unknown_tasks_have_their_own_status(
    sandbox: Sandbox, client: httpx2.AsyncClient, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    assert (await connect(sandbox, "apimart", "Bearer no").get(f"/v1/tasks/{SINGLE}")).status_code == 401
    for path in ("/v1/tasks/", "/v1/midjourney/"):
        foreign = await client.get(path + FOREIGN)
        assert (foreign.status_code, foreign.json()["success"]) == (403, False)
        unknown = await client.get(f"{path}task_nobody")
        assert (unknown.status_code, unknown.json()) == (404, {"code": 404, "message": "task not found"})
    assert (await client.post(ZOOM, json={"task_id": FOREIGN})).status_code == 403
    assert (await client.post(ZOOM, json={"task_id": "task_nobody"})).status_code == 404
    poor = connect(Sandbox(SandboxSettings(balance=0.01)), "apimart")
    assert (await poor.post(ZOOM, json={"task_id": SINGLE})).status_code == 402


async def test_an_upscale_is_done_at_once_and_can_be_zoomed(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    buttons = {button["label"]: button["customId"] for button in (await drawn(client, GRID))["buttons"]}
    fourth = (await drawn(client, GRID))["image_urls"][3]
    for choice in ({"index": 4}, {"custom_id": buttons["U4"]}):
        task_id = await order(client, UPSCALE, task_id=GRID, **choice)
        done = await drawn(client, task_id)
        assert (done["status"], done["action"], done["grid_image_url"]) == ("SUCCESS", "UPSCALE", "")
        (image,) = done["image_urls"]
        assert (await client.get(image)).content == (await client.get(fourth)).content
        await order(client, ZOOM, task_id=task_id)
    assert (sandbox.order_count("apimart", "upscale"), sandbox.order_count("apimart", "outpaint")) == (2, 2)


async def test_an_unfinished_task_is_no_parent(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    grid = await order(client, IMAGINE, prompt="a lake", size="16:9", quality=".5")
    assert (await client.post(UPSCALE, json={"task_id": grid, "index": 1})).status_code == 400
    clock.advance(3)
    await order(client, UPSCALE, task_id=grid, index=1)


async def test_turbo_costs_more_and_a_failed_task_nothing(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    before = (await client.get("/v1/balance")).json()["remain_balance"]
    await order(client, ZOOM, task_id=SINGLE, speed="turbo")
    assert before - (await client.get("/v1/balance")).json()["remain_balance"] == pytest.approx(0.10)
    sandbox.faults.add(Fault(vendor="apimart", on="submit", fault="fail", message="moderated", code="content"))
    task_id = await order(client, ZOOM, task_id=SINGLE)
    clock.advance(3)
    failed = await drawn(client, task_id)
    assert (failed["status"], failed["fail_reason"], failed["cost"]) == ("FAILURE", "moderated", 0)
    general = await wrapped(client, task_id)
    assert (general["status"], general["error"]) == ("failed", {"message": "moderated", "code": "content"})
    assert before - (await client.get("/v1/balance")).json()["remain_balance"] == pytest.approx(0.10)


async def test_tasks_are_kept_for_three_days(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    task_id = await order(client, ZOOM, task_id=SINGLE)
    clock.advance(3 * 24 * 3600)
    assert (await client.get(f"/v1/tasks/{task_id}")).status_code == 200
    clock.advance(1)
    assert (await client.get(f"/v1/tasks/{task_id}")).status_code == 404
    assert (await client.get(f"/v1/midjourney/{SINGLE}")).status_code == 200


async def test_the_older_answer_with_a_bare_url_and_the_modal_state_can_be_asked_for(
    sandbox: Sandbox, client: httpx2.AsyncClient
) -> None:
    sandbox.faults.add(Fault(vendor="apimart", on="poll", fault="bare_string"))
    assert isinstance((await wrapped(client, SINGLE))["result"]["images"][0]["url"], str)
    sandbox.faults.add(Fault(vendor="apimart", on="poll", fault="unknown_status", word="MODAL"))
    assert (await drawn(client, SINGLE))["status"] == "MODAL"
