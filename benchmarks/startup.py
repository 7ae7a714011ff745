"""How long a host waits for our tools: from the start of the process to the answer to `tools/list`, over stdio.

Side by side in one run with a bare server of three tools on the same SDK, turn by turn; medians and their ratio, which
is to be at most 1.1. Both run from compiled bytecode, as an installed package does.

With `--against` another version is measured in the same turns, and of both also the memory, and what a call of each
tool costs: orders at a sandbox's Legnext without waiting, each followed by its task and the providers. The median of
the turns' ratios is to be at most 1.05.

Run: ``.venv/bin/python benchmarks/startup.py [--repeats N] [--against ITS_PYTHON]``
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio

from outpaint_mcp.sandbox import PlainPainter, SandboxSettings, environment, seed_id, serve_sandbox

BARE = """
from mcp.server import MCPServer

server = MCPServer("bare")


@server.tool()
def one(text: str) -> str:
    return text


@server.tool()
def two(number: int) -> int:
    return number


@server.tool()
def three() -> str:
    return ""


server.run()
"""

HELLO = [
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "b", "version": "1"}},
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]

IDLE_SECONDS = 1.5
"""After which a server has loaded what it loads once it has answered."""
ROUNDS = 67
TOOLS = ("outpaint", "get_task", "list_providers")
Figures = dict[str, float]
"""What was measured, by what it is and its unit."""


def seconds_to_tools(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for message in HELLO:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        if "id" in message:
            answer = json.loads(process.stdout.readline())
    seconds = time.perf_counter() - began
    assert len(answer["result"]["tools"]) == 3
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()
    return seconds


class Server:
    """A server over stdio in a process of its own."""

    def __init__(self, python: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "outpaint_mcp"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, message: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        while "id" in message:
            answer = json.loads(self._process.stdout.readline())
            if answer.get("id") == message["id"]:
                return answer["result"]
        return None

    def call(self, tool: str, **arguments: object) -> Any:
        result = self.ask(
            {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        )
        assert not result.get("isError"), result
        return result["structuredContent"]

    def resident(self) -> float:
        """Memory in MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def processor_seconds(self) -> float:
        # The clock of a process, of all its threads: clock_getcpuclockid(3).
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


def start(python: str, environment: dict[str, str], found: Figures) -> Server:
    """A server that has done all that it does unasked; `found` gets what that took."""
    began = time.perf_counter()
    server = Server(python, environment)
    for message in HELLO:
        server.ask(message)
    found["start, ms"] = 1000 * (time.perf_counter() - began)
    found["start, processor ms"] = 1000 * server.processor_seconds()
    time.sleep(IDLE_SECONDS)
    found["start and opening the service, processor ms"] = 1000 * server.processor_seconds()
    found["idle, MB"] = server.resident()
    return server


def call_in_turn(servers: dict[str, Server], found: dict[str, Figures]) -> None:
    """Call all tools of all servers again and again, each server a moment after the other."""
    waited = {(name, tool): list[float]() for name in servers for tool in TOOLS}
    used = {(name, tool): list[float]() for name in servers for tool in TOOLS}

    def timed(name: str, tool: str, **arguments: object) -> Any:
        processor, began = servers[name].processor_seconds(), time.perf_counter()
        answer = servers[name].call(tool, **arguments)
        waited[name, tool].append(1000 * (time.perf_counter() - began))
        used[name, tool].append(1000 * (servers[name].processor_seconds() - processor))
        return answer

    for server in servers.values():
        server.call("list_providers")
    before = {name: server.processor_seconds() for name, server in servers.items()}
    order = {"task_id": seed_id("legnext", grid=True), "provider": "legnext", "image_index": 1, "zoom": 1.5}
    for number in range(ROUNDS):
        for name in sorted(servers, reverse=bool(number % 2)):
            task = timed(name, "outpaint", **order, prompt=f"order {number}", wait_seconds=0)
            timed(name, "get_task", task_id=task["id"])
            timed(name, "list_providers")
    for name, server in servers.items():
        found[name][f"after {len(TOOLS) * ROUNDS} calls, MB"] = server.resident()
        for tool in TOOLS:
            found[name][f"{tool}, ms"] = statistics.median(waited[name, tool])
            found[name][f"{tool}, processor ms"] = statistics.median(used[name, tool])
        seconds = server.processor_seconds() - before[name]
        found[name]["one of each and what follows, processor ms"] = 1000 * seconds / ROUNDS


def serve_vendor(where: Connection) -> None:
    settings = SandboxSettings(
        seconds_per_state=10**6, painter=PlainPainter(), legnext_concurrency=None, max_requests=10**6
    )
    anyio.run(serve_sandbox, "127.0.0.1", 0, settings, where.send)


@contextlib.contextmanager
def vendor() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve_vendor, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def compare(other: str, repeats: int) -> None:
    pythons = {"this": sys.executable, "other": other}
    found: list[dict[str, Figures]] = []
    with vendor() as base_url:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
        variables |= environment(base_url)
        del variables["OUTPAINT_POLL_SECONDS"]
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(repeats + 1):
            with contextlib.ExitStack() as stack:
                one = {name: Figures() for name in pythons}
                servers = {}
                for name in sorted(pythons, reverse=bool(turn % 2)):
                    folder = stack.enter_context(tempfile.TemporaryDirectory())
                    servers[name] = start(pythons[name], {**variables, "OUTPAINT_DATA_DIR": folder}, one[name])
                    stack.callback(servers[name].stop)
                call_in_turn(servers, one)
            if turn:  # the first turn only compiles, and warms the file cache
                found.append(one)
    print("| | this version | the other | ratio |\n|---|---|---|---|")
    for what in found[0]["this"]:
        this, that = (statistics.median(one[name][what] for one in found) for name in pythons)
        ratio = statistics.median(one["this"][what] / one["other"][what] for one in found)
        print(f"| {what} | {this:.1f} | {that:.1f} | {ratio:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--against", help="the Python of an environment that has another version")
    options = parser.parse_args()
    repeats = options.repeats
    if options.against is not None:
        compare(options.against, repeats)
        return
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        environment = {**os.environ, "OUTPAINT_DATA_DIR": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {"bare": [sys.executable, str(bare)], "outpaint-mcp": [sys.executable, "-m", "outpaint_mcp"]}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                seconds = seconds_to_tools(command, environment)
                if turn:  # the first turn only warms the file cache
                    times[name].append(seconds)
    print("| server | median s | fastest s |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} |")
    ratio = statistics.median(times["outpaint-mcp"]) / statistics.median(times["bare"])
    print(f"\nratio of the medians: {ratio:.3f}; of the fastest: {min(times['outpaint-mcp']) / min(times['bare']):.3f}")


if __name__ == "__main__":
    main()
