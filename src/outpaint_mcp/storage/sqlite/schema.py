"""The tables of the store, as the steps from each version of a file to the next.

`tasks.plan` is the stored order (`Order.to_stored`), `tasks.order_hash` its identity, `caller` the client; these names
are older than the words. `tasks.source_hash` is `Order.source_hash`. `owners`, and `owner`, `due_at` and `change` of
`tasks`, are of older versions: see `due.begin`.
"""

import json
from typing import TYPE_CHECKING, Final

from outpaint_mcp.domain.order import Order
from outpaint_mcp.storage.rows import UNREADABLE
from outpaint_mcp.storage.sqlite import counters, due
from outpaint_mcp.storage.sqlite.database import Migration

if TYPE_CHECKING:
    import sqlite3


def rehash(db: "sqlite3.Connection") -> None:
    """Give the orders that a repeat may still find the identities that they would get today.

    Since `orders` holds them too (`orders.identity`), they must be copied there after this.
    """
    rows = db.execute(
        "SELECT id, caller, provider, plan FROM tasks WHERE order_hash IS NOT NULL AND"
        " (status IN ('queued', 'running', 'unknown') OR finished_at > CAST(strftime('%s', 'now') AS INTEGER) - 86400)"
    ).fetchall()
    for task_id, client, provider, plan in rows:
        try:
            identity = Order.from_stored(json.loads(plan), provider=provider).identity(client)
        except UNREADABLE:
            # It cannot be read, and keeps the identity that it has.
            continue
        db.execute("UPDATE tasks SET order_hash = ? WHERE id = ?", (identity, task_id))


def refuse_older_versions(db: "sqlite3.Connection") -> None:
    """Make the versions fail that do not look at the file's version when they renew their lease."""
    db.execute("ALTER TABLE owners ADD COLUMN looks INTEGER")
    db.execute(
        "CREATE TRIGGER owners_look BEFORE INSERT ON owners WHEN NEW.looks IS NULL BEGIN SELECT RAISE(ABORT,"
        " 'outpaint-mcp was updated meanwhile, and this server must be restarted'); END"
    )


MIGRATIONS: Final[tuple[Migration, ...]] = (
    """
    CREATE TABLE owners (owner TEXT PRIMARY KEY, alive_until REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE tasks (
        id TEXT PRIMARY KEY,
        caller TEXT NOT NULL,
        provider TEXT NOT NULL,
        order_hash TEXT,
        status TEXT NOT NULL,
        task TEXT NOT NULL,
        plan TEXT NOT NULL,
        reference TEXT,
        is_grid INTEGER,
        created_at REAL NOT NULL,
        finished_at REAL,
        due_at REAL,
        owner TEXT,
        change INTEGER NOT NULL
    );
    CREATE INDEX tasks_equal ON tasks (caller, order_hash, created_at);
    CREATE INDEX tasks_open ON tasks (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX tasks_recent ON tasks (caller, created_at);
    CREATE INDEX tasks_change ON tasks (change);
    CREATE TABLE orders (
        task_id TEXT NOT NULL REFERENCES tasks (id),
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        provider TEXT NOT NULL,
        caller TEXT NOT NULL,
        state TEXT NOT NULL,
        remote_id TEXT,
        day TEXT NOT NULL,
        usd REAL,
        reserved INTEGER NOT NULL,
        cost TEXT,
        PRIMARY KEY (task_id, position)
    ) WITHOUT ROWID;
    CREATE INDEX orders_remote ON orders (provider, remote_id);
    CREATE INDEX orders_day ON orders (day, caller);
    CREATE TABLE kept (
        task_id TEXT NOT NULL REFERENCES tasks (id),
        position INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        mime_type TEXT NOT NULL,
        PRIMARY KEY (task_id, position)
    ) WITHOUT ROWID;
    """,
    # For counting tasks, and for finding those of processes that are gone, without reading them.
    """
    CREATE INDEX tasks_status ON tasks (provider, status);
    DROP INDEX tasks_open;
    CREATE INDEX tasks_open ON tasks (owner, due_at) WHERE due_at IS NOT NULL;
    """,
    # A step's public status beside its order's state; before, it stood in the task alone.
    """
    ALTER TABLE orders ADD COLUMN status TEXT NOT NULL DEFAULT 'queued';
    UPDATE orders SET status = COALESCE(
        (SELECT json_extract(task, '$.steps[' || CAST(position AS INTEGER) || '].status') FROM tasks
        WHERE id = task_id AND json_valid(task)), 'queued');
    """,
    # What URL the source was named by, hashed. Unknown of older orders: they are found by their image's bytes alone.
    """
    ALTER TABLE tasks ADD COLUMN source_hash TEXT;
    CREATE INDEX tasks_source ON tasks (caller, source_hash) WHERE source_hash IS NOT NULL;
    """,
    # What holds its default was part of the identity before, and so was the white space of a prompt.
    rehash,
    # For the metrics, which scanned the whole store.
    counters.begin,
    # For finding the tasks that are old enough to be deleted.
    "CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL",
    # An older version that still runs would place orders that this one does not recognise.
    refuse_older_versions,
    # When a task was ordered, on a clock that nobody sets (`Uptime`). Unknown of older tasks.
    "ALTER TABLE tasks ADD COLUMN boot TEXT; ALTER TABLE tasks ADD COLUMN uptime REAL",
    # Whether the result can be zoomed out of, where the vendor's answer says so.
    "ALTER TABLE tasks ADD COLUMN zooms INTEGER",
    # An order's identity once more: one of the two that is damaged hides no order. The hash of a URL names its client.
    """
    ALTER TABLE orders ADD COLUMN identity TEXT;
    UPDATE orders SET identity = (SELECT order_hash FROM tasks WHERE id = task_id) WHERE position = 0;
    CREATE INDEX orders_identity ON orders (identity) WHERE position = 0;
    DROP INDEX tasks_source;
    CREATE INDEX tasks_source ON tasks (source_hash) WHERE source_hash IS NOT NULL;
    """,
    # When open tasks are due, in a table of its own.
    due.begin,
    # For `<NAME>_MAX_IN_FLIGHT`.
    due.begin_places,
)
"""What takes a file from each schema version to the next."""
