"""Canvases for engines that are drawn in no time: grey where the local engine would fill them."""

import io
from pathlib import Path

from PIL import Image

from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.providers.canvases import Canvases, DrawnCanvas
from outpaint_mcp.providers.local.first_fill import mask_of
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.workers import Workers


class PlainCanvases(Canvases):
    def __init__(self) -> None:
        super().__init__(Path("nowhere"), Workers())

    async def draw(self, order: Order, working: WorkingCanvas, *, mask_in_alpha: bool = False) -> DrawnCanvas:
        assert isinstance(order.source, InputImage)
        assert order.frame is not None
        frame = working.placed(order.frame)
        picture = Image.new("RGB", (frame.canvas_width, frame.canvas_height), (128, 128, 128))
        with Image.open(order.source.path) as own:
            picture.paste(own.convert("RGB").resize((frame.width, frame.height)), (frame.x, frame.y))
        mask = Image.fromarray(mask_of((frame.width, frame.height), Canvas.of(frame)))
        if mask_in_alpha:
            picture.putalpha(mask.point(lambda level: 255 - level))
        return DrawnCanvas(_png(picture), _png(mask.convert("RGB") if mask_in_alpha else mask))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
