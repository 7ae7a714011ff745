"""What open tasks cost when several processes follow them over one PostgreSQL database, and how soon the others know.

A temporary PostgreSQL server on this machine, `--workers` processes that follow `--tasks` open tasks, each asked for
every `--interval` seconds of a vendor in memory that answers at once. In turn:

* *following*: polls a second, how late they are, the processor time of the workers and of PostgreSQL per 1,000 polls;
* *telling*: how long it takes from the vendor's answer "done" in one process to the call that waits in another;
* *a death*: one worker is killed, and how long its tasks wait for somebody to ask for them again;
* *a restart*: PostgreSQL crashes and starts again, and how long it takes until the next poll.

Goals: 10,000 tasks every 30 s at 330 polls/s at least, lag under 1 s at the 95th percentile, under 0.2 s of
PostgreSQL's time per 1,000 polls; told within 100 ms at the 95th percentile; taken up within 20 s; polled within 5 s.

Run: ``.venv/bin/python benchmarks/replicas.py [--tasks 10000] [--workers 3] [--interval 30] [--seconds 60]``
"""

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psycopg

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.postgres_server import PostgresServer, running_postgres

from outpaint_mcp.cli.serve import collect_rarely
from outpaint_mcp.domain.events import Observer
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.sandbox import seed_id
from outpaint_mcp.storage.postgres.admin import upgrade_database
from outpaint_mcp.storage.postgres.seal import Seal, new_key
from outpaint_mcp.storage.postgres.store import PostgresStore
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service, ServiceOptions

GRID = seed_id("legnext", grid=True)
PLACED = 200
"""How many tasks are really ordered; the others are copies of their rows."""
TOLD = 100
"""How many tasks are finished to see how soon others know."""


class MemoryVendor(Legnext):
    """Answers at once that a task runs, or is done if `done` says so, and notes when it was first asked for what."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(client, key="key", base_url="http://127.0.0.1:9")
        self.asked: dict[str, float] = {}
        self.polls = 0
        self.done: dict[str, float | None] = {}

    async def start(self, order: Order) -> TaskUpdate:
        return TaskUpdate(Status.RUNNING, f"remote-{order.key}", progress=0.0)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        if remote_id == GRID:
            return TaskUpdate(Status.SUCCEEDED, remote_id, is_grid=True)
        self.polls += 1
        self.asked.setdefault(remote_id, time.time())
        if remote_id in self.done:
            self.done[remote_id] = time.time()
            return TaskUpdate(Status.FAILED, remote_id)
        # The same for all tasks: a copy's row knows it already.
        return TaskUpdate(Status.RUNNING, "remote", progress=0.0)


class Lags(Observer):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def advanced_late(self, seconds: float) -> None:
        self.seconds.append(seconds)


def follow(port: Connection, url: str, key: str, interval: float, folder: str) -> None:
    """A process that follows tasks, and does what comes through `port`: a name and its arguments."""

    async def run() -> None:
        lags = Lags()
        async with HttpClient() as client:
            vendor = MemoryVendor(client)
            store = PostgresStore(url, f"worker-{os.getpid()}", Seal(key))
            service = Service(
                store=store,
                images=ImageLibrary(Path(folder), roots=(), allow_private=True),
                providers={"legnext": vendor},
                options=ServiceOptions(auto=("legnext",), poll=(interval, interval), task_timeout=10**6),
                clock=store.clock,
            )
            scheduler = Scheduler(service, service.events, clock=store.clock, observer=lags)
            async with service.running(), scheduler.running(), anyio.create_task_group() as waiting:
                collect_rarely()

                async def place(count: int, prefix: str) -> list[tuple[str, str]]:
                    made: list[tuple[str, str]] = []
                    numbers = iter(range(count))

                    async def place_some() -> None:
                        for number in numbers:
                            request = OutpaintRequest(
                                task_id=GRID, provider="legnext", image_index=1, zoom=1.5, prompt=f"{prefix} {number}"
                            )
                            task = await service.outpaint(request)
                            made.append((task.id, task.remote_id or ""))

                    async with anyio.create_task_group() as calls:
                        for _ in range(8):
                            calls.start_soon(place_some)
                    return made

                async def wait(task_id: str) -> None:
                    task = await service.get_task(task_id, wait_seconds=2 * interval + 30)
                    port.send((task_id, time.time() if task.status.is_final else None))

                while True:
                    what, *given = await anyio.to_thread.run_sync(port.recv)
                    match what:
                        case "place":
                            port.send(await place(*given))
                        case "read":
                            port.send((vendor.polls, time.process_time(), lags.seconds, vendor.asked))
                            lags.seconds, vendor.asked = [], {}
                        case "wait":
                            for task_id in given:
                                waiting.start_soon(wait, task_id)
                            await anyio.sleep(1)
                            port.send(None)
                        case "finish":
                            vendor.done.update(dict.fromkeys(given))
                            port.send(None)
                        case "finished":
                            port.send(vendor.done)
                        case _:
                            waiting.cancel_scope.cancel()
                            return

    anyio.run(run)


class Worker:
    def __init__(self, *arguments: object) -> None:
        self.port, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=follow, args=(theirs, *arguments), daemon=True)
        self.process.start()

    def ask(self, *what: object) -> Any:
        self.port.send(what)
        return self.port.recv()


def multiply(url: str, times: int, interval: float) -> None:
    """Have so many open tasks in place of each."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE more AS SELECT id, id || '-' || number AS new, random() AS part FROM tasks,"
            " generate_series(2, %s) AS number WHERE id IN (SELECT task_id FROM due)",
            (times,),
        )
        connection.execute(
            "INSERT INTO tasks (id, caller, provider, order_hash, status, task, plan, created_at, boot, uptime)"
            " SELECT new, caller, provider, new, status, replace(task, id, new), plan, created_at, boot, uptime"
            " FROM more JOIN tasks USING (id)"
        )
        connection.execute(
            "INSERT INTO orders SELECT new, position, name, provider, caller, new, day, state, status,"
            " replace(remote_id, id, new), usd, reserved, cost FROM more JOIN orders ON task_id = id"
        )
        connection.execute(
            "INSERT INTO due (task_id, provider, due_at, answer, remote_id, step, asked_at, boot, until)"
            " SELECT new, provider, extract(epoch FROM clock_timestamp()) + 5 + %s * part, answer,"
            " replace(remote_id, id, new), step, asked_at, boot, until FROM more JOIN due ON task_id = id",
            (interval,),
        )
        connection.execute("ANALYZE")


