"""Contact sheets: a row for each picture, a column for each method, to be scored by eye."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from methods import Pixels
from PIL import Image, ImageDraw, ImageFont

from outpaint_mcp.providers.local.plan import Canvas

GAP = 6
LABEL = 18
BACKGROUND = (236, 236, 236)


def framed(pixels: Pixels, canvas: Canvas) -> Image.Image:
    """The original where it lies on the canvas, which is shown hatched."""
    rows, columns = np.mgrid[: canvas.height, : canvas.width]
    hatched = np.where(((rows + columns) // 8 % 2)[..., None], 214, 236).astype(np.uint8).repeat(3, -1)
    image = Image.fromarray(hatched)
    image.paste(_opaque(Image.fromarray(pixels)), (canvas.x, canvas.y))
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """Transparent parts on a checkerboard."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    rows, columns = np.mgrid[: image.height, : image.width]
    squares = np.where(((rows // 16 + columns // 16) % 2)[..., None], 170, 220).astype(np.uint8).repeat(3, -1)
    board = Image.fromarray(squares)
    board.paste(image, mask=image.getchannel("A"))
    return board


def sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image]]], cell: int) -> Image.Image:
    """`rows`: a picture's name and its images, in the order of `columns`. `cell` is the width of an image in pixels."""
    sized = [[_fit(image, cell) for image in images] for _, images in rows]
    heights = [max(image.height for image in images) for images in sized]
    width = len(columns) * (cell + GAP) + GAP
    page = Image.new("RGB", (width, LABEL + sum(h + LABEL + GAP for h in heights) + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for index, column in enumerate(columns):
        draw.text((GAP + index * (cell + GAP), 2), column, "black", font)
    y = LABEL
    for (name, _), images, height in zip(rows, sized, heights, strict=True):
        draw.text((GAP, y + 1), name, (90, 90, 90), font)
        for index, image in enumerate(images):
            page.paste(image, (GAP + index * (cell + GAP), y + LABEL))
        y += height + LABEL + GAP
    return page


def _fit(image: Image.Image, cell: int) -> Image.Image:
    image = _opaque(image)
    scale = min(cell / image.width, cell / image.height)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def save(page: Image.Image, path: Path, most_bytes: int) -> None:
    """As a JPEG of about that many bytes at most: first of a lower quality, then smaller."""
    for scale, quality in ((1, 86), (1, 78), (1, 70), (0.85, 70), (0.85, 62), (0.7, 62), (0.7, 54)):
        size = round(page.width * scale), round(page.height * scale)
        page.resize(size, Image.Resampling.LANCZOS).save(path, quality=quality, optimize=True)
        if path.stat().st_size <= most_bytes:
            return
