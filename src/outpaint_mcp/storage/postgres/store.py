"""The store (see `Store`) in a PostgreSQL database.

Whatever must hold between processes is one statement, or one transaction under a lock of its client
(`pg_advisory_xact_lock`): two processes that claim for one client take turns, as SQLite's writers do. Times are the
database's (`DatabaseClock`). A change of a task's status is told to the other processes by NOTIFY.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import REUSE_SECONDS, Counts, JobKind, OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.postgres import due, records
from outpaint_mcp.storage.postgres.claims import Claims, plain_text
from outpaint_mcp.storage.postgres.database import Connection, unusable
from outpaint_mcp.storage.postgres.seal import Seal
from outpaint_mcp.storage.rows import (
    Skipped,
    day_of,
    events_of,
    finished_at,
    identities_of,
    images_of,
    new_step_row,
    order_json,
    sources_of,
    step_values,
    task_json,
    unreadable,
)

if TYPE_CHECKING:
    from outpaint_mcp.storage.postgres.jobs import Jobs

CHANNEL: Final = "outpaint_tasks"
"""Where processes tell each other of tasks: the name of the one that wrote, and the task's id."""
LISTEN_SECONDS: Final = 30.0
"""How often the connection that hears of changes is tried out."""
PRUNED_AT_ONCE: Final = 200
"""How many tasks go in one transaction."""


