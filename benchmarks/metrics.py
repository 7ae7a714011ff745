"""What a scrape of `/metrics` costs over a store of 1,000,000 tasks, and whether it holds up the look for due tasks.

The median of a scrape is to be under 50 ms. Run: ``.venv/bin/python benchmarks/metrics.py [TASKS]``
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import OrderState, Record, StepRecord
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.storage.sqlite.database import transaction
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.service import Service
from outpaint_mcp.web.metrics import Metrics

BATCH = 10_000
PROVIDERS = ("legnext", "apiframe", "apimart", "vtrix", "piapi")


def made(number: int, at: float) -> Record:
    moment = datetime.fromtimestamp(at, UTC)
    status = Status.QUEUED if number % 1000 == 0 else Status.FAILED if number % 20 == 0 else Status.SUCCEEDED
    task = Task(
        id=f"op-{number:022}",
        provider=PROVIDERS[number % len(PROVIDERS)],
        status=status,
        created_at=moment,
        updated_at=moment,
        finished_at=moment if status.is_final else None,
    )
    step = StepRecord(0, StepName.OUTPAINT, OrderState.ACCEPTED, status, f"r-{number}", 0.05 + number % 3 / 100, True)
    return Record(task, f"token:client-{number % 500}", f"{number:064}", None, (step,))


async def fill(store: SqliteStore, tasks: int) -> None:
    """By the store's own statements; one transaction for many, or waiting for the disk would take hours."""
    now = time.time()
    for first in range(0, tasks, BATCH):

        def work(db: object, first: int = first) -> None:
            with transaction(db):
                for number in range(first, min(first + BATCH, tasks)):
                    # A fifth of them today, for the daily limits' sake.
                    at = now - (number % 5) * 86_400
                    store._insert(db, replace(made(number, at), due_at=None), at)

        await store._run(work)


async def measure(folder: Path, tasks: int) -> None:
    store = SqliteStore(folder / "store.db", "benchmark")
    began = time.monotonic()
    await fill(store, tasks)
    print(f"{tasks:,} tasks in {time.monotonic() - began:.0f} s, {(folder / 'store.db').stat().st_size / 1e6:,.0f} MB")
    service = Service(
        store=store,
        images=ImageLibrary(folder, roots=()),
        providers={},
        options=ServiceOptions(auto=(), daily_limits=DailyLimits(100.0, 1000)),
    )
    metrics = Metrics()
    scrapes: list[float] = []
    looks: list[float] = []

    async def scrape() -> None:
        for _ in range(50):
            began = time.monotonic()
            await metrics.page(service)
            scrapes.append(time.monotonic() - began)
            await anyio.sleep(0.01)
        scraping.cancel()

    async def look() -> None:
        while True:
            began = time.monotonic()
            await service.due_tasks.take(lambda provider: 64)
            looks.append(time.monotonic() - began)
            await anyio.sleep(0.005)

    with anyio.CancelScope() as scraping:
        async with anyio.create_task_group() as both:
            both.start_soon(look)
            both.start_soon(scrape)
    await store.aclose()
    for what, times in (("scrape", scrapes), ("a look for due tasks meanwhile", looks)):
        print(f"{what}: median {statistics.median(times) * 1e3:.1f} ms, longest {max(times) * 1e3:.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        anyio.run(measure, Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
