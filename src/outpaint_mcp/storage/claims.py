"""Which open tasks this process is at work on: claiming them, saying so, and leaving them to others. See `due`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outpaint_mcp.domain.record import DueTask, Record
from outpaint_mcp.storage import due, reading
from outpaint_mcp.storage.sqlite import Database, Migration, transaction

if TYPE_CHECKING:
    import sqlite3


class Claims(Database):
    """The store's open tasks.

    Args:
        path: the file; its folder is made with it.
        owner: this process's name among those that share the file.
        migrations: the schema, as the steps from each version to the next.
        busy_seconds: how long to wait for another process that is writing.
    """

    def __init__(self, path: Path, owner: str, *, migrations: Sequence[Migration], busy_seconds: float) -> None:
        super().__init__(path, migrations=migrations, busy_seconds=busy_seconds)
        self._owner = owner
        # What this process is at work on, changed in the turn of the transaction that claims it: nobody else here can
        # claim it then. And what it has asked for in vain: id, when, and when it is due again.
        self._held: set[str] = set()
        self._asked: dict[str, tuple[str, float, float]] = {}

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
        """Claim one task, due or not.

        Returns:
            The task, with when it was due before it was claimed; None if there is none, or somebody else sees to it,
            here or in another process.
        """

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

    async def take_due(self, room: Callable[[str], int], *, now: float) -> tuple[list[DueTask], float | None]:
        """Claim the tasks that are due: this process's and nobody's, and those of others that are late.

        Args:
            room: how many tasks of a provider may be taken.
            now: in seconds since the epoch.

        Returns:
            The tasks, and when the next one is due of those for which there was room.
        """
        asked = dict(self._asked)

        def work(db: "sqlite3.Connection") -> tuple[list[DueTask], float | None]:
            taken: list[DueTask] = []
            if asked or due.is_any_due(db, self._owner, now, room):
                with transaction(db):
                    self._check_version(db)
                    due.reschedule(db, self._owner, asked.values())
                    taken = due.take(db, self._owner, now, room, self._held - asked.keys())
                for task_id, one in asked.items():
                    if self._asked.get(task_id) is one:
                        self.let_go(task_id)
                self._held.update(one.task_id for one in taken)
            return taken, due.next_at(db, now, room)

        return await self._run(work, in_place=True)

    def nothing_new(self, task_id: str, *, asked_at: float, due_at: float) -> None:
        """Note that a claimed task was asked for in vain, and when it is due again.

        The next `take_due` writes it down, together with what else there is by then.
        """
        self._asked[task_id] = (task_id, asked_at, due_at)

    async def hold(self, *, now: float) -> None:
        """Say that this process is still at work on what it has claimed."""
        held = frozenset(self._held)

        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.hold(db, self._owner, held, now)

        if held:
            await self._run(work)

    def is_held(self, task_id: str) -> bool:
        """Whether this process is at work on a task that it has claimed."""
        return task_id in self._held

    def let_go(self, task_id: str) -> None:
        """No longer say that this process is at work on a task: it comes due by itself."""
        self._held.discard(task_id)
        self._asked.pop(task_id, None)

    async def release(self, task_id: str, due_at: float | None) -> None:
        """Leave a claimed task to whoever comes first when it is due; None: there is nothing more to do for it."""

        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.release(db, self._owner, task_id, due_at)
            # Not before: whoever claims it then would lose his claim to this.
            self.let_go(task_id)

        await self._run(work)

    async def wake(self, task_id: str, at: float, *, called_back: bool = False) -> None:
        """Have an open task advanced at a time, in seconds since the epoch, if it is due later.

        `called_back`: the provider has called, and is not waited for any longer.
        """

        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.wake(db, task_id, at, called_back=called_back)

        await self._run(work)

    async def wake_all(self, *, now: float) -> None:
        """Have every open task advanced now, since the clock was set."""

        def work(db: "sqlite3.Connection") -> None:
            with transaction(db):
                due.wake_all(db, now)

        await self._run(work)
