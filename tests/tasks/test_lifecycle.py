"""What becomes of an order over time: questions that fail, answers that come late, processes that take over."""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import CLAIM_SECONDS, UNSENT_SECONDS, OrderState, Record
from outpaint_mcp.domain.request import OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Cost, Status, Task, TaskUpdate
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import Service

from ..counting import (
    GRID,
    SINGLE,
    START,
    CountingProvider,
    IdempotentProvider,
    MovedClock,
    UpscalingProvider,
    raising,
    running,
    service_over,
)
from .test_orders import final, request, stored_bytes

LATE = 600.0
DAY = 86_400.0


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


class HeldStore(SqliteStore):
    """A store whose process can be stopped just before it notes that an order is about to leave."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(path, owner)
        self.reached = anyio.Event()
        self.go_on = anyio.Event()

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        self.reached.set()
        await self.go_on.wait()
        return await super().mark_sent(task_id, position, now=now)


class HeldProvider(CountingProvider):
    """A vendor that takes orders at once, and answers the first when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = anyio.Event()
        self.go_on = anyio.Event()

    async def start(self, order: Any) -> TaskUpdate:
        update = await super().start(order)
        if not self.reached.is_set():
            self.reached.set()
            await self.go_on.wait()
        return update


class HeldUpscalingProvider(HeldProvider, UpscalingProvider):
    """Likewise one that extends upscaled images only."""


class HeldIdempotentProvider(HeldProvider):
    idempotent: ClassVar[bool] = True


def questions(vendor: CountingProvider, clock: MovedClock, *failing: OutpaintError) -> list[float]:
    """When the vendor is asked, in seconds since the first order could be placed; the first questions fail."""
    times: list[float] = []

    def asked(remote_id: str) -> None:
        times.append(clock.now() - START)
        if len(times) <= len(failing):
            raise failing[len(times) - 1]

    vendor.on_poll = asked
    return times


