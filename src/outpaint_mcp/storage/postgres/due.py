"""When open tasks are to be advanced: the statements over `due`, one narrow row for each open task.

To claim a task is to set its next due time: a process that is at work on it moves that on (`HOLD`), and the tasks of
one that is gone come due by themselves. `claim` names who is at work on it; a task that only waits for its time is
nobody's, and the first process that is free takes it, unless its order is known to one process alone (`home`).
"""

from typing import Final

from outpaint_mcp.domain.record import CLAIM_SECONDS, LATEST_SECONDS, Record
from outpaint_mcp.storage.rows import DUE_COLUMNS

LATE_SECONDS: Final = 8.0
"""How late a task must be that one process alone can ask for, until another takes it to be gone."""
QUICKLY: Final = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"
"""Holds in a statement that need not wait for the disk: a machine that fails loses nothing but a poll's time.

Only where the statement is a transaction of its own: it holds for all of the transaction.
"""

LOOK: Final = """
    WITH RECURSIVE found (provider) AS (
        (SELECT MIN(provider) FROM due)
        UNION ALL SELECT (SELECT MIN(provider) FROM due WHERE due.provider > found.provider)
        FROM found WHERE provider IS NOT NULL
    )
    SELECT provider, (SELECT MIN(due_at) FROM due WHERE due.provider = found.provider),
        (SELECT MAX(due_at) FROM due WHERE due.provider = found.provider),
        extract(epoch FROM clock_timestamp())::double precision FROM found
"""
"""The providers of open tasks, when each one's next and last is due, each by one look into the index; and the time.

The last row has no provider.
"""

TAKE: Final = f"""
    WITH taken AS MATERIALIZED (
        SELECT one.task_id, one.due_at
        FROM unnest(%(providers)s::text[], %(rooms)s::integer[]) AS wanted (provider, room)
        CROSS JOIN LATERAL (
            SELECT task_id, due_at FROM due WHERE due.provider = wanted.provider AND due_at <= %(now)s
            AND task_id <> ALL (%(held)s::text[])
            AND (home IS NULL OR home = %(me)s OR due_at <= %(late)s)
            ORDER BY due_at LIMIT wanted.room FOR UPDATE SKIP LOCKED
        ) AS one
    )
    UPDATE due SET claim = %(me)s, due_at = %(until)s, wake_at = NULL FROM taken
    WHERE due.task_id = taken.task_id AND due.task_id = ANY (ARRAY (SELECT task_id FROM taken)) AND {QUICKLY}
    RETURNING due.task_id, provider, taken.due_at, {DUE_COLUMNS}
"""  # noqa: S608
"""The array is for the planner, which takes it for few rows and looks them up. By its statistics, which are older than
most due times, nearly all rows are due: it read the whole table to find those of `taken`.
"""

CLAIM: Final = """
    WITH before AS (SELECT task_id, due_at FROM due WHERE task_id = %(id)s FOR UPDATE)
    UPDATE due SET claim = %(me)s, due_at = %(until)s, wake_at = NULL FROM before
    WHERE due.task_id = before.task_id AND (home IS NULL OR home = %(me)s OR before.due_at <= %(late)s)
        AND (claim IS NULL OR claim = %(me)s
        OR before.due_at <= %(now)s OR before.due_at > %(latest)s)
    RETURNING before.due_at
"""
CLAIM_FINISHED: Final = """
    INSERT INTO due (task_id, provider, due_at, claim) SELECT id, provider, %(until)s, %(me)s FROM tasks
    WHERE id = %(id)s ON CONFLICT DO NOTHING
"""
"""For a task with nothing to do, which has no row."""

PUT: Final = """
    INSERT INTO due (task_id, provider, due_at, claim, home, failures, calls_back, answer, remote_id, reference, step,
        asked_at, boot, until)
    VALUES (%(id)s, %(provider)s, %(due_at)s, %(claim)s, %(home)s, %(failures)s, %(calls_back)s, %(answer)s,
        %(remote_id)s, %(reference)s, %(step)s, %(asked_at)s, %(boot)s, %(until)s)
    ON CONFLICT (task_id) DO UPDATE SET
        due_at = CASE WHEN %(claim)s::text IS NULL THEN LEAST(EXCLUDED.due_at, due.wake_at) ELSE due.due_at END,
        claim = EXCLUDED.claim, home = EXCLUDED.home, failures = EXCLUDED.failures,
        calls_back = EXCLUDED.calls_back AND due.wake_at IS NULL, answer = EXCLUDED.answer,
        remote_id = EXCLUDED.remote_id, reference = EXCLUDED.reference, step = EXCLUDED.step,
        asked_at = EXCLUDED.asked_at, boot = EXCLUDED.boot, until = EXCLUDED.until,
        wake_at = CASE WHEN %(claim)s::text IS NULL THEN NULL ELSE due.wake_at END
"""
"""A task that a process goes on with (`claim`) keeps its due time, which that process moves on."""

