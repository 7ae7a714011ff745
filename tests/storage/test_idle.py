"""A server with nothing to do leaves the disk alone, and still hears of what others do."""

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.scheduler import Scheduler

from ..counting import CountingProvider, MovedClock, service_over
from .claim_many import record


class TracedStore(SqliteStore):
    """Notes every statement that SQLite runs for it."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(path, owner)
        self.statements: list[str] = []

    def _connected(self) -> sqlite3.Connection:
        connection = super()._connected()
        connection.set_trace_callback(self.statements.append)
        return connection


def let_settle(folder: Path) -> None:
    """As if nobody had written to the store for a while."""
    for name in ("store.db", "store.db-wal"):
        os.utime(folder / name, (time.time() - 60, time.time() - 60))


@pytest.mark.skipif(os.name != "posix", reason="the times of open files are not kept up to date here")
async def test_nothing_is_run_while_nothing_is_open_until_another_process_writes(tmp_path: Path) -> None:
    clock, store = MovedClock(), TracedStore(tmp_path / "store.db", "one")
    service = service_over(tmp_path, CountingProvider(), store=store, clock=clock)
    heard: list[TaskEvent] = []
    async with service.running(), Scheduler(service, service.events, clock=clock).running():
        ours, _ = await store.claim(
            record("ours", owner="one"), now=clock.now(), repeat=False, limits=DailyLimits(), count_orders=True
        )
        done = ours.task.model_copy(update={"status": Status.FAILED})
        await store.save(replace(ours, task=done, due_at=None))
        await clock.until_asleep(3)
        for _ in range(10):
            await clock.move(1)
        let_settle(tmp_path)
        for _ in range(5):
            await clock.move(1)
        await service.check()
        store.statements.clear()
        for _ in range(60):
            await clock.move(1)
        assert store.statements == [], store.statements[:12]

        service.events.subscribe(heard.append)
        service.events.watched.update(["op-two-theirs"])
        other = SqliteStore(tmp_path / "store.db", "two")
        theirs = record("theirs", owner="two")
        await other.claim(theirs, now=clock.now(), repeat=False, limits=DailyLimits(), count_orders=True)
        for _ in range(20):
            await clock.move(1)
            await service.check()
        assert theirs.task.id in {event.task_id for event in heard}
        assert any("UPDATE due" in statement for statement in store.statements), "it is late, and taken over"
        await other.aclose()
