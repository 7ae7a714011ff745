"""When open tasks are to be advanced, and by which process: one narrow row for each. Runs in the store's transactions.

To claim a task is to set its next due time: a process that is at work on it moves that on (`hold`), and the tasks of
one that is gone come due by themselves. A due task is first that process's which had it last, and may hold in memory
what the vendor was told with the order; once it is late, anybody's.
"""

import json
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from outpaint_mcp.domain.record import CLAIM_SECONDS, LATEST_SECONDS, DueTask, Record
from outpaint_mcp.storage.rows import DUE_COLUMNS, last_answer_of, time_of

if TYPE_CHECKING:
    import sqlite3

HELD_SECONDS: Final = CLAIM_SECONDS / 5
"""For how long a claim moves a task's due time on."""
LATE_SECONDS: Final = CLAIM_SECONDS - HELD_SECONDS
"""How late a task must be until another process may take it over."""
AGAIN_SECONDS: Final = 0.5
"""When to look again for a task that is due, and another process's until it is late."""

_FREE: Final = "(claim IS NULL OR claim = :me OR due_at <= :late OR due_at > :latest)"
_PROVIDERS: Final = (
    "WITH RECURSIVE found (provider) AS (SELECT MIN(provider) FROM due UNION ALL"
    " SELECT (SELECT MIN(provider) FROM due WHERE due.provider > found.provider) FROM found WHERE provider IS NOT NULL)"
    " SELECT provider FROM found WHERE provider IS NOT NULL"
)
"""The providers of open tasks, each by one look into the index."""


def begin(db: "sqlite3.Connection") -> None:
    """Move what is open into a table of its own.

    `tasks.owner`, `tasks.due_at` and `tasks.change` stay: an older process that still runs, and may place no order any
    more, writes the answers there to those that it has placed. The tasks of such a process are taken over when its
    lease ends.
    """
    db.execute(
        "CREATE TABLE due (task_id TEXT PRIMARY KEY REFERENCES tasks (id), provider TEXT NOT NULL,"
        " due_at REAL NOT NULL, claim TEXT, wake_at REAL, failures INTEGER NOT NULL DEFAULT 0,"
        " calls_back INTEGER NOT NULL DEFAULT 0, answer TEXT, remote_id TEXT, reference TEXT, step TEXT, asked_at REAL,"
        " boot TEXT, until REAL) WITHOUT ROWID"
    )
    db.execute(
        "INSERT INTO due (task_id, provider, due_at, claim) SELECT id, provider,"
        " COALESCE((SELECT alive_until FROM owners WHERE owners.owner = tasks.owner), due_at), owner"
        " FROM tasks WHERE due_at IS NOT NULL"
    )
    db.execute("CREATE INDEX due_next ON due (provider, due_at)")
    db.execute("DROP INDEX tasks_open")
    db.execute("DROP INDEX tasks_change")


def begin_places(db: "sqlite3.Connection") -> None:
    """Have it known which tasks run at their provider, and which wait for a place there."""
    db.execute("ALTER TABLE due ADD COLUMN in_flight INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE due ADD COLUMN waits_since REAL")
    db.execute(
        "UPDATE due SET in_flight = 1 WHERE task_id IN (SELECT id FROM tasks JOIN orders ON id = task_id WHERE"
        " position = 0 AND state IN ('sent', 'accepted', 'unconfirmed') AND tasks.status IN"
        " ('queued', 'running', 'unknown'))"
    )
    db.execute("CREATE INDEX due_in_flight ON due (provider) WHERE in_flight")
    db.execute("CREATE INDEX due_waiting ON due (provider, waits_since) WHERE waits_since IS NOT NULL")


def _times(owner: str, now: float) -> dict[str, Any]:
    # What is further ahead than anything can be is of a clock that was set back since.
    return {
        "me": owner,
        "now": now,
        "late": now - LATE_SECONDS,
        "latest": now + LATEST_SECONDS + CLAIM_SECONDS,
        "until": now + HELD_SECONDS,
    }


