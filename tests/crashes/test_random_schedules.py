"""Random schedules with real processes: killed at any boundary, two at once, and a vendor that goes wrong meanwhile.

The store is a file, or a PostgreSQL database. The clocks of the processes jump, the data folder vanishes for a moment
or the database crashes and starts again, a vendor (Vtrix) reports a cost of 0 until a task is done, and the own image
that it extends has other bytes at each request. Each schedule comes from a seed, so that the same one can be played
again; the moments at which processes meet cannot.
"""

import contextlib
import functools
import itertools
import random
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import CLAIM_SECONDS, REUSE_SECONDS, OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, serving

from ..images.test_library import serving as serving_files
from ..postgres_server import PostgresServer
from ..server.test_repeats import Stamping
from ..storage.claim_many import open_store
from .conftest import Processes
from .order_once import LIMITS, PRICE

GROUPS, SCHEDULES = 4, 5
ROUNDS = 2
LAST_BOUNDARY = 24
PAUSE = 0.4
"""For how many seconds a process that is not alone waits with the order that it has claimed, so that they meet."""
CLOCKS = (0, 0, -86_400, -3_600, 5, 15)
"""By how many seconds a clock is ahead. Ahead by more, polls would come later than a test can wait."""
LATER = CLAIM_SECONDS - 1.5
"""How much later each round comes, in seconds by all clocks: what the one before worked on is still claimed, though not
for long."""
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"fault": "drop"},
    {"fault": "drop", "accepted": True},
    {"fault": "slow", "seconds": 1.0, "accepted": True},
    {"fault": "status", "status": 429},
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 503, "retry_after": 1},
    {"fault": "status", "status": 500, "accepted": True},
    {"fault": "html", "status": 200, "accepted": True},
    {"fault": "truncated_json"},
)


async def vanish(folder: Path, seconds: float) -> None:
    """The data folder is gone for a while."""
    hidden = await anyio.Path(folder).rename(f"{folder}-away")
    await anyio.sleep(seconds)
    # Images that a process stores meanwhile are lost, which costs nothing.
    while True:
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        # It may store another one just now.
        with contextlib.suppress(OSError):
            await hidden.rename(folder)
            return


async def records_in(place: str, server: PostgresServer | None) -> list[Record]:
    """Every task that was ordered, the oldest first: the clocks of the processes say anything."""
    store = open_store(place, "reader")
    try:
        found = {record.task.id: record for record in await store.recent("local", 100)}
    finally:
        await store.aclose()
    if server is not None:
        rows = server.rows(place, "SELECT id FROM tasks ORDER BY seq")
    else:
        with contextlib.closing(sqlite3.connect(place)) as db:
            rows = db.execute("SELECT id FROM tasks ORDER BY rowid").fetchall()
    return [found[row[0]] for row in rows if found[row[0]].identity is not None]


def check(sandbox: Sandbox, vendor: str, records: list[Record]) -> None:
    """Compare what the vendor counted with what stands in the store."""
    for step in StepName:
        taken = {order.id for order in sandbox.orders(vendor, step.value)}
        assert len(taken) == sandbox.order_count(vendor, step.value)
        rows = [row for record in records for row in record.steps if row.name is step]
        known = {row.remote_id for row in rows if row.state is OrderState.ACCEPTED}
        lost = sum(row.state in (OrderState.SENT, OrderState.UNCONFIRMED) for row in rows)
        assert known <= taken
        assert len(taken - known) <= lost, f"{vendor} counts an {step.value} that nobody knows of"
    for record in records:
        for row in record.steps:
            if row.state in (OrderState.SENT, OrderState.UNCONFIRMED, OrderState.ACCEPTED):
                assert row.reserved, row
            elif row.state is OrderState.REFUSED:
                assert not row.reserved, row
    reserved = [row for record in records for row in record.steps if row.reserved]
    assert len(reserved) <= (LIMITS.orders or 0)
    assert sum(PRICE if row.status is not Status.SUCCEEDED else row.usd or 0 for row in reserved) <= (LIMITS.usd or 0)
    for older, newer in itertools.pairwise(record.task for record in records):
        # Cancelled is what was never sent.
        over = older.status in (Status.FAILED, Status.CANCELLED)
        if older.status is Status.SUCCEEDED and older.finished_at is not None:
            over = (newer.created_at - older.finished_at).total_seconds() > REUSE_SECONDS
        assert over, f"nobody said repeat, and {newer.id} is a second task of the same order"


