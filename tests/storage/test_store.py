import contextlib
import sqlite3
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError, ConfigurationError
from outpaint_mcp.domain.record import CLAIM_SECONDS, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.schema import MIGRATIONS
from outpaint_mcp.storage.store import Store

from .claim_many import NOW, record

CLAIMS = Path(__file__).with_name("claim_many.py")


async def taken(store: Store, now: float) -> list[str]:
    """The ids of the tasks that are due, which are claimed for this store's process."""
    due, _ = await store.take_due(lambda provider: 99, now=now)
    return [one.task_id for one in due]


async def claim(store: Store, made: Record, *, now: float = NOW, repeat: bool = False) -> tuple[Record, bool]:
    return await store.claim(made, now=now, repeat=repeat, limits=DailyLimits(), count_orders=True)


async def test_an_older_file_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    older = Store(tmp_path / "store.db", "one")
    made, _ = await claim(older, record("a", owner="one"))
    await older.aclose()
    newer = Store(tmp_path / "store.db", "two", migrations=(*MIGRATIONS, "CREATE TABLE more (id TEXT PRIMARY KEY)"))
    found = await newer.get(made.task.id)
    await newer.aclose()
    assert found is not None
    assert found.task == made.task
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert db.execute("SELECT count(*) FROM more").fetchone() == (0,)
    db.close()


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    newer = Store(tmp_path / "store.db", "one", migrations=(*MIGRATIONS, "CREATE TABLE more (id TEXT)"))
    await newer.get("op-x")
    await newer.aclose()
    before = (tmp_path / "store.db").read_bytes()
    older = Store(tmp_path / "store.db", "two")
    with pytest.raises(ConfigurationError, match="newer outpaint-mcp"):
        await claim(older, record("a", owner="two"))
    assert (tmp_path / "store.db").read_bytes() == before


async def test_a_file_that_another_program_holds_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", "one", busy_seconds=0.05)
    await store.get("op-x")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ConfigurationError, match="locked"):
            await claim(store, record("a", owner="one"))
    finally:
        other.execute("ROLLBACK")
        other.close()
    _, may_send = await claim(store, record("a", owner="one"))
    await store.aclose()
    assert may_send


async def test_a_process_that_writes_nearly_all_the_time_keeps_no_other_out(tmp_path: Path) -> None:
    path, done = tmp_path / "store.db", threading.Event()
    store = Store(path, "one")
    await store.check()

    def write() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        while not done.is_set():
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.03)
                other.execute("COMMIT")
            time.sleep(0.0005)
        other.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, write)
        try:
            for _ in range(20):
                await store.wake_all(now=NOW)
        finally:
            done.set()
    await store.aclose()


async def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    for attempt in range(20):
        stores = [Store(tmp_path / f"{attempt}.db", f"{number}") for number in range(4)]
        async with anyio.create_task_group() as opening:
            for store in stores:
                opening.start_soon(taken, store, NOW)
        for store in stores:
            await store.aclose()


async def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", "one")
    await store.get("op-x")
    assert store._connection is not None
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    async def fill() -> None:
        for number in range(1000):
            await claim(store, record(f"{number}", owner="one"))

    with pytest.raises(ConfigurationError, match="full"):
        await fill()
    stored = await store.recent("local", 2000)
    orders = store._connection.execute("SELECT count(*) FROM orders").fetchone()[0]
    await store.aclose()
    assert len(stored) == orders


@pytest.mark.skipif(sys.platform != "linux", reason="needs a place that not even root may write to")
async def test_a_place_that_cannot_be_written_to_is_said() -> None:
    with pytest.raises(ConfigurationError, match="OUTPAINT_DATA_DIR"):
        await claim(Store(Path("/proc/outpaint/store.db"), "one"), record("a", owner="one"))


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="OUTPAINT_DATA_DIR"):
        await claim(Store(tmp_path / "file" / "store.db", "one"), record("a", owner="one"))