def put(db: "sqlite3.Connection", record: Record, owner: str) -> None:
    """Write down when a task is due, and what its polls need; at once if it was woken meanwhile."""
    task_id, is_final = record.task.id, record.task.status.is_final
    if is_final or record.due_at is None:
        _free_place(db, task_id)
    if record.due_at is None:
        db.execute("DELETE FROM due WHERE task_id = ?", (task_id,))
        return
    last = record.last_answer
    db.execute(
        "INSERT OR REPLACE INTO due (task_id, provider, due_at, claim, failures, calls_back, answer, remote_id,"
        " reference, step, asked_at, boot, until, in_flight, waits_since) SELECT ?1, ?2,"
        " MIN(?3, COALESCE(wake_at, 9e99)), ?4, ?5, CASE WHEN wake_at IS NULL THEN ?6 ELSE 0 END, ?7, ?8, ?9, ?10, ?11,"
        " ?12, ?13, COALESCE(in_flight, 0), waits_since FROM (SELECT 1) LEFT JOIN due ON task_id = ?1",
        (
            task_id,
            record.task.provider,
            record.due_at,
            owner,
            record.failures,
            record.calls_back,
            last and last.digest,
            last and last.remote_id,
            last and last.reference,
            last and last.step.value,
            last and last.asked_at,
            last and last.until.boot,
            last and last.until.seconds,
        ),
    )


def _free_place(db: "sqlite3.Connection", task_id: str) -> None:
    """The task no longer runs at its provider: whoever waits longest for that is due."""
    freed = db.execute("UPDATE due SET in_flight = 0 WHERE task_id = ? AND in_flight", (task_id,))
    if freed.rowcount == 1:
        db.execute(
            "UPDATE due SET due_at = 0, wake_at = 0 WHERE task_id = (SELECT next.task_id FROM due AS next JOIN due AS"
            " freed ON freed.provider = next.provider WHERE freed.task_id = ? AND next.waits_since IS NOT NULL"
            " ORDER BY next.waits_since LIMIT 1)",
            (task_id,),
        )


def take_place(db: "sqlite3.Connection", owner: str, task_id: str, most: int, now: float) -> bool:
    """Take a place for a task of this process; as `Store.take_place`."""
    wanted = {"id": task_id, "me": owner, "most": most, "now": now}
    taken = db.execute(
        "UPDATE due SET in_flight = 1, waits_since = NULL WHERE task_id = :id AND claim = :me AND (in_flight OR :most >"
        " (SELECT COUNT(*) FROM due AS other WHERE other.provider = due.provider AND other.task_id <> :id"
        " AND (other.in_flight OR other.waits_since < COALESCE(due.waits_since, :now))))",
        wanted,
    )
    if taken.rowcount != 1:
        db.execute(
            "UPDATE due SET waits_since = COALESCE(waits_since, :now) WHERE task_id = :id AND claim = :me", wanted
        )
    return taken.rowcount == 1


def claim(db: "sqlite3.Connection", task_id: str, owner: str, now: float) -> tuple[bool, float | None]:
    """Claim one task, due or not, unless another process is to see to it.

    Returns:
        Whether it is claimed, and when it was due before; None if there was nothing to do.
    """
    row = db.execute("SELECT due_at FROM due WHERE task_id = ?", (task_id,)).fetchone()
    if row is None:
        db.execute(
            "INSERT INTO due (task_id, provider, due_at, claim) SELECT id, provider, ?2, ?3 FROM tasks WHERE id = ?1",
            (task_id, now + HELD_SECONDS, owner),
        )
        return True, None
    taken = db.execute(
        f"UPDATE due SET claim = :me, due_at = :until, wake_at = NULL WHERE task_id = :id AND {_FREE}",  # noqa: S608
        {**_times(owner, now), "id": task_id},
    )
    return taken.rowcount == 1, time_of(row[0], now)


def take(
    db: "sqlite3.Connection",
    owner: str,
    now: float,
    room: Callable[[str], int],
    held: Collection[str],
) -> list[DueTask]:
    """Claim the tasks that are due.

    Args:
        db: the store.
        owner: this process.
        now: in seconds since the epoch.
        room: how many tasks of a provider may be taken.
        held: the tasks that this process is at work on already.
    """
    taken: list[DueTask] = []
    for (provider,) in db.execute(_PROVIDERS).fetchall():
        if (free := room(provider)) <= 0:
            continue
        rows = db.execute(
            f"SELECT task_id, due_at, {DUE_COLUMNS} FROM due WHERE provider = :provider"  # noqa: S608
            f" AND (due_at <= :now OR due_at > :latest) AND {_FREE} ORDER BY due_at LIMIT :most",
            {**_times(owner, now), "provider": provider, "most": free + len(held)},
        ).fetchall()
        found = [
            DueTask(row[0], provider, time_of(row[1], now), last_answer_of(row[2:9]), bool(row[9]))
            for row in rows
            if row[0] not in held
        ]
        taken += found[:free]
    db.executemany(
        "UPDATE due SET claim = ?, due_at = ?, wake_at = NULL WHERE task_id = ?",
        [(owner, now + HELD_SECONDS, one.task_id) for one in taken],
    )
    return taken


