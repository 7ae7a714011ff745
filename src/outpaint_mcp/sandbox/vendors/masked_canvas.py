"""What engines are sent that paint on a finished canvas: a picture, and a mask that is white where to paint."""

import io
from dataclasses import dataclass
from typing import Self

from anyio import to_thread
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import ImageSpec, Placed
from outpaint_mcp.sandbox.vendors.input_images import InputImages

_MIDDLE = 128


class BadMaskError(Exception):
    """The mask is another size than the picture, or leaves nothing of it; the message says which."""


@dataclass(frozen=True, slots=True)
class MaskedCanvas:
    """A picture in RGB or RGBA, and a mask as large in greys."""

    picture: Image.Image
    mask: Image.Image
    file_format: str

    @classmethod
    def read(cls, picture: bytes, mask: bytes) -> Self:
        """Both from their files.

        Raises:
            OSError: one is no image.
            BadMaskError: they do not fit together.
        """
        with Image.open(io.BytesIO(picture)) as opened, Image.open(io.BytesIO(mask)) as over:
            if opened.size != over.size:
                sizes = ["({}, {})".format(*one.size[::-1]) for one in (opened, over)]
                raise BadMaskError("Image size({}) and mask size({}) not match.".format(*sizes))
            mode = "RGBA" if opened.has_transparency_data else "RGB"
            return cls(opened.convert(mode), over.convert("L"), opened.format or "PNG")

    def stretched(self, width: int, height: int) -> Self:
        """Both in another size, whatever becomes of their shape."""
        if (width, height) == self.picture.size:
            return self
        size = width, height
        return type(self)(self.picture.resize(size), self.mask.resize(size), self.file_format)

    def _kept(self) -> tuple[int, int, int, int]:
        box = self.mask.point(lambda level: 255 if level < _MIDDLE else 0).getbbox()
        if box is None:
            raise BadMaskError("The mask leaves nothing of the image; that is not played here")
        return box

    async def spec(self, images: InputImages, seed: int) -> Placed:
        """How it is painted: around the box that the mask keeps.

        Raises:
            BadMaskError: nothing is kept.
        """
        box = self._kept()
        part = await images.store(await to_thread.run_sync(_png, self.picture.crop(box).convert("RGB")))
        left, top, right, bottom = box
        frame = Frame(*self.picture.size, left, top, right - left, bottom - top)
        return Placed.of(part.image, frame, seed % 5)

    async def painted(self, images: InputImages, spec: ImageSpec, *, done: float = 1.0) -> Image.Image:
        """The picture with its masked part painted, in its own size; `done` of 1.0 of the way there."""
        data, _ = await images.bytes_of(spec)
        return await to_thread.run_sync(self._painted, data, done)

    def _painted(self, data: bytes, done: float) -> Image.Image:
        with Image.open(io.BytesIO(data)) as drawn:
            painted = drawn.convert(self.picture.mode).resize(self.picture.size)
        if done < 1:
            noise = Image.effect_noise(painted.size, 90).convert(painted.mode)
            painted = Image.blend(noise, painted, done)
        joined = self.picture.copy()
        joined.paste(painted, mask=self.mask.filter(ImageFilter.GaussianBlur(2)))
        return joined


def _png(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def encoded(image: Image.Image, file_format: str, parameters: str = "") -> bytes:
    """The image as a file of a format, by Pillow's name of it; a PNG with `parameters` as a text, if there are any."""
    buffer = io.BytesIO()
    texts = PngInfo()
    if parameters:
        texts.add_text("parameters", parameters)
    image.convert("RGB" if file_format == "JPEG" else image.mode).save(buffer, file_format, pnginfo=texts)
    return buffer.getvalue()
