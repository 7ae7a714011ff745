"""How much there is of what, counted by triggers in the transaction that changes it, so that nobody scans the store.

`counts` holds tasks by provider and status, and orders by provider and state; what was imported is no order of ours.
`spent` holds the orders that count to a day's limits, by client and price: sums of them do not drift.
"""

from typing import TYPE_CHECKING, Final

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.record import Counts
from outpaint_mcp.storage.sqlite import due

if TYPE_CHECKING:
    import sqlite3


def _count(what: str, row: str, word: str, by: int) -> str:
    return (
        f"INSERT INTO counts VALUES ('{what}', {row}.provider, {row}.{word}, {by})"
        f" ON CONFLICT DO UPDATE SET count = count + {by};"
    )


def _spend(row: str, by: int) -> str:
    return (
        f"INSERT INTO spent SELECT {row}.day, {row}.caller, COALESCE({row}.usd, 0), {by} WHERE {row}.reserved = 1"
        f" ON CONFLICT DO UPDATE SET count = count + {by};"
        f" DELETE FROM spent WHERE day = {row}.day AND caller = {row}.caller AND count = 0;"
    )


def _is_ours(row: str) -> str:
    return f"(SELECT order_hash IS NOT NULL FROM tasks WHERE id = {row}.task_id)"


_TABLES: Final = (
    "CREATE TABLE counts (what TEXT NOT NULL, provider TEXT NOT NULL, word TEXT NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY (what, provider, word)) WITHOUT ROWID",
    "CREATE TABLE spent (day TEXT NOT NULL, caller TEXT NOT NULL, usd REAL NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY (day, caller, usd)) WITHOUT ROWID",
)
_FIRST_COUNT: Final = (
    "INSERT INTO counts SELECT 'tasks', provider, status, COUNT(*) FROM tasks GROUP BY provider, status",
    "INSERT INTO counts SELECT 'orders', orders.provider, state, COUNT(*) FROM orders JOIN tasks ON tasks.id = task_id"
    " WHERE order_hash IS NOT NULL GROUP BY orders.provider, state",
    "INSERT INTO spent SELECT day, caller, COALESCE(usd, 0), COUNT(*) FROM orders WHERE reserved = 1"
    " GROUP BY day, caller, COALESCE(usd, 0)",
)
_TRIGGERS: Final = {
    "tasks_added AFTER INSERT ON tasks": _count("tasks", "NEW", "status", 1),
    "tasks_changed AFTER UPDATE OF provider, status ON tasks": (
        _count("tasks", "OLD", "status", -1) + _count("tasks", "NEW", "status", 1)
    ),
    "tasks_deleted AFTER DELETE ON tasks": _count("tasks", "OLD", "status", -1),
    f"orders_added AFTER INSERT ON orders WHEN {_is_ours('NEW')}": _count("orders", "NEW", "state", 1),
    f"orders_changed AFTER UPDATE OF provider, state ON orders WHEN {_is_ours('NEW')}": (
        _count("orders", "OLD", "state", -1) + _count("orders", "NEW", "state", 1)
    ),
    f"orders_deleted AFTER DELETE ON orders WHEN {_is_ours('OLD')}": _count("orders", "OLD", "state", -1),
    "spent_added AFTER INSERT ON orders": _spend("NEW", 1),
    "spent_changed AFTER UPDATE OF day, caller, usd, reserved ON orders": _spend("OLD", -1) + _spend("NEW", 1),
    "spent_deleted AFTER DELETE ON orders": _spend("OLD", -1),
}


def begin(db: "sqlite3.Connection") -> None:
    """Count what is there, and from then on every change."""
    for statement in (*_TABLES, *_FIRST_COUNT):
        db.execute(statement)
    for what, statements in _TRIGGERS.items():
        db.execute(f"CREATE TRIGGER {what} BEGIN {statements} END")
    # It was there to be counted.
    db.execute("DROP INDEX tasks_status")


def counts(db: "sqlite3.Connection", day: str) -> Counts:
    """How much there is of what, and what counts to a day's limits."""
    found: dict[str, dict[tuple[str, str], int]] = {"orders": {}, "tasks": {}}
    for what, provider, word, count in db.execute("SELECT what, provider, word, count FROM counts WHERE count > 0"):
        found[what][provider, word] = count
    used = db.execute("SELECT caller, SUM(usd * count), SUM(count) FROM spent WHERE day = ? GROUP BY caller", (day,))
    return Counts(
        found["orders"],
        found["tasks"],
        {client: DailyLimits(usd, count) for client, usd, count in used},
        due.first_times(db),
        due.waiting(db),
    )
