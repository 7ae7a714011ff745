"""How fast `list_providers` answers over stdio while a 2048x2048 picture is drawn to 4096x4096 on the same machine.

The median is to be under 50 ms. Run: ``.venv/bin/python benchmarks/responsiveness.py``
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from PIL import Image

QUESTIONS_AT_MOST = 2000


async def measure(folder: Path) -> tuple[list[float], list[float]]:
    source = folder / "source.png"
    noise = Image.effect_noise((512, 512), 40).resize((2048, 2048), Image.Resampling.BICUBIC)
    noise.convert("RGB").save(source)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "outpaint_mcp"],
        env={**os.environ, "OUTPAINT_DATA_DIR": str(folder / "data"), "OUTPAINT_FILE_ROOTS": str(folder)},
    )
    async with Client(stdio_client(server)) as client:
        await client.call_tool("list_providers", {})
        idle = [await question(client) for _ in range(50)]
        answer = await client.call_tool("outpaint", {"image": str(source), "zoom": 2, "wait_seconds": 0})
        task = answer.structured_content
        busy: list[float] = []
        while task["status"] in ("queued", "running") and len(busy) < QUESTIONS_AT_MOST:
            busy += [await question(client) for _ in range(10)]
            task = (await client.call_tool("get_task", {"task_id": task["id"]})).structured_content
    assert task["status"] == "succeeded", task
    return idle, busy


async def question(client: Client) -> float:
    began = time.perf_counter()
    await client.call_tool("list_providers", {})
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        idle, busy = anyio.run(measure, Path(folder))
    print("| while | questions | median ms | 95 % under ms |\n|---|---|---|---|")
    for name, values in (("idle", idle), ("drawing 2048 -> 4096", busy)):
        slow = statistics.quantiles(values, n=20)[-1]
        print(f"| {name} | {len(values)} | {statistics.median(values):.1f} | {slow:.1f} |")


if __name__ == "__main__":
    main()
