"""What ten thousand open tasks cost the process that follows them: processor time, memory, and how late it asks.

Two runs, each in a process of its own:

* *virtual clock*: a provider in memory answers at once and the clock jumps from one due time to the next, so that what
  is measured is the follower alone: microseconds for each question, and the share of a core that this is at the
  vendors' own interval of 5 s (2,000 questions a second).
* *real time*: the package's sandbox, in another process, is asked over HTTP. The same number of questions at the same
  rate from a bare loop over the same adapter is the measure of what the requests themselves cost; the rest is ours.

Goals: under 150 MB resident, and under 5 % of one core beyond the requests themselves.

Run: ``.venv/bin/python benchmarks/follower.py [--tasks 10000] [--seconds 60] [--interval 30] [--changing 0]``
"""

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from outpaint_mcp.api_client import ApiClient
from outpaint_mcp.clock import Clock, SystemClock
from outpaint_mcp.follower import Follower
from outpaint_mcp.observer import Observer
from outpaint_mcp.pictures import Pictures
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.service import Service, ServiceOptions
from outpaint_mcp.store import Store
from outpaint_mcp.task import Order, OutpaintRequest, Status, TaskUpdate

VIRTUAL_INTERVAL = 5.0
GRID = seed_id("legnext", grid=True)


class WatchedStore(Store):
    """A store that tells whether a thread is at work in it."""

    busy = 0

    async def _run(self, *arguments: Any, **options: Any) -> Any:
        self.busy += 1
        try:
            return await super()._run(*arguments, **options)
        finally:
            self.busy -= 1


class JumpingClock:
    """A virtual clock: when everybody sleeps it is moved to the first who wants to wake."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self.is_busy: Callable[[], object] = lambda: False
        self._sleepers: dict[anyio.Event, float] = {}

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        self._sleepers[event] = self._now + seconds
        try:
            await event.wait()
        finally:
            del self._sleepers[event]

    async def run(self, seconds: float) -> None:
        until = self._now + seconds
        while True:
            # As many turns of the loop as it takes from a sleeper's waking to its next sleep.
            for _ in range(12):
                await anyio.lowlevel.checkpoint()
            while self.is_busy() or not self._sleepers:  # noqa: ASYNC110 - threads have no event here
                await anyio.sleep(0.0002)
            first, at = min(self._sleepers.items(), key=lambda sleeper: sleeper[1])
            if at > until:
                return
            self._now = max(self._now, at)
            first.set()


class MemoryVendor(Legnext):
    """Legnext's declarations and answers that cost nothing.

    Args:
        changing: the share of answers that differ from the last one.
    """

    def __init__(self, client: ApiClient, changing: float) -> None:
        super().__init__(client, key="key", base_url="http://127.0.0.1:9")
        self.polls = 0
        self._changing = changing
        self._random = random.Random(7)  # noqa: S311 (a benchmark that is the same each time)
        self._progress: dict[str, float] = {}

    async def start(self, order: Order) -> TaskUpdate:
        return TaskUpdate(Status.RUNNING, f"remote-{order.key}", progress=0.0)

    async def poll(self, remote_id: str) -> TaskUpdate:
        if remote_id == GRID:
            return TaskUpdate(Status.SUCCEEDED, remote_id, is_grid=True)
        self.polls += 1
        if self._random.random() < self._changing:
            self._progress[remote_id] = min(99.0, self._progress.get(remote_id, 0.0) + 1)
        return TaskUpdate(Status.RUNNING, remote_id, progress=self._progress.get(remote_id, 0.0))


class Lags(Observer):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def advanced_late(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass(frozen=True, slots=True)
class Measured:
    """Processor seconds per second, questions per second, resident bytes, and lags in seconds."""

    core: float
    questions: float
    resident: int
    lags: list[float]


@asynccontextmanager
async def following(
    folder: Path, provider: Provider, clock: Clock, interval: float, observer: Observer
) -> AsyncIterator[Service]:
    store = WatchedStore(folder / "store.db", "benchmark")
    if isinstance(clock, JumpingClock):
        clock.is_busy = lambda: store.busy
    service = Service(
        store=store,
        pictures=Pictures(folder, roots=(), allow_private=True),
        providers={provider.name: provider},
        options=ServiceOptions(auto=(provider.name,), poll=(interval, interval), task_timeout=10**6),
        clock=clock,
    )
    async with service.running(), Follower(service, clock=clock, observer=observer).running():
        yield service


async def place(service: Service, count: int) -> None:
    numbers = iter(range(count))

    async def place_some() -> None:
        for number in numbers:
            await service.outpaint(
                OutpaintRequest(task_id=GRID, provider="legnext", image_index=1, zoom=1.5, prompt=f"order {number}")
            )

    async with anyio.create_task_group() as calls:
        for _ in range(16):
            calls.start_soon(place_some)


async def virtual(tasks: int, seconds: float, changing: float) -> Measured:
    clock, lags = JumpingClock(), Lags()
    with tempfile.TemporaryDirectory() as folder:
        async with ApiClient() as client:
            vendor = MemoryVendor(client, changing)
            async with following(Path(folder), vendor, clock, VIRTUAL_INTERVAL, lags) as service:
                await place(service, tasks)
                # The first answers stand in the store, and the tasks are spread over the interval.
                await clock.run(4 * VIRTUAL_INTERVAL)
                vendor.polls = 0
                lags.seconds.clear()
                began = time.process_time()
                await clock.run(seconds)
                core = (time.process_time() - began) / seconds
                return Measured(core, vendor.polls / seconds, resident(), lags.seconds)


def serve(port: Connection) -> None:
    async def run() -> None:
        # Nothing is ever finished: every answer is the same as the last one.
        sandbox = Sandbox(SandboxSettings(seconds_per_state=10**6, painter=PlainPainter(), legnext_concurrency=None))
        async with serving(sandbox) as base_url:
            port.send(base_url)
            await anyio.sleep_forever()

    anyio.run(run)


@asynccontextmanager
async def sandbox_process() -> AsyncIterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield await anyio.to_thread.run_sync(ours.recv)
    finally:
        process.terminate()
        process.join()


async def real_time(tasks: int, seconds: float, interval: float) -> tuple[Measured, Measured]:
    """The follower's cost, and that of the requests themselves."""
    lags = Lags()
    with tempfile.TemporaryDirectory() as folder:
        async with sandbox_process() as base_url, ApiClient() as client:
            variables = environment(base_url)
            vendor = Legnext(client, key=variables["LEGNEXT_API_KEY"], base_url=variables["LEGNEXT_BASE_URL"])
            async with following(Path(folder), vendor, SystemClock(), interval, lags) as service:
                print(f"placing {tasks} orders ...", flush=True)
                await place(service, tasks)
                await anyio.sleep(2 * interval)
                lags.seconds.clear()
                began, cpu = time.perf_counter(), time.process_time()
                await anyio.sleep(seconds)
                elapsed, used = time.perf_counter() - began, time.process_time() - cpu
                followed = Measured(used / elapsed, len(lags.seconds) / elapsed, resident(), list(lags.seconds))
                recent = await service.recent(limit=tasks)
            ids = [task.remote_id for task in recent if task.remote_id and task.remote_id != GRID]
            return followed, await bare(vendor, ids, followed.questions, seconds)


