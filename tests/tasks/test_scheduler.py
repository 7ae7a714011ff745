"""When tasks are asked for, by whom, and what an answer costs that says nothing new."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.domain.errors import ProviderUnavailableError, RateLimitedError
from outpaint_mcp.domain.record import CLAIM_SECONDS
from outpaint_mcp.domain.request import SourceKind, Webhook
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.poll_times import AWAITING_CALLBACK_FACTOR
from outpaint_mcp.tasks.scheduler import AT_ONCE, FORGET_SECONDS, Scheduler
from outpaint_mcp.tasks.service import Service, ServiceOptions

from ..counting import START, CountingProvider, MovedClock, raising, running, service_over, take_due
from .test_orders import request

FIRST, INTERVAL = CountingProvider.first_poll, CountingProvider.poll_interval


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


class OtherProvider(CountingProvider):
    name = "other"
    title = "Other"


class HangingProvider(CountingProvider):
    """One that takes orders and answers no question about them."""

    name = "hanging"
    title = "Hanging"

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_full = anyio.Event()

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        if not remote_id.startswith("r-"):
            return await super().poll(remote_id, reference)
        self.asked += 1
        if self.asked == AT_ONCE:
            self.is_full.set()
        await anyio.sleep_forever()
        raise AssertionError


class BatchingStore(SqliteStore):
    """One for which it is worth waiting, as for a database that is a process of its own."""

    batch_seconds = 0.4


class CallingProvider(CountingProvider):
    """One that can call back."""

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        return True

    def callback_token(self, task_id: str) -> str:
        return f"token-of-{task_id}"

    async def called_back(self, headers: Mapping[str, str], body: bytes, token: str = "") -> str:
        return body.decode()


async def test_an_answer_that_says_nothing_new_is_not_written_and_one_that_does_is(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        await clock.move(FIRST + 1)
        before, asked = (await service.get_task(task.id)).updated_at, len(vendor.polls)
        await clock.move(4 * INTERVAL)
        assert len(vendor.polls) >= asked + 3
        assert (await service.get_task(task.id)).updated_at == before
        vendor.set("r-0", Status.RUNNING, progress=40)
        await clock.move(2 * INTERVAL)
        changed = await service.get_task(task.id)
        assert (changed.status, changed.progress) == (Status.RUNNING, 40)
        assert changed.updated_at > before
        vendor.finish("r-0")
        await clock.move(2 * INTERVAL)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED


async def test_a_failed_question_is_noted_and_the_note_goes_with_the_next_answer_though_it_says_nothing_new(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        await clock.move(FIRST + INTERVAL)
        vendor.on_poll = raising(ProviderUnavailableError("It is out."))
        asked = len(vendor.polls)
        while len(vendor.polls) == asked:
            await clock.move(1)
        assert any("It is out." in note for note in (await service.get_task(task.id)).notes)
        vendor.finish("r-0")
        await clock.move(2 * INTERVAL)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED


async def test_a_vendor_that_names_a_time_is_not_asked_before(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    service = service_over(tmp_path, vendor, clock=clock)
    async with service.running():
        task = await service.outpaint(request())
        await service._lifecycle.advance(task.id)
        vendor.on_poll = raising(RateLimitedError("Too many.", retry_after=77))
        due_at = await service._lifecycle.advance(task.id)
    assert due_at is not None
    assert due_at - clock.now() >= 77


async def test_a_process_that_slept_leaves_its_tasks_to_the_one_that_took_them_over(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    one = service_over(tmp_path, vendor, clock=clock, owner="one")
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        task = await one.outpaint(request())
        assert await one._lifecycle.advance(task.id) is not None
        await clock.move(INTERVAL + CLAIM_SECONDS + 1)
        (late,) = [one for one in (await take_due(two)).tasks if one.task_id == task.id]
        vendor.set("r-0", Status.RUNNING, progress=10)
        await two.due_tasks.advance(late)
        assert (await take_due(one)).tasks == []
        assert await one._lifecycle.advance(task.id) is None
        vendor.finish("r-0")
        await two._lifecycle.advance(task.id)
        assert (await one.get_task(task.id)).status is Status.SUCCEEDED


async def test_a_task_that_its_process_is_at_work_on_is_left_to_it_and_taken_over_soon_after(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    one = service_over(tmp_path, vendor, clock=clock, owner="one")
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        task = await one.outpaint(request())
        await clock.move(FIRST + 1)
        assert task.id in (await take_due(one)).ids
        for _ in range(4):
            await clock.move(CLAIM_SECONDS / 2)
            assert (await take_due(two)).tasks == []
            await one.due_tasks.hold()
        await clock.move(CLAIM_SECONDS + 0.1)
        assert task.id in (await take_due(two)).ids
        assert (await take_due(one)).tasks == []


async def test_a_process_lets_go_of_what_it_holds_of_a_task_that_another_has_finished(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    one = service_over(tmp_path, vendor, clock=clock, owner="one")
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    webhook = Webhook("https://example.com/hook", "secret")
    async with one.running(), two.running(), Scheduler(one, one.events, clock=clock, polls=False).running():
        task = await one.outpaint(request(webhook=webhook))
        await clock.move(FIRST + CLAIM_SECONDS + 1)
        (late,) = [one for one in (await take_due(two)).tasks if one.task_id == task.id]
        await clock.move(FORGET_SECONDS)
        assert [flight.webhook for flight in one._ledger.flights().values()] == [webhook]
        vendor.finish("r-0")
        await two.due_tasks.advance(late)
        assert (await one.get_task(task.id)).status is Status.SUCCEEDED
        assert one._ledger.flights()
        await clock.move(FORGET_SECONDS)
        assert not one._ledger.flights()


async def test_a_provider_that_hangs_holds_up_nobody_elses_tasks(tmp_path: Path) -> None:
    hanging, vendor = HangingProvider(), OtherProvider()
    async with followed(tmp_path, hanging, vendor) as service:
        for number in range(AT_ONCE + 6):
            await service.outpaint(request(provider="hanging", prompt=f"{number}"))
        with anyio.fail_after(30):
            await hanging.is_full.wait()
        task = await service.outpaint(request(provider="other"))
        vendor.finish("r-0")
        done = await service.get_task(task.id, wait_seconds=20)
        assert (done.status, hanging.asked) == (Status.SUCCEEDED, AT_ONCE)


@pytest.mark.parametrize("ahead", [-86_400.0, -30.0, 30.0, 86_400.0])
async def test_a_clock_that_is_set_keeps_nobody_waiting(tmp_path: Path, clock: MovedClock, ahead: float) -> None:
    vendor = CountingProvider()
    service = service_over(tmp_path, vendor, clock=clock)
    scheduler = Scheduler(service, service.events, clock=clock)
    answers: list[Status] = []

    async def wait() -> None:
        answers.append((await service.get_task(task.id, wait_seconds=3 * INTERVAL)).status)

    async with service.running(), scheduler.running(), anyio.create_task_group() as calls:
        task = await service.outpaint(request())
        calls.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        clock.ahead = ahead
        asked = len(vendor.polls)
        with anyio.fail_after(20):
            while not answers:
                await clock.move(INTERVAL / 10)
                await service.check()
        assert len(vendor.polls) - asked >= 2
        assert clock.monotonic() - START < 4 * INTERVAL
    assert answers == [Status.QUEUED]


async def test_a_task_that_was_due_by_a_clock_a_day_ahead_is_polled_at_once(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    clock.ahead = 86_400
    async with running(service_over(tmp_path, vendor, clock=clock, owner="one"), clock) as service:
        task = await service.outpaint(request())
    clock.ahead = 0
    service = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with service.running():
        assert task.id in (await take_due(service)).ids


async def test_a_provider_that_will_call_back_is_asked_rarely_and_when_somebody_wants_to_know(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CallingProvider()
    service = service_over(tmp_path, vendor, clock=clock, public_url="https://here.example")
    async with running(service, clock):
        task = await service.outpaint(request())
        vendor.polls.clear()
        await clock.move(AWAITING_CALLBACK_FACTOR * INTERVAL + 1)
        assert vendor.polls == ["r-0"]
        await clock.move(INTERVAL + 1)
        assert len(vendor.polls) == 1
        vendor.finish("r-0")
        assert (await service.get_task(task.id)).status is Status.QUEUED
        await clock.move(0.1)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED
        assert len(vendor.polls) == 2


async def polled_at(
    folder: Path, clock: MovedClock, due_in: Sequence[float], *, called_in: float = float("inf")
) -> list[float | None]:
    """When each of some tasks is polled that are due in so many seconds; the vendor calls about one more, the last."""
    vendor, store = CallingProvider(), BatchingStore(folder / "store.db", "one")
    service = service_over(folder, vendor, store=store, clock=clock, public_url="https://here.example")
    polled: dict[str, float] = {}

    def note(remote_id: str) -> None:
        polled.setdefault(remote_id, round(clock.monotonic() - began, 2))

    async with service.running():
        tasks = [await service.outpaint(request(prompt=f"{number}")) for number in range(len(due_in) + 1)]
        vendor.on_poll, began = note, clock.monotonic()
        for task, seconds in zip(tasks, due_in, strict=False):
            await store.wake(task.id, began + seconds)
        async with Scheduler(service, service.events, clock=clock).running():
            while clock.monotonic() < began + 2:
                if not clock.monotonic() < began + called_in:
                    called_in, last = float("inf"), tasks[-1]
                    token = vendor.callback_token(last.id)
                    assert await service.handle_callback(vendor.name, token, {}, (last.remote_id or "").encode())
                # What the store's thread is asked for is done before the time goes on.
                for _ in range(3):
                    await service.check()
                    await anyio.wait_all_tasks_blocked()
                await clock.move(0.01)
    return [polled.get(task.remote_id or "") for task in tasks]


async def test_where_many_tasks_are_due_those_that_come_next_are_taken_together(
    tmp_path: Path, clock: MovedClock
) -> None:
    first, then = [1.0] * 30, [1.12 + 0.01 * number for number in range(20)]
    assert await polled_at(tmp_path, clock, [*first, *then]) == [*first, *[1.4] * 20, None]


async def test_a_task_whose_vendor_calls_does_not_wait_for_others_that_are_taken_together(
    tmp_path: Path, clock: MovedClock
) -> None:
    polled = await polled_at(tmp_path, clock, [1.0] * 30, called_in=1.2)
    assert polled == [*[1.0] * 30, pytest.approx(1.2, abs=0.02)]


async def test_a_task_is_polled_when_it_is_due_while_there_is_little_else_to_do(
    tmp_path: Path, clock: MovedClock
) -> None:
    due_in = [1.0, 1.1, 1.5, 1.6]
    assert await polled_at(tmp_path, clock, due_in) == [*due_in, None]


async def test_what_there_was_no_room_for_is_taken_as_soon_as_there_is(tmp_path: Path, clock: MovedClock) -> None:
    *polled, _ = await polled_at(tmp_path, clock, [1.0] * (AT_ONCE + 20))
    assert Counter(polled) == {1.0: AT_ONCE, 1.1: 20}


@contextlib.asynccontextmanager
async def followed(folder: Path, *providers: Provider) -> AsyncIterator[Service]:
    """A service on real time, whose tasks are followed closely."""
    service = Service(
        store=SqliteStore(folder / "store.db", "one"),
        images=ImageLibrary(folder, roots=(folder,), allow_private=True),
        providers={one.name: one for one in providers},
        options=ServiceOptions(auto=tuple(one.name for one in providers), poll=(0.05, 0.05)),
    )
    async with service.running(), Scheduler(service, service.events).running():
        yield service
