"""What 500 clients at once do to a server over Streamable HTTP, and what it then still does for others.

Every client has a token of its own, orders an outpaint of its own at a vendor and waits for it. A few of them ask
`get_task` without waiting all the while, from a process of their own, so that what is measured is the server and not
the queue in a busy client. The vendor is a sandbox in another process, which draws plain pictures; the server runs on
two cores, everything else on the others.

Targets: every client has its own task, the vendor counted one order each, the server's memory peaks under 400 MB, and
99 of 100 questions are answered within 50 ms.

Run: ``.venv/bin/python benchmarks/clients.py [--clients N] [--over SECONDS] [--poll FIRST,INTERVAL] [--profile FILE]``
"""

import argparse
import contextlib
import multiprocessing
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from outpaint_mcp.sandbox import PlainPainter, SandboxSettings, environment, seed_id, serve_sandbox
from outpaint_mcp.web.token_file import add_token

SERVER_CORES = 2
CLIENT_PROCESSES = 2
ASKERS = 16
"""How many of the clients ask without waiting."""
ASK_EVERY = 0.4
"""Seconds; with the askers' number it makes 40 questions in a second, within each client's rate limit."""
MAX_MB, MAX_MS = 400, 50


@dataclass(frozen=True, slots=True)
class Job:
    """What one process of clients is to do."""

    url: str
    image: str
    tokens: tuple[str, ...]
    over: float
    """Seconds over which the orders are spread; 0 is all at the same moment."""
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What one client saw; times in seconds since the start."""

    prompt: str
    task: dict[str, Any]
    ordered: float
    done: float | None
    asked: tuple[tuple[float, float], ...] = ()
    """When each question was put, and how long its answer took."""


# The processes


def vendor(where: Connection, seconds_per_state: float) -> None:
    settings = SandboxSettings(
        seconds_per_state=seconds_per_state, painter=PlainPainter(), legnext_concurrency=None, max_requests=100_000
    )
    anyio.run(serve_sandbox, "127.0.0.1", 0, settings, where.send)


def clients(job: Job, pipe: Connection) -> None:
    anyio.run(_clients, job, pipe)


async def _clients(job: Job, pipe: Connection) -> None:
    finished: list[Finished] = []
    lags: list[float] = []
    all_connected, go, all_done = anyio.Event(), anyio.Event(), anyio.Event()
    connected = 0
    began = 0.0

    async def one(number: int, token: str) -> None:
        nonlocal connected
        async with _connected(job.url, token) as (client, session):
            connected += 1
            if connected == len(job.tokens):
                all_connected.set()
            await go.wait()
            await anyio.sleep(job.over * number / len(job.tokens))
            if job.asks:
                finished.append(await _ask(client, job.image, began, all_done, session))
            else:
                finished.append(await _wait(client, job.image, began))

    async with anyio.create_task_group() as group:
        for number, token in enumerate(job.tokens):
            group.start_soon(one, number, token)
        await all_connected.wait()
        pipe.send("connected")
        began = await anyio.to_thread.run_sync(pipe.recv)
        await anyio.sleep(began - time.time())
        go.set()
        if job.asks:
            group.start_soon(_notice_lag, lags, all_done)
            await anyio.to_thread.run_sync(pipe.recv)
            all_done.set()
    pipe.send((finished, lags))


async def _notice_lag(lags: list[float], until: anyio.Event) -> None:
    """Note how late this process itself gets its turn: what it measures cannot be better than that."""
    while not until.is_set():
        due = time.perf_counter() + 0.02
        await anyio.sleep(0.02)
        lags.append(time.perf_counter() - due)


@contextlib.asynccontextmanager
async def _connected(url: str, token: str) -> AsyncIterator[tuple[Client, httpx2.AsyncClient]]:
    headers = {"Authorization": f"Bearer {token}"}
    # It is loopback without TLS; loading certificates five hundred times would take longer than the benchmark.
    async with (
        httpx2.AsyncClient(headers=headers, verify=False, trust_env=False, timeout=120) as session,
        Client(streamable_http_client(url, http_client=session)) as client,
    ):
        yield client, session


async def _wait(client: Client, image: str, began: float) -> Finished:
    prompt = os.urandom(8).hex()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        pass

    order = {"image": image, "provider": "legnext", "prompt": prompt, "wait_seconds": 25}
    task = _task(await client.call_tool("outpaint", order, progress_callback=progress))
    ordered = time.time() - began
    while task["status"] in ("queued", "running"):
        question = {"task_id": task["id"], "wait_seconds": 25}
        task = _task(await client.call_tool("get_task", question, progress_callback=progress))
    return Finished(prompt, task, ordered, time.time() - began)


async def _ask(
    client: Client, image: str, began: float, all_done: anyio.Event, session: httpx2.AsyncClient
) -> Finished:
    """Order, then put the same question as it was written once, again and again: the SDK's own work is not measured."""
    prompt = os.urandom(8).hex()
    order = {"image": image, "provider": "legnext", "prompt": prompt, "wait_seconds": 0}
    task = _task(await client.call_tool("outpaint", order))
    ordered = time.time() - began
    sent: list[httpx2.Request] = []

    async def note(request: httpx2.Request) -> None:
        sent.append(request)

    session.event_hooks = {"request": [note], "response": []}
    _task(await client.call_tool("get_task", {"task_id": task["id"]}))
    question = sent[-1]
    session.event_hooks = {"request": [], "response": []}
    asked: list[tuple[float, float]] = []
    while not all_done.is_set():
        put = time.perf_counter()
        answer = await session.request(
            question.method, question.url, content=question.content, headers=question.headers
        )
        took = time.perf_counter() - put
        assert task["id"] in answer.text
        asked.append((time.time() - began - took, took))
        await anyio.sleep(max(0.0, ASK_EVERY - took))
    task = _task(await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 45}))
    return Finished(prompt, task, ordered, None, tuple(asked))


