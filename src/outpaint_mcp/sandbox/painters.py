"""What fills the canvas around an image: the local engine, or one colour for tests."""

from pathlib import Path
from typing import Protocol

from anyio import to_thread

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.workers import DrawJob, Workers
from outpaint_mcp.sandbox.drawing import draw_plain


class Painter(Protocol):
    """Fills the canvas around an image."""

    async def paint(self, source: Path, frame: Frame, seed: int, out_dir: Path) -> Path:
        """Paints around `source`, whose size is the frame's, and returns the PNG file written under `out_dir`."""
        ...


class EnginePainter:
    """The local engine, at its fastest."""

    def __init__(self) -> None:
        self._workers: Workers | None = None

    async def paint(self, source: Path, frame: Frame, seed: int, out_dir: Path) -> Path:
        if self._workers is None:
            self._workers = Workers()
        canvas = Canvas.of(frame)
        job = DrawJob(source=source, canvas=canvas, quality="fast", seeds=(seed,), out_dir=out_dir, image_format="png")
        (image,) = await self._workers.draw(job, lambda _: None)
        return image.path


class PlainPainter:
    """Fills the canvas with one colour: for tests to which the drawing does not matter."""

    async def paint(self, source: Path, frame: Frame, seed: int, out_dir: Path) -> Path:
        target = out_dir / "plain.png"
        await to_thread.run_sync(draw_plain, source, frame, seed, target)
        return target


def centred_frame(width: int, height: int, zoom: float, ratio: tuple[int, int] | None) -> Frame:
    """The frame of an outpaint of a `width` x `height` image, which lies in the middle of the canvas.

    `zoom` is at least 1; `ratio` is the canvas's (width, height), None where it stays the image's.
    """
    return Frame.around(width, height, zoom=zoom, aspect_ratio=None if ratio is None else AspectRatio(*ratio))
