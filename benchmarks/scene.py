"""What the benchmark's pictures are drawn with: scenes that reach half as far again as the original in their middle.

Coordinates are the original's pixels: (0, 0) is its top left corner.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Colour = str | tuple[int, int, int]

WIDTH, HEIGHT = 512, 384  # of the original
LEFT, TOP = WIDTH // 4, HEIGHT // 4  # how far the scene reaches beyond it, on every side
FINE = 3  # the scene's pixels per pixel
PROSE = (
    "the harbour wall was built of local stone in the year before last and now carries a lamp at each end so that "
    "boats find their way when fog comes in from the north while children count the gulls on its steps"
)
WORDS = PROSE.split()


@dataclass
class Scene:
    """A scene to draw on, at a third of the size of a pixel."""

    background: Colour = "white"
    image: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        size = (WIDTH + 2 * LEFT) * FINE, (HEIGHT + 2 * TOP) * FINE
        self.image = Image.new("RGB", size, self.background)
        self.draw = ImageDraw.Draw(self.image)

    @staticmethod
    def _fine(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [((x + LEFT) * FINE, (y + TOP) * FINE) for x, y in points]

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, radius: float = 0) -> None:
        (x0, y0), (x1, y1) = self._fine((left, top), (right, bottom))
        self.draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius * FINE, fill)

    def disc(
        self, x: float, y: float, radius: float, fill: Colour | None, outline: Colour = "black", line: int = 0
    ) -> None:
        corners = self._fine((x - radius, y - radius), (x + radius, y + radius))
        self.draw.ellipse(corners, fill, outline if line else None, line * FINE)

    def area(self, fill: Colour, *points: tuple[float, float]) -> None:
        self.draw.polygon(self._fine(*points), fill)

    def line(self, fill: Colour, thickness: float, *points: tuple[float, float]) -> None:
        self.draw.line(self._fine(*points), fill, round(thickness * FINE), joint="curve")

    def text(self, x: float, y: float, words: str, fill: Colour = "black", size: float = 12) -> None:
        self.draw.text(self._fine((x, y))[0], words, fill, ImageFont.load_default(size * FINE))

    def prose(
        self, left: float, right: float, top: float, bottom: float, size: float, fill: Colour, at: int = 0
    ) -> None:
        """Running text, which begins with the word `at`."""
        font, y = ImageFont.load_default(size), top
        while y < bottom:
            line = ""
            while font.getlength(line + " " + WORDS[at % len(WORDS)]) < right - left:
                line, at = f"{line} {WORDS[at % len(WORDS)]}", at + 1
            self.text(left, y, line.strip(), fill, size)
            y += size * 1.5

    def pixels(self) -> Pixels:
        return np.asarray(self.image.reduce(FINE))


def grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each pixel's x and y."""
    rows, columns = np.mgrid[-TOP : HEIGHT + TOP, -LEFT : WIDTH + LEFT]
    return columns.astype(float), rows.astype(float)


def blend(part: NDArray[np.float64], one: tuple[int, ...], other: tuple[int, ...]) -> NDArray[np.float64]:
    part = part.clip(0, 1)[..., None]
    return np.array(one) * (1 - part) + np.array(other) * part


def rounded(values: NDArray[np.float64], grain: float = 0.0) -> Pixels:
    noise = np.random.default_rng(5).normal(0, grain, values.shape) if grain else 0
    return (values + noise + 0.5).clip(0, 255).astype(np.uint8)
