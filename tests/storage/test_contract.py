"""What must hold of every store, whatever its database."""

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.domain.clock import SystemClock, Uptime
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import CLAIM_SECONDS, LastAnswer, OrderState, Record
from outpaint_mcp.domain.task import Cost, Status, StoredImage
from outpaint_mcp.storage.store import Store

from .claim_many import NOW, open_store, record

CLAIMS = Path(__file__).with_name("claim_many.py")
Open = Callable[[str], Store]
"""Opens the one store for a process of this name."""


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store is: a file, or a database's URL."""
    return str(tmp_path / "store.db") if request.param == "sqlite" else request.getfixturevalue("database_url")


@pytest.fixture
async def opened(place: str) -> AsyncIterator[Open]:
    stores: list[Store] = []

    def open_one(owner: str) -> Store:
        stores.append(open_store(place, owner))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.aclose()


async def taken(store: Store, now: float) -> list[str]:
    """The ids of the tasks that are due, which are claimed for this store's process."""
    due, _ = await store.take_due(lambda provider: 99, now=now)
    return [one.task_id for one in due]


async def claim(store: Store, made: Record, *, now: float = NOW, repeat: bool = False) -> tuple[Record, bool]:
    return await store.claim(made, now=now, repeat=repeat, limits=DailyLimits(), count_orders=True)


