"""Apiframe in the sandbox, held against its page."""

import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox, SandboxSettings, seed_id

GRID = seed_id("apiframe", grid=True)
SINGLE = seed_id("apiframe", grid=False)
ACTION = "/v2/images/midjourney/action"


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "apiframe")


def outpaint(**changes: Any) -> dict[str, Any]:
    return {"parentJobId": SINGLE, "action": "outpaint", "zoomRatio": 1.5} | changes


async def job(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v2/jobs/{job_id}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def upload(client: httpx2.AsyncClient, data: bytes) -> httpx2.Response:
    return await client.post("/v2/uploads", files={"file": ("image.png", data, "image/png")})


def edit(image: str, outpaint: str = "Zoom out 2x", **changes: Any) -> dict[str, Any]:
    params = {"image": image, "prompt": "a lake", "mode": "outpaint", "outpaint": outpaint} | changes
    return {"model": "flux-fill-pro", "fluxFillParams": params}


async def test_an_outpaint_of_an_upsample_ends_with_a_grid(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    submitted = await client.post(ACTION, json=outpaint())
    assert submitted.status_code == 202
    job_id = submitted.json()["jobId"]
    assert submitted.json() == {"jobId": str(uuid.UUID(job_id)), "status": "QUEUED"}
    seen = []
    for _ in range(3):
        seen.append((await job(client, job_id))["status"])
        clock.advance(1)
    assert seen == ["QUEUED", "PROCESSING", "COMPLETED"]
    done = await job(client, job_id)
    assert done["progress"] == 100
    assert done["creditCost"] == 16
    assert done["error"] is None
    assert done["expired"] is False
    assert done["input"] == outpaint()
    assert len(done["result"]["images"]) == 4
    assert size_of(await client.get(done["result"]["images"][1])) == (384, 384)
    assert size_of(await client.get(done["result"]["gridUrl"])) == (768, 768)
    assert (await client.get("/v2/me")).json() == {"team": {"credits": 1_000_000 - 16}}


async def test_an_upsample_has_one_image_and_can_be_outpainted(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    order = {"parentJobId": GRID, "action": "upsample", "index": 2}
    job_id = (await client.post(ACTION, json=order)).json()["jobId"]
    assert (await client.post(ACTION, json=outpaint(parentJobId=job_id))).status_code == 409
    clock.advance(2)
    done = await job(client, job_id)
    assert done["creditCost"] == 4
    assert list(done["result"]) == ["images"]
    second = (await job(client, GRID))["result"]["images"][1]
    (image,) = done["result"]["images"]
    assert (await client.get(image)).content == (await client.get(second)).content
    assert (await client.post(ACTION, json=outpaint(parentJobId=job_id))).status_code == 202


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (outpaint(zoomRatio=1.7), "zoomRatio"),
        (outpaint(zoomRatio="2"), "zoomRatio"),
        (outpaint(zoomRatio=True), "zoomRatio"),
        (outpaint(parentJobId="nobody"), "parentJobId"),
        (outpaint(prompt="a lake"), "prompt"),
        (outpaint(index=1), "index"),
        (outpaint(action="pan"), "action"),
        (outpaint(webhookUrl="http://example.com/hook"), "webhookUrl"),
        (outpaint(webhookUrl="https://example.com/hook", webhookEvents=[]), "webhookEvents"),
        (outpaint(webhookUrl="https://example.com/hook", webhookEvents=["done"]), "webhookEvents.0"),
        ({"action": "outpaint", "zoomRatio": 2}, "parentJobId"),
        ({"parentJobId": SINGLE, "action": "outpaint"}, "zoomRatio"),
        ({"parentJobId": GRID, "action": "upsample", "index": 0}, "index"),
        ({"parentJobId": GRID, "action": "upsample", "index": "1"}, "index"),
        ({"parentJobId": GRID, "action": "upsample", "index": 1, "zoomRatio": 2}, "zoomRatio"),
    ],
)
async def test_a_bad_body_is_400_and_names_the_field(
    sandbox: Sandbox, client: httpx2.AsyncClient, body: dict[str, Any], path: str
) -> None:
    answer = await client.post(ACTION, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert answer.json()["details"][path]
    assert answer.headers["x-request-id"]
    assert sandbox.orders("apiframe") == ()


@pytest.mark.parametrize("status", [400, 409])
async def test_a_grid_as_parent_is_rejected_as_either_page_says(
    settings: SandboxSettings, connect: Callable[..., httpx2.AsyncClient], status: Any
) -> None:
    sandbox = Sandbox(SandboxSettings(clock=settings.clock, apiframe_wrong_parent_status=status))
    answer = await connect(sandbox, "apiframe").post(ACTION, json=outpaint(parentJobId=GRID))
    assert answer.status_code == status
    assert "upsample" in answer.json()["error"]


async def test_wrong_keys_unknown_jobs_and_empty_accounts_are_rejected(
    sandbox: Sandbox, client: httpx2.AsyncClient, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    stranger = await connect(sandbox, "apiframe", "afk_wrong").post(ACTION, json=outpaint())
    assert stranger.status_code == 401
    assert stranger.headers["x-request-id"]
    assert (await client.post(ACTION, json=outpaint(parentJobId=str(uuid.uuid4())))).status_code == 404
    assert (await client.get(f"/v2/jobs/{uuid.uuid4()}")).status_code == 404
    assert (await client.get("/v2/jobs/nobody")).status_code == 400
    poor = connect(Sandbox(SandboxSettings(balance=5)), "apiframe")
    assert (await poor.post(ACTION, json={"parentJobId": GRID, "action": "upsample", "index": 1})).status_code == 202
    answer = await poor.post(ACTION, json=outpaint())
    assert answer.status_code == 402
    assert answer.json() == {"error": "Insufficient credits", "creditsRequired": 16, "creditsAvailable": 1}


async def test_the_same_key_gives_the_original_job_for_a_day(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    key = {"Idempotency-Key": "op-1"}
    first = await client.post(ACTION, json=outpaint(), headers=key)
    clock.advance(1)
    again = await client.post(ACTION, json=dict(reversed(outpaint().items())), headers=key)
    assert again.status_code == 202
    assert again.json() == {"jobId": first.json()["jobId"], "status": "PROCESSING"}
    assert sandbox.order_count("apiframe", "outpaint") == 1
    assert [received.idempotency_key for received in sandbox.requests("apiframe")] == ["op-1", "op-1"]
    other = await client.post(ACTION, json=outpaint(zoomRatio=2), headers=key)
    assert other.status_code == 409
    clock.advance(24 * 3600)
    later = await client.post(ACTION, json=outpaint(), headers=key)
    assert later.json()["jobId"] != first.json()["jobId"]
    assert (await client.post(ACTION, json=outpaint(), headers={"Idempotency-Key": "k" * 256})).status_code == 400


async def test_the_same_key_twice_at_once_is_one_order(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    answers: list[str] = []

    async def send() -> None:
        body = edit("http://127.0.0.1:7000/image.png")
        answer = await client.post("/v2/images/edit", json=body, headers={"Idempotency-Key": "op-4"})
        answers.append(answer.json()["jobId"])

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(send)
    assert len(answers) == 5
    assert len(set(answers)) == 1
    assert sandbox.order_count("apiframe", "outpaint") == 1


async def test_a_rejected_order_does_not_use_its_key_up(client: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": "op-2"}
    assert (await client.post(ACTION, json=outpaint(zoomRatio=3), headers=key)).status_code == 400
    assert (await client.post(ACTION, json=outpaint(), headers=key)).status_code == 202


async def test_an_answer_that_was_lost_is_had_again_under_its_key(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.faults.add(Fault(vendor="apiframe", on="submit", fault="drop", accepted=True))
    key = {"Idempotency-Key": "op-3"}
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.post(ACTION, json=outpaint(), headers=key)
    again = await client.post(ACTION, json=outpaint(), headers=key)
    assert again.json()["jobId"] == sandbox.orders("apiframe")[0].id
    assert sandbox.order_count("apiframe", "outpaint") == 1


async def test_webhooks_are_signed_with_the_hash_of_the_key(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    hook = {"webhookUrl": "http://127.0.0.1:8000/hook", "webhookEvents": ["progress", "completed"]}
    job_id = (await client.post(ACTION, json=outpaint(**hook))).json()["jobId"]
    assert (await job(client, job_id))["webhookStatus"] is None
    clock.advance(2)
    await sandbox.webhooks.deliver()
    assert [request.headers["x-webhook-event"] for request in outgoing] == ["progress", "completed"]
    for request in outgoing:
        digest = hashlib.sha256(sandbox.vendors["apiframe"].key.encode()).digest()
        expected = hmac.new(digest, request.content, hashlib.sha256).hexdigest()
        assert request.headers["x-webhook-signature"] == f"sha256={expected}"
    progress, completed = (json.loads(request.content) for request in outgoing)
    assert progress == {
        "event": "progress",
        "jobId": job_id,
        "status": "PROCESSING",
        "progress": 50,
        "model": "midjourney",
    }
    polled = await job(client, job_id)
    assert set(completed) == {
        "event",
        "jobId",
        "status",
        "progress",
        "result",
        "model",
        "creditCost",
        "completedAt",
    }
    assert completed["result"] == polled["result"]
    assert polled["webhookStatus"] == "delivered"


async def test_a_webhook_to_another_machine_is_written_down_and_not_sent(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    await client.post(ACTION, json=outpaint(webhookUrl="https://example.com/hook?secret=1"))
    clock.advance(2)
    await sandbox.webhooks.deliver()
    assert outgoing == []
    (delivery,) = sandbox.deliveries()
    assert (delivery.event, delivery.outcome, delivery.url) == ("completed", "not sent", "https://example.com/hook")


async def test_a_failed_job_costs_nothing_and_says_so_to_the_webhook(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    sandbox.faults.add(Fault(vendor="apiframe", on="submit", fault="fail", message="blocked"))
    body = outpaint(webhookUrl="http://127.0.0.1:8000/hook")
    job_id = (await client.post(ACTION, json=body)).json()["jobId"]
    assert (await client.get("/v2/me")).json()["team"]["credits"] == 1_000_000 - 16
    clock.advance(2)
    failed = await job(client, job_id)
    assert (failed["status"], failed["error"], failed["creditCost"], failed["result"]) == ("FAILED", "blocked", 0, None)
    assert (await client.get("/v2/me")).json()["team"]["credits"] == 1_000_000
    await sandbox.webhooks.deliver()
    assert json.loads(outgoing[0].content) == {
        "event": "failed",
        "jobId": job_id,
        "status": "FAILED",
        "error": "blocked",
        "model": "midjourney",
    }


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ("Zoom out 1.5x", (90, 60)),
        ("Zoom out 2x", (120, 80)),
        ("Make square", (60, 60)),
        ("Left outpaint", (90, 40)),
        ("Right outpaint", (90, 40)),
        ("Top outpaint", (60, 60)),
        ("Bottom outpaint", (60, 60)),
    ],
)
async def test_an_uploaded_image_can_be_extended(
    sandbox: Sandbox,
    client: httpx2.AsyncClient,
    clock: ManualClock,
    image_bytes: bytes,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
    how: str,
    size: tuple[int, int],
) -> None:
    stored = await upload(client, image_bytes)
    assert stored.status_code == 201
    assert stored.json()["contentType"] == "image/png"
    assert stored.json()["byteSize"] == len(image_bytes)
    assert set(stored.json()) == {"id", "url", "kind", "contentType", "byteSize", "expiresAt"}
    assert (await client.get(stored.json()["url"])).content == image_bytes
    submitted = await client.post("/v2/images/edit", json=edit(stored.json()["url"], how))
    assert submitted.status_code == 202
    clock.advance(2)
    done = await job(client, submitted.json()["jobId"])
    assert done["model"] == "flux-fill-pro"
    (image,) = done["result"]["images"]
    assert size_of(await client.get(image)) == size
    assert sandbox.order_count("apiframe", "outpaint") == 1
    assert (await client.post(ACTION, json=outpaint(parentJobId=done["id"]))).status_code == 409


async def test_bad_uploads_and_edits_are_rejected(
    sandbox: Sandbox, client: httpx2.AsyncClient, image_bytes: bytes
) -> None:
    assert (await upload(client, b"text")).status_code == 400
    assert (await client.post("/v2/uploads", files={"image": ("a.png", image_bytes)})).status_code == 400
    assert (await client.post("/v2/uploads", json={"file": "a.png"})).status_code == 400
    assert (await upload(client, bytes(25_000_001))).status_code == 400
    url = "http://127.0.0.1:7000/image.png"
    for body in (
        edit("https://example.com/image.png"),
        edit(url, "Zoom out 3x"),
        edit(url, mode="fill"),
        edit(url, steps=3),
        {"model": "midjourney", "fluxFillParams": edit(url)["fluxFillParams"]},
    ):
        assert (await client.post("/v2/images/edit", json=body)).status_code == 400
    assert (await client.post("/v2/images/edit", json=edit(url))).status_code == 202
    assert sandbox.order_count("apiframe", "outpaint") == 1


async def test_text_gives_a_grid(sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock) -> None:
    body = {"model": "midjourney", "prompt": "a lake", "midjourneyParams": {"aspect_ratio": "16:9"}}
    job_id = (await client.post("/v2/images/generate", json=body)).json()["jobId"]
    clock.advance(2)
    done = await job(client, job_id)
    assert done["creditCost"] == 10
    assert len(done["result"]["images"]) == 4
    for wrong in (body | {"prompt": ""}, body | {"prompt": "a" * 2001}, body | {"model": "flux"}):
        assert (await client.post("/v2/images/generate", json=wrong)).status_code == 400


async def test_images_expire_after_a_day_and_the_older_answers_can_be_asked_for(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    job_id = (await client.post(ACTION, json=outpaint())).json()["jobId"]
    clock.advance(2)
    done = await job(client, job_id)
    image = done["result"]["images"][0]
    sandbox.faults.add(Fault(vendor="apiframe", on="poll", fault="bare_string"))
    assert (await job(client, job_id))["result"] == image
    assert (await client.get(image)).status_code == 200
    clock.advance(24 * 3600 + 1)
    assert (await job(client, job_id))["expired"] is True
    assert (await client.get(image)).status_code == 404
