"""What is counted as it changes is what a count of everything would give."""

import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError, ConfigurationError
from outpaint_mcp.domain.record import Counts, OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.rows import day_of
from outpaint_mcp.storage.sqlite.store import SqliteStore

from .claim_many import NOW, record

DAY = 86_400


def counted_anew(path: Path, day: str) -> Counts:
    """The same by looking at every row."""
    db = sqlite3.connect(path)
    tasks = Counter(db.execute("SELECT provider, status FROM tasks"))
    ours = "SELECT provider, state FROM orders WHERE task_id IN (SELECT id FROM tasks WHERE order_hash IS NOT NULL)"
    orders = Counter(db.execute(ours))
    used: dict[str, DailyLimits] = {}
    for client, usd in db.execute("SELECT caller, usd FROM orders WHERE day = ? AND reserved = 1", (day,)):
        before = used.get(client, DailyLimits(0, 0))
        used[client] = DailyLimits((before.usd or 0) + (usd or 0), (before.orders or 0) + 1)
    db.close()
    return Counts(dict(orders), dict(tasks), used)


async def same(store: SqliteStore, path: Path, *times: float) -> None:
    for now in times or (NOW, NOW + DAY):
        found, wanted = replace(await store.counts(now), due={}, waiting={}), counted_anew(path, day_of(now))
        assert (found.orders, found.tasks, found.used.keys()) == (wanted.orders, wanted.tasks, wanted.used.keys())
        for client, used in wanted.used.items():
            assert found.used[client].orders == used.orders
            assert found.used[client].usd == pytest.approx(used.usd)


def changed(made: Record, chance: random.Random) -> Record:
    task = made.task.model_copy(update={"status": chance.choice(list(Status))})
    steps = tuple(
        replace(
            step,
            state=chance.choice(list(OrderState)),
            usd=chance.choice([None, 0.1, 0.25, 1e-9]),
            reserved=chance.random() < 0.7,
        )
        for step in made.steps
    )
    return replace(made, task=task, steps=steps)


@pytest.mark.parametrize("seed", range(3))
async def test_the_counters_are_a_full_count_after_any_operations_and_what_was_rolled_back(
    tmp_path: Path, seed: int
) -> None:
    chance, path = random.Random(seed), tmp_path / "store.db"  # noqa: S311
    store = SqliteStore(path, "one")
    made: list[Record] = []
    for number in range(60):
        limits = DailyLimits(orders=chance.choice([None, 5]))
        fresh = replace(record(f"{number}", owner="one"), client=chance.choice(["ann", "bob"]))
        now = NOW + chance.choice([0, DAY])
        match chance.choice(["claim", "claim", "import", "save", "sent", "broken"]):
            case "claim":
                try:
                    found, _ = await store.claim(fresh, now=now, repeat=False, limits=limits, count_orders=True)
                    made.append(found)
                except BudgetExceededError:
                    continue
            case "import":
                await store.import_task(replace(fresh, identity=None), now=now)
            case "save" if made:
                await store.save(changed(chance.choice(made), chance))
            case "sent" if made:
                await store.mark_sent(chance.choice(made).task.id, 0, now=now)
            case "broken" if made:
                # Its second order cannot be written: the transaction is rolled back, with what was counted.
                twice = replace(fresh, steps=(fresh.steps[0], fresh.steps[0]))
                with pytest.raises(ConfigurationError):
                    await store.claim(twice, now=now, repeat=False, limits=DailyLimits(), count_orders=True)
        if number % 10 == 9:
            await same(store, path)
    assert made
    await store.aclose()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM orders WHERE task_id IN (SELECT id FROM tasks WHERE rowid % 2)")
        db.execute("DELETE FROM tasks WHERE rowid % 2")
    db.close()
    await same(store, path)
    await store.aclose()


async def test_what_an_older_store_holds_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    path = Path(shutil.copy(Path(__file__).with_name("version_1.db"), tmp_path / "store.db"))
    store = SqliteStore(path, "two")
    await same(store, path, datetime(2027, 1, 15, tzinfo=UTC).timestamp())
    await store.aclose()


async def test_counting_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path, "one", busy_seconds=60)
    await store.check()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with anyio.fail_after(30):
        await store.counts(NOW)
    other.execute("ROLLBACK")
    other.close()
    await store.aclose()