async def test_what_was_never_sent_is_sent_by_the_same_call_once_its_process_is_gone(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, may_send = await claim(one, record("a", owner="one"))
    assert may_send
    found, may_send = await claim(two, record("a", owner="two"), now=NOW + CLAIM_SECONDS - 1)
    assert (found.task.id, may_send) == (made.task.id, False), "its process is alive"
    found, may_send = await claim(two, record("a", owner="two"), now=NOW + CLAIM_SECONDS + 1)
    assert (found.task.id, may_send) == (made.task.id, True)
    assert await two.mark_sent(made.task.id, 0, now=NOW)
    assert not await one.mark_sent(made.task.id, 0, now=NOW), "once, whoever comes second"
    assert not await one.save(found), "it is no longer its task"
    assert await one.save(found, force=True), "but an answer is never lost"


async def test_the_tasks_of_a_process_that_is_gone_are_taken_over_when_its_claim_has_ended(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    assert await taken(two, NOW + CLAIM_SECONDS - 1) == []
    assert await taken(two, NOW + CLAIM_SECONDS + 1) == [made.task.id]
    assert await taken(two, NOW + CLAIM_SECONDS + 2) == [], "once"
    assert await taken(one, NOW + CLAIM_SECONDS + 2) == [], "and it is no longer its first process's"


async def test_a_claim_of_a_clock_that_was_set_back_since_is_none(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, _ = await claim(one, record("a", owner="one"), now=NOW + 86_400)
    await one.mark_sent(made.task.id, 0, now=NOW + 86_400)
    assert await taken(two, NOW) == [made.task.id]
    assert not await one.save(made), "it was taken over"


async def test_no_provider_gets_more_than_there_is_room_for_and_what_is_left_is_due_still(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    for number in range(5):
        made, _ = await claim(one, record(f"{number}", owner="one"))
        await one.mark_sent(made.task.id, 0, now=NOW)
    await one.aclose()
    due, next_at = await two.take_due(lambda provider: 3, now=NOW + 1)
    assert len(due) == 3
    assert next_at is not None
    assert next_at <= NOW + 2
    none, next_at = await two.take_due(lambda provider: 0, now=NOW + 1)
    assert none == []
    assert next_at is None or next_at > NOW + 2, "there is nothing to do until there is room"
    assert len(await taken(two, NOW + 1)) == 2


async def test_a_task_that_was_asked_for_in_vain_is_due_when_its_process_said_so(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.save(replace(made, due_at=NOW + 1))
    assert await taken(one, NOW + 1) == [made.task.id]
    one.nothing_new(made.task.id, asked_at=NOW + 2, due_at=NOW + 100)
    none, next_at = await one.take_due(lambda provider: 99, now=NOW + 2)
    assert none == []
    assert next_at is not None
    assert NOW + 5 < next_at <= NOW + 100
    assert await taken(one, NOW + 99) == []
    due, _ = await one.take_due(lambda provider: 99, now=NOW + 100)
    assert [(found.task_id, found.due_at) for found in due] == [(made.task.id, NOW + 100)]
    one.nothing_new(made.task.id, asked_at=NOW + 101, due_at=NOW + 200)
    await one.aclose()
    assert await taken(two, NOW + 199) == []
    assert await taken(two, NOW + 200) == [made.task.id]


async def test_the_newest_task_answers_for_an_order_made_again_though_the_clock_was_set_back_since(
    opened: Open,
) -> None:
    store = opened("one")
    for number, now in enumerate((NOW, NOW - 3600)):
        made = record("same", owner=f"{number}")
        task = made.task.model_copy(update={"created_at": datetime.fromtimestamp(now, UTC)})
        made = replace(made, task=task)
        await store.claim(made, now=now, repeat=True, limits=DailyLimits(), count_orders=True)
        done = {"status": Status.SUCCEEDED, "finished_at": datetime.fromtimestamp(now, UTC)}
        await store.save(replace(made, task=task.model_copy(update=done), due_at=None))
    again = record("same", owner="again")
    found, _ = await store.claim(again, now=NOW - 3600, repeat=False, limits=DailyLimits(), count_orders=True)
    assert found.task.id == "op-1-same"


async def test_a_process_that_ends_leaves_its_tasks_to_the_next_at_once(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.aclose()
    assert await taken(two, NOW + 1) == [made.task.id]


async def test_a_cap_counts_every_order_of_the_day(opened: Open) -> None:
    store = opened("one")
    for number, caps in enumerate([DailyLimits(orders=1), DailyLimits(usd=0.2)]):
        await store.claim(record(f"{number}", owner="a"), now=NOW, repeat=False, limits=caps, count_orders=True)
    with pytest.raises(BudgetExceededError, match="2 orders"):
        await store.claim(
            record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(orders=2), count_orders=True
        )
    with pytest.raises(BudgetExceededError, match=r"\$0\.2"):
        await store.claim(record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(usd=0.2), count_orders=True)
    await store.claim(record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(orders=0), count_orders=False)


async def processes(place: str, count: int, *arguments: str) -> list[int]:
    printed: list[int] = []

    async def one(name: str) -> None:
        done = await anyio.run_process([sys.executable, str(CLAIMS), place, name, *arguments])
        printed.append(int(done.stdout))

    async with anyio.create_task_group() as running:
        for number in range(count):
            running.start_soon(one, f"p{number}")
    return printed


async def test_two_processes_with_the_same_hundred_orders_send_each_once(place: str) -> None:
    assert sum(await processes(place, 2, "same", "100")) == 100


async def test_a_cap_holds_under_fifty_parallel_calls_in_four_processes(place: str) -> None:
    assert sum(await processes(place, 4, "caps", "50", "37")) == 37


async def test_another_process_hears_of_a_task_whose_status_has_changed(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    await two.heard(SystemClock())
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    running = made.task.model_copy(update={"status": Status.RUNNING})
    with anyio.fail_after(5):
        await one.save(replace(made, task=running))
        changed = await two.heard(SystemClock())
    assert changed is None or set(changed) == {made.task.id}
    assert [(event.task_id, event.status) for event in await two.events([made.task.id])] == [
        (made.task.id, Status.RUNNING)
    ]


async def test_a_task_is_woken_at_once_or_when_whoever_is_at_work_on_it_has_done(opened: Open) -> None:
    store = opened("one")
    made, _ = await claim(store, record("a", owner="one"))
    await store.mark_sent(made.task.id, 0, now=NOW)
    await store.wake(made.task.id, NOW + 1, called_back=True)
    assert await taken(store, NOW + 1) == [], "it is at work on it"
    await store.save(replace(made, due_at=NOW + 300, calls_back=True))
    due, _ = await store.take_due(lambda provider: 99, now=NOW + 1)
    assert [(one.task_id, one.calls_back) for one in due] == [(made.task.id, False)]
    await store.release(made.task.id, NOW + 300)
    await store.wake(made.task.id, NOW + 2)
    await store.wake(made.task.id, NOW + 50)
    assert await taken(store, NOW + 2) == [made.task.id]


async def test_nobody_claims_a_task_that_somebody_in_the_same_process_is_at_work_on(opened: Open) -> None:
    store = opened("one")
    made, _ = await claim(store, record("a", owner="one"))
    assert store.is_held(made.task.id)
    assert await store.own(made.task.id, now=NOW) is None
    assert await claim(store, record("a", owner="again")) == (made, False)
    await store.release(made.task.id, NOW + 100)
    async with anyio.create_task_group() as calls:
        owned: list[Record | None] = []

        async def own() -> None:
            owned.append(await store.own(made.task.id, now=NOW + 1))

        for _ in range(5):
            calls.start_soon(own)
    assert [found is not None for found in owned].count(True) == 1
    assert next(found.due_at for found in owned if found) == NOW + 100, "when it was due before"


async def test_what_is_written_of_a_task_is_what_is_read(opened: Open) -> None:
    store = opened("one")
    made, _ = await claim(store, record("a", owner="one"))
    await store.mark_sent(made.task.id, 0, now=NOW)
    step = replace(
        made.steps[0], state=OrderState.ACCEPTED, remote_id="r-1", reserved=True, cost=Cost(amount=0.5, unit="USD")
    )
    told = LastAnswer("r-1", "job", StepName.OUTPAINT, "digest", NOW + 1, Uptime("boot", 7.5))
    written = replace(
        made,
        task=made.task.model_copy(update={"status": Status.RUNNING, "remote_id": "r-1"}),
        steps=(step,),
        reference="job",
        is_grid=True,
        zooms=False,
        due_at=NOW + 30,
        copies={1: StoredImage("0" * 64, "image/png", None, None)},
        last_answer=told,
        failures=2,
        calls_back=True,
    )
    assert await store.save(written)
    assert await store.get(made.task.id) == written
    assert await store.find_remote("counting", "r-1") == written
    assert await store.find_remote("counting", "r-1", "local", last=True) == written
    assert await store.find_remote("counting", "r-1", "another") is None
    assert await store.recent("local", 10) == [written]
    assert await store.ids("local", made.task.id[:5], 10, Status.RUNNING) == [made.task.id]
    assert await store.ids("local", "op-%", 10) == []
    assert await store.owner_of("local", "0" * 64) == (made.task.id, 1)
    assert await store.owner_of("another", "0" * 64) is None
    counts = await store.counts(NOW)
    assert counts.orders == {("counting", "accepted"): 1}
    assert counts.tasks == {("counting", "running"): 1}
    assert counts.used == {"local": DailyLimits(0.1, 1)}
    assert counts.due == {"counting": NOW + 30}
    assert counts.waiting == {}


async def test_a_task_that_was_made_elsewhere_is_kept_once(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made = record("a", owner="one")
    task = made.task.model_copy(update={"remote_id": "r-1"})
    step = replace(made.steps[0], state=OrderState.ACCEPTED, remote_id="r-1")
    made = replace(made, identity=None, task=task, steps=(step,), due_at=NOW)
    again = replace(made, task=task.model_copy(update={"id": "op-again"}))
    kept: list[Record] = []

    async def keep(store: Store, what: Record) -> None:
        kept.append(await store.import_task(what, now=NOW))

    async with anyio.create_task_group() as both:
        both.start_soon(keep, one, made)
        both.start_soon(keep, two, again)
    assert len({found.task.id for found in kept}) == 1
    assert [*await taken(one, NOW), *await taken(two, NOW)] == [kept[0].task.id]
    assert (await one.counts(NOW)).orders == {}, "it is no order of ours"


async def test_only_what_nothing_depends_on_is_pruned(opened: Open) -> None:
    store = opened("one")
    ended = {"finished_at": datetime.fromtimestamp(NOW + 1, UTC)}
    for name, identity, status in (("done", "a", "succeeded"), ("old", "b", "failed"), ("open", "b", "unknown")):
        made = record(identity, owner=name)
        made, _ = await store.claim(made, now=NOW, repeat=True, limits=DailyLimits(), count_orders=True)
        await store.mark_sent(made.task.id, 0, now=NOW)
        changed = made.task.model_copy(update={"status": Status(status), **ended})
        await store.save(replace(made, task=changed, due_at=None))
    await store.prune(finished_before=NOW)
    assert len(await store.ids("local", "", 10)) == 3
    await store.prune(finished_before=NOW + 1000)
    assert await store.ids("local", "", 10) == ["op-open-b", "op-old-b"], (
        "an order of unknown fate, and what came after"
    )


async def test_what_a_text_of_a_vendor_holds_never_keeps_an_answer_from_being_stored(opened: Open) -> None:
    store = opened("one")
    made, _ = await claim(store, record("a", owner="one"))
    await store.mark_sent(made.task.id, 0, now=NOW)
    step = replace(made.steps[0], state=OrderState.ACCEPTED, remote_id="r\0-\U0001f600")
    assert await store.save(replace(made, steps=(step,), reference="\0"), force=True)
    found = await store.get(made.task.id)
    assert found is not None
    assert found.steps[0].state is OrderState.ACCEPTED
    assert found.steps[0].remote_id in ("r\0-\U0001f600", "r\ufffd-\U0001f600")


async def test_no_more_tasks_run_at_a_provider_than_there_are_places_and_who_waits_longest_is_next(
    opened: Open,
) -> None:
    stores = [opened(f"{number}") for number in range(2)]
    made = []
    for number in range(6):
        task, _ = await claim(stores[number % 2], record(f"{number}", owner="one"), now=NOW + number)
        made.append(task)
    placed: list[str] = []

    async def take(number: int) -> None:
        if await stores[number % 2].take_place(made[number].task.id, most=2, now=NOW + 10 + number):
            placed.append(made[number].task.id)

    async with anyio.create_task_group() as calls:
        for number in range(6):
            calls.start_soon(take, number)
    assert len(placed) == 2
    waiting = [one for one in made if one.task.id not in placed]
    for number, one in enumerate(made):
        if one in waiting:
            await stores[number % 2].save(replace(one, due_at=NOW + 600))
            found = await stores[0].get(one.task.id)
            assert found is not None
            assert found.waits
    assert (await stores[0].counts(NOW)).waiting == {"counting": 4}
    done = next((number, one) for number, one in enumerate(made) if one.task.id == placed[0])
    await stores[done[0] % 2].mark_sent(placed[0], 0, now=NOW + 30)
    over = done[1].task.model_copy(update={"status": Status.FAILED})
    await stores[done[0] % 2].save(replace(done[1], task=over, due_at=None))
    due = {one: store for store in stores for one in await taken(store, NOW + 30) if one not in placed}
    assert list(due) == [waiting[0].task.id], "who waits longest"
    (store,) = due.values()
    assert await store.take_place(waiting[0].task.id, most=2, now=NOW + 31)
    found = await store.get(waiting[0].task.id)
    assert found is not None
    assert not found.waits


async def test_a_task_that_its_process_alone_can_ask_for_is_left_to_it_until_it_is_late(opened: Open) -> None:
    one, two = opened("one"), opened("two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.save(replace(made, due_at=NOW + 100, stays=True))
    assert await taken(two, NOW + 101) == []
    assert await two.own(made.task.id, now=NOW + 101) is None
    assert await taken(one, NOW + 101) == [made.task.id]
    one.nothing_new(made.task.id, asked_at=NOW + 101, due_at=NOW + 200)
    await one.take_due(lambda provider: 99, now=NOW + 102)
    assert await taken(two, NOW + 201) == []
    assert await taken(two, NOW + 200 + CLAIM_SECONDS) == [made.task.id], "it is gone"


async def test_the_open_tasks_of_a_client_are_counted(opened: Open) -> None:
    one = opened("one")
    made = [await claim(one, record(f"{number}", owner="one")) for number in range(2)]
    assert await one.open_tasks("local", "counting") == 2
    assert await one.open_tasks("local", "other") == await one.open_tasks("another", "counting") == 0
    done = made[0][0]
    finished = done.task.model_copy(update={"status": Status.SUCCEEDED})
    await one.save(replace(done, task=finished, due_at=None))
    assert await one.open_tasks("local", "counting") == 1
