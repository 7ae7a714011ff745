"""Draws the images of the sandbox when they are requested, and caches the files.

Knows nothing of vendors and tasks.
"""

import secrets
import shutil
import tempfile
import weakref
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.images.decode import measure
from outpaint_mcp.sandbox.drawing import draw_grid, draw_scene, fit, image_size
from outpaint_mcp.sandbox.image_specs import (
    Enlarged,
    Extended,
    Grid,
    ImageSpec,
    Placed,
    Scene,
    Upload,
    scaled,
    scaled_frame,
)
from outpaint_mcp.sandbox.painters import EnginePainter, Painter, centred_frame


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An upload in the store: its image, type and size (pixels, bytes)."""

    image: Upload
    mime_type: str
    width: int
    height: int
    byte_size: int


class ImageGoneError(Exception):
    """An upload was dropped from the store, so the image cannot be drawn any more."""


class ImageStore:
    """Draws images into a temporary folder and caches the newest; PNG, except uploads, which stay as they came.

    `max_side` is in pixels; `max_files` counts drawn images and uploads together.
    """

    def __init__(self, painter: Painter | None, *, max_side: int, max_files: int) -> None:
        self._painter = painter or EnginePainter()
        self._max_side = max_side
        self._max_files = max_files
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._uploads: dict[str, str] = {}
        self._being_drawn: dict[str, anyio.Event] = {}
        self._folder: Path | None = None
        self.drawn = 0
        """How many images were drawn so far."""

    def close(self) -> None:
        """Deletes the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._files.clear()

    async def store(self, data: bytes) -> StoredUpload:
        """Stores an uploaded image.

        Raises:
            InvalidImageError: `data` is no image, or not a whole one.
        """
        mime_type, width, height = await to_thread.run_sync(measure, data)
        image = Upload.of(data)
        path = self._folder_path() / f"{image.key}.upload"
        # Whole at once: the same image may come again while it is being read.
        part = anyio.Path(path.with_suffix(f".{secrets.token_hex(8)}"))
        await part.write_bytes(data)
        await part.replace(path)
        self._uploads[image.key] = mime_type
        self._cache(image, path)
        return StoredUpload(image, mime_type, width, height, len(data))

    async def read(self, image: ImageSpec) -> tuple[bytes, str]:
        """The image's bytes and MIME type.

        Raises:
            ImageGoneError: it depends on an upload that was dropped.
        """
        data = await anyio.Path(await self.file(image)).read_bytes()
        return data, self._uploads.get(image.key, "image/png")

    async def file(self, image: ImageSpec) -> Path:
        """The image's file, drawn now if it is not there. Parallel requests for one image share one drawing.

        Raises:
            ImageGoneError: it depends on an upload that was dropped.
        """
        while True:
            path = self._files.get(image.key)
            if path is not None:
                self._files.move_to_end(image.key)
                return path
            drawing = self._being_drawn.get(image.key)
            if drawing is None:
                break
            await drawing.wait()
        done = self._being_drawn[image.key] = anyio.Event()
        try:
            path = await self._draw(image)
            self.drawn += 1
            self._cache(image, path)
            return path
        finally:
            del self._being_drawn[image.key]
            done.set()

    async def _draw(self, image: ImageSpec) -> Path:
        target = self._folder_path() / f"{image.key}.png"
        match image:
            case Scene(seed=seed):
                await to_thread.run_sync(draw_scene, seed, target)
            case Grid(four=four):
                async with anyio.create_task_group() as group:
                    for part in four:
                        group.start_soon(self._draw_ahead, part)
                parts = [await self.file(part) for part in four]
                await to_thread.run_sync(draw_grid, parts, target)
            case Enlarged(parent=parent, factor=factor):
                source = await self.file(parent)
                width, height = await to_thread.run_sync(image_size, source)
                factor = min(factor, max(1.0, self._max_side / max(width, height)))
                await to_thread.run_sync(fit, source, scaled(width, factor), scaled(height, factor), target)
            case Extended(parent=parent, zoom=zoom, ratio=ratio, seed=seed):
                source = await self.file(parent)
                width, height = await to_thread.run_sync(image_size, source)
                frame = centred_frame(width, height, zoom, ratio)
                shrink = min(1.0, self._max_side / max(frame.canvas_width, frame.canvas_height))
                frame = centred_frame(scaled(width, shrink), scaled(height, shrink), zoom, ratio)
                await self._paint(source, frame, seed, target)
            case Placed(parent=parent, frame=frame, seed=seed):
                source = await self.file(parent)
                shrink = min(1.0, self._max_side / max(frame.canvas_width, frame.canvas_height))
                await self._paint(source, scaled_frame(frame, shrink), seed, target)
            case _:
                raise ImageGoneError(image.key)
        return target

    async def _draw_ahead(self, image: ImageSpec) -> None:
        with suppress(ImageGoneError):  # raised again where the image is needed
            await self.file(image)

    async def _paint(self, source: Path, frame: Frame, seed: int, target: Path) -> None:
        # A folder for this drawing alone: a painter names files by content, and two drawings may have the same.
        work = target.with_suffix(".work")
        work.mkdir()
        try:
            fitted = work / "source.png"
            await to_thread.run_sync(fit, source, frame.width, frame.height, fitted)
            painted = await self._painter.paint(fitted, frame, seed, work)
            painted.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _cache(self, image: ImageSpec, path: Path) -> None:
        self._files[image.key] = path
        self._files.move_to_end(image.key)
        while len(self._files) > self._max_files:
            key, oldest = self._files.popitem(last=False)
            self._uploads.pop(key, None)
            oldest.unlink(missing_ok=True)

    def _folder_path(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="outpaint-sandbox-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