def _task(result: Any) -> dict[str, Any]:
    assert not result.is_error, result.content
    task: dict[str, Any] = result.structured_content
    return task


@contextlib.contextmanager
def server(folder: Path, variables: dict[str, str], profile: Path | None) -> Iterator[tuple[int, str]]:
    """A server process on two cores; its process id and its URL."""
    log = folder / "server.log"
    profiled = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    command = [sys.executable, *profiled, "-m", "outpaint_mcp", "serve", "--transport", "http", "--port", "0"]
    with log.open("wb") as stderr:
        # A child begins on the cores of whoever starts it.
        _pin(0, first=True)
        process = subprocess.Popen(command, env=variables, stderr=stderr)
        _pin(0, first=False)
    try:
        said = "serves MCP on "
        while said not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield process.pid, log.read_text().partition(said)[2].split()[0]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        print(f"The server stopped in {time.monotonic() - began:.1f} s.")
    finally:
        process.kill()
        process.wait()
        more = [line for line in log.read_text().splitlines() if said not in line]
        if more:
            print(f"The server logged {len(more)} lines, the first: {more[0]}")


_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(pid: int, *, first: bool) -> None:
    if len(_CORES) > SERVER_CORES:
        os.sched_setaffinity(pid, _CORES[:SERVER_CORES] if first else _CORES[SERVER_CORES:])


# The figures


def peak_mb(pid: int) -> float | None:
    """The most memory that a process had, in MB; None where the system does not say."""
    return _status(pid, "VmHWM:")