def pauses(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


# Questions


@pytest.mark.parametrize(
    ("retry_after", "least", "most"), [(None, 0.5, 1), (0.1, 0.5, 1), (45, 45, 45), (0, 0.5, 1), (7.5, 7.5, 7.5)]
)
async def test_a_vendor_that_says_when_to_come_back_is_not_asked_before(
    tmp_path: Path, clock: MovedClock, retry_after: float | None, least: float, most: float
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        times = questions(vendor, clock, RateLimitedError("Too many requests.", retry_after=retry_after))
        await clock.move(10.2)
        # Neither does somebody who asks us make us ask.
        assert any("Too many requests." in note for note in (await service.get_task(task.id)).notes)
        await clock.move(52)
        assert least <= times[1] - times[0] <= most
        assert 5 * 0.95 <= times[2] - times[1] <= 5, "and then as ever"
        answered = await service.get_task(task.id)
        assert answered.status is Status.QUEUED
        assert not any("failed" in note for note in answered.notes), "it has been answered since"


@pytest.mark.parametrize("jitter", [0.0, 0.37, 0.999])
async def test_failing_questions_are_repeated_ever_more_slowly_up_to_ten_seconds_each_by_chance_at_half_of_it(
    tmp_path: Path, clock: MovedClock, jitter: float
) -> None:
    vendor = CountingProvider()
    down = [ProviderUnavailableError("The vendor is down.")] * 10
    async with running(service_over(tmp_path, vendor, clock=clock, jitter=lambda: jitter), clock) as service:
        await service.outpaint(request())
        times = questions(vendor, clock, *down)
        await clock.move(120)
    share = 0.5 + jitter / 2
    assert pauses(times)[:10] == pytest.approx([share * full for full in (1, 2, 4, 8, 10, 10, 10, 10, 10, 10)])


@pytest.mark.parametrize("jitter", [0.0, 0.999])
async def test_tasks_ordered_together_drift_apart_by_a_twentieth_and_none_waits_longer_than_the_interval(
    tmp_path: Path, clock: MovedClock, jitter: float
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, jitter=lambda: jitter), clock) as service:
        await service.outpaint(request())
        times = questions(vendor, clock)
        await clock.move(60)
    assert pauses(times) == pytest.approx([5 * (0.95 + jitter / 20)] * len(pauses(times)))
    assert len(times) >= 10


async def test_a_plug_in_that_breaks_while_it_is_asked_is_noted_and_asked_again(
    tmp_path: Path, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.on_poll = raising(KeyError("planted-detail"), times=3)
        await clock.move(11)
        task = await service.get_task(task.id)
        assert task.status is Status.QUEUED
        assert any("The last poll of Counting failed" in note for note in task.notes)
        vendor.finish("r-0")
        task = await final(service, clock, task)
    assert task.status is Status.SUCCEEDED
    assert "planted-detail" not in task.model_dump_json()
    assert "planted-detail" in caplog.text, "the operator is told"


async def test_a_plug_in_that_breaks_before_it_orders_leaves_the_task_unknown_and_its_money_reserved(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.before_start = raising(KeyError("planted-detail"))
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        task = await service.outpaint(request(), wait_seconds=45)
        assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "order_unconfirmed")
        assert "pay twice" in task.next
        assert (await service.outpaint(request())).id == task.id
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(repeat=True))
    assert vendor.orders == []
    assert b"planted-detail" not in stored_bytes(tmp_path)


async def test_a_vendor_that_denies_a_task_is_believed_the_third_time_in_a_row_and_heard_again_if_it_remembers(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        times = questions(vendor, clock)

        async def forget(times_asked: int) -> Status:
            """The status when the vendor, having forgotten the task, has been asked so often."""
            del vendor.taken["r-0"]
            asked = len(times) + times_asked
            while len(times) < asked:
                await clock.move(0.25)
            return (await service.get_task(task.id)).status

        assert await forget(2) is Status.QUEUED
        vendor.set("r-0", Status.RUNNING)
        await clock.move(10)
        assert (await service.get_task(task.id)).status is Status.RUNNING
        assert await forget(2) is Status.RUNNING, "what it said in between counts"
        await clock.move(10)
        times.clear()
        denied = await service.get_task(task.id)
        assert (denied.status, denied.failure and denied.failure.code) == (Status.UNKNOWN, "unknown_task")
        assert (await service.outpaint(request())).id == task.id
        vendor.finish("r-0")
        await clock.move(LATE)
        task = await service.get_task(task.id)
    assert (task.status, task.failure) == (Status.SUCCEEDED, None)
    assert len(vendor.orders) == 1


async def test_a_task_out_of_time_is_asked_for_every_ten_minutes_until_it_is_a_day_old_and_then_left(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    options: dict[str, Any] = {"poll": (300.0, 300.0), "task_timeout": 1800.0, "daily_limits": DailyLimits(orders=1)}
    async with running(service_over(tmp_path, vendor, clock=clock, **options), clock) as service:
        task = await service.outpaint(request())
        times = questions(vendor, clock)
        await clock.move(DAY + 4 * LATE)
        late = [at for at in times if at > 1800]
        # What runs out of time between two questions is found to have at the next.
        assert pauses(late) == pytest.approx([LATE] * len(pauses(late)))
        assert DAY <= late[-1] < DAY + LATE
        asked = len(times)
        left = await service.get_task(task.id)
        await clock.move(2 * LATE)
        assert len(times) == asked, "and then not even by somebody who wants to know"
        assert (left.status, left.failure and left.failure.code) == (Status.UNKNOWN, "timed_out")
        assert [step.status for step in left.steps] == [Status.UNKNOWN]
        assert (await service.outpaint(request())).id == task.id
    assert len(vendor.orders) == 1


async def test_a_task_that_runs_on_past_its_time_is_still_out_of_time_and_one_that_fails_then_has_failed(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, task_timeout=60), clock) as service:
        task = await service.outpaint(request())
        await clock.move(70)
        vendor.set("r-0", Status.RUNNING, progress=80)
        await clock.move(LATE)
        task = await service.get_task(task.id)
        assert (task.status, task.progress) == (Status.UNKNOWN, 80)
        vendor.set("r-0", Status.FAILED)
        await clock.move(LATE)
        task = await service.get_task(task.id)
    assert (task.status, task.failure and task.failure.code) == (Status.FAILED, "provider_unavailable")


async def test_a_vendor_that_is_down_when_the_time_is_up_is_asked_for_the_task_rarely_too(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, task_timeout=60), clock) as service:
        task = await service.outpaint(request())
        times = questions(vendor, clock, *[ProviderUnavailableError("The vendor is down.")] * 100)
        await clock.move(80)
        asked = len(times)
        await clock.move(3 * LATE)
        assert len(times) == asked + 3
        task = await service.get_task(task.id)
    assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "timed_out")


