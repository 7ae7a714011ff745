"""The tables in PostgreSQL, as the steps from each version to the next, and which programs may work on which.

The names of the tables and columns are those of the SQLite file. What differs: `tasks.seq` says in which order tasks
were written, `tasks.sealed` holds what only this program may read (`seal`), `due.claim` is empty unless a process
is at work on the task, and `due.home` unless one process alone can ask for its order.
"""

from dataclasses import dataclass
from typing import Final

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.storage.postgres.database import Connection

LOCK: Final = "outpaint-mcp schema"
"""Names the lock under which the tables are changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, in one transaction.

    `readable_from` is the oldest version of the program's own schema with which a program may go on working on these
    tables: the number of an older step after a change that only adds, so that programs are replaced one after another.
    """

    sql: str
    readable_from: int


MIGRATIONS: Final = (
    Migration(
        """
        CREATE TABLE tasks (
            id text PRIMARY KEY,
            seq bigint GENERATED ALWAYS AS IDENTITY,
            caller text NOT NULL,
            provider text NOT NULL,
            order_hash text,
            source_hash text,
            status text NOT NULL,
            task text NOT NULL,
            plan text NOT NULL,
            sealed bytea,
            reference text,
            is_grid boolean,
            zooms boolean,
            created_at double precision NOT NULL,
            finished_at double precision,
            boot text,
            uptime double precision
        );
        CREATE INDEX tasks_equal ON tasks (caller, order_hash) WHERE order_hash IS NOT NULL;
        CREATE INDEX tasks_source ON tasks (source_hash) WHERE source_hash IS NOT NULL;
        CREATE INDEX tasks_recent ON tasks (caller, created_at, seq);
        CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
        CREATE INDEX tasks_status ON tasks (provider, status);

        CREATE TABLE orders (
            task_id text NOT NULL REFERENCES tasks ON DELETE CASCADE,
            position integer NOT NULL,
            name text NOT NULL,
            provider text NOT NULL,
            caller text NOT NULL,
            identity text,
            day text NOT NULL,
            state text NOT NULL,
            status text NOT NULL,
            remote_id text,
            usd double precision CHECK (usd >= 0 AND usd < 'Infinity'),
            reserved boolean NOT NULL,
            cost text,
            PRIMARY KEY (task_id, position)
        );
        CREATE INDEX orders_remote ON orders (provider, remote_id) WHERE remote_id IS NOT NULL;
        CREATE INDEX orders_day ON orders (day, caller) WHERE reserved;
        CREATE INDEX orders_identity ON orders (identity) WHERE position = 0;
        CREATE INDEX orders_state ON orders (provider, state) WHERE identity IS NOT NULL;

        CREATE TABLE kept (
            task_id text NOT NULL REFERENCES tasks ON DELETE CASCADE,
            position integer NOT NULL,
            sha256 text NOT NULL,
            mime_type text NOT NULL,
            PRIMARY KEY (task_id, position)
        );
        CREATE INDEX kept_hash ON kept (sha256);

        CREATE TABLE due (
            task_id text PRIMARY KEY REFERENCES tasks ON DELETE CASCADE,
            provider text NOT NULL,
            due_at double precision NOT NULL,
            claim text,
            home text,
            wake_at double precision,
            failures integer NOT NULL DEFAULT 0,
            calls_back boolean NOT NULL DEFAULT false,
            answer text,
            remote_id text,
            reference text,
            step text,
            asked_at double precision,
            boot text,
            until double precision,
            in_flight boolean NOT NULL DEFAULT false,
            waits_since double precision
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
        CREATE INDEX due_next ON due (provider, due_at);
        CREATE INDEX due_in_flight ON due (provider) WHERE in_flight;
        CREATE INDEX due_waiting ON due (provider, waits_since) WHERE waits_since IS NOT NULL;
        """,
        readable_from=1,
    ),
    # The tables of the jobs of workers, which are Procrastinate's: see `upgrade`.
    Migration("ALTER TABLE outpaint_schema ADD COLUMN jobs text", readable_from=1),
)
VERSION: Final = len(MIGRATIONS)


async def versions(connection: Connection) -> tuple[int, int]:
    """The version of the tables, and the oldest one of programs that may work on them; 0 and 0 if there are none."""
    found = await (await connection.execute("SELECT to_regclass('outpaint_schema') IS NULL")).fetchone()
    if found == (True,):
        return 0, 0
    row = await (await connection.execute("SELECT version, readable_from FROM outpaint_schema")).fetchone()
    return (0, 0) if row is None else (int(str(row[0])), int(str(row[1])))


async def upgrade(connection: Connection) -> tuple[int, int]:
    """Bring the tables to this program's version, one process at a time.

    Returns:
        The version that they had, and the one that they have.

    Raises:
        ConfigurationError: they are a newer program's.
    """
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)"
        )
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS outpaint_schema (one boolean PRIMARY KEY DEFAULT true CHECK (one),"
            " version integer NOT NULL, readable_from integer NOT NULL)"
        )
        before, _ = await versions(connection)
        if before > VERSION:
            raise newer(before)
        for migration in MIGRATIONS[before:]:
            await connection.execute(migration.sql)
        from outpaint_mcp.storage.postgres import jobs

        row = await (await connection.execute("SELECT jobs FROM outpaint_schema")).fetchone()
        applied = None if row is None or row[0] is None else str(row[0])
        await connection.execute(
            "INSERT INTO outpaint_schema (version, readable_from, jobs) VALUES (%s, %s, %s) ON CONFLICT (one) DO UPDATE"
            " SET version = EXCLUDED.version, readable_from = EXCLUDED.readable_from, jobs = EXCLUDED.jobs",
            (VERSION, MIGRATIONS[-1].readable_from, await jobs.upgrade(connection, applied)),
        )
        return before, VERSION


def check_version(version: int, readable_from: int) -> None:
    """Raises ConfigurationError if this program must not work on tables of this version."""
    if readable_from > VERSION:
        raise newer(version)
    if version < VERSION:
        has = f"has the tables of version {version}" if version else "has no tables yet"
        raise ConfigurationError(
            f"The database {has}, and this outpaint-mcp needs version {VERSION}.",
            "Nothing was ordered. Run: outpaint-mcp db upgrade.",
        )


def newer(version: int) -> ConfigurationError:
    return ConfigurationError(
        f"The database was upgraded by a newer outpaint-mcp (version {version}, this one knows {VERSION}).",
        "Nothing was ordered. Update outpaint-mcp and restart it.",
    )
