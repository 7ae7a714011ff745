"""Legnext in the sandbox, held against its page."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox, SandboxSettings, seed_id

GRID = seed_id("legnext", grid=True)
SINGLE = seed_id("legnext", grid=False)


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "legnext")


def outpaint(**changes: Any) -> dict[str, Any]:
    return {"jobId": GRID, "imageNo": 2, "scale": 1.5} | changes


async def order(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


async def job(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/job/{job_id}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_submit_and_poll_answer_the_job_itself(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    submitted = await client.post("/v1/outpaint", json=outpaint(remixPrompt="a lake"))
    first = submitted.json()
    assert first == await job(client, first["job_id"])
    assert (first["status"], first["task_type"], first["input"]) == (
        "pending",
        "outpaint",
        outpaint(remixPrompt="a lake"),
    )
    assert first["output"] == {"image_url": "", "image_urls": None, "seed": "", "available_actions": {}}
    assert first["meta"]["usage"] == {"type": "point", "frozen": 80, "consume": 0}
    assert first["error"]["code"] == 0
    seen = []
    for _ in range(4):
        seen.append((await job(client, first["job_id"]))["status"])
        clock.advance(1)
    assert seen == ["pending", "staged", "processing", "completed"]
    done = await job(client, first["job_id"])
    assert done["meta"]["usage"] == {"type": "point", "frozen": 0, "consume": 80}
    assert done["output"]["available_actions"]["outpaint"] == [0, 1, 2, 3]
    assert size_of(await client.get(done["output"]["image_urls"][0])) == (384, 384)
    assert size_of(await client.get(done["output"]["image_url"])) == (768, 768)
    assert (await client.post("/v1/outpaint", json=outpaint(jobId=done["job_id"]))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        outpaint(imageNo=4),
        outpaint(imageNo="2"),
        outpaint(imageNo=2.0),
        outpaint(scale=1.09),
        outpaint(scale=2.1),
        outpaint(scale="2"),
        outpaint(jobId="nobody"),
        outpaint(jobId=GRID.replace("-", "")),
        outpaint(remixPrompt=""),
        outpaint(remixPrompt="a" * 8193),
        outpaint(callback="nowhere"),
        outpaint(prompt="a lake"),
        outpaint(jobId=SINGLE, imageNo=1),
        {"jobId": GRID, "imageNo": 0},
        {"jobId": GRID, "scale": 2},
        {"imageNo": 0, "scale": 2},
    ],
)
async def test_a_bad_body_is_rejected_flat(sandbox: Sandbox, client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await client.post("/v1/outpaint", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "message", "raw_message", "detail"}
    assert answer.json()["message"]
    assert sandbox.orders("legnext") == ()


async def test_every_shape_of_a_rejection_is_shown(
    sandbox: Sandbox, client: httpx2.AsyncClient, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    stranger = await connect(sandbox, "legnext", "wrong").post("/v1/outpaint", json=outpaint())
    assert (stranger.status_code, set(stranger.json()["error"])) == (401, {"code", "message"})
    assert (await client.post("/v1/outpaint", json=outpaint(jobId=str(uuid.uuid4())))).status_code == 404
    assert (await client.get(f"/v1/job/{uuid.uuid4()}")).status_code == 404
    poor = connect(Sandbox(SandboxSettings(balance=79)), "legnext")
    answer = await poor.post("/v1/outpaint", json=outpaint())
    assert answer.status_code == 402
    assert answer.json()["message"].startswith("Insufficient balance")
    sandbox.faults.add(Fault(vendor="legnext", on="submit", fault="job_shaped_refusal", message="sensitive content"))
    shaped = await client.post("/v1/outpaint", json=outpaint())
    assert shaped.status_code == 403
    assert (shaped.json()["job_id"], shaped.json()["status"]) == ("", "failed")
    assert shaped.json()["error"]["message"] == "sensitive content"
    assert sandbox.orders("legnext") == ()


async def test_an_unfinished_job_is_no_parent(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    grid = await order(client, "/v1/diffusion", {"text": "a lake"})
    early = await client.post("/v1/outpaint", json=outpaint(jobId=grid))
    assert (early.status_code, early.json()["message"]) == (400, "the job is not finished")
    clock.advance(3)
    assert len((await job(client, grid))["output"]["image_urls"]) == 4
    await order(client, "/v1/outpaint", outpaint(jobId=grid))


async def test_an_upscale_gives_one_larger_image(
    sandbox: Sandbox,
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    single = await order(client, "/v1/upscale", {"jobId": GRID, "imageNo": 1, "type": 0})
    clock.advance(3)
    output = (await job(client, single))["output"]
    assert (output["image_url"], output["available_actions"]["outpaint"]) == ("", [0])
    (image,) = output["image_urls"]
    assert size_of(await client.get(image)) == (512, 512)
    assert sandbox.order_count("legnext", "upscale") == 1
    assert (await client.post("/v1/upscale", json={"jobId": GRID, "imageNo": 1, "type": 2})).status_code == 400


async def test_the_clients_own_image_is_laid_on_the_canvas(
    sandbox: Sandbox,
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    body = {
        "imgUrl": "http://localhost:7000/image.png",
        "canvas": {"width": 2048, "height": 1024},
        "imgPos": {"x": 724, "y": 112, "width": 600, "height": 800},
        "mask": {"areas": [{"width": 2048, "height": 1024, "points": [0, 0, 724, 0, 724, 1024, 0, 1024]}]},
        "remixPrompt": "a lake",
        "callback": "http://127.0.0.1:8000/hook",
    }
    job_id = await order(client, "/v1/upload-paint", body)
    clock.advance(3)
    urls = (await job(client, job_id))["output"]["image_urls"]
    # Larger than the sandbox draws: the whole is drawn smaller.
    assert size_of(await client.get(urls[0])) == (1024, 512)
    for missing in ("remixPrompt", "mask", "canvas", "imgPos", "imgUrl"):
        less = {name: value for name, value in body.items() if name != missing}
        assert (await client.post("/v1/upload-paint", json=less)).status_code == 400
    outside = await client.post("/v1/upload-paint", json=body | {"imgUrl": "http://10.0.0.1/image.png"})
    assert outside.status_code == 400
    assert sandbox.order_count("legnext", "outpaint") == 1


async def test_the_callback_gets_the_finished_job(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    job_id = await order(client, "/v1/outpaint", outpaint(callback="http://127.0.0.1:8000/hook"))
    clock.advance(3)
    await sandbox.webhooks.deliver()
    (request,) = outgoing
    assert json.loads(request.content) == await job(client, job_id)


async def test_points_are_frozen_then_consumed_or_given_back(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    sandbox.faults.add(Fault(vendor="legnext", on="submit", fault="fail", code=10002, message="banned"))
    job_id = await order(client, "/v1/outpaint", outpaint())
    points = (await client.get("/account/balance")).json()["data"]
    assert points == {"balance_usd": 999.92, "available_credits": 999.92, "available_points": 1_000_000 - 80}
    active = (await client.get("/account/active_tasks")).json()
    assert (active["total_active"], active["concurrent_limit"]) == (1, 6)
    clock.advance(3)
    failed = await job(client, job_id)
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": 10002, "raw_message": "banned", "message": "banned", "detail": None}
    assert (await client.get("/account/balance")).json()["data"]["available_points"] == 1_000_000


async def test_six_jobs_run_at_a_time_and_the_seventh_waits(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    jobs = [await order(client, "/v1/outpaint", outpaint()) for _ in range(7)]
    clock.advance(3)
    states = [(await job(client, job_id))["status"] for job_id in jobs]
    assert states == ["completed"] * 6 + ["staged"]
    clock.advance(3)
    assert (await job(client, jobs[6]))["status"] == "completed"
