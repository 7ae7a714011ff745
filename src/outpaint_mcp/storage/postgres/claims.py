"""Which open tasks a process is at work on: claiming them, saying so, and leaving them to others. See `due`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import DueTask, Record
from outpaint_mcp.storage.held import HeldTasks
from outpaint_mcp.storage.postgres import due, records
from outpaint_mcp.storage.postgres.database import Connection, Database
from outpaint_mcp.storage.postgres.schema import check_version, versions
from outpaint_mcp.storage.postgres.seal import Seal
from outpaint_mcp.storage.rows import last_answer_of

SWEEP_SECONDS: Final = 5.0
"""How often it looks for due tasks at least: those of a process that is gone are told by nobody."""
AGAIN_SECONDS: Final = 0.5
"""When to look again for a task that is due and could not be taken."""


class Claims(Database, HeldTasks):
    """The store's open tasks.

    Args:
        url: the database, as libpq's URI.
        owner: this process's name among all.
        seal: keeps what only this program may read.
    """

    def __init__(self, url: str, owner: str, seal: Seal) -> None:
        Database.__init__(self, url)
        HeldTasks.__init__(self)
        self._owner = owner
        self._seal = seal

    async def aclose(self) -> None:
        if self._pool is not None:
            held, asked = list(self._held - self._asked.keys()), dict(self._asked)
            # Else they come due by themselves.
            with suppress(ConfigurationError):
                await self._run(lambda db: self._reschedule(db, asked), again_seconds=1)
                await self._run(lambda db: db.execute(due.RELEASE, self._of(ids=held, due_at=0.0)), again_seconds=1)
        await super().aclose()

    async def _prepare(self, connection: Connection) -> None:
        check_version(*await versions(connection))
        asked_at = self.clock.monotonic()
        row = await (await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
        self.clock.set(float(str(row and row[0])), asked_at=asked_at)

    def _of(self, **values: Any) -> dict[str, Any]:
        return {"me": self._owner, **values}

    @asynccontextmanager
    async def _transaction(self, connection: Connection, *, durable: bool = True) -> AsyncIterator[None]:
        """A block that is one transaction, on tables that this program may work on."""
        async with connection.transaction():
            if not durable:
                await connection.execute("SET LOCAL synchronous_commit = off")
            yield

    async def _lock(self, connection: Connection, what: str) -> None:
        """Take turns until the end of the transaction, and look at the tables' version."""
        row = await (
            await connection.execute(
                "SELECT version, readable_from FROM outpaint_schema,"
                " (SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))) AS locked",
                (what,),
            )
        ).fetchone()
        version, readable_from = (0, 0) if row is None else row
        check_version(int(str(version)), int(str(readable_from)))

    async def own(self, task_id: str, *, now: float) -> Record | None:
        if task_id in self._held:
            return None
        self._held.add(task_id)

        async def work(db: Connection) -> Record | None:
            async with self._transaction(db, durable=False):
                is_ours, due_at = await self._claim(db, task_id, now)
                record = await records.load(db, task_id, self._seal) if is_ours else None
                return None if record is None else replace(record, due_at=due_at)

        try:
            record = await self._run(work)
        except BaseException:
            self.let_go(task_id)
            raise
        if record is None:
            self.let_go(task_id)
        return record

    async def _claim(self, db: Connection, task_id: str, now: float) -> tuple[bool, float | None]:
        """Whether a task is claimed for this process, due or not, and when it was due before."""
        wanted = self._of(id=task_id, **due.times(now))
        row: Any = await (await db.execute(due.CLAIM, wanted)).fetchone()
        if row is not None:
            return True, row[0]
        return (await db.execute(due.CLAIM_FINISHED, wanted)).rowcount == 1, None

    async def take_place(self, task_id: str, *, most: int, now: float) -> bool:
        wanted = self._of(id=task_id, most=most, now=now)

        async def work(db: Connection) -> bool:
            async with self._transaction(db):
                row: Any = await (
                    await db.execute("SELECT provider FROM due WHERE task_id = %s", (task_id,))
                ).fetchone()
                if row is None:
                    return False
                await self._lock(db, f"places {row[0]}")
                taken = (await db.execute(due.TAKE_PLACE, wanted)).rowcount == 1
                if not taken:
                    await db.execute(due.WAIT, wanted)
                return taken

        return await self._run(work)

    async def take_due(self, room: Callable[[str], int], *, now: float) -> tuple[list[DueTask], float | None]:
        asked = dict(self._asked)

        async def work(db: Connection) -> tuple[list[DueTask], float]:
            await self._reschedule(db, asked)
            self._written_down(asked)
            asked.clear()
            asked_at = self.clock.monotonic()
            found: list[Any] = await (await db.execute(due.LOOK)).fetchall()
            self.clock.set(found.pop()[3], asked_at=asked_at)
            rooms = {provider: free for provider, *_ in found if (free := room(provider)) > 0}
            wanted = self._of(
                providers=list(rooms), rooms=list(rooms.values()), held=list(self._held), **due.times(now)
            )
            if any(last > wanted["latest"] for _, _, last, _ in found):
                await db.execute(due.UNDO, wanted)
                next_at = now
            else:
                next_at = min((one[1] for one in found if one[0] in rooms), default=now + SWEEP_SECONDS)
            if next_at > now:
                return [], min(next_at, now + SWEEP_SECONDS)
            rows: list[Any] = await (await db.execute(due.TAKE, wanted)).fetchall()
            # One that somebody here has begun to claim meanwhile is his.
            taken = [
                DueTask(row[0], row[1], row[2], last_answer_of(row[3:10]), bool(row[10]))
                for row in rows
                if row[0] not in self._held
            ]
            self._held.update(one.task_id for one in taken)
            return taken, now if taken else now + AGAIN_SECONDS

        return await self._run(work)

    async def _reschedule(self, db: Connection, asked: dict[str, tuple[str, float, float]]) -> None:
        """Write down when tasks of this process are due that were asked for and have nothing new."""
        if asked:
            ids, ats, next_ats = (list(column) for column in zip(*asked.values(), strict=True))
            await db.execute(due.RESCHEDULE, self._of(ids=ids, ats=ats, next_ats=next_ats))

    async def hold(self, *, now: float) -> None:
        if held := list(self._held):
            await self._run(lambda db: db.execute(due.HOLD_QUICKLY, self._of(held=held, until=due.held_until(now))))

    async def release(self, task_id: str, due_at: float | None) -> None:
        if due_at is None:
            await self._run(lambda db: db.execute(due.FINISH, self._of(id=task_id)))
        else:
            await self._run(lambda db: db.execute(due.RELEASE, self._of(ids=[task_id], due_at=due_at)))
        self.let_go(task_id)

    async def wake(self, task_id: str, at: float, *, called_back: bool = False) -> None:
        await self._run(lambda db: db.execute(due.WAKE, {"id": task_id, "at": at, "called_back": called_back}))

    async def wake_all(self, *, now: float) -> None:
        await self._run(lambda db: db.execute(due.WAKE_ALL, {"at": now}))

    async def _put(self, db: Connection, record: Record, claim: str | None) -> None:
        """Write down when a task is due, and what its polls need; at once if it was woken meanwhile."""
        if record.due_at is None or record.task.status.is_final:
            await db.execute(due.FREE_PLACE, {"id": record.task.id})
        if record.due_at is None:
            await db.execute("DELETE FROM due WHERE task_id = %s", (record.task.id,))
        else:
            values = due.values_of(record, claim, self._owner)
            await db.execute(due.PUT, {name: plain_text(value) for name, value in values.items()})


def plain_text(value: Any) -> Any:
    """A text as PostgreSQL can hold it: any but one with the character U+0000."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