async def test_a_vendor_that_wants_to_be_left_alone_for_a_week_does_not_keep_a_task_open_so_long(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.on_poll = raising(RateLimitedError("Too many requests.", retry_after=7 * DAY))
        await clock.move(3600)
        task = await service.get_task(task.id)
    assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "timed_out")


# Orders that are answered at once, late or not at all


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
async def test_a_vendor_that_is_done_with_its_first_answer_is_not_asked_again(
    tmp_path: Path, clock: MovedClock, status: Status
) -> None:
    vendor = CountingProvider()
    vendor.after_start = lambda order: vendor.set("r-0", status)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        await service.get_task(SINGLE, provider="counting")
        times = questions(vendor, clock)
        task = await service.outpaint(request())
        assert (task.status, task.finished_at is not None) == (status, True)
        assert await service._lifecycle.advance(task.id) is None
        await clock.move(120)
    assert times == []


async def test_everybody_who_waits_for_an_order_hears_its_refusal_and_who_comes_later_orders_anew(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    store = HeldStore(tmp_path / "store.db", "one")
    vendor.before_start = raising(InvalidRequestError("There is no such zoom."))
    refused: list[str] = []
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:

        async def call() -> None:
            with pytest.raises(InvalidRequestError) as caught:
                await service.outpaint(request())
            refused.append(caught.value.message)

        async with anyio.create_task_group() as calls:
            calls.start_soon(call)
            await store.reached.wait()
            calls.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            store.go_on.set()
        await clock.move(61)
        assert (await service.outpaint(request())).status is Status.QUEUED
    assert refused == ["There is no such zoom."] * 2
    assert len(vendor.orders) == 1


async def test_a_service_that_ends_while_it_orders_waits_for_the_answer_and_writes_it_down(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldProvider()
    async with anyio.create_task_group() as tasks:
        async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
            tasks.start_soon(service.outpaint, request())
            await vendor.reached.wait()
            (task,) = [task for task in await service.recent() if "zoom" in task.request]
            assert await service._lifecycle.advance(task.id) is None, "what is being ordered is not looked after yet"

            async def answer() -> None:
                await anyio.wait_all_tasks_blocked()
                vendor.go_on.set()

            tasks.start_soon(answer)
        tasks.cancel_scope.cancel()
    two = SqliteStore(tmp_path / "store.db", "two")
    record = await two.get(task.id)
    await two.aclose()
    assert record is not None
    assert (record.task.remote_id, record.steps[0].state) == ("r-0", OrderState.ACCEPTED)


async def test_a_hint_about_an_order_whose_answer_was_lost_places_and_changes_nothing(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        times = questions(vendor, clock)
        assert not await service.handle_callback("counting", "", {}, b"r-0"), "it is not known under any id"
        await clock.move(60)
        assert (await service.get_task(task.id)).status is Status.UNKNOWN
    assert (times, len(vendor.orders)) == ([], 1)


# Orders whose answer is lost, where repeating is safe


async def test_a_question_about_a_lost_answer_that_is_refused_leaves_the_task_unknown(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = IdempotentProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        task = await service.outpaint(request())
        vendor.before_start = raising(AuthenticationError("The key was changed."), times=2)
        await clock.move(15)
        task = await service.get_task(task.id)
        assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "order_unconfirmed")
        assert "cannot pay twice" in task.next
        vendor.finish("r-0")
        await clock.move(120)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 1


async def test_a_question_about_a_lost_answer_that_calls_the_order_wrong_ends_it_and_frees_its_money(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = IdempotentProvider()
    vendor.before_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        task = await service.outpaint(request())
        vendor.before_start = raising(InvalidRequestError("There is no such zoom."))
        await clock.move(60)
        task = await service.get_task(task.id)
        assert (task.status, task.failure and task.failure.code) == (Status.FAILED, "invalid_request")
        assert (await service.outpaint(request(zoom=1.5))).status is Status.QUEUED
    assert len(vendor.orders) == 1


async def test_a_lost_answer_is_asked_for_during_a_day_and_then_no_more(tmp_path: Path, clock: MovedClock) -> None:
    vendor = IdempotentProvider()
    vendor.before_start = raising(OrderUnconfirmedError("The connection broke."), times=10_000)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        await clock.move(DAY + 120)
        asked: list[float] = []
        vendor.before_start = lambda order: asked.append(clock.now())
        await clock.move(2 * LATE)
        assert (await service.get_task(task.id)).status is Status.UNKNOWN
    assert (asked, vendor.orders) == ([], [])


# Two steps


async def test_a_second_step_whose_answer_is_lost_leaves_the_task_unknown_with_the_first_step_done(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=2)), clock
    ) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=2))
        vendor.finish("r-0")
        vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
        await clock.move(10)
        task = await service.get_task(task.id)
        assert (task.status, [step.status for step in task.steps]) == (
            Status.UNKNOWN,
            [Status.SUCCEEDED, Status.UNKNOWN],
        )
        await clock.move(2 * LATE)
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request())
    assert [order.step for order in vendor.orders] == [StepName.UPSCALE, StepName.OUTPAINT]


