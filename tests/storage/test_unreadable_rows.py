"""A row that cannot be read breaks nothing but itself, and is never taken for an order that was not placed."""

import json
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError, ConfigurationError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import CLAIM_SECONDS, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.sqlite.schema import MIGRATIONS
from outpaint_mcp.storage.sqlite.store import SqliteStore

from .claim_many import NOW, record

LATER = NOW + 10 * CLAIM_SECONDS
TASK_COLUMNS = (
    *(
        "caller",
        "provider",
        "order_hash",
        "source_hash",
        "status",
        "task",
        "plan",
        "reference",
        "is_grid",
        "created_at",
    ),
    "finished_at",
)
DUE_COLUMNS = (
    *("provider", "due_at", "claim", "wake_at", "failures", "calls_back"),
    *("answer", "remote_id", "reference", "step", "asked_at", "boot", "until"),
)
STEP_COLUMNS = (
    "name",
    "provider",
    "caller",
    "identity",
    "state",
    "remote_id",
    "day",
    "usd",
    "reserved",
    "cost",
    "status",
)
COLUMNS = [("tasks", column) for column in TASK_COLUMNS] + [("orders", column) for column in STEP_COLUMNS]
COLUMNS += [("due", column) for column in DUE_COLUMNS]


@pytest.mark.parametrize("value", ["{broken", b"\xff\x00", "[1]"])
@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_an_unreadable_row_breaks_no_other(tmp_path: Path, table: str, column: str, value: str | bytes) -> None:
    path = tmp_path / "store.db"
    limits = DailyLimits()
    first = SqliteStore(path, "one")
    for name in ("bad", "good"):
        await first.claim(record(name, owner="one"), now=NOW, repeat=False, limits=limits, count_orders=True)
        await first.mark_sent(f"op-one-{name}", 0, now=NOW)
    await first.aclose()
    key = "id" if table == "tasks" else "task_id"
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = 'op-one-bad'", (value,))  # noqa: S608
    db.close()

    store = SqliteStore(path, "two")
    try:
        assert "op-one-good" in {one.task.id for one in await store.recent("local", 9)}
        assert "op-one-good" in {event.task_id for event in await store.events(["op-one-bad", "op-one-good"])}
        taken, _ = await store.take_due(lambda provider: 99, now=LATER)
        assert {one.task_id for one in taken} == {"op-one-bad", "op-one-good"}
        assert all(isinstance(one.due_at, int | float) for one in taken)
        await store.open_sources()
        good = await store.get("op-one-good")
        assert good is not None
        assert await store.save(good)
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


def spoil(path: Path, table: str, column: str, value: str | bytes | float, task_id: str = "op-one-bad") -> None:
    key = "id" if table == "tasks" else "task_id"
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, task_id))  # noqa: S608
    db.close()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *(("orders", "usd", value) for value in ("{broken", b"\xff", -5)),
        *(("orders", "reserved", value) for value in ("{broken", b"\xff", 7)),
        *(("orders", "day", value) for value in ("{broken", b"\xff", "", "-", "1999-12-31", "2027-99-99")),
        *(("orders", "caller", value) for value in ("somebody", b"\xff")),
        *(("tasks", "caller", value) for value in ("somebody", b"\xff")),
        *(("tasks", "created_at", value) for value in ("{broken", 5.0)),
    ],
)
async def test_what_cannot_be_read_lets_no_order_exceed_a_limit(
    tmp_path: Path, table: str, column: str, value: str | bytes | float
) -> None:
    path, limits = tmp_path / "store.db", DailyLimits(usd=0.25)
    store = SqliteStore(path, "one")
    try:
        for name in ("bad", "good"):
            await store.claim(record(name, owner="one"), now=NOW, repeat=False, limits=limits, count_orders=True)
        spoil(path, table, column, value)
        with pytest.raises(BudgetExceededError):
            await store.claim(record("new", owner="one"), now=NOW, repeat=False, limits=limits, count_orders=True)
    finally:
        await store.aclose()


def of_url(name: str, sha256: str) -> Record:
    """The record of an order for an image that a URL gave."""
    image = InputImage(sha256 * 64, "image/png", 10, 10, url="https://example.com/a.png")
    order = Order(provider="counting", source=image, zoom=1.5)
    return replace(record(name, owner="one"), order=order, identity=order.identity("local"))


@pytest.mark.parametrize("plan", ["{broken", b"\xff\x00", "[1]", "{}", json.dumps({"source": 5}), "[" * 100_000])
async def test_an_order_that_cannot_be_read_is_not_placed_again_when_its_url_gives_other_bytes(
    tmp_path: Path, plan: str | bytes
) -> None:
    path, none = tmp_path / "store.db", DailyLimits()
    store = SqliteStore(path, "one")

    async def claim(made: Record, repeat: bool = False) -> tuple[Record, bool]:
        return await store.claim(made, now=NOW, repeat=repeat, limits=none, count_orders=True)

    try:
        bad, _ = await claim(of_url("bad", "a"))
        spoil(path, "tasks", "plan", plan)
        for repeat in (False, True):
            with pytest.raises(ConfigurationError, match="op-one-bad cannot be read"):
                await claim(of_url("new", "b"), repeat)
        # Once it is known to be over, it is in nobody's way.
        await store.save(replace(bad, task=bad.task.model_copy(update={"status": Status.FAILED})))
        spoil(path, "tasks", "plan", plan)
        assert (await claim(of_url("new", "b")))[1]
        assert (await claim(of_url("other", "c")))[0].task.id == "op-one-new"
    finally:
        await store.aclose()


async def test_a_row_that_cannot_be_read_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path, "one")
    try:
        for name in ("bad", "worse"):
            await store.claim(record(name, owner="one"), now=NOW, repeat=False, limits=DailyLimits(), count_orders=True)
            spoil(path, "tasks", "task", "{broken", f"op-one-{name}")
        with caplog.at_level(logging.WARNING, "outpaint_mcp"):
            for _ in range(3):
                assert await store.recent("local", 9) == []
    finally:
        await store.aclose()
    assert sorted(one.getMessage()[:60] for one in caplog.records if "cannot be read" in one.getMessage()) == [
        "[configuration] What is stored of the task op-one-bad cannot",
        "[configuration] What is stored of the task op-one-worse cann",
    ]


@pytest.mark.parametrize("value", ["{broken", b"\xff\x00", "[1]", '{"steps": 5}'])
@pytest.mark.parametrize("column", ["task", "plan"])
async def test_an_older_store_with_an_unreadable_row_is_migrated(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "store.db"
    older = sqlite3.connect(path)
    for statement in "".join(f"{step};" for step in MIGRATIONS[:2]).split(";"):
        older.execute(statement)
    for name, spoiled in (("op-bad", True), ("op-good", False)):
        texts = {"task": '{"steps": [{"status": "running"}]}', "plan": "{}"} | ({column: value} if spoiled else {})
        older.execute(
            "INSERT INTO tasks (id, caller, provider, order_hash, status, task, plan, created_at, change)"
            " VALUES (?, 'local', 'counting', 'x', 'queued', ?, ?, 0, 1)",
            (name, texts["task"], texts["plan"]),
        )
        older.execute(
            "INSERT INTO orders VALUES (?, 0, 'outpaint', 'counting', 'local', 'sent', NULL, '', 0, 1, NULL)", (name,)
        )
    older.execute("PRAGMA user_version = 2")
    older.commit()
    older.close()
    store = SqliteStore(path, "one")
    await store.check()
    await store.aclose()
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT task_id, status FROM orders"))["op-good"] == "running"
    db.close()
