"""Vtrix in the sandbox, held against its page."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import SEEDS, Fault, ManualClock, Sandbox, SandboxSettings, seed_id

GRID = seed_id("vtrix", grid=True)
GRID_JOB, SINGLE_JOB = (seed.remote_id for seed in SEEDS if seed.vendor == "vtrix" and seed.remote_id)
(PLAIN,) = (seed.id for seed in SEEDS if seed.vendor == "vtrix" and not seed.remote_id)


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "vtrix")


def generation(model: str, **params: Any) -> dict[str, Any]:
    return {"model": f"midjourney_{model}", "input": [{"params": params}]}


def outpaint(**params: Any) -> dict[str, Any]:
    return generation("outpaint", **{"jobId": GRID_JOB, "imageNo": 0, "scale": 1.5} | params)


async def order(client: httpx2.AsyncClient, body: dict[str, Any]) -> httpx2.Response:
    return await client.post("/model/v1/generation", json=body)


async def task(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await client.get(f"/model/v1/generation/task/{task_id}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_an_outpaint_of_a_grids_image_ends_with_four_images_and_a_job_id(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    submitted = (await order(client, outpaint(imageNo=3, scale=1.25, remixPrompt="a lake"))).json()
    assert submitted["status"] == "in_progress"
    assert submitted["model"] == "midjourney_outpaint"
    seen = []
    for _ in range(4):
        seen.append((await task(client, submitted["id"]))["status"])
        clock.advance(1)
    assert seen == ["pending", "processing", "in_progress", "completed"]
    done = await task(client, submitted["id"])
    assert done["progress"] == 1.0
    assert done["usage"] == {"cost": "0.0357", "discount": 0.7}
    assert done["error"] is None
    content = done["output"][0]["content"]
    assert [item["type"] for item in content] == ["image"] * 4
    (job_id,) = {item["jobId"] for item in content}
    assert job_id != submitted["id"]
    assert size_of(await client.get(content[0]["url"])) == (320, 320)
    # Only the id in the output goes on from here.
    assert (await order(client, outpaint(jobId=submitted["id"]))).status_code == 400
    assert (await order(client, outpaint(jobId=job_id))).status_code == 200


async def test_a_task_without_a_job_id_in_its_output_goes_by_its_own_id(client: httpx2.AsyncClient) -> None:
    content = (await task(client, PLAIN))["output"][0]["content"]
    assert all("jobId" not in item for item in content)
    assert (await order(client, outpaint(jobId=PLAIN))).status_code == 200


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"imageNo": 4}, 4007003),
        ({"imageNo": "0"}, 4007003),
        ({"imageNo": 1.0}, 4007003),
        ({"imageNo": True}, 4007003),
        ({"scale": 1.0}, 4007005),
        ({"scale": 2.01}, 4007005),
        ({"scale": "2"}, 4007005),
        ({"callback": "ftp://example.com"}, 4007006),
        ({"callback": ""}, 4007006),
        ({"jobId": "nobody"}, 4007001),
        ({"jobId": GRID}, 4007001),
        ({"jobId": SINGLE_JOB, "imageNo": 1}, 4007003),
        ({"remixPrompt": ""}, 400),
        ({"remixPrompt": "a" * 8193}, 400),
        ({"remix_prompt": "a lake"}, 400),
    ],
)
async def test_a_bad_parameter_is_rejected_with_the_code_of_the_page(
    sandbox: Sandbox, client: httpx2.AsyncClient, params: dict[str, Any], code: int
) -> None:
    answer = await order(client, outpaint(**params))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["error_message"]
    assert sandbox.order_count("vtrix", "outpaint") == 0


@pytest.mark.parametrize(("missing", "code"), [("jobId", 4007001), ("imageNo", 4007002), ("scale", 4007004)])
async def test_a_missing_parameter_has_a_code_too(client: httpx2.AsyncClient, missing: str, code: int) -> None:
    body = outpaint()
    del body["input"][0]["params"][missing]
    assert (await order(client, body)).json()["error"]["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        {"model": "midjourney_outpaint", "jobId": GRID_JOB, "imageNo": 0, "scale": 2},
        {"model": "midjourney_outpaint", "input": []},
        {"model": "midjourney_outpaint", "input": [{"params": {}}, {"params": {}}]},
        {"model": "midjourney_pan", "input": [{"params": {}}]},
        {"model": "midjourney_outpaint", "input": [{"jobId": GRID_JOB, "imageNo": 0, "scale": 2}]},
    ],
)
async def test_the_parameters_must_be_wrapped_as_the_sdk_does(client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    assert (await order(client, body)).status_code == 400


async def test_wrong_keys_are_401_and_empty_accounts_403(
    sandbox: Sandbox, settings: SandboxSettings, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    bare = connect(sandbox, "vtrix", sandbox.vendors["vtrix"].key)
    rejected = await order(bare, outpaint())
    assert (rejected.status_code, list(rejected.json())) == (401, ["message"])
    poor = Sandbox(SandboxSettings(clock=settings.clock, balance=0.01))
    answer = await order(connect(poor, "vtrix"), outpaint())
    assert answer.status_code == 403
    assert 40201 <= answer.json()["status"]["error_code"] <= 40208


async def test_text_gives_a_grid_and_an_upscale_a_single_image(
    sandbox: Sandbox,
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    grid = (await order(client, generation("diffusion", text="a lake"))).json()["id"]
    clock.advance(3)
    content = (await task(client, grid))["output"][0]["content"]
    assert len(content) == 4
    upscale = generation("upscale", jobId=content[0]["jobId"], imageNo=1, type=2)
    single = (await order(client, upscale)).json()["id"]
    clock.advance(3)
    (image,) = (await task(client, single))["output"][0]["content"]
    assert size_of(await client.get(image["url"])) == (512, 512)
    assert (sandbox.order_count("vtrix", "imagine"), sandbox.order_count("vtrix", "upscale")) == (1, 1)
    assert (await order(client, generation("upscale", jobId=GRID_JOB, imageNo=1, type=4))).status_code == 400
    assert (await order(client, generation("diffusion", text=""))).status_code == 400


def paint(**changes: Any) -> dict[str, Any]:
    area = {"width": 600, "height": 500, "points": [0, 0, 600, 0, 600, 100, 0, 100]}
    params = {
        "imgUrl": "http://127.0.0.1:7000/image.png",
        "canvas": {"width": 600, "height": 500},
        "imgPos": {"x": 150, "y": 125, "width": 300, "height": 200},
        "mask": {"areas": [area]},
        "remixPrompt": "a lake",
    }
    return generation("uploadpaint", **params | changes)


async def test_the_clients_own_image_is_laid_on_the_canvas(
    sandbox: Sandbox,
    client: httpx2.AsyncClient,
    clock: ManualClock,
    size_of: Callable[[httpx2.Response], tuple[int, int]],
) -> None:
    submitted = await order(client, paint())
    assert submitted.status_code == 200
    clock.advance(3)
    content = (await task(client, submitted.json()["id"]))["output"][0]["content"]
    assert size_of(await client.get(content[2]["url"])) == (600, 500)
    assert sandbox.order_count("vtrix", "outpaint") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"imgUrl": "https://example.com/image.png"},
        {"imgUrl": "http://127.0.0.1:7000/text"},
        {"imgUrl": "http://127.0.0.1:7000/refuses"},
        {"imgUrl": f"http://127.0.0.1:7000/{'a' * 1024}"},
        {"remixPrompt": ""},
        {"imgPos": {"x": 301, "y": 0, "width": 300, "height": 200}},
        {"imgPos": {"x": 0, "y": 0, "width": 300.5, "height": 200}},
        {"canvas": {"width": 600}},
        {"mask": {}},
        {"mask": {"areas": []}},
        {"mask": {"areas": [{"width": 499, "height": 500, "points": [0, 0, 1, 0, 1, 1]}]}},
        {"mask": {"areas": [{"width": 500, "height": 4097, "points": [0, 0, 1, 0, 1, 1]}]}},
        {"mask": {"areas": [{"width": 500, "height": 500, "points": [0, 0, 1, 0]}]}},
        {"mask": {"areas": [{"width": 500, "height": 500, "points": [0, 0, 1, 0, 1, 1, 2]}]}},
        {"mask": {"areas": [{"width": 500, "height": 500, "points": [0, 0, 501, 0, 1, 1]}]}},
        {"mask": {"areas": [{"width": 500, "height": 500, "points": [0, 0, 1, 0, 1, 1]}], "url": "https://a.b/c"}},
    ],
)
async def test_a_bad_upload_paint_is_rejected(
    sandbox: Sandbox, client: httpx2.AsyncClient, changes: dict[str, Any]
) -> None:
    answer = await order(client, paint(**changes))
    assert answer.status_code == 400
    assert sandbox.order_count("vtrix", "outpaint") == 0


async def test_an_unknown_task_is_404_in_the_vendors_shape(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/model/v1/generation/task/nobody")
    assert answer.status_code == 404
    assert answer.json() == {"error": "task not found"}


async def test_the_callback_gets_the_task(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    task_id = (await order(client, outpaint(callback="http://127.0.0.1:8000/hook"))).json()["id"]
    clock.advance(3)
    await sandbox.webhooks.deliver()
    (request,) = outgoing
    assert json.loads(request.content) == await task(client, task_id)


async def test_a_failed_task_has_the_pages_code(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    sandbox.faults.add(Fault(vendor="vtrix", on="submit", fault="fail", times=2))
    sandbox.faults.add(Fault(vendor="vtrix", on="submit", fault="fail", code=4007099, message="service unavailable"))
    ids = [(await order(client, outpaint())).json()["id"] for _ in range(3)]
    clock.advance(3)
    failed = [await task(client, task_id) for task_id in ids]
    assert [body["status"] for body in failed] == ["failed"] * 3
    assert [body["error"]["code"] for body in failed] == [4007098, 4007098, 4007099]
    assert failed[0]["usage"]["cost"] == "0"
    sandbox.faults.add(Fault(vendor="vtrix", on="poll", fault="bare_string"))
    assert (await task(client, ids[2]))["error"] == "service unavailable"


async def test_a_rejection_without_an_id_under_200_can_be_asked_for(
    sandbox: Sandbox, client: httpx2.AsyncClient
) -> None:
    sandbox.faults.add(Fault(vendor="vtrix", on="submit", fault="refused_in_200", message="no"))
    answer = await order(client, outpaint())
    assert answer.status_code == 200
    assert answer.json() == {"error": {"code": 4007098, "error_message": "no"}}