async def play(processes: Processes, seed: int, folder: Path, server: PostgresServer | None) -> None:
    chance = random.Random(seed)  # noqa: S311 (a schedule)
    vendor = ("apimart", "apiframe", "vtrix")[seed % 3]
    stored = str(folder / "store.db") if server is None else server.new_database("prepared")
    sandbox = Sandbox(SandboxSettings(seconds_per_state=0.05, painter=PlainPainter()))
    try:
        with serving_files(Stamping()) as files:
            image = f"{files}/stamped.png" if vendor == "vtrix" else ""
            async with serving(sandbox) as base_url:
                for number in range(ROUNDS):
                    # One schedule of each group begins with two that live and meet.
                    meets = number == 0 and seed % SCHEDULES == 0
                    for _ in range(chance.randint(0, 2)):
                        on = chance.choice(["submit", "upscale"])
                        sandbox.faults.add(Fault.model_validate({"vendor": vendor, "on": on, **chance.choice(FAULTS)}))
                    count = 2 if meets else chance.randint(1, 2)
                    # A second process that came meanwhile would rightly begin a new folder.
                    away = chance.choice([0, 0.3]) if count == 1 else 0

                    async def on_boundary(passed: Sequence[str], away: float = away) -> None:
                        if away and passed[-1] == "after claim" and passed.count("after claim") == 1:
                            if server is None:
                                await vanish(folder, away)
                            else:
                                await anyio.to_thread.run_sync(server.crash)

                    clocks = (0,) if meets else chance.choice([CLOCKS, (0,)])

                    async def place(die_at: int, clock: tuple[float, float], keeps: bool, **rest: Any) -> None:
                        passed, told = await processes.place(
                            folder, base_url, store=stored, die_at=die_at, clock=clock, **rest
                        )
                        if told is not None and keeps:
                            sent = sum(name.startswith("before start") for name in passed)
                            marked = sum(name.startswith("after mark_sent") for name in passed)
                            assert sent >= marked, f"an order was taken from a process that is alive: {passed}"

                    async with anyio.create_task_group() as running:
                        for _ in range(count):
                            deaths = [chance.randint(1, LAST_BOUNDARY) for _ in range(3)]
                            die_at = 0 if meets else chance.choice([0, *deaths])
                            later = number * LATER
                            clock = chance.choice(clocks) + later, chance.choice(clocks) + later
                            one = functools.partial(
                                place, vendor=vendor, image=image, on_boundary=on_boundary, pause=PAUSE * (count - 1)
                            )
                            running.start_soon(one, die_at, clock, clocks == (0,) and not away)
                    check(sandbox, vendor, await records_in(stored, server))
                sandbox.faults.clear()
                last = functools.partial(
                    processes.place,
                    folder,
                    base_url,
                    store=stored,
                    vendor=vendor,
                    image=image,
                    clock=(ROUNDS * LATER, ROUNDS * LATER),
                )
                _, told = await last()
                while server is not None and told == {"refused": "configuration"}:
                    # Another schedule has crashed the database, which is everybody's: nothing was ordered.
                    _, told = await last()
                records = await records_in(stored, server)
                check(sandbox, vendor, records)
    finally:
        sandbox.close()
    assert told is not None
    assert told["id"] == records[-1].task.id
    assert told["status"] in ("succeeded", "unknown"), told["status"]
    for record in records:
        # A vendor that keeps a key for each order is asked again, also after the last process here has ended.
        assert record.task.status.is_final or record.task.status is Status.UNKNOWN, record.task.status


@pytest.fixture
def server(request: pytest.FixtureRequest, group: int) -> PostgresServer | None:
    """The database's server of every other group; None of those whose store is a file."""
    return request.getfixturevalue("postgres_server") if group % 2 else None


@pytest.mark.parametrize("group", range(GROUPS))
async def test_no_schedule_of_processes_makes_an_order_be_paid_twice_or_lost(
    tmp_path: Path, processes: Processes, group: int, server: PostgresServer | None
) -> None:
    async with anyio.create_task_group() as schedules:
        for number in range(SCHEDULES):
            seed = group * SCHEDULES + number
            schedules.start_soon(play, processes, seed, tmp_path / str(seed), server, name=f"schedule {seed}")