async def test_a_first_step_that_fails_ends_the_task_and_gives_back_what_the_second_had_reserved(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=2)), clock
    ) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=2))
        vendor.set("r-0", Status.FAILED, cost=Cost(amount=4, unit="points"))
        task = await final(service, clock, task)
        assert (task.status, task.steps[0].status) == (Status.FAILED, Status.FAILED)
        await service.outpaint(request())
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(zoom=1.5))
    assert [order.step for order in vendor.orders] == [StepName.UPSCALE, StepName.OUTPAINT]


async def test_an_upscale_that_is_done_after_the_time_was_up_is_gone_on_from(tmp_path: Path, clock: MovedClock) -> None:
    vendor = UpscalingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, task_timeout=60), clock) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=2))
        await clock.move(70)
        assert (await service.get_task(task.id)).status is Status.UNKNOWN
        vendor.finish("r-0")
        await clock.move(LATE + 30)
        task = await service.get_task(task.id)
        assert task.steps[0].status is Status.SUCCEEDED
        vendor.finish("r-1")
        await clock.move(LATE)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED


# Several processes


@contextlib.asynccontextmanager
async def calling(service: Service, order: OutpaintRequest) -> AsyncIterator[list[Task]]:
    """While somebody's call goes on. What it gave is in the list once this is left."""
    found: list[Task] = []

    async def call() -> None:
        found.append(await service.outpaint(order))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        yield found


