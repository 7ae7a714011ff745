"""The sandbox as a whole: what it shows of itself, what it remembers, and how little that takes."""

import json
from collections.abc import Callable

import httpx2
import pytest

from outpaint_mcp.sandbox import (
    SEEDS,
    VENDORS,
    ManualClock,
    PlainPainter,
    Sandbox,
    SandboxSettings,
    environment,
    seed_id,
)
from outpaint_mcp.sandbox.faults import FAULT_DESCRIPTIONS
from outpaint_mcp.sandbox.loopback import is_loopback

Connect = Callable[..., httpx2.AsyncClient]
ORIGIN = "http://127.0.0.1:9"


async def test_the_front_page_names_vendors_keys_seeds_and_faults(sandbox: Sandbox, connect: Connect) -> None:
    front = (await connect(sandbox, "piapi").get(f"{ORIGIN}/")).json()
    assert list(front["vendors"]) == list(VENDORS)
    for name, vendor in front["vendors"].items():
        assert vendor["base_url"] == f"{ORIGIN}/{name}"
        assert vendor["api_key"] == sandbox.vendors[name].key
        assert {seed["task_id"] for seed in vendor["seeds"]} == {seed.id for seed in SEEDS if seed.vendor == name}
    assert front["faults"] == FAULT_DESCRIPTIONS
    assert front["environment"] == environment(ORIGIN)


def test_the_environment_points_every_vendor_at_the_sandbox() -> None:
    variables = environment("http://127.0.0.1:8765")
    assert variables["LEGNEXT_BASE_URL"] == "http://127.0.0.1:8765/legnext"
    assert variables["APIFRAME_API_KEY"].startswith("afk_")
    assert variables["OUTPAINT_ALLOW_PRIVATE_URLS"] == "true"
    assert len(variables) == sum(1 + bool(vendor.key) for vendor in VENDORS.values()) + 2


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if not seed.foreign], ids=lambda seed: seed.id)
async def test_every_seeds_images_are_there(
    sandbox: Sandbox, connect: Connect, size_of: Callable[[httpx2.Response], tuple[int, int]], seed: object
) -> None:
    (found,) = (known for known in SEEDS if known is seed)
    client = connect(sandbox, found.vendor)
    numbers = range(4) if found.is_grid else range(1)
    images = [await client.get(f"{ORIGIN}/images/{found.vendor}/{found.id}/{number}.png") for number in numbers]
    assert {size_of(image) for image in images} == {(256, 256)}
    assert len({image.content for image in images}) == len(images)
    grid = await client.get(f"{ORIGIN}/images/{found.vendor}/{found.id}/grid.png")
    assert size_of(grid) == ((512, 512) if found.is_grid else (256, 256))


async def test_images_that_are_not_there_are_404(sandbox: Sandbox, connect: Connect) -> None:
    client = connect(sandbox, "legnext")
    body = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 2}
    unfinished = (await client.post("/v1/outpaint", json=body)).json()["job_id"]
    single = seed_id("legnext", grid=False)
    for path in (
        f"legnext/{unfinished}/0.png",
        f"legnext/{single}/1.png",
        f"legnext/{single}/-1.png",
        f"legnext/{single}/01.png",
        f"legnext/{single}/.png",
        f"legnext/{single}/upload.png",
        "legnext/nobody/0.png",
        f"apimart/{single}/0.png",
        f"apiframe/{single}/upload.png",
        "nobody/nobody/0.png",
    ):
        assert (await client.get(f"{ORIGIN}/images/{path}")).status_code == 404


async def test_orders_and_requests_are_remembered(sandbox: Sandbox, connect: Connect) -> None:
    client = connect(sandbox, "legnext")
    body = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 2}
    job_id = (await client.post("/v1/outpaint", json=body)).json()["job_id"]
    await client.post("/v1/outpaint", json=body | {"scale": 9})
    await client.get(f"/v1/job/{job_id}?a=1")
    orders = (await client.get(f"{ORIGIN}/control/orders")).json()
    assert {kind: orders["legnext"][kind] for kind in ("outpaint", "upscale", "imagine")} == {
        "outpaint": 1,
        "upscale": 0,
        "imagine": 0,
    }
    assert [(order["id"], order["path"], order["body"]) for order in orders["legnext"]["orders"]] == [
        (job_id, "/legnext/v1/outpaint", body)
    ]
    assert orders["piapi"]["orders"] == []
    requests = (await client.get(f"{ORIGIN}/control/requests")).json()["requests"]
    assert [(request["action"], request["status"], request["auth"]) for request in requests] == [
        ("submit", 200, "right"),
        ("submit", 400, "right"),
        ("poll", 200, "right"),
    ]
    assert requests[2]["query"] == "a=1"
    assert sandbox.vendors["legnext"].key not in json.dumps(requests)
    assert (await client.get(f"{ORIGIN}/control/webhooks")).json() == {"webhooks": []}


async def test_what_is_remembered_is_bounded_and_the_counts_stay_right(clock: ManualClock, connect: Connect) -> None:
    sandbox = Sandbox(SandboxSettings(clock=clock, max_tasks=10, max_requests=7, legnext_concurrency=None))
    client = connect(sandbox, "legnext")
    body = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 2}
    ids = [(await client.post("/v1/outpaint", json=body)).json()["job_id"] for _ in range(25)]
    assert sandbox.order_count("legnext", "outpaint") == 25
    assert [order.id for order in sandbox.orders("legnext", "outpaint")] == ids[-7:]
    assert len(sandbox.requests()) == 7
    assert (await client.get(f"/v1/job/{ids[14]}")).status_code == 404
    assert (await client.get(f"/v1/job/{ids[15]}")).status_code == 200
    assert (await client.get(f"/v1/job/{seed_id('legnext', grid=True)}")).status_code == 200


async def test_two_sandboxes_share_nothing(settings: SandboxSettings, connect: Connect) -> None:
    one, other = Sandbox(settings), Sandbox(settings)
    body = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 2}
    job_id = (await connect(one, "legnext").post("/v1/outpaint", json=body)).json()["job_id"]
    assert (await connect(other, "legnext").get(f"/v1/job/{job_id}")).status_code == 404
    assert other.orders() == ()


async def test_equal_orders_are_drawn_once(clock: ManualClock, connect: Connect) -> None:
    sandbox = Sandbox(SandboxSettings(clock=clock, seconds_per_state=0, painter=PlainPainter()))
    client = connect(sandbox, "legnext")
    body = {"jobId": seed_id("legnext", grid=True), "imageNo": 0, "scale": 2}
    jobs = [(await client.post("/v1/outpaint", json=body)).json() for _ in range(20)]
    assert sandbox.image_store.drawn == 0
    assert {job["status"] for job in jobs} == {"completed"}
    images = {(await client.get(job["output"]["image_urls"][0])).content for job in jobs}
    assert len(images) == 1
    # The parent and its outpaint.
    assert sandbox.image_store.drawn == 2
    sandbox.close()


async def test_too_large_a_request_is_rejected(sandbox: Sandbox, connect: Connect) -> None:
    answer = await connect(sandbox, "apiframe").post("/v2/uploads", content=bytes(35_000_001))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1/a", True),
        ("https://127.8.9.10:444/a", True),
        ("http://[::1]:80/a", True),
        ("http://localhost:9", True),
        ("http://example.com", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1", False),
        ("http://169.254.169.254", False),
        ("ftp://127.0.0.1", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_literal_loopback_hosts_are_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
