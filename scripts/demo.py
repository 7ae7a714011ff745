"""The demonstration: a real MCP client and server over stdio, then every vendor in a sandbox; see scripts/demo."""

import argparse
import base64
import os
import sys
import tempfile
import time
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import BlobResourceContents, CallToolResult
from PIL import Image, ImageDraw, ImageFont

from outpaint_mcp.sandbox import VENDORS, Sandbox, environment, seed_id, serving

ROOT = Path(__file__).resolve().parent.parent
MEADOW, COFFEE = (ROOT / "examples" / name for name in ("meadow.jpg", "coffee.jpg"))
WANTED = (("zoom", MEADOW, {"zoom": 1.5}), ("wide", COFFEE, {"zoom": 1.0, "aspect_ratio": "2:1"}))


async def demo(out: Path) -> None:
    # A data folder of its own, so that every run draws anew, whatever became of the last, and nothing of the user's is
    # touched.
    with tempfile.TemporaryDirectory(prefix="outpaint-demo-", ignore_cleanup_errors=True) as folder:
        await shown_at_work(out, {"OUTPAINT_DATA_DIR": folder, "OUTPAINT_FILE_ROOTS": str(ROOT)})


async def shown_at_work(out: Path, data: dict[str, str]) -> None:
    print("Starting outpaint-mcp over stdio and connecting with the SDK's client ...")
    async with Client(stdio_client(server(data))) as client:
        tools = (await client.list_tools()).tools
        print(f"Its tools: {', '.join(tool.name for tool in tools)}\n")
        await on_this_machine(client, out)
    async with serving(Sandbox()) as base_url:
        print(f"\nEvery vendor, in the sandbox that comes with the package ({base_url}), no key and no cost:")
        async with Client(stdio_client(server({**data, **environment(base_url)}))) as client:
            await at_the_vendors(client)


def server(environment: dict[str, str]) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=["-m", "outpaint_mcp"], env={**os.environ, **environment})


async def on_this_machine(client: Client, out: Path) -> None:
    rows = []
    for name, photograph, arguments in WANTED:
        print(f"outpaint(image={photograph.name}, {', '.join(f'{k}={v}' for k, v in arguments.items())})")
        began = time.perf_counter()
        task = await finished(client, {"image": str(photograph), "repeat": True, **arguments})
        seconds = time.perf_counter() - began
        image = task["images"][0]
        contents = (await client.read_resource(image["resource_uri"])).contents[0]
        if not isinstance(contents, BlobResourceContents):
            raise SystemExit("The resource holds no picture.")
        path = out / f"{name}.png"
        path.write_bytes(base64.b64decode(contents.blob))
        print(f"  {task['status']} in {seconds:.1f} s: {image['width']}x{image['height']}, read back through")
        print(f"  {image['resource_uri']}\n  written to {shown(path)}\n")
        label = ", ".join(f"{key} {value}" for key, value in arguments.items() if value != 1)
        pictures = (photograph.name, photograph), (label, path)
        rows.append([(title, Image.open(file).convert("RGB")) for title, file in pictures])
    sheet = out / "before-and-after.png"
    before_and_after(rows).save(sheet)
    print(f"Before and after: {shown(sheet)}")


async def at_the_vendors(client: Client) -> None:
    """One order at each: from a grid that the sandbox starts with, or of a photograph."""
    rows = []

    async def order(vendor: str) -> None:
        arguments = {"provider": vendor, "zoom": 1.5}
        if VENDORS[vendor].seeds:
            arguments |= {"task_id": seed_id(vendor, grid=True), "image_index": 2}
        else:
            arguments |= {"image": str(MEADOW), "sides": ["left", "right"]}
        began = time.perf_counter()
        task = await finished(client, {**arguments, "repeat": True})
        seconds = time.perf_counter() - began
        image = task["images"][0]
        cost = task["cost"]
        rows.append(
            (
                vendor,
                task["status"],
                " + ".join(step["name"] for step in task["steps"]),
                f"{len(task['images'])} of {image['width'] or '?'}x{image['height'] or '?'}",
                f"{cost['amount']:g} {cost['unit']}" if cost else "unknown",
                f"{seconds:.1f} s",
            )
        )

    async with anyio.create_task_group() as orders:
        for name in VENDORS:
            orders.start_soon(order, name)
    rows.sort()
    rows.insert(0, ("provider", "status", "orders", "images", "cost", "time"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def finished(client: Client, order: dict[str, object]) -> dict:
    """Place an order and follow it to its end, as a host does."""
    task = answer(await client.call_tool("outpaint", order))
    while task["status"] in ("queued", "running"):
        task = answer(await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 45}))
    if task["status"] != "succeeded":
        raise SystemExit(f"The task {task['status']}: {task['failure']}")
    return task


def answer(result: CallToolResult) -> dict:
    if result.is_error:
        raise SystemExit(result.content[0].text)
    return result.structured_content


def before_and_after(rows: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    """The pictures of each row side by side, all at one scale, each with its label and size."""
    font = ImageFont.load_default(16)
    gap, head = 16, 32
    heights = [max(picture.height for _, picture in row) + head + gap for row in rows]
    width = max(sum(picture.width + gap for _, picture in row) for row in rows) + gap
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        x = gap
        for label, picture in row:
            y = top + head + (height - head - gap - picture.height) // 2
            draw.text((x, y - 24), f"{label}  ({picture.width}x{picture.height})", fill="black", font=font)
            sheet.paste(picture, (x, y))
            x += picture.width + gap
        top += height
    return sheet


def shown(path: Path) -> str:
    """The path from the project's folder, if it is in there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where to write (default: demo-out)")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    anyio.run(demo, out)


if __name__ == "__main__":
    main()
