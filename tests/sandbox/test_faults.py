"""What the sandbox does wrong when it is told to, and what it counts meanwhile."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from outpaint_mcp.sandbox import VENDORS, Fault, ManualClock, PlainPainter, Sandbox, SandboxSettings, seed_id
from outpaint_mcp.sandbox.faults import FAULT_DESCRIPTIONS

SINGLE = {name: seed_id(name, grid=False) for name, vendor in VENDORS.items() if vendor.seeds}
GRID = {vendor: seed_id(vendor, grid=True) for vendor in SINGLE}
VTRIX_GRID_JOB = "5eed0002-0000-4000-8000-000000000001"

# An accepted order and a poll of every vendor.
OUTPAINT: dict[str, tuple[str, dict[str, Any]]] = {
    "piapi": ("/mj/v2/outpaint", {"origin_task_id": SINGLE["piapi"], "zoom_ratio": "2"}),
    "vtrix": (
        "/model/v1/generation",
        {
            "model": "midjourney_outpaint",
            "input": [{"params": {"jobId": VTRIX_GRID_JOB, "imageNo": 0, "scale": 2}}],
        },
    ),
    "apiframe": (
        "/v2/images/midjourney/action",
        {"parentJobId": SINGLE["apiframe"], "action": "outpaint", "zoomRatio": 2},
    ),
    "apimart": ("/v1/midjourney/generations/zoom", {"task_id": SINGLE["apimart"]}),
    "legnext": ("/v1/outpaint", {"jobId": GRID["legnext"], "imageNo": 0, "scale": 2}),
}
POLL = {
    "piapi": f"/api/v1/task/{GRID['piapi']}",
    "vtrix": f"/model/v1/generation/task/{GRID['vtrix']}",
    "apiframe": f"/v2/jobs/{GRID['apiframe']}",
    "apimart": f"/v1/midjourney/{GRID['apimart']}",
    "legnext": f"/v1/job/{GRID['legnext']}",
}

Connect = Callable[..., httpx2.AsyncClient]


async def order(client: httpx2.AsyncClient, vendor: str) -> httpx2.Response:
    path, body = OUTPAINT[vendor]
    return await client.post(path, json=body)


@pytest.mark.parametrize("vendor", OUTPAINT)
@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("kind", ["status", "drop", "html", "slow"])
async def test_the_order_counts_only_where_it_was_accepted(
    sandbox: Sandbox, connect: Connect, vendor: Any, accepted: bool, kind: Any
) -> None:
    client = connect(sandbox, vendor)
    fault = Fault(vendor=vendor, on="submit", fault=kind, accepted=accepted, status=503, retry_after=7, seconds=0)
    sandbox.faults.add(fault)
    if kind == "drop":
        with pytest.raises(httpx2.RemoteProtocolError):
            await order(client, vendor)
    else:
        answer = await order(client, vendor)
        if kind == "slow":
            assert answer.is_success
        else:
            assert answer.status_code == 503
        if kind == "status":
            assert answer.headers["retry-after"] == "7"
            assert answer.json()
        if kind == "html":
            assert answer.headers["content-type"].startswith("text/html")
    assert sandbox.order_count(vendor, "outpaint") == (1 if accepted or kind == "slow" else 0)
    # Used up: the next order meets nothing.
    assert (await order(client, vendor)).is_success
    assert [received.fault for received in sandbox.requests(vendor)] == [kind, None]


@pytest.mark.parametrize("vendor", OUTPAINT)
async def test_answers_can_be_garbled_in_every_way(sandbox: Sandbox, connect: Connect, vendor: Any) -> None:
    client = connect(sandbox, vendor)
    true = (await client.get(POLL[vendor])).text
    sandbox.faults.add(Fault(vendor=vendor, on="poll", fault="truncated_json"))
    assert (await client.get(POLL[vendor])).text == true[: len(true) // 2]
    sandbox.faults.add(Fault(vendor=vendor, on="poll", fault="unknown_status", word="PONDERING"))
    assert '"PONDERING"' in (await client.get(POLL[vendor])).text
    sandbox.faults.add(Fault(vendor=vendor, on="poll", fault="capitalised"))
    assert '"Success"' in (odd := (await client.get(POLL[vendor])).text) or '"Completed"' in odd
    sandbox.faults.add(Fault(vendor=vendor, on="poll", fault="bare_string"))
    bare = (await client.get(POLL[vendor])).json()
    # Vtrix has no list of URLs that could be a string.
    assert (bare == json.loads(true)) is (vendor == "vtrix")
    assert (await client.get(POLL[vendor])).text == true


@pytest.mark.parametrize("vendor", OUTPAINT)
async def test_images_can_be_gone_or_broken(sandbox: Sandbox, connect: Connect, vendor: Any) -> None:
    client = connect(sandbox, vendor)
    url = f"http://127.0.0.1:9/images/{vendor}/{GRID[vendor]}/0.png"
    sandbox.faults.add(Fault(vendor=vendor, on="image", fault="gone", times=2))
    sandbox.faults.add(Fault(vendor=vendor, on="image", fault="html", status=200))
    sandbox.faults.add(Fault(vendor=vendor, on="image", fault="drop"))
    assert [(await client.get(url)).status_code for _ in range(3)] == [404, 404, 200]
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get(url)
    assert (await client.get(url)).headers["content-type"] == "image/png"


async def test_a_fault_waits_for_its_vendor_and_its_kind_of_request(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.faults.add(Fault(vendor="legnext", on="upscale", fault="status", status=500))
    assert (await order(connect(sandbox, "legnext"), "legnext")).is_success
    assert (await order(connect(sandbox, "apimart"), "apimart")).is_success
    body = {"jobId": GRID["legnext"], "imageNo": 0, "type": 0}
    assert (await connect(sandbox, "legnext").post("/v1/upscale", json=body)).status_code == 500


async def test_a_fault_for_any_vendor_goes_on_until_it_is_cleared(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.faults.add(Fault(on="poll", fault="status", status=429, times=None))
    for vendor in POLL:
        assert (await connect(sandbox, vendor).get(POLL[vendor])).status_code == 429
    sandbox.faults.clear()
    assert (await connect(sandbox, "piapi").get(POLL["piapi"])).status_code == 200


async def test_slow_waits_as_long_as_it_was_told(clock: ManualClock, connect: Connect) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    sandbox = Sandbox(SandboxSettings(clock=clock, sleep=note, painter=PlainPainter()))
    for accepted in (False, True):
        sandbox.faults.add(Fault(on="submit", fault="slow", seconds=31, accepted=accepted))
        assert (await order(connect(sandbox, "piapi"), "piapi")).is_success
    assert waited == [31, 31]


@pytest.mark.parametrize("vendor", OUTPAINT)
async def test_a_status_fault_speaks_in_the_vendors_shape(sandbox: Sandbox, connect: Connect, vendor: Any) -> None:
    sandbox.faults.add(Fault(vendor=vendor, on="submit", fault="status", status=429, message="too many"))
    answer = await order(connect(sandbox, vendor), vendor)
    assert answer.status_code == 429
    assert "too many" in answer.text
    assert "status" not in answer.json()


async def test_faults_are_set_and_cleared_through_the_control_endpoint(sandbox: Sandbox, connect: Connect) -> None:
    client = connect(sandbox, "legnext")
    control = "http://127.0.0.1:9/control/faults"
    added = await client.post(control, json={"vendor": "legnext", "on": "submit", "fault": "status", "status": 500})
    assert added.status_code == 201
    assert (await client.get(control)).json()["faults"][0]["left"] == 1
    assert (await order(client, "legnext")).status_code == 500
    await client.post(control, json={"on": "submit", "fault": "drop", "times": None})
    assert (await client.delete(control)).status_code == 204
    assert (await order(client, "legnext")).status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"on": "submit", "fault": "sulk"},
        {"on": "lunch", "fault": "drop"},
        {"on": "poll", "fault": "fail"},
        {"on": "submit", "fault": "job_shaped_refusal", "vendor": "apimart"},
        {"on": "submit", "fault": "refused_in_200"},
        {"on": "submit", "fault": "drop", "times": 0},
        {"on": "submit", "fault": "drop", "often": 2},
        {"vendor": "midjourney", "on": "submit", "fault": "drop"},
    ],
)
async def test_a_fault_that_makes_no_sense_is_rejected(
    sandbox: Sandbox, connect: Connect, fault: dict[str, Any]
) -> None:
    client = connect(sandbox, "piapi")
    assert (await client.post("http://127.0.0.1:9/control/faults", json=fault)).status_code == 422
    assert sandbox.faults.list() == ()


async def test_a_fault_is_taken_as_json_only(sandbox: Sandbox, connect: Connect) -> None:
    content = b'{"on": "submit", "fault": "drop"}'
    answer = await connect(sandbox, "piapi").post("http://127.0.0.1:9/control/faults", content=content)
    assert answer.status_code == 415


def test_every_vendor_is_tried_with_the_faults() -> None:
    assert set(OUTPAINT) == set(POLL) == set(SINGLE), "those without tasks are tried through the service"


def test_every_fault_is_explained() -> None:
    kinds = Fault.model_json_schema()["properties"]["fault"]["enum"]
    assert list(FAULT_DESCRIPTIONS) == kinds
