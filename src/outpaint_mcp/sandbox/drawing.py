"""Draws, resizes and measures image files. Everything here blocks, so it is called in worker threads."""

from pathlib import Path

import numpy as np
from PIL import Image

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.images.decode import measure, open_image

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    _, width, height = measure(path)
    return width, height


def fit(source: Path, width: int, height: int, target: Path) -> None:
    """Writes `source` as a PNG of `width` x `height` pixels to `target`."""
    image = open_image(source)
    if image.size != (width, height) or image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB").resize((width, height))
    _save(image, target)


def draw_plain(source: Path, frame: Frame, seed: int, target: Path) -> None:
    """Writes the frame's canvas in one colour, another one for every seed, with `source` at its place."""
    canvas = Image.new("RGB", (frame.canvas_width, frame.canvas_height), (40 * (seed + 1), 90, 160))
    with Image.open(source) as inner:
        canvas.paste(inner.convert("RGB"), (frame.x, frame.y))
    _save(canvas, target)


def draw_grid(parts: list[Path], target: Path) -> None:
    """Writes the four images of `parts`, all of the first one's size, as one: two by two, in reading order."""
    images = []
    for part in parts:
        with Image.open(part) as opened:
            images.append(opened.convert("RGB"))
    width, height = images[0].size
    grid = Image.new("RGB", (2 * width, 2 * height))
    for number, image in enumerate(images):
        grid.paste(image, ((number % 2) * width, (number // 2) * height))
    _save(grid, target)


def draw_scene(seed: int, target: Path) -> None:
    """Writes a landscape of 256 x 256 pixels: sky, a sun, three ranges of hills, and water that mirrors them.

    Light, place and shapes vary with the seed.
    """
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
    _save(Image.fromarray(np.clip(land, 0, 255).astype(np.uint8)), target)


def _save(image: Image.Image, target: Path) -> None:
    """Writes a PNG. The noise of a scene compresses no better at the higher levels, which take five times as long."""
    image.save(target, compress_level=1)