class PostgresStore(Claims):
    """The store of one process.

    Args:
        url: the database, as libpq's URI.
        owner: this process's name among all.
        seal: keeps what only this program may read.
    """

    keeps_secrets = True
    batch_seconds = 0.25

    def __init__(self, url: str, owner: str, seal: Seal) -> None:
        super().__init__(url, owner, seal)
        self._skipped = Skipped()
        self._jobs: Jobs | None = None

    # Placing orders

    async def claim(
        self, record: Record, *, now: float, repeat: bool, limits: DailyLimits, count_orders: bool
    ) -> tuple[Record, bool]:
        held: set[str] = set()

        async def work(db: Connection) -> tuple[Record, bool]:
            self._held -= held
            held.clear()
            async with self._transaction(db):
                await self._lock(db, f"client {record.client}")
                found = await self._standing(db, record, now, repeat=repeat)
                if found is not None:
                    task_id = found.task.id
                    state = found.steps[0].state if found.steps else OrderState.ACCEPTED
                    if state is not OrderState.INTENDED or (task_id in self._held and task_id != record.task.id):
                        return found, False
                    # Never sent: unless another process is about to, it is ours to send, on its reservation.
                    held.add(task_id)
                    self._held.add(task_id)
                    is_ours, _ = await self._claim(db, task_id, now)
                    if not is_ours:
                        self._held -= held
                    return found, is_ours
                made = replace(record, due_at=due.held_until(now))
                if count_orders:
                    if limits != DailyLimits():
                        used = await self._used(db, record.client, now)
                        limits.check([step.usd for step in record.steps], used=used, provider=record.task.provider)
                    made = replace(made, steps=tuple(replace(step, reserved=True) for step in record.steps))
                await self._insert(db, made, now, claim=self._owner)
                held.add(made.task.id)
                self._held.add(made.task.id)
                return made, True

        try:
            return await self._run(work)
        except BaseException:
            self._held -= held
            raise

    async def _standing(self, db: Connection, record: Record, now: float, *, repeat: bool) -> Record | None:
        url_hash = None if record.order is None else record.order.source_hash(record.client)
        images = [] if url_hash is None else await self._images_of(db, url_hash, now, repeat=repeat)
        found = await self._standing_id(db, record.client, identities_of(record, images), now, repeat=repeat)
        standing = None if found is None else await records.load(db, found, self._seal)
        if standing is not None and standing.client != record.client:
            # An identity is of one client's order: the stored client is damaged.
            raise unreadable(standing.task.id)
        return standing

    async def _standing_id(
        self, db: Connection, client: str, identities: Collection[str], now: float, *, repeat: bool
    ) -> str | None:
        wanted = {"client": client, "identities": list(identities), "repeat": repeat, "since": now - REUSE_SECONDS}
        row = await (await db.execute(records.STANDING, wanted)).fetchone()
        return None if row is None else str(row[0])

    async def _images_of(self, db: Connection, url_hash: str, now: float, *, repeat: bool) -> list[InputImage]:
        found = await db.execute(records.IMAGES, {"url_hash": url_hash, "since": now - REUSE_SECONDS})
        return images_of(await found.fetchall(), repeat=repeat)

    async def _used(self, db: Connection, client: str, now: float) -> DailyLimits:
        row: Any = await (await db.execute(records.USED, (client, day_of(now)))).fetchone()
        return DailyLimits(row[0], row[1])

    async def _insert(self, db: Connection, record: Record, now: float, *, claim: str | None) -> None:
        task = record.task
        await db.execute(
            "INSERT INTO tasks (id, caller, provider, order_hash, source_hash, status, task, plan, sealed, reference,"
            " is_grid, zooms, created_at, finished_at, boot, uptime)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                task.id,
                record.client,
                task.provider,
                record.identity,
                record.order and record.order.source_hash(record.client),
                task.status.value,
                task_json(record),
                order_json(record),
                self._seal.seal(task.id, record.secrets),
                plain_text(record.reference),
                record.is_grid,
                record.zooms,
                task.created_at.timestamp(),
                finished_at(record),
                record.ordered_at and record.ordered_at.boot,
                record.ordered_at and record.ordered_at.seconds,
            ),
        )
        async with db.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO orders (task_id, position, name, provider, caller, identity, day, state, status,"
                " remote_id, usd, reserved, cost) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [[plain_text(value) for value in new_step_row(record, step, day_of(now))] for step in record.steps],
            )
        await self._put(db, record, claim)

    async def _keep(self, db: Connection, record: Record) -> None:
        """Write down the copies that a task has."""
        if record.copies:
            async with db.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO kept (task_id, position, sha256, mime_type) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (task_id, position) DO UPDATE SET sha256 = EXCLUDED.sha256,"
                    " mime_type = EXCLUDED.mime_type",
                    [(record.task.id, index, copy.sha256, copy.mime_type) for index, copy in record.copies.items()],
                )

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        tries = 0

        async def work(db: Connection) -> bool:
            nonlocal tries
            tries += 1
            async with self._transaction(db):
                # What a lost connection may have committed before was not sent: whoever has the claim sends it.
                marked = await db.execute(
                    "UPDATE orders SET state = 'sent' WHERE task_id = %(id)s AND position = %(position)s"
                    " AND (state = 'intended' OR %(again)s AND state = 'sent')"
                    " AND EXISTS (SELECT 1 FROM due WHERE task_id = %(id)s AND claim = %(me)s FOR UPDATE)",
                    self._of(id=task_id, position=position, again=tries > 1),
                )
                await db.execute(due.HOLD, self._of(held=[task_id], until=due.held_until(now)))
                return marked.rowcount == 1

        is_ours = await self._run(work)
        if not is_ours:
            self.let_go(task_id)
        return is_ours

    # Following tasks

    async def save(self, record: Record, *, durable: bool = True, force: bool = False, go_on: bool = False) -> bool:
        task = record.task
        values = {
            "id": task.id,
            "status": task.status.value,
            "task": task_json(record),
            "reference": plain_text(record.reference),
            "is_grid": record.is_grid,
            "zooms": record.zooms,
            "finished_at": finished_at(record),
            "boot": record.ordered_at and record.ordered_at.boot,
            "uptime": record.ordered_at and record.ordered_at.seconds,
            "is_final": task.status.is_final,
            "force": force,
        }

        async def work(db: Connection) -> bool:
            async with self._transaction(db, durable=durable):
                row: Any = await (
                    await db.execute(
                        "WITH before AS (SELECT id, status FROM tasks WHERE id = %(id)s AND ("
                        " EXISTS (SELECT 1 FROM due WHERE task_id = %(id)s AND claim = %(me)s FOR UPDATE)"
                        " OR %(force)s AND EXISTS (SELECT 1 FROM orders WHERE task_id = %(id)s"
                        " AND state IN ('sent', 'unconfirmed'))) FOR UPDATE)"
                        " UPDATE tasks SET status = %(status)s, task = %(task)s, reference = %(reference)s,"
                        " is_grid = %(is_grid)s, zooms = %(zooms)s, finished_at = %(finished_at)s,"
                        " boot = %(boot)s, uptime = %(uptime)s,"
                        " sealed = CASE WHEN %(is_final)s THEN NULL ELSE sealed END"
                        " FROM before WHERE tasks.id = before.id RETURNING before.status",
                        self._of(**values),
                    )
                ).fetchone()
                if row is None:
                    return False
                async with db.cursor() as cursor:
                    await cursor.executemany(
                        "UPDATE orders SET state = %s, status = %s, remote_id = %s, usd = %s, reserved = %s, cost = %s"
                        " WHERE task_id = %s AND position = %s",
                        [[*map(plain_text, step_values(step)), task.id, step.position] for step in record.steps],
                    )
                await self._put(db, record, self._owner if go_on else None)
                await self._keep(db, record)
                if record.job is not None:
                    await self._the_jobs().hand_over(db, task.id, record.job)
                if row[0] != task.status.value or record.due_at is None:
                    await db.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{self._owner} {task.id}"))
                return True

        written = await self._run(work)
        if not go_on:
            self.let_go(task.id)
        return written

    def _the_jobs(self) -> "Jobs":
        """Procrastinate's tables; imported by whoever has to do with workers."""
        if self._jobs is None:
            from outpaint_mcp.storage.postgres.jobs import Jobs

            self._jobs = Jobs(self._url)
        return self._jobs

    async def work(
        self, do: Callable[[str, JobKind], Awaitable[None]], tidy: Callable[[], Awaitable[None]], *, at_once: int
    ) -> None:
        await self._the_jobs().work(do, tidy, at_once=at_once)

    async def open_tasks(self, client: str, provider: str) -> int:
        return int((await self._rows(records.COUNT_OPEN, client, provider))[0][0])

    async def import_task(self, record: Record, *, now: float) -> Record:
        wanted = {
            "provider": record.task.provider,
            "remote_id": record.task.remote_id or "",
            "client": record.client,
            "last": True,
        }

        async def work(db: Connection) -> Record:
            async with self._transaction(db):
                await self._lock(db, f"client {record.client}")
                found = await records.find_remote(db, wanted, self._seal)
                if found is None:
                    await self._insert(db, record, now, claim=None)
                    await self._keep(db, record)
                return found or record

        return await self._run(work)

    async def prune(self, *, finished_before: float) -> None:
        wanted = {"before": finished_before, "most": PRUNED_AT_ONCE}
        while (await self._run(lambda db: db.execute(records.PRUNE, wanted))).rowcount == PRUNED_AT_ONCE:
            pass

    # Looking

    async def heard(self, clock: Clock) -> Collection[str] | None:
        try:
            if self._listening is None:
                await self._open()
                self._listening = await self._connect()
                await self._listening.execute(f"LISTEN {CHANNEL}")
                return None
            while True:
                found: set[str] = set()
                async for notice in self._listening.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    owner, _, task_id = notice.payload.partition(" ")
                    if owner != self._owner:
                        found.add(task_id)
                if found:
                    return found
                await self._listening.execute("SELECT 1")
        except psycopg.Error as error:
            if self._listening is not None:
                await self._listening.close()
                self._listening = None
            raise unusable(error) from error

    async def stands(self, order: Order, client: str, *, now: float, repeat: bool) -> bool:
        identities = {order.identity(client)}
        return await self._run(lambda db: self._standing_id(db, client, identities, now, repeat=repeat)) is not None

    async def images_of(self, url_hash: str, *, now: float, repeat: bool) -> list[InputImage]:
        return await self._run(lambda db: self._images_of(db, url_hash, now, repeat=repeat))

    async def owner_of(self, client: str, sha256: str) -> tuple[str, int] | None:
        row: Any = next(iter(await self._rows(records.OWNER_OF, client, sha256)), None)
        return None if row is None else (row[0], row[1])

    async def get(self, task_id: str) -> Record | None:
        return await self._run(lambda db: records.load(db, task_id, self._seal))

    async def find_remote(
        self, provider: str, remote_id: str, client: str | None = None, *, last: bool = False
    ) -> Record | None:
        wanted = {"provider": provider, "remote_id": plain_text(remote_id), "client": client, "last": last}
        return await self._run(lambda db: records.find_remote(db, wanted, self._seal))

    async def recent(self, client: str, limit: int) -> list[Record]:
        return await self._run(lambda db: records.recent(db, client, limit, self._seal, self._skipped))

    async def ids(self, client: str, prefix: str, limit: int, status: Status | None = None) -> list[str]:
        wanted = {"client": client, "prefix": plain_text(prefix), "limit": limit, "status": status and status.value}

        async def work(db: Connection) -> list[str]:
            return [str(task_id) for (task_id,) in await (await db.execute(records.IDS, wanted)).fetchall()]

        return await self._run(work)

    async def events(self, ids: Collection[str]) -> list[TaskEvent]:
        return events_of(await self._rows(records.EVENTS, list(ids)), self._skipped)

    async def check(self) -> None:
        await self._rows("SELECT 1 FROM tasks LIMIT 1")

    async def counts(self, now: float) -> Counts:
        orders = await self._rows(records.COUNT_ORDERS)
        tasks = await self._rows(records.COUNT_TASKS)
        used = await self._rows(records.COUNT_USED, day_of(now))
        return Counts(
            {(provider, state): count for provider, state, count in orders},
            {(provider, status): count for provider, status, count in tasks},
            {client: DailyLimits(usd, count) for client, usd, count in used},
            {provider: first for provider, first, *_ in await self._rows(due.LOOK) if provider is not None},
            dict(await self._rows(records.COUNT_WAITING)),
            # None are 0, for what scales on it.
            {(str(kind), status): 0 for kind in JobKind for status in ("todo", "doing")}
            | {(kind, status): count for kind, status, count in await self._rows(records.COUNT_JOBS)},
            int((await self._rows(records.COUNT_STALLED, records.STALLED_SECONDS))[0][0]),
        )

    async def open_sources(self) -> set[str]:
        return sources_of(await self._rows(records.OPEN_ORDERS), self._skipped)

    async def _rows(self, query: str, *values: object) -> list[Any]:
        async def work(db: Connection) -> list[Any]:
            return list(await (await db.execute(query, values)).fetchall())

        return await self._run(work)
