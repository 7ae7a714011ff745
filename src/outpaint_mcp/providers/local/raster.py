"""From a decoded picture of any mode to the engine's array, and from the engine's answer to a picture file.

The engine knows 8-bit RGB with or without alpha. What a picture has besides that (that it was grey, its colour
profile) is noted and put back. "Unchanged pixels" means of the 8-bit RGB or grey picture that is made here: 16-bit
values keep their upper 8 bits, a palette becomes its colours, and CMYK becomes RGB, through its profile if it has one.
Grey of 16 bits is kept, and comes back in a PNG; Pillow cannot write colours of 16 bits (13.0, November 2026).
"""

import io
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from outpaint_mcp.images.colours import colours_of
from outpaint_mcp.images.containers import PNG_START, chunk, chunks
from outpaint_mcp.images.modes import eight_bits, rgb_of_cmyk
from outpaint_mcp.providers.local.plan import LARGEST_SIDE
from outpaint_mcp.providers.local.subject import Pixels

ImageFormat = Literal["png", "jpeg", "webp"]
MIME_TYPES: Final[dict[str, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_BAND: Final = 4_000_000  # pixels of the picture that are converted at a time
_REACH: Final = 3  # new pixels, from which on Lanczos' filter sees nothing


@dataclass(frozen=True, slots=True)
class Nature:
    """What the array alone does not say about the picture."""

    grey: bool
    icc_profile: bytes | None
    colour_tags: bytes = b""
    dpi: tuple[float, float] | None = None
    deep: NDArray[np.uint16] | None = field(default=None, compare=False)
    """Its grey values, where they have 16 bits."""


def to_pixels(image: Image.Image, size: tuple[int, int] | None = None) -> tuple[Pixels, Nature]:
    """The picture as height x width x 3 (RGB) or 4 (RGBA, alpha not multiplied in), and what to restore later.

    It is scaled down to `size`, its width and height; None keeps its own.
    """
    profile, tags, dpi = (image.info.get(name) for name in ("icc_profile", "colour_tags", "dpi"))
    sample = eight_bits(image.crop((0, 0, 1, 1)))
    grey, cmyk = sample.mode in ("L", "LA"), sample.mode == "CMYK"
    # A profile for another kind of colours than the file's would be refused, or worse, obeyed.
    fits = isinstance(profile, bytes) and profile[16:20] == (b"GRAY" if grey else b"RGB ") and not cmyk
    width, height = size or image.size
    pixels = np.empty((height, width, 4 if sample.has_transparency_data else 3), np.uint8)
    # In bands, since what the conversions make in between takes several times the memory of the picture.
    rows = max(1, _BAND * height // (image.width * image.height))
    scale = image.height / height
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_band(image, top * scale, bottom * scale, (width, bottom - top)))
    is_deep = image.mode.startswith("I;16") and (width, height) == image.size and pixels.shape[2] == 3
    deep = np.asarray(image).astype(np.uint16) if is_deep else None
    return pixels, Nature(grey, profile if fits else None, tags or b"", dpi, deep)


def _band(image: Image.Image, top: float, bottom: float, size: tuple[int, int]) -> Image.Image:
    """What lies from `top` to `bottom` in RGB or RGBA, scaled down to `size`."""
    around = 0 if size == (image.width, bottom - top) else ceil(_REACH * (bottom - top) / size[1])
    first, last = max(0, floor(top) - around), min(image.height, ceil(bottom) + around)
    band = eight_bits(image.crop((0, first, image.width, last)))
    if band.mode == "CMYK":
        band = rgb_of_cmyk(band, image.info.get("icc_profile"))
    band = band.convert("RGBA" if band.has_transparency_data else "RGB")
    box = 0, top - first, image.width, min(bottom, image.height) - first
    return band.resize(size, Image.Resampling.LANCZOS, box=box)


def encode(pixels: Pixels, nature: Nature, image_format: ImageFormat = "png", place: tuple[int, int] = (0, 0)) -> bytes:
    """The array as a file. PNG and WebP are lossless; JPEG loses a little, and shows transparent parts on white.

    `place` is the x and y at which the original lies in it.

    Raises:
        ValueError: a side is longer than the format allows.
    """
    if max(pixels.shape[:2]) > LARGEST_SIDE[image_format]:
        raise ValueError(f"A {image_format} file has at most {LARGEST_SIDE[image_format]} pixels on a side.")
    image = Image.fromarray(pixels)
    if image_format == "jpeg" and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if nature.grey:
        image = _grey_again(image)
    if keeps_depth(nature, image_format) and nature.deep is not None:
        image = _deep_again(image, nature.deep, *place)
    buffer = io.BytesIO()
    options: dict[str, Any] = {} if nature.dpi is None else {"dpi": nature.dpi}
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=_PNG_LEVEL, icc_profile=nature.icc_profile, **options)
        if not (tags := _tags_beside(nature)):
            return buffer.getvalue()
        data = buffer.getbuffer()
        return b"".join((data[:_PNG_HEADER], tags, data[_PNG_HEADER:]))
    profile = _profile_for(nature, image_format) or b""
    if image_format == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=profile, **options)
    else:
        exif = _resolution(nature)
        image.save(buffer, "WEBP", lossless=True, exact=True, quality=20, method=2, icc_profile=profile, exif=exif)
    return buffer.getvalue()


