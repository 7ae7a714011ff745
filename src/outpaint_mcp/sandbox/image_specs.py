"""The images of the sandbox by how they are made: two that are made alike are the same image.

So an order draws nothing until its image is requested, and five hundred equal orders are drawn once.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Self

from outpaint_mcp.domain.frame import Frame

GRID_SEEDS = (0, 1, 2, 3)


def _key(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image by how it is made; equal keys are equal images."""

    key: str


@dataclass(frozen=True, slots=True)
class Scene(ImageSpec):
    """A small drawn landscape, 256 x 256 pixels, another one for every seed."""

    seed: int = field(compare=False)

    @classmethod
    def of(cls, seed: int) -> Self:
        return cls(_key("scene", seed), seed)


@dataclass(frozen=True, slots=True)
class Upload(ImageSpec):
    """Bytes that a client sent. They cannot be drawn again once the image store has dropped them."""

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(_key("upload", hashlib.sha256(data).hexdigest()))


@dataclass(frozen=True, slots=True)
class Extended(ImageSpec):
    """`parent` outpainted: `zoom` times wider and taller, then as much more as `ratio` needs; variant `seed`."""

    parent: ImageSpec = field(compare=False)
    zoom: float = field(compare=False)
    ratio: tuple[int, int] | None = field(compare=False)
    seed: int = field(compare=False)

    @classmethod
    def of(cls, parent: ImageSpec, zoom: float, ratio: tuple[int, int] | None = None, seed: int = 0) -> Self:
        zoom = float(zoom)
        if ratio is not None:
            ratio = Fraction(*ratio).as_integer_ratio()
        return cls(_key("extended", parent.key, zoom, ratio, seed), parent, zoom, ratio, seed)


def scaled_frame(frame: Frame, factor: float) -> Frame:
    """The same frame with `factor` (at most 1.0) times the pixels on each side, the original still inside."""
    if factor == 1.0:
        return frame
    canvas_width, canvas_height = scaled(frame.canvas_width, factor), scaled(frame.canvas_height, factor)
    width, height = min(canvas_width, scaled(frame.width, factor)), min(canvas_height, scaled(frame.height, factor))
    x, y = min(round(frame.x * factor), canvas_width - width), min(round(frame.y * factor), canvas_height - height)
    return Frame(canvas_width, canvas_height, x, y, width, height)


@dataclass(frozen=True, slots=True)
class Placed(ImageSpec):
    """`parent` resized and laid on a canvas as `frame` says, the rest painted; variant `seed`."""

    parent: ImageSpec = field(compare=False)
    frame: Frame = field(compare=False)
    seed: int = field(compare=False)

    @classmethod
    def of(cls, parent: ImageSpec, frame: Frame, seed: int = 0) -> Self:
        return cls(_key("placed", parent.key, frame, seed), parent, frame, seed)


@dataclass(frozen=True, slots=True)
class Enlarged(ImageSpec):
    """`parent` with `factor` times the pixels on each side."""

    parent: ImageSpec = field(compare=False)
    factor: float = field(compare=False)

    @classmethod
    def of(cls, parent: ImageSpec, factor: float) -> Self:
        return cls(_key("enlarged", parent.key, factor), parent, factor)


@dataclass(frozen=True, slots=True)
class Grid(ImageSpec):
    """Four images of one size in one: top left, top right, bottom left, bottom right."""

    four: tuple[ImageSpec, ...] = field(compare=False)

    @classmethod
    def of(cls, four: tuple[ImageSpec, ...]) -> Self:
        return cls(_key("grid", *(image.key for image in four)), four)


def scaled(side: int, factor: float) -> int:
    """`side` times `factor` in whole pixels, at least 1."""
    return max(1, round(side * factor))


def four_outpaints(parent: ImageSpec, zoom: float, ratio: tuple[int, int] | None = None) -> list[ImageSpec]:
    """The four variants that one outpaint of `parent` gives; `ratio` is (width, height)."""
    return [Extended.of(parent, zoom, ratio, seed) for seed in GRID_SEEDS]


def four_new_scenes() -> list[ImageSpec]:
    """The four images that a text prompt gives: scenes by chance, none of them a seeded task's."""
    return [Scene.of(100 + secrets.randbelow(1000)) for _ in GRID_SEEDS]
