"""The Midjourney parameters that Vtrix and Legnext pass on alike: outpaint, diffusion, and upload-paint.

Upload-paint extends the client's own image, which it places on a larger canvas.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import GRID_SEEDS, ImageSpec, Placed
from outpaint_mcp.sandbox.vendors.bodies import Body, HttpUrl, Text

# The documentation limits the mask's areas but not the canvas, so any side from one pixel is accepted.
Side = Annotated[int, Field(ge=1)]
MaskSide = Annotated[int, Field(ge=500, le=4096)]


class Outpaint(Body):
    jobId: str = Field(min_length=1)
    imageNo: int = Field(ge=0, le=3)
    scale: float = Field(ge=1.1, le=2.0)
    remixPrompt: Text = ""
    callback: HttpUrl = ""


class Diffusion(Body):
    text: Text
    callback: HttpUrl = ""


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
    def _image_lies_on_the_canvas(self) -> Self:
        # The documentation does not forbid an image that overlaps the canvas's edge, but no outpaint needs one.
        at, on = self.imgPos, self.canvas
        if at.x < 0 or at.y < 0 or at.x + at.width > on.width or at.y + at.height > on.height:
            raise ValueError("imgPos lies outside of the canvas")
        return self


def four_upload_paints(params: UploadPaint, source: ImageSpec) -> list[ImageSpec]:
    """The four variants that an upload-paint of `source` gives."""
    at = params.imgPos
    frame = Frame(params.canvas.width, params.canvas.height, at.x, at.y, at.width, at.height)
    return [Placed.of(source, frame, seed) for seed in GRID_SEEDS]
