"""Lets a real engine extend a photograph, and checks sizes and pixels; see scripts/try-engine.

Nothing is played here: the provider is the program's own, and the engine is whatever answers at the address.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import anyio
import numpy as np
from PIL import Image

from outpaint_mcp import Settings, open_service
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.providers import SelfHosted, provider_classes
from outpaint_mcp.tasks.service import Service

ROOT = Path(__file__).resolve().parent.parent

PHOTOGRAPH = ROOT / "examples" / "meadow.jpg"
# An odd size, so that nothing fits an engine's grid.
SIZE = (513, 385)
LONGEST_WAIT = 45.0
ENGINES = [name for name, one in provider_classes().items() if issubclass(one, SelfHosted)]


async def tried(name: str, out: Path, prompt: str | None) -> list[str]:
    """What is wrong with what the engine at the address in the environment made of three orders."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="outpaint-engine-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "photograph.png"
        with Image.open(PHOTOGRAPH) as photograph:
            own = photograph.convert("RGB").resize(SIZE)
        own.save(path)
        asked = {"image": str(path), "provider": name, "prompt": prompt}
        orders = {
            "left": OutpaintRequest(**asked, zoom=1.3, sides=("left",)),
            "wide": OutpaintRequest(**asked, zoom=1.0, aspect_ratio=AspectRatio(16, 9)),
            "again": OutpaintRequest(**asked, zoom=1.3, sides=("left",), repeat=True),
        }
        drawn: dict[str, Image.Image] = {}
        settings = Settings(data_dir=Path(folder) / "data", file_roots=(Path(folder),))
        async with open_service(settings) as service:
            for what, order in orders.items():
                began = time.perf_counter()
                try:
                    task = await finished(service, order)
                except OutpaintError as error:
                    return [*wrong, f"{what}: {error}"]
                if task.status is not Status.SUCCEEDED:
                    return [*wrong, f"{what}: {task.status}: {task.failure and task.failure.message}"]
                data, _ = await service.image(task.id, 1)
                image = drawn[what] = Image.open(io.BytesIO(data)).convert("RGB")
                image.save(out / f"{name}-{what}.png")
                seconds = time.perf_counter() - began
                print(f"{what}: {image.width}x{image.height} in {seconds:.1f} s, in {out / f'{name}-{what}.png'}")
                for note in task.notes:
                    print(f"  {note}")
        for what, order in orders.items():
            image = drawn[what]
            frame = Frame.around(*SIZE, zoom=order.zoom, aspect_ratio=order.aspect_ratio, sides=order.sides)
            if image.size != (frame.canvas_width, frame.canvas_height):
                wrong.append(f"{what}: it is not {frame.canvas_width}x{frame.canvas_height} as ordered")
            box = (frame.x, frame.y, frame.x + frame.width, frame.y + frame.height)
            if image.crop(box).tobytes() != own.tobytes():
                wrong.append(f"{what}: the photograph's pixels are not what they were")
            if np.asarray(image.crop((0, 0, frame.x, image.height))).std() < 1:
                wrong.append(f"{what}: nothing was drawn on the left")
        if drawn["left"].tobytes() == drawn["again"].tobytes():
            print("Ordered again, it drew the same: an engine without a seed.")
    return wrong


async def finished(service: Service, request: OutpaintRequest) -> Task:
    """Place an order and follow it to its end."""
    task = await service.outpaint(request)
    while not task.status.ends_a_wait:
        task = await service.get_task(task.id, wait_seconds=LONGEST_WAIT)
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("url", help="its address, such as http://127.0.0.1:8080")
    parser.add_argument("--prompt", help="what the new area shows; erase models take none")
    parser.add_argument("--out", type=Path, default=ROOT / "engine-out", help="where to write (default: engine-out)")
    options = parser.parse_args()
    os.environ[f"{options.engine.upper()}_BASE_URL"] = options.url
    options.out.mkdir(parents=True, exist_ok=True)
    wrong = anyio.run(tried, options.engine, options.out, options.prompt)
    for one in wrong:
        print(f"WRONG {one}", file=sys.stderr)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
