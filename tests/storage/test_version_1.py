"""A store that the version before one `Order` wrote (September 2026): its orders are read, recognised and finished.

`version_1.db` was made by that version's own code over a fake wire: an order for a task's image at Legnext, one in two
steps at Apiframe whose upscale is under way, one for your own image at Legnext, and two that were never sent.
"""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import CLAIM_SECONDS
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.storage.sqlite.schema import MIGRATIONS
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import Service

from ..counting import MovedClock, running, service_over, take_due

TASK = "op-K1DTbHS96HOfrFGhjHyMHw"
TWO_STEPS = "op-QnkJK36iE_RNTQaozDrQlg"
IMAGE = "op-7cAz9spcjxDTv0lmZUcXRA"
UNSENT = "op-ynq5l4LnyjmUgUIS193FuQ"
UPSCALE, OUTPAINT = "00000002-0000-4000-8000-000000000000", "00000003-0000-4000-8000-000000000000"


class Vendors:
    """Legnext and Apiframe, which finish whatever they are asked about."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, dict[str, Any]]] = []

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "POST":
            self.orders.append((path, json.loads(request.content)))
            if path.startswith("/v2"):
                return httpx2.Response(200, json={"jobId": OUTPAINT, "status": "QUEUED"})
            return httpx2.Response(200, json={"job_id": "new", "status": "pending"})
        images = [f"http://127.0.0.1:9/{at}.png" for at in range(4)]
        name = path.rpartition("/")[2]
        if path.startswith("/v2"):
            return httpx2.Response(200, json={"status": "COMPLETED", "result": {"images": images[:1]}})
        return httpx2.Response(200, json={"job_id": name, "status": "completed", "output": {"image_urls": images}})


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).with_name("version_1.db"), tmp_path / "store.db")
    return tmp_path


def service_at(folder: Path, clock: MovedClock, vendors: Vendors) -> Service:
    client = HttpClient(transport=httpx2.MockTransport(vendors.handle))
    return service_over(folder, Legnext(client, key="key"), Apiframe(client, key="key"), clock=clock)


@pytest.mark.parametrize("task_id", [TASK, IMAGE])
async def test_an_order_under_way_is_polled_and_finished(folder: Path, clock: MovedClock, task_id: str) -> None:
    vendors = Vendors()
    async with running(service_at(folder, clock, vendors), clock) as service:
        before = await service.get_task(task_id)
        assert (before.status, [step.status for step in before.steps]) == (Status.QUEUED, [Status.QUEUED])
        await clock.move(30)
        done = await service.get_task(task_id)
    assert done.status is Status.SUCCEEDED
    assert len(done.images) == 4
    assert [step.status for step in done.steps] == [Status.SUCCEEDED]
    assert all(path.startswith("/v2") for path, _ in vendors.orders), "nothing is ordered again at Legnext"


async def test_the_second_step_of_an_order_is_sent_from_what_was_stored(folder: Path, clock: MovedClock) -> None:
    vendors = Vendors()
    async with running(service_at(folder, clock, vendors), clock) as service:
        before = await service.get_task(TWO_STEPS)
        assert [(step.name, step.remote_id) for step in before.steps] == [("upscale", UPSCALE), ("outpaint", None)]
        await clock.move(40)
        done = await service.get_task(TWO_STEPS)
    assert done.status is Status.SUCCEEDED
    assert vendors.orders == [
        ("/v2/images/midjourney/action", {"parentJobId": UPSCALE, "action": "outpaint", "zoomRatio": 1.5})
    ]
    assert any("webhook was lost" in note for note in done.notes)


async def test_the_same_call_made_again_after_the_update_gives_the_same_task(folder: Path, clock: MovedClock) -> None:
    vendors = Vendors()
    again = OutpaintRequest(
        task_id="grid-1",
        provider="legnext",
        image_index=2,
        zoom=1.5,
        prompt="a hall",
        provider_options={"metadata": "another"},
    )
    async with running(service_at(folder, clock, vendors), clock) as service:
        assert (await service.outpaint(again)).id == TASK
    assert vendors.orders == []


RENEWAL = "INSERT INTO owners (owner, alive_until) VALUES (?1, ?2) ON CONFLICT (owner) DO UPDATE SET alive_until = ?2"
"""With what that version begins everything that may place an order."""


async def test_a_process_of_that_version_that_still_runs_can_place_no_order_after_the_update(
    folder: Path, clock: MovedClock
) -> None:
    old = sqlite3.connect(folder / "store.db", isolation_level=None)
    old.execute(RENEWAL, ("old", clock.now() + CLAIM_SECONDS))
    old.execute("UPDATE tasks SET owner = 'old'")
    async with running(service_at(folder, clock, Vendors()), clock) as service:
        assert (await service.get_task(TASK)).status is Status.QUEUED
        with pytest.raises(sqlite3.IntegrityError, match="this server must be restarted"):
            old.execute(RENEWAL, ("old", clock.now() + CLAIM_SECONDS))
        old.close()
        clock.leave(service)
        await clock.move(2 * CLAIM_SECONDS)
        assert TASK in (await take_due(service)).ids, "its tasks are taken over"


async def test_a_process_that_was_open_before_the_next_update_orders_nothing(folder: Path, clock: MovedClock) -> None:
    vendors = Vendors()
    async with running(service_at(folder, clock, vendors), clock) as service:
        newer = SqliteStore(folder / "store.db", "newer", migrations=(*MIGRATIONS, "CREATE TABLE more (id TEXT)"))
        await newer.check()
        with pytest.raises(ConfigurationError, match=r"newer outpaint-mcp .*restart it"):
            await service.outpaint(OutpaintRequest(task_id="grid-1", provider="legnext", image_index=4, zoom=2.0))
        await newer.aclose()
    assert vendors.orders == []


async def test_an_order_that_was_never_sent_is_sent_by_the_same_call(folder: Path, clock: MovedClock) -> None:
    vendors = Vendors()
    same = OutpaintRequest(task_id="grid-1", provider="legnext", image_index=1, zoom=2.0)
    async with running(service_at(folder, clock, vendors), clock) as service:
        assert (await service.outpaint(same)).id == UNSENT
    assert vendors.orders == [("/api/v1/outpaint", {"jobId": "grid-1", "imageNo": 0, "scale": 2.0})]


async def test_the_frame_of_an_older_order_is_worked_out(folder: Path) -> None:
    store = SqliteStore(folder / "store.db", "new")
    record = await store.get(IMAGE)
    await store.aclose()
    assert record is not None
    assert record.order is not None
    assert record.order.frame == Frame(1707, 960, 353, 80, 1000, 800)
    assert isinstance(record.order.source, InputImage)
    assert (record.order.source.path, record.order.source.url) == ("", None)
    assert record.identity == record.order.identity("local"), "an older version's has been replaced"
    assert Order.from_stored(record.order.to_stored(), provider="legnext") == record.order