def keeps_depth(nature: Nature, image_format: ImageFormat) -> bool:
    """Whether a file of this format has all bits of the picture's grey."""
    return nature.deep is not None and image_format == "png"


def unkept(nature: Nature, image_format: ImageFormat) -> tuple[str, ...]:
    """What the picture says of its colours that a file of this format cannot."""
    if image_format == "png" or _profile_for(nature, image_format) is not None:
        return ()
    if nature.icc_profile is not None:
        return (f"the colour profile, which is for grey (a {image_format} file is RGB; png keeps it)",)
    if colours_of(nature.colour_tags) is not None:
        return (f"the colour tags, such as of HDR (a {image_format} file has none; png keeps them)",)
    return ()


def _profile_for(nature: Nature, image_format: ImageFormat) -> bytes | None:
    """The colour profile of a file that has no colour tags."""
    grey = nature.grey and image_format != "webp"
    if nature.icc_profile is not None:
        # WebP knows RGB only, to which a grey profile does not apply.
        return nature.icc_profile if grey == nature.grey else None
    colours = colours_of(nature.colour_tags)
    return None if colours is None else colours.profile(grey=grey)


def _tags_beside(nature: Nature) -> bytes:
    """The colour tags of a PNG; beside a profile only the one that goes before it."""
    if nature.icc_profile is None:
        return nature.colour_tags
    tags = PNG_START + nature.colour_tags
    return b"".join(chunk(kind, tags[start:end]) for kind, start, end in chunks(tags) if kind == b"cICP")


def _resolution(nature: Nature) -> Image.Exif:
    """The one thing that EXIF is written for: WebP has no other place for it."""
    exif = Image.Exif()
    if nature.dpi is not None:
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = nature.dpi
        exif[ExifTags.Base.ResolutionUnit] = 2
    return exif


_PNG_HEADER = 33  # bytes: the signature and the first chunk, behind which the tags of colours belong
_PNG_LEVEL = 3  # 6, the default, takes three times as long for files smaller by a few per cent


def _grey_again(image: Image.Image) -> Image.Image:
    """Grey from three equal channels, exactly (a conversion would weigh and round them)."""
    if image.mode == "RGBA":
        return Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
    return image.getchannel("R")


def _deep_again(image: Image.Image, deep: NDArray[np.uint16], x: int, y: int) -> Image.Image:
    """Grey of 16 bits: the original's own values, and beyond it those of its border where the upper 8 bits are equal,
    so that a plain ground goes on exactly."""
    grey = np.asarray(image)
    rows = np.clip(np.arange(grey.shape[0]) - y, 0, deep.shape[0] - 1)
    columns = np.clip(np.arange(grey.shape[1]) - x, 0, deep.shape[1] - 1)
    nearest = deep[np.ix_(rows, columns)]
    return Image.fromarray(np.where(nearest >> 8 == grey, nearest, grey.astype(np.uint16) * 257))
