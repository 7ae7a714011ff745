"""Orders whose answer was lost, or that were never sent, when much time has gone by: still nothing is paid twice."""

import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.clock import BOOT_ID, SystemClock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    KeyConflictError,
    OrderUnconfirmedError,
    ProviderUnavailableError,
    UnknownTaskError,
)
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.task import Cost, Status, TaskUpdate
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import OnProgress, Service

from ..counting import (
    GRID,
    SINGLE,
    START,
    CountingProvider,
    IdempotentProvider,
    MovedClock,
    UpscalingProvider,
    raising,
    refusal,
    running,
    service_over,
)
from .test_orders import final, request

HOUR = 3600.0
NOT_KNOWN = "Whether counting took the order is not known."


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def losing(vendor: CountingProvider) -> None:
    vendor.after_start = raising(OrderUnconfirmedError("The answer was lost."), times=10_000)


async def test_a_lost_order_is_not_asked_for_again_when_the_vendor_may_have_forgotten_its_key(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = IdempotentProvider()
    losing(vendor)
    asked_at: list[float] = []
    vendor.before_start = lambda order: asked_at.append(clock.now() - START)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        assert "sent again" in task.next
        await clock.move(30 * HOUR)
        lost = await service.get_task(task.id)
    assert 22 * HOUR < asked_at[-1] < 23 * HOUR
    assert lost.status is Status.UNKNOWN
    assert lost.next.startswith(NOT_KNOWN)
    assert lost.failure is not None
    assert "key" in lost.failure.message


async def test_a_lost_order_from_the_future_is_not_asked_for_again(tmp_path: Path, clock: MovedClock) -> None:
    vendor = IdempotentProvider()
    losing(vendor)
    clock.ahead = 24 * HOUR
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
    clock.ahead = 0
    await clock.move(23.5 * HOUR)
    sent: list[Order] = []
    vendor.before_start = sent.append
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        await clock.move(HOUR)
        assert (await service.get_task(task.id)).status is Status.UNKNOWN
    assert sent == [], "the vendor may have forgotten the key: its age is not known"


async def test_a_lost_order_is_as_old_as_it_is_though_the_clock_was_set_back(tmp_path: Path, clock: MovedClock) -> None:
    vendor = IdempotentProvider()
    losing(vendor)
    asked_at: list[float] = []
    vendor.before_start = lambda _: asked_at.append(clock.monotonic())
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        await service.outpaint(request())
        await clock.move(12 * HOUR)
        clock.ahead = -10 * HOUR
        await clock.move(30 * HOUR)
    assert 22 * HOUR < asked_at[-1] - asked_at[0] < 23 * HOUR


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
@pytest.mark.parametrize(("hours", "ahead"), [(0.1, 0), (0.1, -1), (12, 0), (24.1, 24), (24.1, 0), (400, 400)])
async def test_an_order_that_a_dead_process_left_is_asked_for_again_only_while_its_age_is_certain(
    tmp_path: Path, clock: MovedClock, hours: float, ahead: float, boot: str
) -> None:
    vendor = IdempotentProvider()
    losing(vendor)
    # It dies while it sends the order, with a clock that is so far ahead, and nobody runs for so long.
    clock.ahead = ahead * HOUR
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
    clock.ahead = 0
    await clock.move(hours * HOUR)
    clock.boot = boot
    sent: list[Order] = []
    vendor.before_start, vendor.after_start = sent.append, lambda _: None
    async with running(service_over(tmp_path, vendor, owner="two", clock=clock), clock) as service:
        await clock.move(600)
        found = await service.get_task(task.id)
    if boot == "boot-1" and hours < 23:
        assert len(sent) == 1, "its key is remembered"
        assert found.remote_id == "r-0"
    else:
        assert sent == [], "the vendor may have forgotten the key"
        assert (found.status, found.next[: len(NOT_KNOWN)]) == (Status.UNKNOWN, NOT_KNOWN)
        assert found.failure is not None
        assert "not sent again" in found.failure.message


@pytest.mark.skipif(not BOOT_ID.exists(), reason="the system names no boot")
def test_the_uptime_is_one_clock_for_all_processes() -> None:
    before = SystemClock().uptime()
    code = "from outpaint_mcp.domain.clock import *; u = SystemClock().uptime(); print(u.boot, u.seconds)"
    boot, seconds = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    after = SystemClock().uptime()
    assert before.boot == boot == after.boot
    assert before.seconds < float(seconds) < after.seconds


@pytest.mark.parametrize("answer_is_lost", [True, False])
async def test_a_lost_order_that_a_process_left_behind_is_not_sent_days_later(
    tmp_path: Path, clock: MovedClock, answer_is_lost: bool
) -> None:
    vendor = IdempotentProvider()
    if answer_is_lost:
        losing(vendor)
    store = SqliteStore(tmp_path / "store.db", "one")
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:
        task = await service.outpaint(request())
        if not answer_is_lost:
            # As a process leaves it that ends between sending the order and its answer.
            record = await store.get(task.id)
            assert record is not None
            await store._run(lambda db: db.execute("UPDATE orders SET state = 'sent', remote_id = NULL").rowcount)
    vendor.orders.clear()
    await clock.move(48 * HOUR)
    async with running(service_over(tmp_path, vendor, owner="two", clock=clock), clock) as service:
        await clock.move(2 * HOUR)
        lost = await service.get_task(task.id)
        same = await service.outpaint(request())
    assert vendor.orders == []
    assert (lost.status, same.id) == (Status.UNKNOWN, task.id)
    assert lost.next.startswith(NOT_KNOWN)


async def test_an_order_whose_key_stands_for_another_body_is_not_asked_for_again(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = IdempotentProvider()
    losing(vendor)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        asked: list[Order] = []
        vendor.before_start = asked.append
        vendor.after_start = raising(KeyConflictError("The key was used already."), times=10_000)
        await clock.move(HOUR)
        lost = await service.get_task(task.id)
    assert len(asked) == 1
    assert lost.status is Status.UNKNOWN
    assert lost.next.startswith(NOT_KNOWN)


class Dying(SqliteStore):
    """The store of a process that ends before it notes that an order is about to leave."""

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        return False


async def never_sent(tmp_path: Path, vendor: CountingProvider, clock: MovedClock, caps: DailyLimits) -> str:
    dying = service_over(tmp_path, vendor, store=Dying(tmp_path / "store.db", "one"), clock=clock, daily_limits=caps)
    async with running(dying, clock) as service:
        task = await service.outpaint(request())
    assert vendor.orders == []
    return task.id


async def test_an_order_that_was_never_sent_is_sent_by_the_same_call_within_ten_minutes_and_called_new(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    before = await never_sent(tmp_path, vendor, clock, DailyLimits(orders=1))
    await clock.move(500)
    two = service_over(tmp_path, vendor, owner="two", clock=clock, daily_limits=DailyLimits(orders=1))
    async with running(two, clock) as service:
        task = await service.outpaint(request())
    assert task.id == before
    assert len(vendor.orders) == 1
    assert not any("nothing new was ordered" in note for note in task.notes)


async def test_an_order_that_was_never_sent_and_is_old_is_released_and_the_same_call_is_an_order_of_its_day(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    before = await never_sent(tmp_path, vendor, clock, DailyLimits(orders=1))
    await clock.move(24 * HOUR)
    two = service_over(tmp_path, vendor, owner="two", clock=clock, daily_limits=DailyLimits(orders=1))
    async with two.running():
        # Before the scheduler has looked.
        task = await two.outpaint(request())
        released = await two.get_task(before)
        with pytest.raises(Exception, match="limit of 1 orders"):
            await two.outpaint(request(zoom=1.9))
    assert task.id != before
    assert task.status is Status.QUEUED
    assert released.status is Status.CANCELLED
    assert len(vendor.orders) == 1


async def test_a_repeat_that_fails_does_not_make_a_success_be_forgotten(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        first = await service.outpaint(request())
        vendor.finish("r-0")
        await final(service, clock, first)
        second = await service.outpaint(request(repeat=True))
        vendor.set("r-1", Status.FAILED)
        await final(service, clock, second)
        assert (await service.outpaint(request())).id == first.id
    assert len(vendor.orders) == 2


async def test_a_repeat_that_is_refused_does_not_make_a_lost_order_be_forgotten_but_one_that_succeeds_does(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The answer was lost."))
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        lost = await service.outpaint(request())
        vendor.before_start = raising(refusal(ProviderUnavailableError))
        with pytest.raises(ProviderUnavailableError):
            await service.outpaint(request(repeat=True))
        assert (await service.outpaint(request())).id == lost.id
        again = await service.outpaint(request(repeat=True))
        vendor.finish("r-1")
        await final(service, clock, again)
        await clock.move(700)
        assert (await service.outpaint(request())).id not in (lost.id, again.id)


async def test_the_id_of_an_upscale_step_names_the_upscaled_image_and_not_what_became_of_it(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=1))
        vendor.finish("r-0")
        await clock.move(5)
        vendor.finish("r-1")
        whole = await final(service, clock, task)
    # Where nobody else's tasks are taken in: this one is the client's own.
    async with running(service_over(tmp_path, vendor, clock=clock, owner="two", import_tasks=False), clock) as service:
        assert [step.remote_id for step in whole.steps] == ["r-0", "r-1"]
        upscaled = await service.get_task("r-0", provider="counting")
        assert (upscaled.remote_id, upscaled.status) == ("r-0", Status.SUCCEEDED)
        assert (await service.get_task("r-1", provider="counting")).id == task.id
        await service.outpaint(request(task_id="r-0", zoom=1.5))
        source = vendor.orders[-1].source
        assert getattr(source, "remote_id", None) == "r-0"
        with pytest.raises(UnknownTaskError):
            await service.get_task("r-0", provider="counting", client="another")


async def test_a_failure_takes_back_what_the_vendor_said_it_would_cost(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.set("r-0", Status.RUNNING, cost=Cost(amount=80, unit="points"))
        await clock.move(11)
        assert (await service.get_task(task.id)).cost == Cost(amount=80, unit="points")
        vendor.set("r-0", Status.FAILED, cost=Cost(amount=0, unit="points"))
        assert (await final(service, clock, task)).cost == Cost(amount=0, unit="points")


async def test_a_task_out_of_time_is_not_asked_for_more_often_than_the_provider_recommends(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, task_timeout=60), clock) as service:
        task = await service.outpaint(request())
        await clock.move(70)
        assert (await service.get_task(task.id)).status is Status.UNKNOWN
        await clock.move(6)
        vendor.polls.clear()
        for _ in range(10):
            await service.get_task(task.id)
            await clock.move(0.5)
    assert 1 <= len(vendor.polls) <= 2


async def test_recent_tasks_say_what_to_do_next(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        (found,) = [one for one in await service.recent() if one.id == task.id]
    assert found.next == task.next != ""


class SlowProvider(CountingProvider):
    """One that takes its time to answer an order, and to say what a source is."""

    def __init__(self, clock: MovedClock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    async def start(self, order: Order) -> TaskUpdate:
        await self._clock.sleep(self._seconds)
        return await super().start(order)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        if remote_id == SINGLE:
            await self._clock.sleep(self._seconds)
        return await super().poll(remote_id, reference)


async def moving(clock: MovedClock, seconds: int, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(seconds):
            await anyio.wait_all_tasks_blocked()
            await clock.move(1)
            await anyio.wait_all_tasks_blocked()


async def test_a_call_tells_of_its_progress_from_the_first_seconds_on_and_ever_more(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = SlowProvider(clock, 12)
    told: list[tuple[float, float]] = []

    async def tell(percent: float, message: str) -> None:
        told.append((clock.now() - START, percent))

    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        await moving(clock, 50, lambda: call(service, tell))
    times, shares = [at for at, _ in told], [percent for _, percent in told]
    assert all(after - before <= 5 for before, after in zip([0.0, *times], times, strict=False)), times
    assert shares == sorted(set(shares)), "rising"
    # 12 s to read the source, 12 s for the order's answer, and the rest of 30 s until the wait is over.
    assert 24 < times[-1] <= 30, "the time for reading the source is part of the wait"


async def call(service: Service, tell: OnProgress) -> None:
    assert (await service.outpaint(request(), wait_seconds=30, on_progress=tell)).status is Status.QUEUED
