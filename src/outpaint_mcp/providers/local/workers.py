"""Runs drawing jobs in processes of their own, as many at a time as there are cores; the rest wait in line.

A process per job, not a pool: it can be killed at any moment without harm to another, and gives all its memory back.
Knows nothing of pixels (it must not import NumPy or Pillow: the server lives in this process) or of tasks.
"""

import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final, Literal

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.providers.local.plan import Canvas

_COMMAND: Final = (sys.executable, "-P", "-m", "outpaint_mcp.providers.local.worker")
_LONGEST_LINE: Final = 65_536


class DrawError(Exception):
    """A worker could not draw, for no fault of the picture: `message` says why in one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class DrawJob:
    """Extend the picture at `source` to `canvas` once for each of `seeds` (0 or above), into files under `out_dir`."""

    source: Path
    canvas: Canvas
    quality: Literal["fast", "balanced", "best"]
    seeds: tuple[int, ...]
    out_dir: Path
    image_format: Literal["png", "jpeg", "webp"] = "png"


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A finished picture: its file, named by its content's SHA-256, its size in pixels, and the seed it came from."""

    path: Path
    mime_type: str
    width: int
    height: int
    seed: int


def seed_of(data: bytes) -> int:
    """The seed for a picture that was ordered without one: the same bytes give the same seed, in 0 to 2**32 - 1."""
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


class Workers:
    """At most `limit` worker processes at a time (default: one per core that this process may use).

    They inherit `environment`, or this process's if it is None.
    """

    def __init__(self, limit: int | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._slots = anyio.CapacityLimiter(limit or _cores())
        self._environment = environment

    async def draw(
        self, job: DrawJob, on_progress: Callable[[float], None], on_start: Callable[[], None] | None = None
    ) -> tuple[DrawnImage, ...]:
        """Draw all of `job`, one image per seed in their order. Cancelling kills the worker.

        `on_start` is called when the job's turn has come, `on_progress` with rising numbers up to 1 over all images.

        Raises:
            InvalidImageError: the source cannot be decoded, or is too large to extend.
            DrawError: the worker failed or was killed.
        """
        async with self._slots:
            if on_start is not None:
                on_start()
            return await self._run(job, on_progress)

    async def _run(self, job: DrawJob, on_progress: Callable[[float], None]) -> tuple[DrawnImage, ...]:
        try:
            process = await anyio.open_process(_COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=self._environment)
        except OSError as error:
            raise DrawError(f"No worker process can be started ({error.strerror or error}).") from error
        try:
            return await _converse(process, job, on_progress)
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.aclose()


async def _converse(process: Process, job: DrawJob, on_progress: Callable[[float], None]) -> tuple[DrawnImage, ...]:
    assert process.stdin is not None  # noqa: S101 - opened with pipes
    order = asdict(job) | {"source": str(job.source), "out_dir": str(job.out_dir)}
    images: list[DrawnImage] = []
    try:
        await process.stdin.send(json.dumps(order).encode() + b"\n")
        async for message in _messages(process):
            if "progress" in message:
                on_progress(message["progress"])
            elif "image" in message:
                images.append(DrawnImage(**message["image"] | {"path": Path(message["image"]["path"])}))
            elif "error" in message:
                raise _error_of(message["error"])
            elif "done" in message:
                return tuple(images)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # it died while we wrote; how, is asked below
    await process.wait()
    raise DrawError(_how_it_ended(process.returncode))


async def _messages(process: Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stdout is not None  # noqa: S101 - opened with pipes
    lines = BufferedByteReceiveStream(process.stdout)
    while True:
        try:
            line = await lines.receive_until(b"\n", _LONGEST_LINE)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return
        yield json.loads(line)


def _error_of(error: dict[str, str]) -> Exception:
    if error["code"] == InvalidImageError.code:
        return InvalidImageError(error["message"], error.get("advice"))
    return DrawError(error["message"])


def _how_it_ended(return_code: int | None) -> str:
    if return_code is not None and return_code < 0:
        return f"The worker process was killed (signal {-return_code}), perhaps for lack of memory."
    return f"The worker process ended early (exit code {return_code})."


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