RESCHEDULE: Final = f"""
    UPDATE due SET asked_at = asked.at, due_at = LEAST(asked.next_at, wake_at), wake_at = NULL, claim = NULL
    FROM unnest(%(ids)s::text[], %(ats)s::double precision[], %(next_ats)s::double precision[])
        AS asked (task_id, at, next_at)
    WHERE due.task_id = asked.task_id AND claim = %(me)s AND {QUICKLY}
"""  # noqa: S608

HOLD: Final = "UPDATE due SET due_at = %(until)s WHERE task_id = ANY (%(held)s) AND claim = %(me)s"
HOLD_QUICKLY: Final = f"""
    UPDATE due SET due_at = %(until)s WHERE task_id = ANY (%(held)s) AND claim = %(me)s AND {QUICKLY}
"""  # noqa: S608

RELEASE: Final = """
    UPDATE due SET claim = NULL, due_at = LEAST(%(due_at)s, wake_at), wake_at = NULL
    WHERE task_id = ANY (%(ids)s) AND claim = %(me)s
"""
FINISH: Final = "DELETE FROM due WHERE task_id = %(id)s AND claim = %(me)s"

WAKE: Final = """
    UPDATE due SET due_at = CASE WHEN claim IS NULL THEN LEAST(due_at, %(at)s) ELSE due_at END,
        wake_at = CASE WHEN claim IS NULL THEN NULL ELSE LEAST(wake_at, %(at)s) END,
        calls_back = calls_back AND NOT %(called_back)s
    WHERE task_id = %(id)s
"""
WAKE_ALL: Final = """
    UPDATE due SET due_at = CASE WHEN claim IS NULL THEN %(at)s ELSE due_at END,
        wake_at = CASE WHEN claim IS NULL THEN NULL ELSE %(at)s END
    WHERE due_at > %(at)s
"""


TAKE_PLACE: Final = """
    UPDATE due SET in_flight = true, waits_since = NULL WHERE task_id = %(id)s AND claim = %(me)s AND (in_flight
        OR %(most)s > (SELECT COUNT(*) FROM due AS other WHERE other.provider = due.provider AND other.in_flight
            AND other.task_id <> %(id)s)
        + (SELECT COUNT(*) FROM due AS other WHERE other.provider = due.provider AND other.task_id <> %(id)s
            AND other.waits_since < COALESCE(due.waits_since, %(now)s)))
"""
"""In the turn of the provider: see `Store.take_place`."""
WAIT: Final = """
    UPDATE due SET waits_since = COALESCE(waits_since, %(now)s) WHERE task_id = %(id)s AND claim = %(me)s
"""
FREE_PLACE: Final = """
    WITH freed AS (UPDATE due SET in_flight = false WHERE task_id = %(id)s AND in_flight RETURNING provider),
        next AS (SELECT task_id FROM due WHERE provider = (SELECT provider FROM freed) AND waits_since IS NOT NULL
            ORDER BY waits_since LIMIT 1 FOR UPDATE)
    UPDATE due SET due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END,
        wake_at = CASE WHEN claim IS NULL THEN NULL ELSE 0 END FROM next WHERE due.task_id = next.task_id
"""
"""The task no longer runs at its provider: whoever waits longest for that is due."""

UNDO: Final = "UPDATE due SET due_at = %(now)s WHERE provider = ANY (%(providers)s) AND due_at > %(latest)s"
"""For what is due later than anything can be: it is of a clock that was set back since."""


def times(now: float) -> dict[str, float]:
    """What the statements name of the time."""
    return {
        "now": now,
        "late": now - LATE_SECONDS,
        "until": held_until(now),
        "latest": now + LATEST_SECONDS + CLAIM_SECONDS,
    }


def held_until(now: float) -> float:
    """Until when a claim moves a task's due time on."""
    return now + CLAIM_SECONDS


def values_of(record: Record, claim: str | None, owner: str) -> dict[str, object]:
    """What `PUT` writes of an open task for the process `owner`."""
    last = record.last_answer
    return {
        "id": record.task.id,
        "provider": record.task.provider,
        "due_at": record.due_at,
        "claim": claim,
        "home": owner if record.stays else None,
        "failures": record.failures,
        "calls_back": record.calls_back,
        "answer": last and last.digest,
        "remote_id": last and last.remote_id,
        "reference": last and last.reference,
        "step": last and last.step.value,
        "asked_at": last and last.asked_at,
        "boot": last and last.until.boot,
        "until": last and last.until.seconds,
    }
