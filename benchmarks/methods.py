"""The ways to extend a picture that are compared, each run in a process of its own.

`run` starts this file once for each method; it loads the method's libraries and forks for every picture, so that the
seconds are of the work alone, and the peak of memory is of one picture (the interpreter and the libraries included).
The engine of another revision is this file with that revision's source on PYTHONPATH.
"""

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.providers.local.plan import Canvas

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Canvas], Pixels]
PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Job:
    source: Path
    canvas: Canvas
    target: Path


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float
    megabytes: float
    """The peak of the process."""


# Methods. Each is made in its process, which holds only its own libraries.


def engine(quality: str) -> Method:
    from outpaint_mcp.providers.local.corners import fill_corners
    from outpaint_mcp.providers.local.engine import extend

    def draw(pixels: Pixels, canvas: Canvas) -> Pixels:
        pixels, _ = fill_corners(pixels, canvas)
        drawn: Any = extend(pixels, canvas, quality=quality, seed=0, progress=lambda _part: None)  # type: ignore[arg-type]
        return np.asarray(getattr(drawn, "pixels", drawn))

    return draw


def opencv(flag: str) -> Method:
    import cv2

    cv2.setNumThreads(1)

    def draw(pixels: Pixels, canvas: Canvas) -> Pixels:
        framed, hole = _framed(pixels, canvas)
        drawn = cv2.inpaint(np.ascontiguousarray(framed[..., :3]), hole, 3, getattr(cv2, flag))
        if framed.shape[2] == 4:
            alpha = cv2.inpaint(np.ascontiguousarray(framed[..., 3]), hole, 3, getattr(cv2, flag))
            return np.dstack([drawn, alpha])
        return drawn.astype(np.uint8)

    return draw


def patchmatch() -> Method:
    from patchmatch import patch_match

    def draw(pixels: Pixels, canvas: Canvas) -> Pixels:
        framed, hole = _framed(pixels, canvas)
        patch_match.set_random_seed(0)
        # It knows no alpha.
        drawn = np.asarray(patch_match.inpaint(_on_white(framed), hole, patch_size=7))
        return drawn if framed.shape[2] == 3 else np.dstack([drawn, np.full(hole.shape, 255, np.uint8)])

    return draw


def mirror(pixels: Pixels, canvas: Canvas) -> Pixels:
    below, beyond = canvas.height - canvas.y - pixels.shape[0], canvas.width - canvas.x - pixels.shape[1]
    return np.pad(pixels, ((canvas.y, below), (canvas.x, beyond), (0, 0)), mode="reflect")


def _framed(pixels: Pixels, canvas: Canvas) -> tuple[Pixels, Pixels]:
    """The original on the canvas, and 255 where there is nothing."""
    framed = np.zeros((canvas.height, canvas.width, pixels.shape[2]), np.uint8)
    hole = np.full(framed.shape[:2], 255, np.uint8)
    inside = slice(canvas.y, canvas.y + pixels.shape[0]), slice(canvas.x, canvas.x + pixels.shape[1])
    framed[inside], hole[inside] = pixels, 0
    return framed, hole


def _on_white(pixels: Pixels) -> Pixels:
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


METHODS: dict[str, Callable[[], Method]] = {
    "now": lambda: engine("balanced"),
    "now, fast": lambda: engine("fast"),
    "now, best": lambda: engine("best"),
    "before": lambda: engine("balanced"),
    "mirror": lambda: mirror,
    "PyPatchMatch": patchmatch,
    "OpenCV Telea": lambda: opencv("INPAINT_TELEA"),
    "OpenCV Navier-Stokes": lambda: opencv("INPAINT_NS"),
}
NEEDS = {"PyPatchMatch": "patchmatch", "OpenCV Telea": "cv2", "OpenCV Navier-Stokes": "cv2"}
"""The module that a method imports."""


def is_installed(name: str) -> bool:
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


# Processes


def run(name: str, jobs: Iterable[Job], source: Path = PROJECT / "src") -> Iterator[tuple[Job, Run]]:
    """Do the jobs one after the other. `source` is the folder that holds the package outpaint_mcp."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, __file__, name]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for job in jobs:
            print(json.dumps(asdict(job), default=str), file=child.stdin, flush=True)
            answer = json.loads(child.stdout.readline() or "null")
            if answer is None:
                raise RuntimeError(f"{name} failed at {job.source}")
            yield job, Run(**answer)


def serve(name: str) -> None:
    method = METHODS[name]()
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if process:
            _, status = os.waitpid(process, 0)
            if status:
                sys.exit(f"{name} failed")
            continue
        pixels = np.asarray(Image.open(order["source"]))
        canvas = Canvas(**order["canvas"])
        start = time.perf_counter()
        drawn = method(pixels, canvas)
        seconds = time.perf_counter() - start
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        Image.fromarray(drawn).save(order["target"], compress_level=1)
        print(json.dumps({"seconds": seconds, "megabytes": megabytes}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
