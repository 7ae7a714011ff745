"""Deletes old tasks, a few at a time. Writes inside the store's transactions."""

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

AT_ONCE: Final = 200
"""How many tasks go in one transaction: nobody is to wait long for the next."""


def prune(db: "sqlite3.Connection", finished_before: float) -> int:
    """Delete final tasks with nothing left to do; returns how many, which is `AT_ONCE` at most.

    One that tells that an order of unknown fate was placed anew since, or which images that order's URL gave, stays as
    long as that order does: see `repeats`.
    """
    found = db.execute(
        "SELECT id FROM tasks WHERE finished_at < ?1 AND created_at < ?1"
        " AND status IN ('succeeded', 'failed', 'cancelled')"
        " AND NOT EXISTS (SELECT 1 FROM due WHERE task_id = tasks.id) AND NOT EXISTS (SELECT 1 FROM tasks AS other"
        " WHERE other.caller = tasks.caller AND other.status IN ('queued', 'running', 'unknown')"
        " AND other.order_hash = tasks.order_hash) AND NOT EXISTS (SELECT 1 FROM tasks AS other"
        " WHERE other.caller = tasks.caller AND other.status IN ('queued', 'running', 'unknown')"
        " AND other.source_hash = tasks.source_hash) LIMIT ?2",
        (finished_before, AT_ONCE),
    ).fetchall()
    ids = json.dumps([task_id for (task_id,) in found])
    for table, column in (("kept", "task_id"), ("orders", "task_id"), ("tasks", "id")):
        db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (ids,))  # noqa: S608
    return len(found)
