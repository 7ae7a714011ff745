"""Finding tasks. Reads rows inside the store's transactions. A row that cannot be read is skipped."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.rows import (
    STEP_COLUMNS,
    TASK_COLUMNS,
    UNREADABLE,
    Skipped,
    events_of,
    record_of,
    sources_of,
    unreadable,
)

if TYPE_CHECKING:
    import sqlite3


def load(db: "sqlite3.Connection", task_id: str) -> Record | None:
    """The record of a task.

    Raises:
        ConfigurationError: its rows cannot be read.
    """
    row = db.execute(
        f"SELECT {TASK_COLUMNS} FROM tasks LEFT JOIN due ON task_id = id WHERE id = ?",  # noqa: S608
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    steps = db.execute(
        f"SELECT {STEP_COLUMNS} FROM orders WHERE task_id = ? ORDER BY position",  # noqa: S608
        (task_id,),
    ).fetchall()
    kept = db.execute("SELECT position, sha256, mime_type FROM kept WHERE task_id = ?", (task_id,)).fetchall()
    try:
        return record_of(row, steps, kept)
    except UNREADABLE as error:
        raise unreadable(task_id) from error


def find_remote(
    db: "sqlite3.Connection", provider: str, remote_id: str, client: str | None, *, last: bool
) -> Record | None:
    """The newest task one of whose orders has this id at the provider; as `Store.find_remote`."""
    row = db.execute(
        "SELECT task_id FROM orders JOIN tasks ON id = task_id WHERE orders.provider = ?1 AND remote_id = ?2"
        " AND (?3 IS NULL OR orders.caller = ?3) AND (NOT ?4 OR position = (SELECT MAX(position) FROM orders AS one"
        " WHERE one.task_id = id)) ORDER BY created_at DESC, tasks.rowid DESC LIMIT 1",
        (provider, remote_id, client, last),
    ).fetchone()
    return None if row is None else load(db, row[0])


def recent(db: "sqlite3.Connection", client: str, limit: int, skipped: Skipped) -> list[Record]:
    """The client's newest tasks, newest first."""
    rows = db.execute(
        "SELECT id FROM tasks WHERE caller = ? ORDER BY created_at DESC, rowid DESC LIMIT ?", (client, limit)
    ).fetchall()
    found = []
    for (task_id,) in rows:
        try:
            record = load(db, task_id)
        except ConfigurationError as error:
            skipped.note(str(error))
            continue
        if record is not None:
            found.append(record)
    return found


def ids(db: "sqlite3.Connection", client: str, prefix: str, limit: int, status: Status | None) -> list[str]:
    """Those of the client's newest tasks that begin with a prefix; of one status if it is given."""
    rows = db.execute(
        "SELECT id FROM tasks WHERE caller = ?1 AND substr(id, 1, ?2) = ?3 AND (?4 IS NULL OR status = ?4)"
        " ORDER BY created_at DESC, rowid DESC LIMIT ?5",
        (client, len(prefix), prefix, status and status.value, limit),
    )
    return [task_id for (task_id,) in rows]


def events(db: "sqlite3.Connection", ids: Iterable[str], skipped: Skipped) -> list[TaskEvent]:
    """How these tasks stand."""
    rows = db.execute(
        "SELECT tasks.id, caller, status, due.due_at IS NULL FROM json_each(?)"
        " JOIN tasks ON tasks.id = value LEFT JOIN due ON task_id = tasks.id",
        (json.dumps(list(ids)),),
    )
    return events_of(rows, skipped)


def open_sources(db: "sqlite3.Connection", skipped: Skipped) -> set[str]:
    """The hashes of the images that open tasks are made from."""
    return sources_of(db.execute("SELECT id, plan FROM tasks WHERE id IN (SELECT task_id FROM due)"), skipped)


def open_tasks(db: "sqlite3.Connection", client: str, provider: str) -> int:
    """How many tasks that a client has ordered are open at a provider."""
    row = db.execute(
        "SELECT COUNT(*) FROM due JOIN tasks ON id = task_id WHERE caller = ? AND due.provider = ?"
        " AND order_hash IS NOT NULL",
        (client, provider),
    ).fetchone()
    return int(row[0])