async def test_a_process_that_hangs_until_its_order_was_given_up_sends_nothing_afterwards(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    store, caps = HeldStore(tmp_path / "store.db", "one"), DailyLimits(orders=2)
    one = service_over(tmp_path, vendor, store=store, clock=clock, daily_limits=caps)
    two = service_over(tmp_path, vendor, clock=clock, owner="two", daily_limits=caps)
    async with one.running():
        async with calling(one, request(task_id=GRID, image_index=1)) as found:
            await store.reached.wait()
            await clock.move(UNSENT_SECONDS + 1)
            async with running(two, clock):
                with pytest.raises(BudgetExceededError):
                    await two.outpaint(request())
                await clock.move(1)
                for zoom in (1.2, 1.3):
                    await two.outpaint(request(zoom=zoom))
                with pytest.raises(BudgetExceededError):
                    await two.outpaint(request())
            store.go_on.set()
        assert [task.status for task in found] == [Status.CANCELLED]
    assert [order.zoom for order in vendor.orders] == [1.2, 1.3], "and both steps' reservations were given back"


class HeldTakeOver(SqliteStore):
    """A store whose process can be stopped between reading a task and taking it over."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(path, owner)
        self.reached = anyio.Event()
        self.go_on = anyio.Event()

    async def own(self, task_id: str, *, now: float) -> Record | None:
        self.reached.set()
        await self.go_on.wait()
        return await super().own(task_id, now=now)


async def test_an_order_that_is_sent_while_another_process_gives_it_up_is_not_lost(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldProvider()
    sending, taking = HeldStore(tmp_path / "store.db", "one"), HeldTakeOver(tmp_path / "store.db", "two")
    one = service_over(tmp_path, vendor, store=sending, clock=clock)
    two = service_over(tmp_path, vendor, store=taking, clock=clock)
    async with one.running(), two.running():
        async with calling(one, request()) as found:
            await sending.reached.wait()
            (task,) = [task for task in await two.recent() if task.status is Status.QUEUED]
            clock.ahead = UNSENT_SECONDS + 1
            async with anyio.create_task_group() as advancing:
                advancing.start_soon(two._lifecycle.advance, task.id)
                await taking.reached.wait()
                sending.go_on.set()
                await vendor.reached.wait()
                taking.go_on.set()
            vendor.go_on.set()
        assert [(task.remote_id, task.status) for task in found] == [("r-0", Status.QUEUED)]
    assert len(vendor.orders) == 1


async def test_a_clock_that_is_set_ahead_while_an_order_is_written_down_only_makes_it_be_written_down_again(
    tmp_path: Path, clock: MovedClock
) -> None:
    class Ahead(SqliteStore):
        async def claim(self, record: Record, **rest: Any) -> tuple[Record, bool]:
            claimed = await super().claim(record, **rest)
            clock.ahead = UNSENT_SECONDS + 1
            return claimed

    vendor = CountingProvider()
    store = Ahead(tmp_path / "store.db", "one")
    service = service_over(tmp_path, vendor, store=store, clock=clock, daily_limits=DailyLimits(orders=1))
    async with service.running():
        task = await service.outpaint(request())
        assert (task.remote_id, task.status) == ("r-0", Status.QUEUED)
    assert len(vendor.orders) == 1


@pytest.mark.parametrize("alive", [True, False])
async def test_the_same_order_in_a_second_process_is_sent_by_it_only_if_the_first_is_gone(
    tmp_path: Path, clock: MovedClock, alive: bool
) -> None:
    vendor = CountingProvider()
    store = HeldStore(tmp_path / "store.db", "one")
    one = service_over(tmp_path, vendor, store=store, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request()) as first:
            await store.reached.wait()
            second = await two.outpaint(request())
            for _ in range(3):
                if alive:
                    await one.due_tasks.hold()
                await clock.move(CLAIM_SECONDS / 2)
            assert len(vendor.orders) == (0 if alive else 1)
            store.go_on.set()
        assert [task.id for task in first] == [second.id]
        with anyio.fail_after(20):
            # The call has not waited for the vendor's answer: its time went by on the clock that is moved by hand.
            while (await two.get_task(second.id)).remote_id != "r-0":  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert len(vendor.orders) == 1


async def test_the_same_order_in_a_second_process_waits_for_the_first_and_is_never_sent_twice(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    store = HeldStore(tmp_path / "store.db", "one")
    one = service_over(tmp_path, vendor, store=store, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request()):
            await store.reached.wait()
            await two.outpaint(request())
            store.go_on.set()
        await clock.move(1)
        assert (await two.outpaint(request())).remote_id == "r-0"
    assert len(vendor.orders) == 1


async def test_the_same_order_twice_in_one_process_before_it_was_sent_is_one_order(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    store = HeldStore(tmp_path / "store.db", "one")
    async with running(service_over(tmp_path, vendor, store=store, clock=clock), clock) as service:
        async with calling(service, request()) as first, calling(service, request()) as second:
            await store.reached.wait()
            await anyio.wait_all_tasks_blocked()
            store.go_on.set()
        assert first[0].id == second[0].id
    assert len(vendor.orders) == 1


async def test_an_answer_that_comes_after_another_process_took_the_task_over_is_not_lost(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two", daily_limits=DailyLimits(orders=1))
    async with one.running():
        async with calling(one, request()) as found:
            await vendor.reached.wait()
            await clock.move(CLAIM_SECONDS + 1)
            async with running(two, clock):
                await clock.move(1)
                (lost,) = [task for task in await two.recent() if task.status is Status.UNKNOWN]
                assert lost.failure is not None
                assert "The server stopped" in lost.failure.message
                with pytest.raises(BudgetExceededError):
                    await two.outpaint(request(repeat=True))
                vendor.go_on.set()
                while not found:
                    await anyio.wait_all_tasks_blocked()
                assert (await two.get_task(lost.id)).remote_id == "r-0"
        assert (found[0].id, found[0].status, found[0].failure) == (lost.id, Status.QUEUED, None)
    assert len(vendor.orders) == 1


async def test_an_order_whose_process_is_gone_is_asked_for_again_under_the_same_key_where_that_is_safe(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldIdempotentProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request()):
            await vendor.reached.wait()
            await clock.move(CLAIM_SECONDS + 1)
            await clock.follow(two)
            await clock.move(1)
            (task,) = [task for task in await two.recent() if "zoom" in task.request]
            assert (task.status, task.remote_id) == (Status.QUEUED, "r-0")
            vendor.go_on.set()
        clock.leave(two)
    assert len(vendor.orders) == 1


async def test_a_task_whose_answer_came_after_another_process_took_it_over_is_followed_to_its_end(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request()) as found:
            await vendor.reached.wait()
            await clock.move(CLAIM_SECONDS + 1)
            await clock.follow(two)
            await clock.move(1)
            await clock.follow(one)
            vendor.go_on.set()
        vendor.finish("r-0")
        await clock.move(2 * CLAIM_SECONDS)
        clock.leave(one)
        assert (await two.get_task(found[0].id)).status is Status.SUCCEEDED


async def test_a_process_keeps_what_a_later_step_is_sent_with_though_another_took_the_first_to_be_lost(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor, webhook = HeldUpscalingProvider(), Webhook("https://example.com/hook", "secret")
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request(task_id=GRID, image_index=1, webhook=webhook)) as found:
            await vendor.reached.wait()
            await clock.move(CLAIM_SECONDS + 1)
            await clock.follow(two)
            await clock.move(1)
            clock.leave(two)
            (lost,) = [task for task in await two.recent() if task.status is Status.UNKNOWN]
            await one.due_tasks.forget_over()
            vendor.go_on.set()
        assert (found[0].id, found[0].status) == (lost.id, Status.RUNNING)
        await one.due_tasks.forget_over()
        await clock.follow(one)
        for remote_id in ("r-0", "r-1"):
            vendor.finish(remote_id)
            await clock.move(20)
        clock.leave(one)
        assert [order.webhook for order in vendor.orders] == [None, webhook]
        assert (await one.get_task(lost.id)).status is Status.SUCCEEDED
        assert not one._ledger.flights()


async def test_what_an_order_was_sent_with_is_not_kept_where_nobody_can_ask_for_it(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The answer was lost."))
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request(webhook=Webhook("https://example.com/hook", "secret")))
        assert task.status is Status.UNKNOWN
        assert not service._ledger.flights()


async def test_an_answer_that_comes_after_another_process_saw_the_end_does_not_undo_it(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = HeldIdempotentProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with one.running(), two.running():
        async with calling(one, request()) as found:
            await vendor.reached.wait()
            await clock.move(CLAIM_SECONDS + 1)
            await clock.follow(two)
            await clock.move(1)
            vendor.finish("r-0")
            (task,) = [task for task in await two.recent() if "zoom" in task.request]
            assert (await final(two, clock, task)).status is Status.SUCCEEDED
            vendor.set("r-0", Status.QUEUED)  # what the first call was answered, long ago
            vendor.go_on.set()
        clock.leave(two)
        assert [task.status for task in found] == [Status.SUCCEEDED]


async def test_what_another_process_follows_is_left_to_it(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with running(one, clock), two.running():
        task = await one.outpaint(request())
        times = questions(vendor, clock)
        assert await two._lifecycle.advance(task.id) is None
        assert await two._lifecycle.advance("op-nothing") is None
        assert times == []
        await clock.move(2 * CLAIM_SECONDS)
        assert await two._lifecycle.advance(task.id) is None, "its process is alive"
        assert len(times) == 3


async def test_a_task_of_a_provider_that_is_no_longer_installed_stays_until_it_is_installed_again(
    tmp_path: Path, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
    vendor.finish("r-0")
    heard: list[str] = []

    async def listen(percent: float, message: str) -> None:
        heard.append(message)

    async with running(service_over(tmp_path, clock=clock, owner="two"), clock) as service:
        with caplog.at_level(logging.WARNING):
            await clock.move(60)
        assert "counting, which is not installed" in caplog.text
        found: list[Task] = []

        async def wait() -> None:
            found.append(await service.get_task(task.id, wait_seconds=3, on_progress=listen))

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            await clock.until_asleep()
            await clock.move(4)
        assert [(one.status, one.id) for one in found] == [(Status.QUEUED, task.id)]
        assert set(heard) == {"counting: queued"}
        with pytest.raises(OutpaintError):
            await service.outpaint(request(task_id=task.id, provider="auto"))
    async with running(service_over(tmp_path, vendor, clock=clock, owner="three"), clock) as service:
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 1
