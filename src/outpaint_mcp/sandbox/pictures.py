"""The pictures that the sandbox serves: what each one is made from, and the shelf that draws them when asked.

A `Picture` says how it comes about (a drawn scene, an outpaint of another picture, an upload), and pictures that come
about the same way are the same picture. So an order costs nothing until somebody opens its image, and five hundred
equal orders are drawn once. Knows nothing of vendors and tasks. Pillow and NumPy are loaded in threads, by need.
"""

import hashlib
import shutil
import tempfile
import weakref
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from outpaint_mcp.providers.local.workers import Workers


def _key(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by how it is made; equal keys are equal pictures."""

    key: str


@dataclass(frozen=True, slots=True)
class Scene(Picture):
    """A small drawn landscape, 256 x 256, another one for every seed."""

    seed: int = field(compare=False)

    @classmethod
    def of(cls, seed: int) -> Self:
        return cls(_key("scene", seed), seed)


@dataclass(frozen=True, slots=True)
class Upload(Picture):
    """Bytes that somebody sent. Once dropped from the shelf they are gone."""


@dataclass(frozen=True, slots=True)
class Extended(Picture):
    """`parent` outpainted: `zoom` times wider and taller, then as much more as `ratio` needs; variant `seed`."""

    parent: Picture = field(compare=False)
    zoom: float = field(compare=False)
    ratio: tuple[int, int] | None = field(compare=False)
    seed: int = field(compare=False)

    @classmethod
    def of(cls, parent: Picture, zoom: float, ratio: tuple[int, int] | None = None, seed: int = 0) -> Self:
        zoom = float(zoom)
        if ratio is not None:
            ratio = Fraction(*ratio).as_integer_ratio()
        return cls(_key("extended", parent.key, zoom, ratio, seed), parent, zoom, ratio, seed)


@dataclass(frozen=True, slots=True)
class Box:
    """A canvas, and where on it a picture lies, in pixels."""

    canvas_width: int
    canvas_height: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placed(Picture):
    """`parent` resized and laid on a canvas as `box` says, the rest painted; variant `seed`."""

    parent: Picture = field(compare=False)
    box: Box = field(compare=False)
    seed: int = field(compare=False)

    @classmethod
    def of(cls, parent: Picture, box: Box, seed: int = 0) -> Self:
        return cls(_key("placed", parent.key, box, seed), parent, box, seed)


@dataclass(frozen=True, slots=True)
class Enlarged(Picture):
    """`parent` with `factor` times the pixels on each side."""

    parent: Picture = field(compare=False)
    factor: float = field(compare=False)

    @classmethod
    def of(cls, parent: Picture, factor: float) -> Self:
        return cls(_key("enlarged", parent.key, factor), parent, factor)


@dataclass(frozen=True, slots=True)
class Sheet(Picture):
    """Four pictures of one size in one: top left, top right, bottom left, bottom right."""

    four: tuple[Picture, ...] = field(compare=False)

    @classmethod
    def of(cls, four: tuple[Picture, ...]) -> Self:
        return cls(_key("sheet", *(picture.key for picture in four)), four)


@dataclass(frozen=True, slots=True)
class Measured:
    """An upload on the shelf: its picture, type and size (pixels, bytes)."""

    picture: Upload
    mime_type: str
    width: int
    height: int
    byte_size: int


class Painter(Protocol):
    """Fills the canvas around a picture."""

    async def paint(self, source: Path, box: Box, seed: int, out_dir: Path) -> Path:
        """Paints around `source`, whose size is the box's, and returns the PNG file written under `out_dir`."""
        ...


class EnginePainter:
    """The local engine, at its fastest."""

    def __init__(self) -> None:
        self._workers: Workers | None = None

    async def paint(self, source: Path, box: Box, seed: int, out_dir: Path) -> Path:
        from outpaint_mcp.providers.local.plan import Canvas
        from outpaint_mcp.providers.local.workers import DrawJob, Workers

        if self._workers is None:
            self._workers = Workers()
        canvas = Canvas(width=box.canvas_width, height=box.canvas_height, x=box.x, y=box.y)
        job = DrawJob(source=source, canvas=canvas, quality="fast", seeds=(seed,), out_dir=out_dir, image_format="png")
        (image,) = await self._workers.draw(job, lambda _: None)
        return image.path


class PlainPainter:
    """Fills the canvas with one colour: for tests to which the drawing does not matter."""

    async def paint(self, source: Path, box: Box, seed: int, out_dir: Path) -> Path:
        target = out_dir / "plain.png"
        await to_thread.run_sync(_draw_plain, source, box, seed, target)
        return target


def enlarge(width: int, height: int, zoom: float, ratio: tuple[int, int] | None) -> Box:
    """The canvas of an outpaint of a `width` x `height` picture, which lies in its middle."""
    from outpaint_mcp.providers.local.plan import plan_canvas

    canvas = plan_canvas(width, height, zoom=zoom, aspect_ratio=ratio)
    return Box(canvas.width, canvas.height, canvas.x, canvas.y, width, height)


class PictureGoneError(Exception):
    """An upload was dropped from the shelf; the picture cannot be drawn any more."""


class Shelf:
    """Draws pictures into a folder of its own and keeps the newest; PNG, except uploads, which stay as they came."""

    def __init__(self, painter: Painter | None, *, max_side: int, max_files: int) -> None:
        self._painter = painter or EnginePainter()
        self._max_side = max_side
        self._max_files = max_files
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._uploads: dict[str, str] = {}
        self._being_drawn: dict[str, anyio.Event] = {}
        self._folder: Path | None = None
        self.drawn = 0
        """How many pictures were drawn so far."""

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._files.clear()

    async def store(self, data: bytes) -> Measured:
        """Keeps `data`, which must be a whole picture.

        Raises:
            InvalidImageError: it is none.
        """
        from outpaint_mcp.images.decode import measure

        info = await to_thread.run_sync(measure, data)
        picture = Upload(_key("upload", hashlib.sha256(data).hexdigest()))
        path = self._room() / f"{picture.key}.upload"
        await anyio.Path(path).write_bytes(data)
        self._uploads[picture.key] = info.mime_type
        self._keep(picture, path)
        return Measured(picture, info.mime_type, info.width, info.height, len(data))

    async def read(self, picture: Picture) -> tuple[bytes, str]:
        """The picture's bytes and MIME type.

        Raises:
            PictureGoneError: it depends on an upload that was dropped.
        """
        data = await anyio.Path(await self.file(picture)).read_bytes()
        return data, self._uploads.get(picture.key, "image/png")

    async def file(self, picture: Picture) -> Path:
        """The picture's file, drawn now if it is not there. Several callers of one picture share one drawing."""
        while True:
            path = self._files.get(picture.key)
            if path is not None:
                self._files.move_to_end(picture.key)
                return path
            busy = self._being_drawn.get(picture.key)
            if busy is None:
                break
            await busy.wait()
        done = self._being_drawn[picture.key] = anyio.Event()
        try:
            path = await self._draw(picture)
            self.drawn += 1
            self._keep(picture, path)
            return path
        finally:
            del self._being_drawn[picture.key]
            done.set()

    async def _draw(self, picture: Picture) -> Path:
        target = self._room() / f"{picture.key}.png"
        match picture:
            case Scene(seed=seed):
                await to_thread.run_sync(_draw_scene, seed, target)
            case Sheet(four=four):
                async with anyio.create_task_group() as group:
                    for part in four:
                        group.start_soon(self._draw_ahead, part)
                parts = [await self.file(part) for part in four]
                await to_thread.run_sync(_draw_sheet, parts, target)
            case Enlarged(parent=parent, factor=factor):
                source = await self.file(parent)
                width, height = await to_thread.run_sync(_size, source)
                factor = min(factor, max(1.0, self._max_side / max(width, height)))
                await to_thread.run_sync(_fit, source, _scaled(width, factor), _scaled(height, factor), target)
            case Extended(parent=parent, zoom=zoom, ratio=ratio, seed=seed):
                source = await self.file(parent)
                width, height = await to_thread.run_sync(_size, source)
                box = enlarge(width, height, zoom, ratio)
                shrink = min(1.0, self._max_side / max(box.canvas_width, box.canvas_height))
                box = enlarge(_scaled(width, shrink), _scaled(height, shrink), zoom, ratio)
                await self._paint(source, box, seed, target)
            case Placed(parent=parent, box=box, seed=seed):
                source = await self.file(parent)
                shrink = min(1.0, self._max_side / max(box.canvas_width, box.canvas_height))
                await self._paint(source, _shrunk(box, shrink), seed, target)
            case _:
                raise PictureGoneError(picture.key)
        return target

    async def _draw_ahead(self, picture: Picture) -> None:
        with suppress(PictureGoneError):  # whoever needs the picture then meets the error by itself
            await self.file(picture)

    async def _paint(self, source: Path, box: Box, seed: int, target: Path) -> None:
        # A folder for this drawing alone: a painter names files by content, and two pictures may share one.
        bench = target.with_suffix(".bench")
        bench.mkdir()
        try:
            fitted = bench / "source.png"
            await to_thread.run_sync(_fit, source, box.width, box.height, fitted)
            painted = await self._painter.paint(fitted, box, seed, bench)
            painted.replace(target)
        finally:
            shutil.rmtree(bench, ignore_errors=True)

    def _keep(self, picture: Picture, path: Path) -> None:
        self._files[picture.key] = path
        self._files.move_to_end(picture.key)
        while len(self._files) > self._max_files:
            key, oldest = self._files.popitem(last=False)
            self._uploads.pop(key, None)
            oldest.unlink(missing_ok=True)

    def _room(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="outpaint-sandbox-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


def _scaled(side: int, factor: float) -> int:
    return max(1, round(side * factor))


def _shrunk(box: Box, factor: float) -> Box:
    if factor == 1.0:
        return box
    width, height = _scaled(box.canvas_width, factor), _scaled(box.canvas_height, factor)
    inner_width, inner_height = min(width, _scaled(box.width, factor)), min(height, _scaled(box.height, factor))
    x, y = round(box.x * factor), round(box.y * factor)
    return Box(width, height, min(x, width - inner_width), min(y, height - inner_height), inner_width, inner_height)


# What follows runs in threads.


def _size(path: Path) -> tuple[int, int]:
    from outpaint_mcp.images.decode import measure

    info = measure(path)
    return info.width, info.height


def _fit(source: Path, width: int, height: int, target: Path) -> None:
    from outpaint_mcp.images.decode import open_image

    image = open_image(source)
    if image.size != (width, height):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB").resize((width, height))
    image.save(target)


def _draw_plain(source: Path, box: Box, seed: int, target: Path) -> None:
    from PIL import Image

    canvas = Image.new("RGB", (box.canvas_width, box.canvas_height), (40 * (seed + 1), 90, 160))
    with Image.open(source) as inner:
        canvas.paste(inner.convert("RGB"), (box.x, box.y))
    canvas.save(target)


def _draw_sheet(parts: list[Path], target: Path) -> None:
    from PIL import Image

    images = []
    for part in parts:
        with Image.open(part) as opened:
            images.append(opened.convert("RGB"))
    width, height = images[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for number, image in enumerate(images):
        sheet.paste(image, ((number % 2) * width, (number // 2) * height))
    sheet.save(target)


def _draw_scene(seed: int, target: Path) -> None:
    """Sky, a sun, three ranges of hills, and water that mirrors them; light, place and shapes vary with the seed."""
    import numpy as np
    from PIL import Image

    size = 256
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    shore = 0.62 + 0.06 * random.random()
    warmth = random.random()
    high = np.array([70.0 + 90 * warmth, 120.0 - 10 * warmth, 200.0 - 40 * warmth])
    low = np.array([225.0 + 20 * warmth, 215.0 - 30 * warmth, 220.0 - 80 * warmth])
    land = high + (low - high) * (y / shore)[..., None] ** 1.3
    sun_x, sun_y = 0.25 + 0.5 * random.random(), 0.2 + 0.2 * random.random()
    from_sun = np.hypot(x - sun_x, y - sun_y)
    glow = np.clip(1.2 * np.exp(-from_sun * 7), 0, 1)[..., None]
    land = land * (1 - 0.5 * glow) + np.array([255.0, 236, 190]) * 0.5 * glow
    land[from_sun < 0.055] = (255, 246, 214)
    for depth in range(3):
        ridge = shore - 0.2 + 0.07 * depth
        for wave in range(1, 6):
            ridge = ridge + 0.06 / wave * np.sin(2 * np.pi * (wave * (0.8 + 0.3 * depth) * x + random.random()))
        near = (depth + 1) / 3
        tone = np.array([120.0 - 70 * near, 140.0 - 50 * near, 150.0 - 95 * near])
        land = np.where((y > ridge)[..., None], tone + 25 * (y - ridge)[..., None], land)
    mirrored = np.clip(np.rint((2 * shore - y) * size + 3 * np.sin(y * 190) * (y - shore) * 8), 0, size - 1).astype(int)
    water = land[mirrored, (x * size).astype(int)] * 0.72 + np.array([8.0, 22, 38])
    land = np.where((y > shore)[..., None], water, land)
    land = land + random.normal(0, 4, (size, size, 1))
    Image.fromarray(np.clip(land, 0, 255).astype(np.uint8)).save(target)
