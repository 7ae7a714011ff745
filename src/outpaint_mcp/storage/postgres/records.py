"""Finding tasks: the statements that read records, and reading them. A row that cannot be read is skipped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import Record
from outpaint_mcp.storage.postgres.database import Connection
from outpaint_mcp.storage.postgres.seal import Seal
from outpaint_mcp.storage.rows import STEP_COLUMNS, TASK_COLUMNS, UNREADABLE, Skipped, record_of, unreadable

RECORDS: Final = f"""
    SELECT id, home IS NOT NULL, sealed,
    (SELECT json_agg(json_build_array({STEP_COLUMNS}) ORDER BY position) FROM orders WHERE task_id = tasks.id),
    (SELECT json_agg(json_build_array(position, sha256, mime_type)) FROM kept WHERE task_id = tasks.id),
    {TASK_COLUMNS} FROM tasks LEFT JOIN due ON due.task_id = tasks.id
"""  # noqa: S608
"""One statement for a record: what it reads belongs together."""
BY_ID: Final = f"{RECORDS} WHERE id = %s"
RECENT: Final = f"{RECORDS} WHERE caller = %s ORDER BY created_at DESC, seq DESC LIMIT %s"
REMOTE: Final = """
    SELECT task_id FROM orders JOIN tasks ON id = task_id WHERE orders.provider = %(provider)s
    AND remote_id = %(remote_id)s AND (%(client)s::text IS NULL OR orders.caller = %(client)s)
    AND (NOT %(last)s OR position = (SELECT MAX(position) FROM orders AS one WHERE one.task_id = id))
    ORDER BY created_at DESC, seq DESC LIMIT 1
"""
IDS: Final = """
    SELECT id FROM tasks WHERE caller = %(client)s AND starts_with(id, %(prefix)s)
    AND (%(status)s::text IS NULL OR status = %(status)s) ORDER BY created_at DESC, seq DESC LIMIT %(limit)s
"""
EVENTS: Final = """
    SELECT tasks.id, caller, status, due.task_id IS NULL FROM tasks
    LEFT JOIN due ON due.task_id = tasks.id WHERE tasks.id = ANY (%s)
"""
OPEN_ORDERS: Final = "SELECT id, plan FROM tasks WHERE id IN (SELECT task_id FROM due)"
OWNER_OF: Final = """
    SELECT task_id, position FROM kept JOIN tasks ON id = task_id WHERE caller = %s AND sha256 = %s
    ORDER BY created_at DESC, seq DESC LIMIT 1
"""
STANDING: Final = """
    WITH same AS (
        SELECT seq, id, status, finished_at FROM tasks WHERE id IN (
            SELECT id FROM tasks WHERE caller = %(client)s AND order_hash = ANY (%(identities)s)
            UNION SELECT task_id FROM orders WHERE position = 0 AND identity = ANY (%(identities)s)
        )
    )
    SELECT id FROM same WHERE status IN ('queued', 'running') OR (NOT %(repeat)s AND (
        status = 'succeeded' AND finished_at > %(since)s
        OR status NOT IN ('queued', 'running', 'succeeded', 'failed', 'cancelled') AND NOT EXISTS (
            SELECT 1 FROM same AS later WHERE later.status = 'succeeded' AND later.seq > same.seq)))
    ORDER BY seq DESC LIMIT 1
"""
"""As in the SQLite file: see `outpaint_mcp.storage.sqlite.repeats.standing`."""
IMAGES: Final = """
    SELECT id, plan, provider, status IN ('queued', 'running'), status = 'succeeded' AND finished_at <= %(since)s
    FROM tasks WHERE source_hash = %(url_hash)s AND status NOT IN ('failed', 'cancelled') AND seq >= (
        SELECT MIN(seq) FROM tasks WHERE source_hash = %(url_hash)s AND (
            status NOT IN ('succeeded', 'failed', 'cancelled') OR status = 'succeeded' AND finished_at > %(since)s))
    ORDER BY seq DESC