def processor_seconds(postmaster: int) -> float:
    """What PostgreSQL's processes have used, those that have ended included."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if postmaster == int(entry.name):
                # Its children that have ended count with it.
                ticks += sum(map(int, fields[11:15]))
            elif postmaster == int(fields[1]):
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def until(condition: Callable[[], bool], seconds: float) -> float:
    """How long it takes until a condition holds; infinite if it does not within `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - began


def measure(server: PostgresServer, options: argparse.Namespace) -> None:
    url, key = server.new_database(), new_key()
    anyio.run(upgrade_database, url)
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(url, key, options.interval, folder) for _ in range(options.workers)]
        began = time.monotonic()
        workers[0].ask("place", PLACED, "order")
        seconds = time.monotonic() - began
        print(f"placed {PLACED} orders in {seconds:.1f} s: {1000 * seconds / PLACED:.0f} ms each", flush=True)
        # Until each was asked for once: then its row says what the vendor answered.
        time.sleep(options.interval + 5)
        multiply(url, options.tasks // PLACED, options.interval)
        time.sleep(5 + options.interval)
        before = [worker.ask("read") for worker in workers]
        used, began = processor_seconds(server.pid), time.monotonic()
        time.sleep(options.seconds)
        seconds = time.monotonic() - began
        after = [worker.ask("read") for worker in workers]
        used = processor_seconds(server.pid) - used
        shares = [late[0] - early[0] for early, late in zip(before, after, strict=True)]
        polls, lags = sum(shares), [lag for read in after for lag in read[2]]
        cores = [(late[1] - early[1]) / seconds for early, late in zip(before, after, strict=True)]
        print(f"following: {polls / seconds:.0f} polls/s by {len(workers)} workers ({shares})")
        print(f"  late: median {1000 * statistics.median(lags):.0f} ms, 95 % {1000 * percentile(lags, 0.95):.0f} ms")
        print(f"  PostgreSQL: {1000 * used / polls:.3f} s of processor time per 1,000 polls")
        print(f"  workers: {1000 * sum(cores) * seconds / polls:.2f} s per 1,000 polls", flush=True)

        told = workers[0].ask("place", TOLD, "told")
        ids = {task_id: remote_id for task_id, remote_id in told}
        for number, worker in enumerate(workers):
            worker.ask("wait", *list(ids)[number :: len(workers)])
        for worker in workers:
            worker.ask("finish", *ids.values())
        heard: dict[str, float] = {}
        for number, worker in enumerate(workers):
            for _ in list(ids)[number :: len(workers)]:
                task_id, at = worker.port.recv()
                if at is not None:
                    heard[task_id] = at
        answered: dict[str, tuple[int, float]] = {}
        for number, worker in enumerate(workers):
            answered |= {remote: (number, at) for remote, at in worker.ask("finished").items() if at is not None}
        elsewhere = [
            heard[task_id] - answered[remote_id][1]
            for position, (task_id, remote_id) in enumerate(ids.items())
            if task_id in heard and answered[remote_id][0] != position % len(workers)
        ]
        print(
            f"telling: {len(heard)} of {TOLD} waiting calls answered; in another process ({len(elsewhere)}) median"
            f" {1000 * statistics.median(elsewhere):.1f} ms, 95 % {1000 * percentile(elsewhere, 0.95):.1f} ms, at most"
            f" {1000 * max(elsewhere):.1f} ms",
            flush=True,
        )

        victim, others = workers[0], workers[1:]
        for worker in others:
            worker.ask("read")
        dead_at = time.time()
        os.kill(victim.process.pid or 0, signal.SIGKILL)
        time.sleep(options.interval + 20)
        asked: dict[str, float] = {}
        for worker in others:
            for remote, at in worker.ask("read")[3].items():
                asked[remote] = min(at, asked.get(remote, at))
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT orders.remote_id FROM orders JOIN due USING (task_id)").fetchall()
        late = [asked.get(remote, float("inf")) - dead_at for (remote,) in rows]
        print(
            f"a death: each of {len(late)} tasks was asked for within {max(late):.1f} s of it, where"
            f" {1.25 * options.interval:.1f} s lie between two polls at most",
            flush=True,
        )

        with psycopg.connect(url) as connection:
            (open_tasks,) = connection.execute("SELECT COUNT(*) FROM due").fetchone() or (0,)
        counted = [worker.ask("read")[0] for worker in others]
        server.stop()
        time.sleep(1)
        stopped = [worker.ask("read")[0] for worker in others]
        server.start()
        seconds = until(lambda: [worker.ask("read")[0] for worker in others] > stopped, 60)
        print(f"a restart: polled {seconds:.2f} s after PostgreSQL was back ({open_tasks} open, {counted} before)")
        for worker in others:
            worker.port.send(("stop",))
            worker.process.join(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two polls of a task")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long following is measured")
    with running_postgres() as server:
        measure(server, parser.parse_args())


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
