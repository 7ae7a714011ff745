"""What an order costs and what becomes of it, over a vendor that counts."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    BudgetExceededError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotReadyError,
    OrderUnconfirmedError,
    ProviderUnavailableError,
    UnknownTaskError,
)
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Cost, Status, Task
from outpaint_mcp.tasks.service import Service

from ..counting import (
    GRID,
    SINGLE,
    CountingProvider,
    IdempotentProvider,
    MovedClock,
    UpscalingProvider,
    raising,
    refusal,
    running,
    service_over,
)


def request(**changes: Any) -> OutpaintRequest:
    return OutpaintRequest(**{"task_id": SINGLE, "provider": "counting", **changes})


async def final(service: Service, clock: MovedClock, task: Task) -> Task:
    for _ in range(200):
        task = await service.get_task(task.id)
        if task.status.ends_a_wait:
            return task
        await clock.move(1)
    raise AssertionError(f"{task.status} after 200 s")


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("store.db*"))


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


async def test_an_order_is_placed_once_followed_and_finished(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request(prompt="a lake"))
        assert (task.status, task.remote_id, task.steps[0].name) == (Status.QUEUED, "r-0", StepName.OUTPAINT)
        assert "do not order again" in task.next
        vendor.polls.clear()
        await clock.move(9)
        assert vendor.polls == [], "the first question comes after 10 s"
        await clock.move(2)
        assert vendor.polls == ["r-0"]
        vendor.finish("r-0")
        task = await final(service, clock, task)
        assert (task.status, task.progress, task.cost and task.cost.amount) == (Status.SUCCEEDED, 100, 8)
    assert [order.prompt for order in vendor.orders] == ["a lake"]


@pytest.mark.parametrize(
    "again",
    [
        {},
        {"zoom": 2.0},
        {"speed": "turbo"},
        {"webhook": Webhook("https://example.com/x")},
        {"provider_options": {"a": 1, "metadata": {"x": 1}}},
    ],
)
async def test_the_same_order_again_is_the_first_task(tmp_path: Path, clock: MovedClock, again: dict[str, Any]) -> None:
    vendor = CountingProvider()
    first = {"provider_options": {"a": 1}, "aspect_ratio": AspectRatio.parse("32:18")}
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request(**first))
        more = {**first, **again, "aspect_ratio": AspectRatio.parse("16:9")}
        for repeat in (False, True):
            same = await service.outpaint(request(**more, repeat=repeat))
            assert same.id == task.id, "also with repeat: it is still running"
            assert any("nothing new was ordered" in note for note in same.notes)
        vendor.finish("r-0")
        await final(service, clock, task)
        await clock.move(300)
        assert (await service.outpaint(request(**more))).id == task.id
        assert len(vendor.orders) == 1
        await clock.move(400)
        assert (await service.outpaint(request(**more))).id != task.id, "10 minutes after its success it is a new order"
    assert len(vendor.orders) == 2


@pytest.mark.parametrize(
    "other", [{"zoom": 1.5}, {"prompt": "x"}, {"task_id": GRID, "image_index": 2}, {"provider_options": {"b": 2}}]
)
async def test_another_order_is_another_task(tmp_path: Path, clock: MovedClock, other: dict[str, Any]) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        first = await service.outpaint(request())
        assert (await service.outpaint(request(**other))).id != first.id
        theirs = request(task_id="single-2")
        assert (await service.outpaint(theirs, client="somebody-else")).id != first.id
    assert len(vendor.orders) == 3


async def test_repeat_orders_again_when_the_first_is_final(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        first = await service.outpaint(request())
        vendor.finish("r-0")
        await final(service, clock, first)
        assert (await service.outpaint(request(repeat=True))).id != first.id
    assert len(vendor.orders) == 2


async def test_a_lost_answer_is_never_ordered_again(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        task = await service.outpaint(request(), wait_seconds=45)
        assert task.status is Status.UNKNOWN
        assert task.failure is not None
        assert task.failure.code == "order_unconfirmed"
        assert "pay twice" in task.next
        await clock.move(3600)
        assert (await service.outpaint(request())).id == task.id
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(repeat=True))
    assert len(vendor.orders) == 1, "and its reservation is kept"


async def test_where_repeating_is_safe_a_lost_answer_is_asked_for_again_under_the_same_key(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = IdempotentProvider()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."), times=3)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        assert task.status is Status.UNKNOWN
        vendor.finish("r-0")
        await clock.move(600)
        task = await service.get_task(task.id)
        assert (task.status, task.failure) == (Status.SUCCEEDED, None)
    assert len(vendor.orders) == 1


async def test_a_sure_refusal_is_an_error_gives_the_reservation_back_and_may_be_ordered_again(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.before_start = raising(refusal(InsufficientCreditsError))
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(usd=0.10)), clock
    ) as service:
        with pytest.raises(InsufficientCreditsError):
            await service.outpaint(request())
        (failed,) = [task for task in await service.recent() if task.status is Status.FAILED]
        assert failed.failure is not None
        assert failed.failure.code == "insufficient_credits"
        task = await service.outpaint(request())
        assert task.status is Status.QUEUED
    assert len(vendor.orders) == 1


async def test_a_fault_of_ours_while_ordering_counts_as_unconfirmed(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    vendor.after_start = raising(ZeroDivisionError("a bug"))
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
    assert (task.status, len(vendor.orders)) == (Status.UNKNOWN, 1)


async def test_caps_refuse_before_anything_is_ordered_and_end_with_the_utc_day(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(usd=0.25)), clock
    ) as service:
        for zoom in (1.2, 1.3):
            await service.outpaint(request(zoom=zoom))
        with pytest.raises(BudgetExceededError, match=r"0\.25"):
            await service.outpaint(request(zoom=1.4))
        await service.outpaint(request(task_id="single-2"), client="somebody-else")
        await clock.move(86_400)
        await service.outpaint(request(zoom=1.5))
    assert len(vendor.orders) == 4


async def test_a_cap_in_usd_refuses_a_price_that_is_not_known_unless_one_is_set(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    vendor.usd = {}  # type: ignore[misc]
    async with running(service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(usd=9)), clock) as service:
        with pytest.raises(BudgetExceededError, match="not known"):
            await service.outpaint(request())
    priced = service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(usd=9), prices={"counting": 1.0})
    async with running(priced, clock) as service:
        await service.outpaint(request())
    assert len(vendor.orders) == 1


async def test_a_grid_is_upscaled_first_where_the_vendor_needs_it_as_two_steps_of_one_task(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(usd=0.15)), clock
    ) as service:
        with pytest.raises(InvalidRequestError, match="4 images"):
            await service.outpaint(request(task_id=GRID))
        task = await service.outpaint(request(task_id=GRID, image_index=3))
        assert [step.name for step in task.steps] == [StepName.UPSCALE, StepName.OUTPAINT]
        assert any("0.05" in note for note in task.notes), "the upscale's price is said"
        vendor.finish("r-0")
        await clock.move(10)
        upscale, outpaint = vendor.orders
        assert (upscale.step, upscale.source.index) == (StepName.UPSCALE, 3)  # type: ignore[union-attr]
        assert (outpaint.step, outpaint.source.remote_id) == (StepName.OUTPAINT, "r-0")  # type: ignore[union-attr]
        vendor.finish("r-1", images=4)
        task = await final(service, clock, task)
        assert (task.status, len(task.images)) == (Status.SUCCEEDED, 4)
        assert task.cost is not None
        assert task.cost.amount == 16
    assert len(vendor.orders) == 2


async def test_a_second_step_that_is_refused_fails_the_task_and_frees_only_its_own_money(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = UpscalingProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=2)), clock
    ) as service:
        task = await service.outpaint(request(task_id=GRID, image_index=1))
        vendor.before_start = raising(refusal(ProviderUnavailableError))
        vendor.finish("r-0")
        await clock.move(10)
        task = await service.get_task(task.id)
        assert (task.status, [step.status for step in task.steps]) == (
            Status.FAILED,
            [Status.SUCCEEDED, Status.FAILED],
        )
        await service.outpaint(request())
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(zoom=1.3))


async def test_a_caller_that_goes_away_cancels_nothing(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        async with anyio.create_task_group() as client:
            client.start_soon(service.outpaint, request())
            await anyio.wait_all_tasks_blocked()
            client.cancel_scope.cancel()
        task = await service.outpaint(request())
        vendor.finish("r-0")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    assert len(vendor.orders) == 1


async def test_waiting_callers_share_one_question_and_hear_progress(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    heard: list[float] = []
    found: list[Task] = []

    async def listen(percent: float, message: str) -> None:
        heard.append(percent)

    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.polls.clear()

        async def wait() -> None:
            found.append(await service.get_task(task.id, wait_seconds=45, on_progress=listen))

        async with anyio.create_task_group() as clients:
            for _ in range(5):
                clients.start_soon(wait)
            await clock.until_asleep(5)
            await clock.move(11)
            assert vendor.polls == ["r-0"]
            vendor.finish("r-0")
            await clock.move(40)
    assert [one.status for one in found] == [Status.SUCCEEDED] * 5
    assert heard
    assert max(heard) < 100


async def test_a_wait_ends_in_time_with_the_task_as_it_stands(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    ended: list[Task] = []
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:

        async def call() -> None:
            ended.append(await service.outpaint(request(), wait_seconds=25))

        async with anyio.create_task_group() as client:
            client.start_soon(call)
            await clock.until_asleep()
            await clock.move(24)
            assert not ended
            await clock.until_asleep()
            await clock.move(2)
    assert [task.status for task in ended] == [Status.QUEUED]


async def test_a_task_goes_on_after_a_restart(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
    vendor.finish("r-0")
    async with running(service_over(tmp_path, vendor, clock=clock, owner="two"), clock) as service:
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
        assert (await service.outpaint(request())).id == task.id
    assert len(vendor.orders) == 1


async def test_a_task_that_is_not_finished_in_time_is_unknown_asked_for_rarely_and_still_the_same_orders(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, task_timeout=600), clock) as service:
        task = await service.outpaint(request())
        await clock.move(700)
        task = await service.get_task(task.id)
        assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "timed_out")
        await clock.move(1)
        vendor.polls.clear()
        await clock.move(1800)
        assert len(vendor.polls) == 3, "every 10 minutes"
        assert (await service.outpaint(request())).id == task.id
        vendor.finish("r-0")
        await clock.move(700)
        task = await service.get_task(task.id)
        assert (task.status, task.failure) == (Status.SUCCEEDED, None)
    assert len(vendor.orders) == 1


async def test_after_a_day_a_task_is_no_longer_asked_for(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, poll=(300, 300)), clock) as service:
        await service.outpaint(request())
        await clock.move(25 * 3600)
        vendor.polls.clear()
        await clock.move(3 * 3600)
    assert vendor.polls == []


async def test_a_question_that_fails_is_asked_again_and_noted(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.on_poll = raising(ProviderUnavailableError("The vendor is down."), times=3)
        await clock.move(11)
        task = await service.get_task(task.id)
        assert task.status is Status.QUEUED
        assert any("The vendor is down." in note for note in task.notes)
        vendor.finish("r-0")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED


async def test_a_provider_that_forgets_a_task_is_believed_after_three_times(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        del vendor.taken["r-0"]
        await clock.move(60)
        task = await service.get_task(task.id)
    assert (task.status, task.failure and task.failure.code) == (Status.UNKNOWN, "unknown_task")


async def test_a_failed_task_is_a_result_with_its_failure(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.set("r-0", Status.FAILED)
        task = await final(service, clock, task)
        assert task.status is Status.FAILED
        assert task.failure is not None
        with pytest.raises(InvalidRequestError):
            await service.outpaint(request(task_id=task.id, provider="auto"))
        assert (await service.outpaint(request())).id != task.id, "a failure does not answer for the same order"


async def test_a_source_that_is_not_finished_cannot_be_extended_yet(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        with pytest.raises(NotReadyError):
            await service.outpaint(request(task_id=task.id, provider="auto"))


async def test_a_remote_task_is_adopted_once_and_is_nobody_elses(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        found = await service.get_task(GRID, provider="counting")
        assert (found.status, len(found.images)) == (Status.SUCCEEDED, 4)
        assert (await service.get_task(GRID, provider="counting")).id == found.id
        with pytest.raises(UnknownTaskError):
            await service.get_task(GRID, provider="counting", client="somebody-else")
        with pytest.raises(UnknownTaskError):
            await service.get_task(found.id, client="somebody-else")
        with pytest.raises(UnknownTaskError):
            await service.get_task("nothing", provider="counting")
    async with running(service_over(tmp_path, vendor, clock=clock, import_tasks=False), clock) as service:
        with pytest.raises(UnknownTaskError):
            await service.get_task(SINGLE, provider="counting")


async def test_a_webhook_is_sent_along_and_kept_off_the_disk(tmp_path: Path, clock: MovedClock) -> None:
    vendor = UpscalingProvider()
    webhook = Webhook("https://example.com/hook?token=planted-query", "planted-secret")
    order = request(task_id=GRID, image_index=1, webhook=webhook)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(order)
        assert task.request["webhook_url"] == "https://example.com/hook"
        assert vendor.orders[0].webhook is None, "the upscale is only a step"
    vendor.finish("r-0")
    async with running(service_over(tmp_path, vendor, clock=clock, owner="two"), clock) as service:
        await clock.move(20)
        task = await service.get_task(task.id)
    assert vendor.orders[1].webhook is None
    assert any("webhook" in note for note in task.notes), "a step ordered after a restart goes without it, and says so"
    assert b"planted" not in stored_bytes(tmp_path)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        await service.outpaint(request(webhook=webhook))
    assert vendor.orders[2].webhook == webhook


# What vendors report before the end


@pytest.mark.parametrize("interim", [0, 0.02])
async def test_a_limit_holds_while_a_vendor_reports_a_cost_that_is_not_the_whole_yet(
    tmp_path: Path, clock: MovedClock, interim: float
) -> None:
    vendor = CountingProvider()
    limits = DailyLimits(usd=0.25)
    async with running(service_over(tmp_path, vendor, clock=clock, daily_limits=limits), clock) as service:
        for number in range(2):
            await service.outpaint(request(zoom=1.2 + number / 10))
            vendor.set(f"r-{number}", Status.RUNNING, cost=Cost(amount=interim, unit="USD", usd=interim))
        await clock.move(30)
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(zoom=1.9))
        vendor.finish("r-0")
        vendor.set("r-0", Status.SUCCEEDED, cost=Cost(amount=0.04, unit="USD", usd=0.04))
        await clock.move(30)
        await service.outpaint(request(zoom=1.9))
    assert len(vendor.orders) == 3, "what it cost in the end counts"


@pytest.mark.parametrize("usd", [-5.0, 1e300, -0.01])
@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED])
async def test_a_cost_that_cannot_be_right_changes_nothing_and_is_noted(
    tmp_path: Path, clock: MovedClock, usd: float, status: Status
) -> None:
    vendor = CountingProvider()
    limits = DailyLimits(usd=0.15)
    async with running(service_over(tmp_path, vendor, clock=clock, daily_limits=limits), clock) as service:
        task = await service.outpaint(request())
        vendor.finish("r-0")
        images = vendor.taken["r-0"].images
        vendor.set("r-0", status, images=images, cost=Cost(amount=usd, unit="USD", usd=usd))
        await clock.move(30)
        task = await service.get_task(task.id)
        assert task.cost is None
        assert any("cannot be right" in note for note in task.notes)
        with pytest.raises(BudgetExceededError):
            await service.outpaint(request(zoom=1.9))
