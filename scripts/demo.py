"""The demonstration: a real MCP client and a real server over stdio; see scripts/demo."""

import argparse
import base64
import os
import sys
import time
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import BlobResourceContents, CallToolResult
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "examples" / "galaxies.jpg"
WANTED = (("zoom", {"zoom": 1.5}), ("wide", {"zoom": 1.0, "aspect_ratio": "16:9"}))


async def demo(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # Its own data folder, so that every run draws anew and nothing of the user's is touched.
    data = out / "data"
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "outpaint_mcp"],
        env={**os.environ, "OUTPAINT_DATA_DIR": str(data), "OUTPAINT_FILE_ROOTS": str(ROOT)},
    )
    print("Starting outpaint-mcp over stdio and connecting with the SDK's client ...")
    async with Client(stdio_client(server)) as client:
        tools = (await client.list_tools()).tools
        print(f"Its tools: {', '.join(tool.name for tool in tools)}\n")
        pictures = [("the photograph", Image.open(PHOTOGRAPH).convert("RGB"))]
        for name, arguments in WANTED:
            print(f"outpaint(image={PHOTOGRAPH.name}, {', '.join(f'{k}={v}' for k, v in arguments.items())})")
            began = time.perf_counter()
            result = await client.call_tool("outpaint", {"image": str(PHOTOGRAPH), "repeat": True, **arguments})
            task = answer(result)
            while task["status"] in ("queued", "running"):
                result = await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 45})
                task = answer(result)
            if task["status"] != "succeeded":
                raise SystemExit(f"The task {task['status']}: {task['failure']}")
            seconds = time.perf_counter() - began
            image = task["images"][0]
            contents = (await client.read_resource(image["resource_uri"])).contents[0]
            assert isinstance(contents, BlobResourceContents)
            path = out / f"{name}.png"
            path.write_bytes(base64.b64decode(contents.blob))
            print(f"  {task['status']} in {seconds:.1f} s: {image['width']}x{image['height']}, read back through")
            print(f"  {image['resource_uri']}\n  written to {shown(path)}\n")
            label = ", ".join(f"{key} {value:g}" if isinstance(value, float) else value for key, value in arguments.items())
            pictures.append((label, Image.open(path).convert("RGB")))
    sheet = out / "before-and-after.png"
    before_and_after(pictures).save(sheet)
    print(f"Before and after: {shown(sheet)}")


def answer(result: CallToolResult) -> dict:
    if result.is_error:
        raise SystemExit(result.content[0].text)
    return result.structured_content


def before_and_after(pictures: list[tuple[str, Image.Image]]) -> Image.Image:
    """The pictures side by side at one scale, each with its label and size."""
    font = ImageFont.load_default(16)
    gap, head = 16, 32
    width = sum(picture.width for _, picture in pictures) + gap * (len(pictures) + 1)
    height = max(picture.height for _, picture in pictures) + head + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    x = gap
    for label, picture in pictures:
        y = head + (height - head - gap - picture.height) // 2
        draw.text((x, y - 24), f"{label}  ({picture.width}x{picture.height})", fill="black", font=font)
        sheet.paste(picture, (x, y))
        x += picture.width + gap
    return sheet


def shown(path: Path) -> str:
    """The path from the project's folder, if it is in there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where to write (default: demo-out)")
    anyio.run(demo, parser.parse_args().out.resolve())


if __name__ == "__main__":
    main()
