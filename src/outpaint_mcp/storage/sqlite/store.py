"""The store (see `Store`) in one SQLite file.

Several processes may share one file: whatever must hold between them is one conditional statement or one
``BEGIN IMMEDIATE`` transaction. An open task is advanced by the process that has claimed it (`due`). What money hangs
on is on disk (``synchronous=FULL``) before the next thing happens.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import Counts, JobKind, OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.rows import (
    DAY_SECONDS,
    Skipped,
    day_of,
    finished_at,
    new_step_row,
    order_json,
    step_values,
    task_json,
    unreadable,
)
from outpaint_mcp.storage.sqlite import copies, counters, due, pruning, reading, repeats
from outpaint_mcp.storage.sqlite.claims import Claims
from outpaint_mcp.storage.sqlite.database import Migration, transaction
from outpaint_mcp.storage.sqlite.schema import MIGRATIONS

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often it is looked whether another process has written. Runs no query."""


class SqliteStore(Claims):
    """The store in one SQLite file; made on first use.

    Args:
        path: the file; its folder is made with it.
        owner: this process's name among those that share the file.
        migrations: the schema, as the steps from each version to the next.
        busy_seconds: how long to wait for another process that is writing.
    """

    keeps_secrets = False
    batch_seconds = 0.1

    def __init__(
        self, path: Path, owner: str, *, migrations: Sequence[Migration] = MIGRATIONS, busy_seconds: float = 5.0
    ) -> None:
        super().__init__(path, owner, migrations=migrations, busy_seconds=busy_seconds)
        self._skipped = Skipped()
        self._has_looked = False
        self._looked: tuple[object, ...] | None = None

    # Placing orders

    async def claim(
        self, record: Record, *, now: float, repeat: bool, limits: DailyLimits, count_orders: bool
    ) -> tuple[Record, bool]:
        def claimed(db: "sqlite3.Connection") -> tuple[Record, bool]:
            with transaction(db):
                self._check_version(db)
                found = self._standing(db, record, now, repeat=repeat)
                if found is not None:
                    state = found.steps[0].state if found.steps else OrderState.ACCEPTED
                    # Never sent: unless another process is about to, it is ours to send, on its reservation.
                    return found, state is OrderState.INTENDED and self._claimed(db, found.task.id, now)[0]
                made = replace(record, due_at=now + due.HELD_SECONDS)
                if count_orders:
                    used = self._used(db, record.client, now) if limits != DailyLimits() else limits
                    limits.check([step.usd for step in record.steps], used=used, provider=record.task.provider)
                    made = replace(made, steps=tuple(replace(step, reserved=True) for step in record.steps))
                self._insert(db, made, now)
                return made, True

        def work(db: "sqlite3.Connection") -> tuple[Record, bool]:
            standing, may_send = claimed(db)
            if may_send:
                self._held.add(standing.task.id)
            return standing, may_send

        return await self._run(work, durable=True, in_place=True)

    def _standing(self, db: "sqlite3.Connection", record: Record, now: float, *, repeat: bool) -> Record | None:
        found = repeats.standing(
            db, record.client, repeats.identities(db, record, now, repeat=repeat), now, repeat=repeat
        )
        if found is None:
            return None
        standing = reading.load(db, found)
        if standing is not None and standing.client != record.client:
            # An identity is of one client's order: the stored client is damaged.
            raise unreadable(found)
        return standing

    def _used(self, db: "sqlite3.Connection", client: str, now: float) -> DailyLimits:
        # What cannot be read counts as much as it can: a day that is none to every day, what is not known to be given
        # back as reserved, an amount that is none as more than any limit. Day and client stand in the task too; where
        # one of them is damaged, the other one counts.
        midnight = now - now % DAY_SECONDS
        usd, count = db.execute(
            "SELECT COALESCE(SUM(CASE WHEN typeof(usd) IN ('text', 'blob') OR usd < 0 THEN 9e999 ELSE usd END), 0),"
            " COUNT(*) FROM (SELECT * FROM orders WHERE caller = ?2 AND day = ?1"
            " UNION ALL SELECT * FROM orders WHERE caller = ?2 AND day < '1'"
            " UNION ALL SELECT * FROM orders WHERE caller = ?2 AND day > '9999-12-31'"
            " UNION ALL SELECT orders.* FROM tasks JOIN orders ON task_id = id WHERE tasks.caller = ?2"
            " AND created_at >= ?3 AND created_at < ?4 AND NOT (orders.caller = ?2 AND"
            " (day = ?1 OR day < '1' OR day > '9999-12-31'))) WHERE reserved IS NOT 0",
            (day_of(now), client, midnight, midnight + DAY_SECONDS),
        ).fetchone()
        return DailyLimits(usd, count)

    def _insert(self, db: "sqlite3.Connection", record: Record, now: float) -> None:
        task = record.task
        db.execute(
            "INSERT INTO tasks (id, caller, provider, order_hash, source_hash, status, task, plan, reference, is_grid,"
            " created_at, finished_at, boot, uptime, zooms, change)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                task.id,
                record.client,
                task.provider,
                record.identity,
                record.order and record.order.source_hash(record.client),
                task.status.value,
                task_json(record),
                order_json(record),
                record.reference,
                record.is_grid,
                task.created_at.timestamp(),
                finished_at(record),
                record.ordered_at and record.ordered_at.boot,
                record.ordered_at and record.ordered_at.seconds,
                record.zooms,
            ),
        )
        db.executemany(
            "INSERT INTO orders (task_id, position, name, provider, caller, identity, day, state, status, remote_id,"
            " usd, reserved, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [new_step_row(record, step, day_of(now)) for step in record.steps],
        )
        due.put(db, record, self._owner)

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        def work(db: "sqlite3.Connection") -> bool:
            with transaction(db):
                marked = db.execute(
                    "UPDATE orders SET state = 'sent' WHERE task_id = ?1 AND position = ?2 AND state = 'intended'"
                    " AND EXISTS (SELECT 1 FROM due WHERE task_id = ?1 AND claim = ?3)",
                    (task_id, position, self._owner),
                )
                due.hold(db, self._owner, (task_id,), now)
                return marked.rowcount == 1

        is_ours = await self._run(work, durable=True, in_place=True)
        if not is_ours:
            self.let_go(task_id)
        return is_ours

    # Following tasks

    async def save(self, record: Record, *, durable: bool = True, force: bool = False, go_on: bool = False) -> bool:
        def work(db: "sqlite3.Connection") -> bool:
            task = record.task
            with transaction(db):
                written = db.execute(
                    "UPDATE tasks SET status = ?1, task = ?2, reference = ?3, is_grid = ?4, finished_at = ?5,"
                    " zooms = ?6, boot = ?10, uptime = ?11"
                    " WHERE id = ?7 AND (EXISTS (SELECT 1 FROM due WHERE task_id = ?7 AND claim = ?8) OR (?9"
                    " AND EXISTS (SELECT 1 FROM orders WHERE task_id = ?7 AND state IN ('sent', 'unconfirmed'))))",
                    (
                        task.status.value,
                        task_json(record),
                        record.reference,
                        record.is_grid,
                        finished_at(record),
                        record.zooms,
                        task.id,
                        self._owner,
                        force,
                        record.ordered_at and record.ordered_at.boot,
                        record.ordered_at and record.ordered_at.seconds,
                    ),
                )
                if written.rowcount != 1:
                    return False
                db.executemany(
                    "UPDATE orders SET state = ?, status = ?, remote_id = ?, usd = ?, reserved = ?, cost = ?"
                    " WHERE task_id = ? AND position = ?",
                    [(*step_values(step), task.id, step.position) for step in record.steps],
                )
                due.put(db, record, self._owner)
                copies.keep(db, record)
                return True

        written = await self._run(work, durable=durable)
        if not go_on:
            self.let_go(record.task.id)
        return written

    async def import_task(self, record: Record, *, now: float) -> Record:
        def work(db: "sqlite3.Connection") -> Record:
            with transaction(db):
                self._check_version(db)
                remote_id = record.task.remote_id
                found = reading.find_remote(db, record.task.provider, remote_id or "", record.client, last=True)
                if found is None:
                    self._insert(db, record, now)
                    copies.keep(db, record)
                    return record
                return found

        return await self._run(work)

    async def prune(self, *, finished_before: float) -> None:
        def work(db: "sqlite3.Connection") -> int:
            with transaction(db):
                return pruning.prune(db, finished_before)

        while await self._run(work) == pruning.AT_ONCE:
            pass

    # Jobs of workers

    async def work(
        self, do: Callable[[str, JobKind], Awaitable[None]], tidy: Callable[[], Awaitable[None]], *, at_once: int
    ) -> None:
        raise ConfigurationError(
            "Workers share a database with their servers, and there is none.", "Set OUTPAINT_DATABASE_URL."
        )

    async def open_tasks(self, client: str, provider: str) -> int:
        return await self._look_up(lambda db: reading.open_tasks(db, client, provider))

    # Looking

    async def stands(self, order: Order, client: str, *, now: float, repeat: bool) -> bool:
        identities = {order.identity(client)}
        return await self._look_up(lambda db: repeats.standing(db, client, identities, now, repeat=repeat) is not None)

    async def images_of(self, url_hash: str, *, now: float, repeat: bool) -> list[InputImage]:
        return await self._look_up(lambda db: repeats.images_of(db, url_hash, now, repeat=repeat))

    async def owner_of(self, client: str, sha256: str) -> tuple[str, int] | None:
        return await self._run(lambda db: copies.owner_of(db, client, sha256))

    async def get(self, task_id: str) -> Record | None:
        return await self._look_up(lambda db: reading.load(db, task_id))

    async def find_remote(
        self, provider: str, remote_id: str, client: str | None = None, *, last: bool = False
    ) -> Record | None:
        return await self._look_up(lambda db: reading.find_remote(db, provider, remote_id, client, last=last))

    async def recent(self, client: str, limit: int) -> list[Record]:
        return await self._run(lambda db: reading.recent(db, client, limit, self._skipped))

    async def ids(self, client: str, prefix: str, limit: int, status: Status | None = None) -> list[str]:
        return await self._look_up(lambda db: reading.ids(db, client, prefix, limit, status))

    async def heard(self, clock: Clock) -> None:
        # It tells only that the file was written, not what.
        while True:
            if self._has_looked:
                await clock.sleep(LOOK_SECONDS)
            self._has_looked = True
            state = self._state()
            is_new, self._looked = state is None or state != self._looked, state
            if is_new:
                return

    async def events(self, ids: Collection[str]) -> list[TaskEvent]:
        return await self._look_up(lambda db: reading.events(db, ids, self._skipped))

    async def check(self) -> None:
        await self._run(lambda db: db.execute("SELECT 1 FROM tasks LIMIT 1").fetchone())

    async def counts(self, now: float) -> Counts:
        return await self._look_up(lambda db: counters.counts(db, day_of(now)))

    async def open_sources(self) -> set[str]:
        return await self._run(lambda db: reading.open_sources(db, self._skipped))
