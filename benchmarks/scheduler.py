"""What ten thousand open tasks cost the process that follows them: processor time, memory, and how late it asks.

Two runs, each in a process of its own:

* *virtual clock*: a provider in memory answers at once and the clock jumps from one due time to the next, so that what
  is measured is the scheduler alone: microseconds for each question, and the share of a core that this is at the
  vendors' own interval of 5 s (2,000 questions a second).
* *real time*: the package's sandbox, in another process, is asked over HTTP. At the same time a bare loop over the same
  adapter, in a process of its own with a sandbox of its own, asks for as many tasks as often, as unevenly as tasks that
  know nothing of each other fall due: what that takes is what the requests themselves cost; the rest is ours. Both are
  read at the same moments, window by window, since what a request costs varies from one minute to the next by more than
  the goal. A second bare loop is compared with the first in the same way: that is the error of the measurement.

Goals: under 150 MB resident, and under 5 % of one core beyond the requests themselves.

Run: ``.venv/bin/python benchmarks/scheduler.py [--tasks 10000] [--windows 24] [--interval 30] [--changing 0]``
"""

import argparse
import itertools
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel

from outpaint_mcp.cli.serve import collect_rarely
from outpaint_mcp.domain.clock import Clock, SystemClock, Uptime
from outpaint_mcp.domain.events import Observer
from outpaint_mcp.domain.order import Order, Parent
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.scheduler import TICK_SECONDS, Scheduler
from outpaint_mcp.tasks.service import Service, ServiceOptions

VIRTUAL_INTERVAL = 5.0
WINDOW_SECONDS = 5.0
GRID = seed_id("legnext", grid=True)


class WatchedStore(SqliteStore):
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

    def monotonic(self) -> float:
        return self._now

    def uptime(self) -> Uptime:
        return Uptime("boot", self._now)

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

    def __init__(self, client: HttpClient, changing: float) -> None:
        super().__init__(client, key="key", base_url="http://127.0.0.1:9")
        self.polls = 0
        self._changing = changing
        self._random = random.Random(7)  # noqa: S311 (a benchmark that is the same each time)
        self._progress: dict[str, float] = {}

    async def start(self, order: Order) -> TaskUpdate:
        return TaskUpdate(Status.RUNNING, f"remote-{order.key}", progress=0.0)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
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
        images=ImageLibrary(folder, roots=(), allow_private=True),
        providers={provider.name: provider},
        options=ServiceOptions(auto=(provider.name,), poll=(interval, interval), task_timeout=10**6),
        clock=clock,
    )
    async with service.running(), Scheduler(service, service.events, clock=clock, observer=observer).running():
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


async def virtual(tasks: int, windows: int, changing: float) -> list[Measured]:
    clock, lags = JumpingClock(), Lags()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with HttpClient() as client:
            vendor = MemoryVendor(client, changing)
            async with following(Path(folder), vendor, clock, VIRTUAL_INTERVAL, lags) as service:
                await place(service, tasks)
                collect_rarely()
                # The first answers stand in the store, and the tasks are spread over the interval.
                await clock.run(4 * VIRTUAL_INTERVAL)
                for _ in range(windows):
                    asked, told, cpu = vendor.polls, len(lags.seconds), time.process_time()
                    await clock.run(WINDOW_SECONDS)
                    core, questions = time.process_time() - cpu, vendor.polls - asked
                    late = lags.seconds[told:]
                    found.append(Measured(core / WINDOW_SECONDS, questions / WINDOW_SECONDS, resident(), late))
    return found


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


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds used and questions asked, until `at` (seconds of the monotonic clock), and resident bytes."""

    at: float
    cpu: float
    asked: int
    resident: int

    def until(self, later: "Reading", lags: list[float]) -> Measured:
        seconds = later.at - self.at
        return Measured((later.cpu - self.cpu) / seconds, (later.asked - self.asked) / seconds, later.resident, lags)


def read(asked: int) -> Reading:
    return Reading(time.monotonic(), time.process_time(), asked, resident())


async def real_time(tasks: int, windows: int, interval: float) -> list[list[Measured]]:
    """For each window: what following costs, and what each of two bare loops that ask as often does."""
    lags = Lags()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with sandbox_process() as base_url, HttpClient() as client:
            vendor = legnext(client, base_url)
            async with following(Path(folder), vendor, SystemClock(), interval, lags) as service:
                print(f"placing {tasks} orders ...", file=sys.stderr, flush=True)
                await place(service, tasks)
                collect_rarely()
                async with bare_process(tasks, interval, 1) as first, bare_process(tasks, interval, 2) as second:
                    # All are under way, and spread over the interval by its jitter.
                    await anyio.sleep(2 * interval)
                    before = [read(len(lags.seconds)), await first(), await second()]
                    for _ in range(windows):
                        told = len(lags.seconds)
                        await anyio.sleep(WINDOW_SECONDS)
                        after = [read(len(lags.seconds)), await first(), await second()]
                        late = [lags.seconds[told:], [], []]
                        found.append([one.until(*rest) for one, *rest in zip(before, after, late, strict=True)])
                        before = after
    return found


def legnext(client: HttpClient, base_url: str) -> Legnext:
    variables = environment(base_url)
    return Legnext(client, key=variables["LEGNEXT_API_KEY"], base_url=variables["LEGNEXT_BASE_URL"])


@asynccontextmanager
async def bare_process(tasks: int, interval: float, seed: int) -> AsyncIterator[Callable[[], Awaitable[Reading]]]:
    """A process that asks for so many tasks every `interval`, with nothing around it; what is given reads it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=ask_bare, args=(theirs, tasks, interval, seed))
    process.start()

    async def read_it() -> Reading:
        ours.send(True)
        return cast(Reading, await anyio.to_thread.run_sync(ours.recv))

    try:
        # It answers from when it has orders to ask for.
        await read_it()
        yield read_it
    finally:
        ours.send(False)
        process.join()