async def bare(vendor: Provider, ids: list[str], rate: float, seconds: float) -> Measured:
    """The same questions at the same rate, with nothing around them."""
    asked = 0
    began, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as asking:
        while (elapsed := time.perf_counter() - began) < seconds:
            while asked < elapsed * rate:
                asking.start_soon(vendor.poll, ids[asked % len(ids)])
                asked += 1
            await anyio.sleep(0.02)
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    return Measured(used / elapsed, asked / elapsed, resident(), [])


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def apart(measure: Callable[..., Any], *arguments: object) -> Any:
    """The result of an async function, from a process that has done nothing else."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_apart, args=(theirs, measure, arguments))
    process.start()
    try:
        return ours.recv()
    finally:
        process.join()


def _apart(result: Connection, measure: Callable[..., Any], arguments: Iterable[object]) -> None:
    result.send(anyio.run(measure, *arguments))


def row(name: str, measured: Measured) -> str:
    lags = sorted(measured.lags)
    late = ""
    if lags:
        late = f"{1000 * statistics.median(lags):.0f} / {1000 * lags[int(0.99 * len(lags))]:.0f} ms"
    each = 1e6 * measured.core / measured.questions
    share, size = f"{100 * measured.core:.1f} %", f"{measured.resident / 1e6:.0f} MB"
    return f"| {name} | {measured.questions:.0f} | {share} | {each:.0f} | {size} | {late} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each run measures")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between questions in real time")
    parser.add_argument("--changing", type=float, default=0.0, help="share of the virtual answers that are new")
    parser.add_argument("--only", choices=("virtual", "real"))
    options = parser.parse_args()
    rows = []
    if options.only != "real":
        rows.append(row("virtual clock", apart(virtual, options.tasks, options.seconds, options.changing)))
    if options.only != "virtual":
        followed, requests = apart(real_time, options.tasks, options.seconds, options.interval)
        rows += [row("real time", followed), row("the requests alone", requests)]
        # A little more or less was asked: compared per question.
        beyond = followed.core - requests.core * followed.questions / requests.questions
        rows.append(f"\nBeyond the requests themselves: {100 * beyond:.1f} % of a core")
    print("| run | questions/s | of one core | us each | resident | late, median / 99 % |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
