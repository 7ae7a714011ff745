"""What becomes of orders and answers when the disk is full just then: nothing is lost, nothing is paid twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InsufficientCreditsError,
    OrderUnconfirmedError,
    OutpaintError,
)
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

from ..counting import (
    GRID,
    SINGLE,
    CountingProvider,
    IdempotentProvider,
    MovedClock,
    UpscalingProvider,
    raising,
    running,
    service_over,
    take_due,
)
from ..tasks.test_orders import final, request
from .claim_many import NOW, record

FULL = "The store store.db cannot be used: database or disk is full."


class FillingStore(SqliteStore):
    """A store on a disk that is full while `full` is set."""

    full = False
    full_before_sending = False
    refused = 0

    async def save(self, record: Record, **options: Any) -> bool:
        if self.full:
            self.refused += 1
            raise ConfigurationError(FULL)
        return await super().save(record, **options)

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        if self.full_before_sending:
            raise ConfigurationError(FULL, "Nothing was ordered.")
        return await super().mark_sent(task_id, position, now=now)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def store(tmp_path: Path) -> FillingStore:
    return FillingStore(tmp_path / "store.db", "one")


async def with_source(service: Service, clock: MovedClock) -> None:
    """Import what is to be extended, and have it done with."""
    await service.get_task(SINGLE, provider="counting")
    await clock.move(1)


async def test_an_accepted_order_whose_answer_cannot_be_stored_is_kept_until_it_can(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = CountingProvider()
    answered: list[Task] = []
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:

        async def call() -> None:
            answered.append(await service.outpaint(request(), at_least=60))

        await with_source(service, clock)
        store.full = True
        async with anyio.create_task_group() as client:
            client.start_soon(call)
            await clock.until_asleep()
            await clock.move(9)
            assert (store.refused, len(vendor.orders)) == (10, 1), "stored again every second, ordered once"
            assert not answered
            (waiting,) = [task for task in await service.recent() if "zoom" in task.request]
            assert waiting.status is Status.QUEUED
            store.full = False
            await clock.move(1)
        (task,) = answered
        assert (task.status, task.remote_id) == (Status.QUEUED, "r-0")
        assert (await service.outpaint(request())).id == task.id
        vendor.finish("r-0")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    async with running(service_over(tmp_path, vendor, owner="two", clock=clock), clock) as service:
        assert (await service.get_task(task.id)).remote_id == "r-0"
    assert len(vendor.orders) == 1


async def test_the_answer_to_a_second_step_is_kept_until_it_can_be_stored_too(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = UpscalingProvider()
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=1))
        vendor.finish("r-0")

        def fill(order: object) -> None:
            store.full = True

        vendor.before_start = fill
        async with anyio.create_task_group() as following:
            following.start_soon(clock.move, 5)
            await clock.until_asleep()
            assert (store.refused, len(vendor.orders)) == (1, 2)
            store.full = False
            # Whoever moves the clock waits for the answer to be stored, so this wakes it from beside.
            await clock.move(1)
        vendor.before_start = lambda order: None
        vendor.finish("r-1")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InsufficientCreditsError("The vendor says no."), Status.FAILED),
        (OrderUnconfirmedError("The connection broke."), Status.UNKNOWN),
    ],
)
async def test_a_refusal_and_a_lost_answer_are_kept_until_they_can_be_stored_too(
    tmp_path: Path, clock: MovedClock, store: FillingStore, error: OutpaintError, status: Status
) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(error)
    heard: list[OutpaintError | Task] = []
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:

        async def call() -> None:
            try:
                heard.append(await service.outpaint(request(), at_least=60))
            except InsufficientCreditsError as refusal:
                heard.append(refusal)

        await with_source(service, clock)
        store.full = True
        async with anyio.create_task_group() as client:
            client.start_soon(call)
            await clock.until_asleep()
            await clock.move(3)
            assert not heard
            store.full = False
            await clock.move(1)
        (task,) = [task for task in await service.recent() if task.status is status]
    if status is Status.FAILED:
        assert [str(one) for one in heard] == [str(error)]
    else:
        assert isinstance(heard[0], Task)
        assert heard[0].id == task.id
    assert len(vendor.orders) == 1


async def test_an_answer_to_a_question_that_cannot_be_stored_is_asked_for_again(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = CountingProvider()
    service = service_over(tmp_path, vendor, store=store, clock=clock)
    async with service.running(), Scheduler(service, service.events, clock=clock).running():
        task = await service.outpaint(request())
        vendor.finish("r-0")
        store.full = True
        with anyio.fail_after(20):
            while store.refused < 2:
                await clock.move(1)
                await service.check()
        assert (await service.get_task(task.id)).status is Status.QUEUED
        store.full = False
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 1


async def test_an_order_that_cannot_be_noted_as_sent_is_refused_unsent_and_sent_when_it_is_called_again(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = CountingProvider()
    store.full_before_sending = True
    async with running(
        service_over(tmp_path, vendor, store=store, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        with pytest.raises(ConfigurationError, match="full"):
            await service.outpaint(request())
        assert vendor.orders == []
        store.full_before_sending = False
        await clock.move(5)
        assert (await service.outpaint(request())).status is Status.QUEUED, "on the reservation that it had"
    assert len(vendor.orders) == 1


@pytest.mark.parametrize("minutes", [9, 11])
async def test_what_was_never_sent_waits_ten_minutes_for_the_same_call_and_then_gives_its_reservation_back(
    tmp_path: Path, clock: MovedClock, store: FillingStore, minutes: int
) -> None:
    vendor = CountingProvider()
    store.full_before_sending = True
    async with running(
        service_over(tmp_path, vendor, store=store, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        with pytest.raises(ConfigurationError):
            await service.outpaint(request())
        (unsent,) = [task for task in await service.recent() if task.status is Status.QUEUED]
    two = service_over(tmp_path, vendor, owner="two", clock=clock, daily_limits=DailyLimits(orders=1))
    await clock.move(minutes * 60)
    async with running(two, clock) as service:
        await clock.move(1)
        old = await service.get_task(unsent.id)
        task = await service.outpaint(request())
        assert task.status is Status.QUEUED
        if minutes < 10:
            assert (old.status, task.id) == (Status.QUEUED, unsent.id)
        else:
            assert (old.status, task.id != unsent.id) == (Status.CANCELLED, True)
            assert any("Nothing was paid" in note for note in old.notes)
    assert len(vendor.orders) == 1


async def test_an_order_asked_for_again_before_its_release_is_left_to_wait(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = CountingProvider()
    store.full_before_sending = True
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:
        with pytest.raises(ConfigurationError):
            await service.outpaint(request())
        (unsent,) = [task for task in await service.recent() if task.status is Status.QUEUED]
        assert await service._lifecycle.advance(unsent.id) == unsent.created_at.timestamp() + 600
        assert (await service.get_task(unsent.id)).status is Status.QUEUED
    assert vendor.orders == []


async def test_a_question_asked_under_the_same_key_needs_no_second_note_on_the_disk(
    tmp_path: Path, clock: MovedClock, store: FillingStore
) -> None:
    vendor = IdempotentProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:
        task = await service.outpaint(request())
        store.full_before_sending = True
        vendor.finish("r-0")
        assert (await final(service, clock, task)).status is Status.UNKNOWN
        await clock.move(60)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 1


async def test_a_store_that_was_never_used_closes_without_making_a_file(tmp_path: Path) -> None:
    await SqliteStore(tmp_path / "store.db", "one").aclose()
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


async def test_a_task_that_is_taken_in_twice_stands_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", "one")
    made = record("a", owner="one")
    made = Record(made.task.model_copy(update={"remote_id": "r"}), "local", None, None, made.steps)
    made = Record(made.task, "local", None, None, tuple(_named(made, "r")))
    again = Record(made.task.model_copy(update={"id": "op-again"}), "local", None, None, made.steps)
    assert (await store.import_task(made, now=NOW)).task.id == made.task.id
    assert (await store.import_task(again, now=NOW)).task.id == made.task.id
    assert await store.get("op-again") is None
    await store.aclose()


def _named(made: Record, remote_id: str) -> Any:
    return [replace(row, remote_id=remote_id) for row in made.steps]


@pytest.mark.parametrize("replaced", [False, True])
async def test_no_order_is_placed_into_a_store_that_was_deleted_or_replaced_under_the_server(
    tmp_path: Path, clock: MovedClock, replaced: bool
) -> None:
    vendor = CountingProvider()
    folder = tmp_path / "data"
    async with running(service_over(folder, vendor, clock=clock), clock) as service:
        first = await service.outpaint(request())
        folder.rename(tmp_path / "gone")
        if replaced:
            await SqliteStore(folder / "store.db", "another").get("op-x")
        with pytest.raises(ConfigurationError, match="deleted or replaced"):
            await service.outpaint(request(zoom=1.9))
        assert (await service.get_task(first.id)).id == first.id, "what is known is still told"
        with pytest.raises(ConfigurationError, match="deleted or replaced"):
            await take_due(service)
    assert len(vendor.orders) == 1