def ask_bare(port: Connection, tasks: int, interval: float, seed: int) -> None:
    uneven = random.Random(seed)  # noqa: S311 (a benchmark that is the same each time)

    async def run() -> None:
        async with sandbox_process() as base_url, HttpClient() as client:
            vendor = legnext(client, base_url)
            ids = [(await vendor.start(an_order(number))).remote_id or "" for number in range(tasks)]
            collect_rarely()
            asked, due_at = 0, time.monotonic()
            async with anyio.create_task_group() as asking:
                while True:
                    while due_at <= time.monotonic():
                        asking.start_soon(vendor.poll, ids[asked % tasks])
                        asked += 1
                        due_at += uneven.expovariate(tasks / interval)
                    if port.poll():
                        if not port.recv():
                            return
                        port.send(read(asked))
                    await anyio.sleep(TICK_SECONDS)

    anyio.run(run)


def an_order(number: int) -> Order:
    parent = Parent(GRID, index=1, is_grid=True)
    return Order("legnext", parent, zoom=1.5, prompt=f"order {number}", key=f"bare-{number}")


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


def row(name: str, measured: Sequence[Measured]) -> str:
    """One row of the table: medians over the windows, and the most memory."""
    lags = sorted(itertools.chain.from_iterable(one.lags for one in measured))
    late = ""
    if lags:
        late = f"{1000 * statistics.median(lags):.0f} / {1000 * lags[int(0.99 * len(lags))]:.0f} ms"
    core = statistics.median(one.core for one in measured)
    questions = statistics.median(one.questions for one in measured)
    share, size = f"{100 * core:.1f} %", f"{max(one.resident for one in measured) / 1e6:.0f} MB"
    return f"| {name} | {questions:.0f} | {share} | {1e6 * core / questions:.0f} | {size} | {late} |"


def beyond(measured: Sequence[Measured], bare: Sequence[Measured]) -> str:
    """What was used beyond the bare loop in the same windows, of one core: the median, and the middle half.

    One asked a little more than the other: they are compared per question.
    """
    shares = [
        100 * one.questions * (one.core / one.questions - other.core / other.questions)
        for one, other in zip(measured, bare, strict=True)
    ]
    low, middle, high = statistics.quantiles(shares, n=4)
    return f"{middle:.1f} % of a core (half of the {len(shares)} windows from {low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=24, help=f"how many times {WINDOW_SECONDS:g} s are measured")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between questions in real time")
    parser.add_argument("--changing", type=float, default=0.0, help="share of the virtual answers that are new")
    parser.add_argument("--only", choices=("virtual", "real"))
    options = parser.parse_args()
    rows = []
    comparisons = []
    if options.only != "real":
        rows.append(row("virtual clock", apart(virtual, options.tasks, options.windows, options.changing)))
    if options.only != "virtual":
        windows = apart(real_time, options.tasks, options.windows, options.interval)
        followed, bare, other = ([window[which] for window in windows] for which in range(3))
        rows += [row("real time", followed), row("the requests alone", bare), row("the same again", other)]
        comparisons = [
            "",
            f"Beyond the requests themselves: {beyond(followed, bare)}",
            f"The same again beyond the requests alone: {beyond(other, bare)}",
        ]
    print("| run | questions/s | of one core | us each | resident | late, median / 99 % |")
    print("|---|---|---|---|---|---|")
    print("\n".join([*rows, *comparisons]))


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