def is_any_due(db: "sqlite3.Connection", owner: str, now: float, room: Callable[[str], int]) -> bool:
    """Whether `take` would find something."""
    return any(
        db.execute(
            "SELECT 1 FROM due WHERE provider = :provider"  # noqa: S608
            f" AND (due_at <= :now OR due_at > :latest) AND {_FREE} LIMIT 1",
            {**_times(owner, now), "provider": provider},
        ).fetchone()
        for (provider,) in db.execute(_PROVIDERS).fetchall()
        if room(provider) > 0
    )


def first_times(db: "sqlite3.Connection") -> dict[str, float]:
    """When each provider's next task is due, in seconds since the epoch."""
    return {
        provider: time_of(db.execute("SELECT MIN(due_at) FROM due WHERE provider = ?", (provider,)).fetchone()[0], 0.0)
        for (provider,) in db.execute(_PROVIDERS).fetchall()
    }


def waiting(db: "sqlite3.Connection") -> dict[str, int]:
    """How many tasks of each provider wait for a place there."""
    return dict(
        db.execute("SELECT provider, COUNT(*) FROM due WHERE waits_since IS NOT NULL GROUP BY provider").fetchall()
    )


def next_at(db: "sqlite3.Connection", now: float, room: Callable[[str], int]) -> float | None:
    """When the next task is due of those for which there is room, in seconds since the epoch; None if there is none."""
    times = [time_of(at, now) for provider, at in first_times(db).items() if room(provider) > 0]
    # One that is due and was not taken is another process's, which may be at work on it or gone.
    return min((at if at > now else now + AGAIN_SECONDS for at in times), default=None)


def reschedule(db: "sqlite3.Connection", owner: str, asked: Iterable[tuple[str, float, float]]) -> None:
    """Set when tasks of this process are due that were asked for and have nothing new.

    Args:
        db: the store.
        owner: this process.
        asked: of each its id, when it was asked for, and when it is due next.
    """
    db.executemany(
        "UPDATE due SET asked_at = ?2, due_at = MIN(?3, COALESCE(wake_at, 9e99)), wake_at = NULL"
        " WHERE task_id = ?1 AND claim = ?4",
        [(*one, owner) for one in asked],
    )


def hold(db: "sqlite3.Connection", owner: str, held: Collection[str], now: float) -> None:
    """Say that this process is still at work on these tasks."""
    db.execute(
        "UPDATE due SET due_at = ? WHERE claim = ? AND task_id IN (SELECT value FROM json_each(?))",
        (now + HELD_SECONDS, owner, json.dumps(list(held))),
    )


def release(db: "sqlite3.Connection", owner: str, task_id: str, due_at: float | None) -> None:
    """Leave a task of this process to whoever comes first when it is due."""
    if due_at is None:
        db.execute("DELETE FROM due WHERE task_id = ? AND claim = ?", (task_id, owner))
    else:
        db.execute("UPDATE due SET claim = NULL, due_at = ? WHERE task_id = ? AND claim = ?", (due_at, task_id, owner))


def release_all(db: "sqlite3.Connection", owner: str, held: Collection[str]) -> None:
    """Leave every task of this process to the others; those that it was at work on are due at once."""
    db.execute(
        "UPDATE due SET due_at = 0 WHERE claim = ? AND task_id IN (SELECT value FROM json_each(?))",
        (owner, json.dumps(list(held))),
    )
    db.execute("UPDATE due SET claim = NULL WHERE claim = ?", (owner,))


def wake(db: "sqlite3.Connection", task_id: str, at: float, *, called_back: bool) -> None:
    """Have an open task advanced at a time, if it is due later; also if a process is at work on it just now."""
    db.execute(
        "UPDATE due SET due_at = MIN(due_at, ?2), wake_at = MIN(?2, COALESCE(wake_at, 9e99)),"
        " calls_back = calls_back AND NOT ?3 WHERE task_id = ?1",
        (task_id, at, called_back),
    )


def wake_all(db: "sqlite3.Connection", now: float) -> None:
    """Have every open task advanced now: the clock was set, and what was agreed by it means nothing."""
    db.execute("UPDATE due SET due_at = ?1 WHERE due_at > ?1", (now,))
