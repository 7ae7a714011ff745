"""Tasks, their orders and the budget, on disk. The only module that knows their tables; it knows no provider and no
clock, and leaves the file to `database`.

Several processes may share one file: whatever must hold between them is one conditional statement or one
``BEGIN IMMEDIATE`` transaction. Every task belongs to at most one living process (its owner), which alone advances it;
an owner is alive while its lease is renewed. An order goes through the states of `OrderState`, and each change that
money hangs on is on disk (``synchronous=FULL``) before the next thing happens.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from outpaint_mcp.domain.errors import BudgetExceededError
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import Counts, DailyLimits, KeptImage, OrderRow, OrderState, Record
from outpaint_mcp.domain.task import Cost, Task
from outpaint_mcp.storage.sqlite import Database, transaction

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

LEASE_SECONDS = 10.0
"""How long an owner counts as alive after it last said so."""

REUSE_SECONDS = 600.0
"""How long after its success a task still answers for the same order."""

UNSENT_SECONDS = 600.0
"""How long an order that was intended but never sent waits for the same call before it is released."""

MIGRATIONS: tuple[str, ...] = (
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
)
"""What takes a file from each schema version to the next."""


class Store(Database):
    """The store in one SQLite file; made on first use.

    Args:
        path: the file; its folder is made with it.
        owner: this process's name among those that share the file.
        migrations: the schema, as the steps from each version to the next.
        busy_seconds: how long to wait for another process that is writing.

    `lapses` counts how often this process renewed its lease too late, so that others may have taken over its tasks.
    """

    def __init__(
        self, path: Path, owner: str, *, migrations: Sequence[str] = MIGRATIONS, busy_seconds: float = 5.0
    ) -> None:
        super().__init__(path, migrations=migrations, busy_seconds=busy_seconds)
        self._owner = owner
        self.lapses = 0
        self._alive_until = 0.0

    async def aclose(self) -> None:
        """Give up every task of this process and close the file."""
        if self.is_open:
            await self._run(self._release_all)
        await super().aclose()

    def _release_all(self, db: "sqlite3.Connection") -> None:
        with transaction(db):
            db.execute("UPDATE tasks SET owner = NULL WHERE owner = ?", (self._owner,))
            db.execute("DELETE FROM owners WHERE owner = ?", (self._owner,))

    # Placing orders

    async def claim(
        self, record: Record, *, now: float, repeat: bool, caps: DailyLimits, count_orders: bool
    ) -> tuple[Record, bool]:
        """Write the intent down, unless the same order stands already. One transaction.

        Returns:
            The record that stands, and whether this process may send its first order: True for a new record, and for
            one that was never sent and is this process's or that of a process that is gone.

        Raises:
            BudgetExceededError: a cap does not allow it. Nothing was written.
            ConfigurationError: the store cannot be written.
        """

        def work(db: "sqlite3.Connection") -> tuple[Record, bool]:
            with transaction(db):
                self._renew(db, now)
                found = self._standing(db, record, now, repeat=repeat)
                if found is not None:
                    state = found.orders[0].state if found.orders else OrderState.ACCEPTED
                    # Never sent: unless another process is about to, it is ours to send, on its reservation.
                    return found, state is OrderState.INTENDED and self._take_over(db, found.task.id, now)
                orders = record.orders
                if count_orders:
                    day = datetime.fromtimestamp(now, UTC).date().isoformat()
                    self._check_caps(db, record, day, caps)
                    orders = tuple(replace(row, reserved=True) for row in orders)
                made = replace(record, orders=orders)
                self._insert(db, made, now)
                return made, True

        return await self._run(work, durable=True)

    def _standing(self, db: "sqlite3.Connection", record: Record, now: float, *, repeat: bool) -> Record | None:
        """The newest task that answers for the same order made again.

        One that is open does; without `repeat` one that has just succeeded does too, and one of which nobody knows
        what became, until a newer one has succeeded.
        """
        row = db.execute(
            "SELECT id FROM tasks WHERE caller = ?1 AND order_hash = ?2 AND (status IN ('queued', 'running') OR (NOT ?3"
            " AND (status = 'succeeded' AND finished_at > ?4 OR status = 'unknown' AND NOT EXISTS (SELECT 1 FROM tasks"
            " AS later WHERE later.caller = ?1 AND later.order_hash = ?2 AND later.status = 'succeeded'"
            " AND later.rowid > tasks.rowid)))) ORDER BY created_at DESC, rowid DESC LIMIT 1",
            (record.client, record.order_hash, repeat, now - REUSE_SECONDS),
        ).fetchone()
        return None if row is None else self._load(db, row[0])

    def _take_over(self, db: "sqlite3.Connection", task_id: str, now: float) -> bool:
        taken = db.execute(
            "UPDATE tasks SET owner = ?1 WHERE id = ?2 AND (owner IS NULL OR owner = ?1 OR "
            "owner NOT IN (SELECT owner FROM owners WHERE alive_until > ?3))",
            (self._owner, task_id, now),
        )
        return taken.rowcount == 1

    def _check_caps(self, db: "sqlite3.Connection", record: Record, day: str, caps: DailyLimits) -> None:
        if caps.usd is None and caps.orders is None:
            return
        usd, count = db.execute(
            "SELECT COALESCE(SUM(usd), 0), COUNT(*) FROM orders WHERE day = ? AND caller = ? AND reserved = 1",
            (day, record.client),
        ).fetchone()
        if caps.orders is not None and count + len(record.orders) > caps.orders:
            raise BudgetExceededError(
                f"Today's cap of {caps.orders} orders (OUTPAINT_MAX_ORDERS_PER_DAY) would be passed: {count} are used."
            )
        if caps.usd is not None:
            if any(row.usd is None for row in record.orders):
                name = record.task.provider
                raise BudgetExceededError(
                    f"A cap in USD is set and the price of {name} in USD is not known.",
                    f"Have the operator set {name.upper().replace('-', '_')}_USD_PER_ORDER, or use another provider.",
                )
            price = sum(row.usd or 0 for row in record.orders)
            # A thousandth of a cent forgives what adding decimal prices in binary leaves over.
            if usd + price > caps.usd + 1e-5:
                raise BudgetExceededError(
                    f"Today's cap of ${caps.usd:g} (OUTPAINT_MAX_USD_PER_DAY) would be passed: "
                    f"${usd:.4g} is used and this order takes ${price:.4g}."
                )

    def _insert(self, db: "sqlite3.Connection", record: Record, now: float) -> None:
        task = record.task
        db.execute(
            "INSERT INTO tasks (id, caller, provider, order_hash, status, task, plan, reference, is_grid, created_at,"
            " finished_at, due_at, owner, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
            " (SELECT COALESCE(MAX(change), 0) + 1 FROM tasks))",
            (
                task.id,
                record.client,
                task.provider,
                record.order_hash,
                task.status.value,
                task.model_dump_json(),
                json.dumps(record.plan),
                record.reference,
                record.is_grid,
                task.created_at.timestamp(),
                task.finished_at.timestamp() if task.finished_at else None,
                record.due_at,
                self._owner,
            ),
        )
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        db.executemany(
            "INSERT INTO orders (task_id, position, name, provider, caller, state, remote_id, day, usd, reserved)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    task.id,
                    row.position,
                    row.name.value,
                    task.provider,
                    record.client,
                    row.state.value,
                    row.remote_id,
                    day,
                    row.usd,
                    row.reserved,
                )
                for row in record.orders
            ],
        )

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        """Note that the order's request is about to leave. Should this process end, the task is due at once.

        Returns:
            False if it was sent before or the task is no longer this process's: then it must not be sent.
        """

        def work(db: "sqlite3.Connection") -> bool:
            with transaction(db):
                marked = db.execute(
                    "UPDATE orders SET state = 'sent' WHERE task_id = ?1 AND position = ?2 AND state = 'intended'"
                    " AND EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND owner = ?3)",
                    (task_id, position, self._owner),
                )
                if marked.rowcount != 1:
                    return False
                db.execute("UPDATE tasks SET due_at = ? WHERE id = ?", (now, task_id))
                return True

        return await self._run(work, durable=True)

    # Following tasks

    async def save(self, record: Record, *, durable: bool = True, force: bool = False) -> bool:
        """Write a task of this process back, with its orders and images.

        Args:
            record: the task as it is to stand.
            durable: whether to wait for the disk. What only a new question to the provider would tell again need not.
            force: write even if another process took the task over meanwhile, and take it back: that process knows
                of nothing to do. Only for the answer to an order, which nobody else has unless it has heard of it.

        Returns:
            False if the task is no longer this process's; then nothing was written.
        """

        def work(db: "sqlite3.Connection") -> bool:
            task = record.task
            with transaction(db):
                written = db.execute(
                    "UPDATE tasks SET status = ?1, task = ?2, reference = ?3, is_grid = ?4, finished_at = ?5,"
                    " due_at = ?6, owner = ?8, change = (SELECT COALESCE(MAX(change), 0) + 1 FROM tasks)"
                    " WHERE id = ?7 AND (owner = ?8 OR (?9 AND EXISTS (SELECT 1 FROM orders"
                    " WHERE task_id = ?7 AND state IN ('sent', 'unconfirmed'))))",
                    (
                        task.status.value,
                        task.model_dump_json(),
                        record.reference,
                        record.is_grid,
                        task.finished_at.timestamp() if task.finished_at else None,
                        record.due_at,
                        task.id,
                        self._owner,
                        force,
                    ),
                )
                if written.rowcount != 1:
                    return False
                db.executemany(
                    "UPDATE orders SET state = ?, remote_id = ?, usd = ?, reserved = ?, cost = ?"
                    " WHERE task_id = ? AND position = ?",
                    [
                        (row.state.value, row.remote_id, row.usd, row.reserved, _json(row.cost), task.id, row.position)
                        for row in record.orders
                    ],
                )
                db.executemany(
                    "INSERT OR REPLACE INTO kept (task_id, position, sha256, mime_type) VALUES (?, ?, ?, ?)",
                    [(task.id, index, kept.sha256, kept.mime_type) for index, kept in record.kept.items()],
                )
                return True

        return await self._run(work, durable=durable)

    async def adopt(self, record: Record, *, now: float) -> Record:
        """Keep a task that was made elsewhere; if the client has it already, the one that stands is returned."""

        def work(db: "sqlite3.Connection") -> Record:
            with transaction(db):
                self._renew(db, now)
                remote_id = record.task.remote_id
                found = self._find_remote(db, record.task.provider, remote_id or "", record.client, last=True)
                if found is None:
                    self._insert(db, record, now)
                    db.executemany(
                        "INSERT INTO kept (task_id, position, sha256, mime_type) VALUES (?, ?, ?, ?)",
                        [(record.task.id, index, kept.sha256, kept.mime_type) for index, kept in record.kept.items()],
                    )
                    return record
                return found

        return await self._run(work)

    async def own(self, task_id: str, *, now: float) -> bool:
        """Make a task this process's if its owner is gone (or it is this process's already)."""

        def work(db: "sqlite3.Connection") -> bool:
            with transaction(db):
                self._renew(db, now)
                return self._take_over(db, task_id, now)

        return await self._run(work)

    async def renew(self, *, now: float) -> list[tuple[str, float, str]]:
        """Say that this process is alive, and take over the open tasks of those that are not.

        A task whose first order was never sent is left alone until it is due to be released, so that the same call made
        in any process can send it.

        Returns:
            The id, the due time and the provider of every task that was taken over.
        """

        def work(db: "sqlite3.Connection") -> list[tuple[str, float, str]]:
            with transaction(db):
                self._renew(db, now)
                rows = db.execute(
                    "UPDATE tasks SET owner = ?1 WHERE due_at IS NOT NULL AND (owner IS NULL OR "
                    "owner NOT IN (SELECT owner FROM owners WHERE alive_until > ?2)) AND (due_at <= ?2 OR NOT EXISTS "
                    "(SELECT 1 FROM orders WHERE task_id = id AND position = 0 AND state = 'intended'))"
                    " RETURNING id, due_at, provider",
                    (self._owner, now),
                ).fetchall()
                db.execute("DELETE FROM owners WHERE alive_until < ?", (now - 60 * LEASE_SECONDS,))
                return [(row[0], row[1], row[2]) for row in rows]

        return await self._run(work)

    def _renew(self, db: "sqlite3.Connection", now: float) -> None:
        self.lapses += now >= self._alive_until
        self._alive_until = max(self._alive_until, now + LEASE_SECONDS)
        db.execute(
            "INSERT INTO owners (owner, alive_until) VALUES (?1, ?2)"
            " ON CONFLICT (owner) DO UPDATE SET alive_until = MAX(alive_until, ?2)",
            (self._owner, now + LEASE_SECONDS),
        )

    # Looking

    async def get(self, task_id: str) -> Record | None:
        return await self._look_up(lambda db: self._load(db, task_id))

    async def find_remote(
        self, provider: str, remote_id: str, client: str | None = None, *, last: bool = False
    ) -> Record | None:
        """The newest task one of whose orders has this id at the provider.

        Args:
            provider: whose id it is.
            remote_id: the id.
            client: whose task; anybody's if None.
            last: only if it is the id of the task's last order, whose images are the task's.
        """
        return await self._look_up(lambda db: self._find_remote(db, provider, remote_id, client, last=last))

    def _find_remote(
        self, db: "sqlite3.Connection", provider: str, remote_id: str, client: str | None, *, last: bool
    ) -> Record | None:
        row = db.execute(
            "SELECT task_id FROM orders JOIN tasks ON id = task_id WHERE orders.provider = ?1 AND remote_id = ?2"
            " AND (?3 IS NULL OR orders.caller = ?3) AND (NOT ?4 OR position = (SELECT MAX(position) FROM orders AS one"
            " WHERE one.task_id = id)) ORDER BY created_at DESC, tasks.rowid DESC LIMIT 1",
            (provider, remote_id, client, last),
        ).fetchone()
        return None if row is None else self._load(db, row[0])

    async def recent(self, client: str, limit: int) -> list[Record]:
        """The client's newest tasks, newest first."""

        def work(db: "sqlite3.Connection") -> list[Record]:
            rows = db.execute(
                "SELECT id FROM tasks WHERE caller = ? ORDER BY created_at DESC, rowid DESC LIMIT ?", (client, limit)
            ).fetchall()
            return [record for row in rows if (record := self._load(db, row[0])) is not None]

        return await self._run(work)

    async def changes(self, since: int) -> tuple[int, list[str]]:
        """The ids of the tasks that any process changed after change number `since`, and the newest number."""

        def work(db: "sqlite3.Connection") -> tuple[int, list[str]]:
            rows = db.execute("SELECT change, id FROM tasks WHERE change > ? ORDER BY change", (since,)).fetchall()
            newest = rows[-1][0] if rows else since
            return newest, [row[1] for row in rows]

        return await self._run(work)

    async def last_change(self) -> int:
        return await self._run(lambda db: int(db.execute("SELECT COALESCE(MAX(change), 0) FROM tasks").fetchone()[0]))

    async def counts(self, now: float) -> Counts:
        """How much there is of what; `now` names the day, in seconds since the epoch."""
        day = datetime.fromtimestamp(now, UTC).date().isoformat()

        def work(db: "sqlite3.Connection") -> Counts:
            # What was taken in from elsewhere has no hash: nobody ordered it here.
            orders = db.execute(
                "SELECT orders.provider, state, COUNT(*) FROM orders JOIN tasks ON tasks.id = task_id"
                " WHERE order_hash IS NOT NULL GROUP BY orders.provider, state"
            )
            tasks = db.execute("SELECT provider, status, COUNT(*) FROM tasks GROUP BY provider, status")
            used = db.execute(
                "SELECT caller, COALESCE(SUM(usd), 0), COUNT(*) FROM orders WHERE day = ? AND reserved = 1"
                " GROUP BY caller",
                (day,),
            )
            return Counts(
                {(provider, state): count for provider, state, count in orders},
                {(provider, status): count for provider, status, count in tasks},
                {client: DailyLimits(usd, count) for client, usd, count in used},
            )

        return await self._run(work)

    async def open_sources(self) -> set[str]:
        """The hashes of the pictures that open tasks are made from."""

        def work(db: "sqlite3.Connection") -> set[str]:
            rows = db.execute("SELECT json_extract(plan, '$.source.sha256') FROM tasks WHERE due_at IS NOT NULL")
            return {row[0] for row in rows if row[0] is not None}

        return await self._run(work)

    def _load(self, db: "sqlite3.Connection", task_id: str) -> Record | None:
        row = db.execute(
            "SELECT task, caller, order_hash, plan, reference, is_grid, due_at, owner FROM tasks WHERE id = ?",
            (task_id,),
        ).fetchone()
        if row is None:
            return None
        orders = db.execute(
            "SELECT position, name, state, remote_id, usd, reserved, cost FROM orders WHERE task_id = ?"
            " ORDER BY position",
            (task_id,),
        ).fetchall()
        task = Task.model_validate_json(row[0])
        kept: list[tuple[int, str, str]] = []
        if task.images:
            kept = db.execute("SELECT position, sha256, mime_type FROM kept WHERE task_id = ?", (task_id,)).fetchall()
        return Record(
            task=task,
            client=row[1],
            order_hash=row[2],
            plan=json.loads(row[3]),
            orders=tuple(
                OrderRow(
                    position,
                    StepName(name),
                    OrderState(state),
                    remote_id,
                    usd,
                    bool(reserved),
                    None if cost is None else Cost.model_validate_json(cost),
                )
                for position, name, state, remote_id, usd, reserved, cost in orders
            ),
            reference=row[4],
            is_grid=None if row[5] is None else bool(row[5]),
            due_at=row[6],
            kept={position: KeptImage(sha256, mime_type) for position, sha256, mime_type in kept},
            mine=row[7] == self._owner,
        )


def _json(cost: Cost | None) -> str | None:
    return None if cost is None else cost.model_dump_json()
