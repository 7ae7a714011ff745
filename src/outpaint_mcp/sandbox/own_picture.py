"""The upload-paint operation: one's own picture on a larger canvas. Vtrix and Legnext pass the same parameters on."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from outpaint_mcp.sandbox.pictures import Box, Picture, Placed
from outpaint_mcp.sandbox.vendor import GRID_SEEDS, Body, HttpUrl, Text

# The page bounds the mask's areas and says nothing of the canvas; a side of one pixel is a canvas.
Side = Annotated[int, Field(ge=1)]
MaskSide = Annotated[int, Field(ge=500, le=4096)]


class Canvas(Body):
    width: Side
    height: Side


class Position(Body):
    x: int
    y: int
    width: Side
    height: Side


class Area(Body):
    """A polygon to paint: `points` are x, y, x, y, ... on a plane of `width` x `height`."""

    width: MaskSide
    height: MaskSide
    points: list[float] = Field(min_length=6)

    @model_validator(mode="after")
    def _points_lie_inside(self) -> Self:
        if len(self.points) % 2:
            raise ValueError("points must be pairs of x and y")
        across, down = self.points[::2], self.points[1::2]
        if not (all(0 <= x <= self.width for x in across) and all(0 <= y <= self.height for y in down)):
            raise ValueError("a point lies outside of the area")
        return self


class Mask(Body):
    areas: list[Area] | None = Field(default=None, min_length=1)
    url: HttpUrl | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.areas is None) == (self.url is None):
            raise ValueError("exactly one of areas and url is needed")
        return self


class UploadPaint(Body):
    imgUrl: str = Field(min_length=1, max_length=1024)
    canvas: Canvas
    imgPos: Position
    mask: Mask
    remixPrompt: Text
    callback: HttpUrl = ""

    @model_validator(mode="after")
    def _picture_lies_on_the_canvas(self) -> Self:
        # A picture that sticks out is not ruled out by the page; nothing that places one for an outpaint needs it.
        at, on = self.imgPos, self.canvas
        if at.x < 0 or at.y < 0 or at.x + at.width > on.width or at.y + at.height > on.height:
            raise ValueError("imgPos lies outside of the canvas")
        return self


def painted(asked: UploadPaint, source: Picture) -> list[Picture]:
    """The four results."""
    at = asked.imgPos
    box = Box(asked.canvas.width, asked.canvas.height, at.x, at.y, at.width, at.height)
    return [Placed.of(source, box, seed) for seed in GRID_SEEDS]
