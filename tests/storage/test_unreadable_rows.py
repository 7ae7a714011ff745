"""A row that cannot be read breaks nothing but itself, and is never taken for an order that was not placed."""

import sqlite3
from pathlib import Path

import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import LEASE_SECONDS
from outpaint_mcp.storage.store import Store

from .claim_many import NOW, record

LATER = NOW + 10 * LEASE_SECONDS
TASK_COLUMNS = (
    *("provider", "order_hash", "source_hash", "status", "task", "plan", "reference", "is_grid", "created_at"),
    *("finished_at", "due_at", "owner", "change"),
)
STEP_COLUMNS = ("name", "provider", "caller", "state", "remote_id", "day", "usd", "reserved", "cost", "status")
COLUMNS = [("tasks", column) for column in TASK_COLUMNS] + [("orders", column) for column in STEP_COLUMNS]


@pytest.mark.parametrize("value", ["{broken", b"\xff\x00", "[1]"])
@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_an_unreadable_row_breaks_no_other(tmp_path: Path, table: str, column: str, value: str | bytes) -> None:
    path = tmp_path / "store.db"
    limits = DailyLimits()
    first = Store(path, "one")
    for name in ("bad", "good"):
        await first.claim(record(name, owner="one"), now=NOW, repeat=False, limits=limits, count_orders=True)
        await first.mark_sent(f"op-one-{name}", 0, now=NOW)
    await first.aclose()
    key = "id" if table == "tasks" else "task_id"
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = 'op-one-bad'", (value,))  # noqa: S608
    db.close()

    store = Store(path, "two")
    try:
        assert "op-one-good" in {one.task.id for one in await store.recent("local", 9)}
        assert "op-one-good" in {task_id for task_id, *_ in (await store.changes(0))[1]}
        taken = await store.renew(now=LATER)
        assert {task_id for task_id, *_ in taken} == {"op-one-bad", "op-one-good"}
        assert all(isinstance(due_at, int | float) for _, due_at, _ in taken)
        await store.open_sources()
        before = await store.last_change()
        good = await store.get("op-one-good")
        assert good is not None
        assert await store.save(good)
        assert await store.last_change() == before + 1
        if column != "order_hash":
            # The same order again is never placed again.
            try:
                found, may_send = await store.claim(
                    record("bad", owner="two"), now=LATER, repeat=False, limits=limits, count_orders=True
                )
            except ConfigurationError:
                pass
            else:
                assert (found.task.id, may_send) == ("op-one-bad", False)
    finally:
        await store.aclose()