"""
USED: Final = """
    SELECT COALESCE(SUM(usd), 0), COUNT(*) FROM orders WHERE reserved AND caller = %s AND day = %s
"""
COUNT_TASKS: Final = "SELECT provider, status, COUNT(*) FROM tasks GROUP BY provider, status"
COUNT_ORDERS: Final = """
    SELECT provider, state, COUNT(*) FROM orders WHERE identity IS NOT NULL GROUP BY provider, state
"""
COUNT_USED: Final = """
    SELECT caller, COALESCE(SUM(usd), 0), COUNT(*) FROM orders WHERE reserved AND day = %s GROUP BY caller
"""
COUNT_WAITING: Final = "SELECT provider, COUNT(*) FROM due WHERE waits_since IS NOT NULL GROUP BY provider"
COUNT_OPEN: Final = """
    SELECT COUNT(*) FROM due JOIN tasks ON id = task_id
    WHERE caller = %s AND due.provider = %s AND order_hash IS NOT NULL
"""
STALLED_SECONDS: Final = 15.0
"""How long a worker may be silent before its jobs are another's."""
COUNT_JOBS: Final = "SELECT queue_name, status, COUNT(*) FROM procrastinate_jobs GROUP BY queue_name, status"
COUNT_STALLED: Final = """
    SELECT COUNT(*) FROM procrastinate_jobs LEFT JOIN procrastinate_workers AS worker ON worker.id = worker_id
    WHERE status = 'doing' AND (worker.id IS NULL OR last_heartbeat < now() - make_interval(secs => %s))
"""
PRUNE: Final = """
    WITH old AS (
        SELECT id FROM tasks WHERE finished_at < %(before)s AND created_at < %(before)s
        AND status IN ('succeeded', 'failed', 'cancelled')
        AND NOT EXISTS (SELECT 1 FROM due WHERE task_id = tasks.id)
        AND NOT EXISTS (SELECT 1 FROM tasks AS other WHERE other.caller = tasks.caller
            AND other.status IN ('queued', 'running', 'unknown') AND other.order_hash = tasks.order_hash)
        AND NOT EXISTS (SELECT 1 FROM tasks AS other WHERE other.caller = tasks.caller
            AND other.status IN ('queued', 'running', 'unknown') AND other.source_hash = tasks.source_hash)
        LIMIT %(most)s
    )
    DELETE FROM tasks WHERE id IN (SELECT id FROM old)
"""
"""What refers to them goes with them. For what stays see `outpaint_mcp.storage.sqlite.pruning.prune`."""


def read(row: Sequence[Any], seal: Seal) -> Record:
    """The record that a row of `RECORDS` holds.

    Raises:
        ConfigurationError: it does not hold what was written.
    """
    task_id, stays, sealed, steps, kept, *task = row
    try:
        found = record_of(tuple(task), steps or (), kept or (), secrets=seal.open(task_id, sealed))
    except UNREADABLE as error:
        raise unreadable(task_id) from error
    return replace(found, stays=stays)


async def load(connection: Connection, task_id: str, seal: Seal) -> Record | None:
    """The record of a task.

    Raises:
        ConfigurationError: its rows cannot be read.
    """
    row = await (await connection.execute(BY_ID, (task_id,))).fetchone()
    return None if row is None else read(row, seal)


async def find_remote(connection: Connection, wanted: Mapping[str, object], seal: Seal) -> Record | None:
    """The newest task one of whose orders has this id at the provider; `wanted` as `REMOTE` names it."""
    row = await (await connection.execute(REMOTE, wanted)).fetchone()
    return None if row is None else await load(connection, str(row[0]), seal)


async def recent(connection: Connection, client: str, limit: int, seal: Seal, skipped: Skipped) -> list[Record]:
    """The client's newest tasks, newest first."""
    found = []
    for row in await (await connection.execute(RECENT, (client, limit))).fetchall():
        try:
            found.append(read(row, seal))
        except ConfigurationError as error:
            skipped.note(str(error))
    return found
