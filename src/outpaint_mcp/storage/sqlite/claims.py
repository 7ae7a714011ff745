"""Which open tasks this process is at work on: claiming them, saying so, and leaving them to others. See `due`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outpaint_mcp.domain.record import DueTask, Record
from outpaint_mcp.storage.held import HeldTasks
from outpaint_mcp.storage.sqlite import due, reading
from outpaint_mcp.storage.sqlite.database import Database, Migration, transaction

if TYPE_CHECKING:
    import sqlite3


class Claims(Database, HeldTasks):
    """The store's open tasks.

    Args:
        path: the file; its folder is made with it.
        owner: this process's name among those that share the file.
        migrations: the schema, as the steps from each version to the next.
        busy_seconds: how long to wait for another process that is writing.
    """

    def __init__(self, path: Path, owner: str, *, migrations: Sequence[Migration], busy_seconds: float) -> None:
        Database.__init__(self, path, migrations=migrations, busy_seconds=busy_seconds)
        HeldTasks.__init__(self)
        self._owner = owner

    async def aclose(self) -> None:
        """Leave every task of this process to the others, and close the file."""
        if self.is_open:
            await self._run(self._release_all)
        await super().aclose()

    def _release_all(self, db: "sqlite3.Connection") -> None:
        with transaction(db):
            due.reschedule(db, self._owner, self._asked.values())
            due.release_all(db, self._owner, self._held - self._asked.keys())

    async def own(self, task_id: str, *, now: float) -> Record | None:
        def work(db: "sqlite3.Connection") -> Record | None:
            with transaction(db):
                self._check_version(db)
                is_ours, due_at = self._claimed(db, task_id, now)
                record = reading.load(db, task_id) if is_ours else None
            if record is None:
                return None
            self._held.add(task_id)
            return replace(record, due_at=due_at)

        return await self._run(work)

    def _claimed(self, db: "sqlite3.Connection", task_id: str, now: float) -> tuple[bool, float | None]:
        """As `due.claim`, unless somebody here is at work on the task."""
        return (False, None) if task_id in self._held else due.claim(db, task_id, self._owner, now)

    async def take_place(self, task_id: str, *, most: int, now: float) -> bool:
        def work(db: "sqlite3.Connection") -> bool:
            with transaction(db):
                return due.take_place(db, self._owner, task_id, most, now)

        return await self._run(work)

    async def take_due(self, room: Callable[[str], int], *, now: float) -> tuple[list[DueTask], float | None]:
        asked = dict(self._asked)

        def work(db: "sqlite3.Connection") -> tuple[list[DueTask], float | None]:
            taken: list[DueTask] = []
            if asked or due.is_any_due(db, self._owner, now, room):
                with transaction(db):
                    self._check_version(db)
                    due.reschedule(db, self._owner, asked.values())
                    taken = due.take(db, self._owner, now, room, self._held - asked.keys())
                self._written_down(asked)
                self._held.update(one.task_id for one in taken)
            return taken, due.next_at(db, now, room)

        return await self._run(work, in_place=True)

    async def hold(self, *, now: float) -> None:
        held = frozenset(self._held)

        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.hold(db, self._owner, held, now)

        if held:
            await self._run(work)

    async def release(self, task_id: str, due_at: float | None) -> None:
        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.release(db, self._owner, task_id, due_at)
            # Not before: whoever claims it then would lose his claim to this.
            self.let_go(task_id)

        await self._run(work)

    async def wake(self, task_id: str, at: float, *, called_back: bool = False) -> None:
        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.wake(db, task_id, at, called_back=called_back)

        await self._run(work)

    async def wake_all(self, *, now: float) -> None:
        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.wake_all(db, now)

        await self._run(work)
