"""Runs drawing jobs in processes of their own, about as many at a time as there are cores; clients take turns at them.

Each job has a new process: it can be killed at any moment without harm to another, and gives all its memory back.
Must not import NumPy or Pillow: the server lives in this process.
"""

import hashlib
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.domain.request import Side
from outpaint_mcp.domain.task import Confidence
from outpaint_mcp.images.child_processes import ChildEndedError, ChildProcesses, usable_cores
from outpaint_mcp.images.fair_queue import FairQueue, Place
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import MAX_DECODE_SECONDS, Canvas

LAST_NICENESS: Final = 19
_TOO_SLOW: Final = -getattr(signal, "SIGXCPU", 0)
_RESAVE: Final = "Give a smaller one, or save it anew as an ordinary JPEG or PNG."
_COMMAND: Final = (sys.executable, "-P", "-m", "outpaint_mcp.providers.local.worker")


@dataclass(frozen=True, slots=True)
class DrawJob:
    """Extend the image at `source` to `canvas` once for each of `seeds` (0 or above), into files under `out_dir`.

    The image is scaled to `size` (width and height in pixels) before; None keeps its own. With `masked` it is drawn for
    another engine to go on with: opaque, and with a mask of what is new ``beside`` it, or ``within`` it too, as alpha.
    """

    source: Path
    canvas: Canvas
    quality: Literal["fast", "balanced", "best"]
    seeds: tuple[int, ...]
    out_dir: Path
    image_format: Literal["png", "jpeg", "webp"] = "png"
    size: tuple[int, int] | None = None
    masked: Literal["", "beside", "within"] = ""


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A finished image: its file, named by its content's SHA-256, its size in pixels, its seed, and how far each side
    of its new area can be trusted, if anything was drawn there; and the file of its mask, if one was asked for."""

    path: Path
    mime_type: str
    width: int
    height: int
    seed: int
    confidence: dict[Side, Confidence] | None = None
    mask: Path | None = None


def seed_of(data: bytes) -> int:
    """The seed of an image that was ordered without one: the same bytes give the same seed, in 0 to 2**32 - 1."""
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


class Workers:
    """The worker processes.

    Args:
        limit: how many draw at the same time; by default one per core that this process may use.
        shared: whether clients share them: there are two at least then, and none gets the last one of them.
        max_waiting: how many jobs of one client may wait; by default any number.
        environment: the processes'; None is this process's own.
        inpaint_model: the user's own model, which paints in place of the engine.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        shared: bool = False,
        max_waiting: int | None = None,
        environment: Mapping[str, str] | None = None,
        inpaint_model: Path | None = None,
    ) -> None:
        self._model = None if inpaint_model is None else str(inpaint_model)
        self._shared = shared
        limit = max(limit or usable_cores(), 2 if shared else 1)
        self.queue = FairQueue(limit, share=limit - shared, max_waiting=max_waiting, what="drawings")
        self._processes = ChildProcesses(_COMMAND, queue=self.queue, environment=environment)

    async def draw(
        self,
        job: DrawJob,
        on_progress: Callable[[float], None],
        on_start: Callable[[], None] | None = None,
        *,
        place: Place | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> tuple[DrawnImage, ...]:
        """Draw all of `job`, one image per seed in their order. Cancelling kills the worker.

        `on_start` is called when the job's turn has come, `on_progress` with rising numbers up to 1 over all images.
        `place` is the job's in `queue`. `on_note` hears what the client should know.

        Raises:
            InvalidImageError: the source cannot be decoded, or is too large to extend.
            DrawError: the worker failed or was killed.
        """
        images: list[DrawnImage] = []

        def on_message(message: dict[str, Any]) -> None:
            if "progress" in message:
                on_progress(message["progress"])
            elif "note" in message and on_note is not None:
                on_note(message["note"])
            elif "image" in message:
                drawn = message["image"]
                paths = {name: Path(drawn[name]) for name in ("path", "mask") if drawn.get(name)}
                images.append(DrawnImage(**drawn | paths))

        order = asdict(job) | {"source": str(job.source), "out_dir": str(job.out_dir), "model": self._model}
        if self._shared and place is not None and not place.is_only_one:
            # Whoever has one image drawn does not share the processor evenly with whoever has a hundred.
            order["niceness"] = LAST_NICENESS
        try:
            last = await self._processes.run(order, on_message, on_start, place=place)
        except ChildEndedError as error:
            if error.exit_code and error.exit_code == _TOO_SLOW:
                message = f"The image takes longer than {MAX_DECODE_SECONDS} s to decode."
                raise InvalidImageError(message, _RESAVE) from None
            raise DrawError(_how_it_ended(error.exit_code)) from None
        except OSError as error:
            raise DrawError(f"No worker process can be started ({error.strerror or error}).") from error
        if "error" in last:
            raise _error_of(last["error"])
        return tuple(images)


def _error_of(error: dict[str, str]) -> Exception:
    if error["code"] == InvalidImageError.code:
        return InvalidImageError(error["message"], error.get("advice"))
    return DrawError(error["message"])


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"The worker process was killed (signal {-exit_code}), perhaps for lack of memory."
    return f"The worker process ended early (exit code {exit_code})."
