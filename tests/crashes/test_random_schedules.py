"""Random schedules with real processes: killed at any boundary, two at once, and a vendor that goes wrong meanwhile.

Each schedule comes from a seed, so that the same one can be played again; the moments at which processes meet cannot.
"""

import itertools
import json
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, serving
from outpaint_mcp.storage.store import Store

SCRIPT = Path(__file__).with_name("order_once.py")
GROUPS, SCHEDULES = 4, 5
ROUNDS = 2
LAST_BOUNDARY = 24
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


async def run(folder: Path, base_url: str, die_at: int, vendor: str) -> dict[str, Any] | None:
    """What one process says of the order; None if it was killed before."""
    command = [sys.executable, str(SCRIPT), str(folder), base_url, "1.5", str(die_at), vendor]
    done = await anyio.run_process(command, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    found: dict[str, Any] | None = json.loads(done.stdout.decode().splitlines()[-1]) if done.returncode == 0 else None
    return found


async def records_in(folder: Path) -> list[Record]:
    """Every task that was ordered, the oldest first."""
    store = Store(folder / "store.db", "reader")
    try:
        found = await store.recent("local", 100)
    finally:
        await store.aclose()
    return [record for record in reversed(found) if record.identity is not None]


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
    for older, newer in itertools.pairwise(record.task for record in records):
        assert older.status is Status.FAILED, "nobody said repeat, and a second task of the same order is there"
        assert older.finished_at is not None
        assert older.finished_at <= newer.created_at


async def play(seed: int, folder: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 (a schedule)
    vendor = ("apimart", "apiframe")[seed % 2]
    sandbox = Sandbox(SandboxSettings(seconds_per_state=0.05, painter=PlainPainter()))
    try:
        async with serving(sandbox) as base_url:
            for _ in range(ROUNDS):
                for _ in range(chance.randint(0, 2)):
                    on = chance.choice(["submit", "upscale"])
                    sandbox.faults.add(Fault.model_validate({"vendor": vendor, "on": on, **chance.choice(FAULTS)}))
                async with anyio.create_task_group() as processes:
                    for _ in range(chance.randint(1, 2)):
                        die_at = chance.choice([0, *[chance.randint(1, LAST_BOUNDARY) for _ in range(3)]])
                        processes.start_soon(run, folder, base_url, die_at, vendor)
                check(sandbox, vendor, await records_in(folder))
            sandbox.faults.clear()
            told = await run(folder, base_url, 0, vendor)
            records = await records_in(folder)
            check(sandbox, vendor, records)
    finally:
        sandbox.close()
    assert told is not None
    assert told["id"] == records[-1].task.id
    assert told["status"] in ("succeeded", "unknown"), told["status"]
    for record in records:
        # A vendor that keeps a key for each order is asked again, also after the last process here has ended.
        assert record.task.status.is_final or record.task.status is Status.UNKNOWN, record.task.status


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("group", range(GROUPS))
async def test_no_schedule_of_processes_makes_an_order_be_paid_twice_or_lost(tmp_path: Path, group: int) -> None:
    async with anyio.create_task_group() as schedules:
        for number in range(SCHEDULES):
            seed = group * SCHEDULES + number
            schedules.start_soon(play, seed, tmp_path / str(seed), name=f"schedule {seed}")