async def test_what_was_never_sent_is_sent_by_the_same_call_once_its_process_is_gone(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
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
    await one.aclose()
    await two.aclose()


async def test_the_tasks_of_a_process_that_is_gone_are_taken_over_when_its_claim_has_ended(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    assert await taken(two, NOW + CLAIM_SECONDS - 1) == []
    assert await taken(two, NOW + CLAIM_SECONDS + 1) == [made.task.id]
    assert await taken(two, NOW + CLAIM_SECONDS + 2) == [], "once"
    assert await taken(one, NOW + CLAIM_SECONDS + 2) == [], "and it is no longer its first process's"
    await one.aclose()
    await two.aclose()


async def test_a_claim_of_a_clock_that_was_set_back_since_is_none(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"), now=NOW + 86_400)
    await one.mark_sent(made.task.id, 0, now=NOW + 86_400)
    assert await taken(two, NOW) == [made.task.id]
    assert not await one.save(made), "it was taken over"
    await one.aclose()
    await two.aclose()


async def test_a_task_that_is_just_released_is_not_claimed_and_lost_again(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"))
    assert await taken(two, NOW + CLAIM_SECONDS + 1) == [made.task.id]
    owned: list[Record | None] = []

    async def own() -> None:
        owned.append(await two.own(made.task.id, now=NOW + CLAIM_SECONDS + 1))

    async with anyio.create_task_group() as calls, two._limiter:
        # Both wait for the one connection, in this order.
        calls.start_soon(own)
        await anyio.wait_all_tasks_blocked()
        calls.start_soon(two.release, made.task.id, NOW + 600)
        await anyio.wait_all_tasks_blocked()
    if owned == [None]:
        await own()
    assert owned[-1] is not None
    assert await two.mark_sent(made.task.id, 0, now=NOW + CLAIM_SECONDS + 2), "whoever has claimed it may send it"
    await one.aclose()
    await two.aclose()


async def test_no_provider_gets_more_than_there_is_room_for_and_what_is_left_is_due_still(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    for number in range(5):
        made, _ = await claim(one, record(f"{number}", owner="one"))
        await one.mark_sent(made.task.id, 0, now=NOW)
    await one.aclose()
    due, next_at = await two.take_due(lambda provider: 3, now=NOW + 1)
    assert len(due) == 3
    assert next_at is not None
    assert next_at <= NOW + 2
    assert await two.take_due(lambda provider: 0, now=NOW + 1) == ([], None)
    assert len(await taken(two, NOW + 1)) == 2
    await two.aclose()


async def test_a_task_that_was_asked_for_in_vain_is_due_when_its_process_said_so(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.save(replace(made, due_at=NOW + 1))
    assert await taken(one, NOW + 1) == [made.task.id]
    one.nothing_new(made.task.id, asked_at=NOW + 2, due_at=NOW + 100)
    assert await one.take_due(lambda provider: 99, now=NOW + 2) == ([], NOW + 100)
    assert await taken(two, NOW + 100) == [], "it is first its own process's"
    assert await taken(one, NOW + 100) == [made.task.id]
    one.nothing_new(made.task.id, asked_at=NOW + 101, due_at=NOW + 200)
    await one.aclose()
    assert await taken(two, NOW + 199) == []
    assert await taken(two, NOW + 200) == [made.task.id]
    await two.aclose()


async def test_the_newest_task_answers_for_an_order_made_again_though_the_clock_was_set_back_since(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store.db", "one")
    try:
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
    finally:
        await store.aclose()


async def test_a_process_that_ends_leaves_its_tasks_to_the_next_at_once(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "store.db", "one"), Store(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.aclose()
    assert await taken(two, NOW + 1) == [made.task.id]
    await two.aclose()


async def test_a_cap_counts_every_order_of_the_day(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", "one")
    for number, caps in enumerate([DailyLimits(orders=1), DailyLimits(usd=0.2)]):
        await store.claim(record(f"{number}", owner="a"), now=NOW, repeat=False, limits=caps, count_orders=True)
    with pytest.raises(BudgetExceededError, match="2 orders"):
        await store.claim(
            record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(orders=2), count_orders=True
        )
    with pytest.raises(BudgetExceededError, match=r"\$0\.2"):
        await store.claim(record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(usd=0.2), count_orders=True)
    await store.claim(record("x", owner="a"), now=NOW, repeat=False, limits=DailyLimits(orders=0), count_orders=False)
    await store.aclose()


async def processes(path: Path, count: int, *arguments: str) -> list[int]:
    printed: list[int] = []

    async def one(name: str) -> None:
        done = await anyio.run_process([sys.executable, str(CLAIMS), str(path), name, *arguments])
        printed.append(int(done.stdout))

    async with anyio.create_task_group() as running:
        for number in range(count):
            running.start_soon(one, f"p{number}")
    return printed


async def test_two_processes_with_the_same_hundred_orders_send_each_once(tmp_path: Path) -> None:
    assert sum(await processes(tmp_path / "store.db", 2, "same", "100")) == 100


async def test_a_cap_holds_under_fifty_parallel_calls_in_four_processes(tmp_path: Path) -> None:
    assert sum(await processes(tmp_path / "store.db", 4, "caps", "50", "37")) == 37


def spoil(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"this is no database" * 1000)


async def test_a_file_that_is_spoilt_while_it_is_open_is_a_clear_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", "one")
    made, _ = await claim(store, record("a", owner="one"))
    spoil(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await store.get(made.task.id)
    with pytest.raises(ConfigurationError):
        await store.aclose()
