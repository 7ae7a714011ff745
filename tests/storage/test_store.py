import contextlib
import sqlite3
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import CLAIM_SECONDS, Record
from outpaint_mcp.storage.sqlite.database import Database
from outpaint_mcp.storage.sqlite.schema import MIGRATIONS
from outpaint_mcp.storage.sqlite.store import SqliteStore

from .claim_many import NOW, record

CLAIMS = Path(__file__).with_name("claim_many.py")


async def taken(store: SqliteStore, now: float) -> list[str]:
    """The ids of the tasks that are due, which are claimed for this store's process."""
    due, _ = await store.take_due(lambda provider: 99, now=now)
    return [one.task_id for one in due]


async def claim(store: SqliteStore, made: Record, *, now: float = NOW, repeat: bool = False) -> tuple[Record, bool]:
    return await store.claim(made, now=now, repeat=repeat, limits=DailyLimits(), count_orders=True)


async def test_an_older_file_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    older = SqliteStore(tmp_path / "store.db", "one")
    made, _ = await claim(older, record("a", owner="one"))
    await older.aclose()
    newer = SqliteStore(tmp_path / "store.db", "two", migrations=(*MIGRATIONS, "CREATE TABLE more (id TEXT)"))
    found = await newer.get(made.task.id)
    await newer.aclose()
    assert found is not None
    assert found.task == made.task
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert db.execute("SELECT count(*) FROM more").fetchone() == (0,)
    db.close()


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    newer = SqliteStore(tmp_path / "store.db", "one", migrations=(*MIGRATIONS, "CREATE TABLE more (id TEXT)"))
    await newer.get("op-x")
    await newer.aclose()
    before = (tmp_path / "store.db").read_bytes()
    older = SqliteStore(tmp_path / "store.db", "two")
    with pytest.raises(ConfigurationError, match="newer outpaint-mcp"):
        await claim(older, record("a", owner="two"))
    assert (tmp_path / "store.db").read_bytes() == before


async def test_a_file_that_another_program_holds_is_said(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", "one", busy_seconds=0.05)
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
    store = SqliteStore(path, "one")
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
        stores = [SqliteStore(tmp_path / f"{attempt}.db", f"{number}") for number in range(4)]
        async with anyio.create_task_group() as opening:
            for store in stores:
                opening.start_soon(taken, store, NOW)
        for store in stores:
            await store.aclose()


async def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", "one")
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
async def test_its_connection_is_used_by_one_thread_at_a_time(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db", migrations=(), busy_seconds=1)
    database._limiter.total_tokens = 3  # anyio before 4.15 lets a second one in at times
    inside, most = 0, 0

    def work(db: sqlite3.Connection) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1

    async def work_again() -> None:
        for _ in range(5):
            await database._run(work)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(work_again)
    await database.aclose()
    assert most == 1


async def test_a_place_that_cannot_be_written_to_is_said() -> None:
    with pytest.raises(ConfigurationError, match="OUTPAINT_DATA_DIR"):
        await claim(SqliteStore(Path("/proc/outpaint/store.db"), "one"), record("a", owner="one"))


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="OUTPAINT_DATA_DIR"):
        await claim(SqliteStore(tmp_path / "file" / "store.db", "one"), record("a", owner="one"))


async def test_a_due_task_is_first_its_own_processs_until_it_is_late(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "store.db", "one"), SqliteStore(tmp_path / "store.db", "two")
    made, _ = await claim(one, record("a", owner="one"))
    await one.mark_sent(made.task.id, 0, now=NOW)
    await one.save(replace(made, due_at=NOW + 100))
    assert await taken(two, NOW + 101) == [], "the first one may hold in memory what the order was sent with"
    assert await taken(two, NOW + 100 + CLAIM_SECONDS) == [made.task.id]
    await one.aclose()
    await two.aclose()


async def test_a_task_that_is_just_released_is_not_claimed_and_lost_again(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "store.db", "one"), SqliteStore(tmp_path / "store.db", "two")
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


def spoil(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"this is no database" * 1000)


async def test_a_file_that_is_spoilt_while_it_is_open_is_a_clear_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", "one")
    made, _ = await claim(store, record("a", owner="one"))
    spoil(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await store.get(made.task.id)
    with pytest.raises(ConfigurationError):
        await store.aclose()
