"""Which process a task belongs to. Reads and writes rows inside the store's transactions.

Only a process of the version that the file was migrated to may renew its lease, without which it can place no order: an
older one would not recognise the orders of a newer one, nor write its own as that one looks for them. Others take its
tasks over.
"""

from typing import TYPE_CHECKING, Final

from outpaint_mcp.domain.record import LEASE_SECONDS, UNSENT_SECONDS

if TYPE_CHECKING:
    import sqlite3

LONGEST_LEASE: Final = 2 * LEASE_SECONDS
"""A lease that is further ahead does not count: it is of a clock that was set back since."""


def refuse_older_versions(db: "sqlite3.Connection") -> None:
    """Make the versions fail that do not look at the file's version when they renew their lease."""
    db.execute("ALTER TABLE owners ADD COLUMN looks INTEGER")
    db.execute(
        "CREATE TRIGGER owners_look BEFORE INSERT ON owners WHEN NEW.looks IS NULL BEGIN SELECT RAISE(ABORT,"
        " 'outpaint-mcp was updated meanwhile, and this server must be restarted'); END"
    )


def renew(db: "sqlite3.Connection", owner: str, alive_until: float) -> None:
    """Say until when a process is alive, in seconds since the epoch, having looked at the file's version."""
    db.execute(
        "INSERT INTO owners (owner, alive_until, looks) VALUES (?1, ?2, 1)"
        " ON CONFLICT (owner) DO UPDATE SET alive_until = ?2",
        (owner, alive_until),
    )


def is_idle(db: "sqlite3.Connection") -> bool:
    """Whether no task of any process is open: then no lease is needed."""
    return db.execute("SELECT 1 FROM tasks WHERE due_at IS NOT NULL LIMIT 1").fetchone() is None


def take_over(db: "sqlite3.Connection", task_id: str, owner: str, now: float) -> bool:
    """Make a task this owner's, if it is its already or its owner is gone."""
    taken = db.execute(
        "UPDATE tasks SET owner = :owner WHERE id = :id AND (owner IS NULL OR owner = :owner OR "
        "owner NOT IN (SELECT owner FROM owners WHERE alive_until > :now AND alive_until <= :latest))",
        {"owner": owner, "id": task_id, "now": now, "latest": now + LONGEST_LEASE},
    )
    return taken.rowcount == 1


def take_over_all(db: "sqlite3.Connection", owner: str, now: float) -> list[tuple[str, float, str]]:
    """Make the open tasks of processes that are gone this owner's.

    Returns:
        The id, the due time and the provider of each.
    """
    rows = db.execute(
        "UPDATE tasks SET owner = :owner WHERE due_at IS NOT NULL AND (owner IS NULL OR owner NOT IN "
        "(SELECT owner FROM owners WHERE alive_until > :now AND alive_until <= :latest))"
        " AND (due_at <= :now OR due_at > :unsent OR NOT EXISTS"
        " (SELECT 1 FROM orders WHERE task_id = id AND position = 0 AND state = 'intended'))"
        " RETURNING id, due_at, provider",
        {"owner": owner, "now": now, "latest": now + LONGEST_LEASE, "unsent": now + UNSENT_SECONDS},
    ).fetchall()
    db.execute("DELETE FROM owners WHERE alive_until < ?", (now - 60 * LEASE_SECONDS,))
    # One whose due time cannot be read is due now.
    return [(id_, due_at if isinstance(due_at, int | float) else now, provider) for id_, due_at, provider in rows]


def release_all(db: "sqlite3.Connection", owner: str) -> None:
    """Give up every task of an owner."""
    db.execute("UPDATE tasks SET owner = NULL WHERE owner = ?", (owner,))
    db.execute("DELETE FROM owners WHERE owner = ?", (owner,))