def _status(pid: int, field: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1000
    return None


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def core_wait_seconds(pid: int) -> float:
    """How long a process's first thread was ready to run and had to wait for a core."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def quantiles(values: list[float]) -> str:
    """The median and two tails of times in seconds, in ms, as cells of a table."""
    ordered = sorted(values)
    return " | ".join(
        f"{1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.1f}" if ordered else "-"
        for share in (0.5, 0.95, 0.99)
    )


def ordered_at(base_url: str) -> int:
    answer = httpx2.get(f"{base_url}/control/orders", trust_env=False, timeout=60)
    return int(answer.json()["legnext"]["outpaint"])


def measure(options: argparse.Namespace, folder: Path) -> bool:
    context = multiprocessing.get_context("spawn")
    _pin(0, first=False)
    where, told = context.Pipe()
    processes = [context.Process(target=vendor, args=(told, options.seconds), daemon=True)]
    processes[0].start()
    base_url = where.recv()

    tokens_file = folder / "tokens"
    tokens = [add_token(tokens_file, f"client-{number}") for number in range(options.clients)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    variables |= environment(base_url)
    del variables["OUTPAINT_POLL_SECONDS"]
    variables |= {"OUTPAINT_DATA_DIR": str(folder / "data"), "OUTPAINT_TOKENS_FILE": str(tokens_file)}
    if options.poll is not None:
        variables["OUTPAINT_POLL_SECONDS"] = options.poll
    image = f"{base_url}/images/legnext/{seed_id('legnext', grid=False)}/0.png"

    try:
        with server(folder, variables, options.profile) as (pid, url):
            jobs = [Job(url, image, tuple(tokens[:ASKERS]), options.over, asks=True)]
            for number in range(CLIENT_PROCESSES):
                jobs.append(Job(url, image, tuple(tokens[ASKERS + number :: CLIENT_PROCESSES]), options.over))
            pipes = []
            connecting = time.monotonic()
            for job in jobs:
                ours, theirs = context.Pipe()
                processes.append(context.Process(target=clients, args=(job, theirs), daemon=True))
                processes[-1].start()
                pipes.append(ours)
            for pipe in pipes:
                assert pipe.recv() == "connected"
            print(f"{options.clients} clients connected within {time.monotonic() - connecting:.1f} s.")
            idle_mb = _status(pid, "VmRSS:")
            used, waited = cpu_seconds(pid), core_wait_seconds(pid)
            begin = time.time() + 0.5
            for pipe in pipes:
                pipe.send(begin)
            finished = [one for pipe in pipes[1:] for one in pipe.recv()[0]]
            pipes[0].send("done")
            asking, lags = pipes[0].recv()
            finished += asking
            used, waited = cpu_seconds(pid) - used, core_wait_seconds(pid) - waited
            print(f"The server's process used {used:.1f} s of processor time and waited {waited:.1f} s for a core.")
            peak, others = peak_mb(pid), [peak_mb(child) for child in children(pid)]
            return report(options, finished, lags, ordered_at(base_url), idle_mb, peak, others)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def report(
    options: argparse.Namespace,
    finished: list[Finished],
    lags: list[float],
    orders: int,
    idle_mb: float | None,
    peak: float | None,
    others: list[float | None],
) -> bool:
    """Print the figures; returns whether the targets are met."""
    ids = {one.task["id"] for one in finished}
    own = all(one.task["request"]["prompt"] == one.prompt and one.task["status"] == "succeeded" for one in finished)
    ended = max(one.done for one in finished if one.done is not None)
    asked = [question for one in finished for question in one.asked]
    # Their calls return as soon as the vendor has answered, so they show how long the orders took.
    placed = [one.ordered for one in finished if one.asked]
    settled = max(placed) - options.over
    everything = [took for _, took in asked]
    p99 = sorted(everything)[int(0.99 * len(everything))]
    print(f"\nAll of them were done after {ended:.1f} s: {len(finished) / ended:.1f} orders per second.")
    print("\n| get_task without waiting | questions | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|")
    print(f"| all the while | {len(everything)} | {quantiles(everything)} |")
    for name, first, last in (
        (f"while orders came in, 0 to {settled + options.over:.1f} s", 0.0, settled + options.over),
        ("while they were waited for", settled + options.over, ended),
    ):
        some = [took for at, took in asked if first <= at < last]
        print(f"| {name} | {len(some)} | {quantiles(some)} |")
    print(f"| for comparison: how late the asking process itself got its turn | {len(lags)} | {quantiles(lags)} |")
    own_load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"\nThe machine's load is {own_load:.1f}.\n")
    targets = {
        f"every client has its own task: {len(ids)} of {options.clients}": own and len(ids) == options.clients,
        f"the vendor took {orders} orders": orders == options.clients,
        f"memory: {idle_mb or 0:.0f} MB with all connected, peak {peak or 0:.0f} MB; "
        f"its own processes {', '.join(f'{one or 0:.0f}' for one in others) or 'none'}": (peak or 0) < MAX_MB,
        f"p99 of get_task: {1000 * p99:.1f} ms": 1000 * p99 < MAX_MS,
    }
    for target, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'}  {target}")
    return all(targets.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument(
        "--over", type=float, default=60.0, help="seconds over which the orders are spread (default: 60)"
    )
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="how long a vendor's task stays in each state (default: 8)"
    )
    parser.add_argument("--poll", metavar="FIRST,INTERVAL", help="when vendors are asked (default: as for the vendor)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="have cProfile watch the server; slows it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        met = measure(options, Path(folder))
    if options.profile is not None:
        pstats.Stats(str(options.profile)).sort_stats("tottime").print_stats(40)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
