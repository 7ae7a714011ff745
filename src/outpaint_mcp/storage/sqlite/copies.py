"""The cached copies of tasks' images, as the store knows them. Reads and writes rows inside its transactions."""

from typing import TYPE_CHECKING

from outpaint_mcp.domain.record import Record

if TYPE_CHECKING:
    import sqlite3


def keep(db: "sqlite3.Connection", record: Record) -> None:
    """Write down the copies that a task has."""
    db.executemany(
        "INSERT OR REPLACE INTO kept (task_id, position, sha256, mime_type) VALUES (?, ?, ?, ?)",
        [(record.task.id, index, copy.sha256, copy.mime_type) for index, copy in record.copies.items()],
    )


def owner_of(db: "sqlite3.Connection", client: str, sha256: str) -> tuple[str, int] | None:
    """The client's newest task with a copy of this hash, and which of its images that is, from 1."""
    row = db.execute(
        "SELECT task_id, position FROM tasks JOIN kept ON task_id = id WHERE caller = ? AND sha256 = ?"
        " ORDER BY created_at DESC, tasks.rowid DESC LIMIT 1",
        (client, sha256),
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))
