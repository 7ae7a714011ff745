"""How long a host waits for our tools: from the start of the process to the answer to `tools/list`, over stdio.

Side by side in one run with a bare server of three tools on the same SDK, turn by turn; medians and their ratio, which
is to be at most 1.1. Both run from compiled bytecode, as an installed package does.

Run: ``.venv/bin/python benchmarks/startup.py [--repeats N]``
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
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
