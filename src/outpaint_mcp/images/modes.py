"""From the modes that files have to 8 bits for each channel, as whatever draws wants them."""

import io

import numpy as np
from PIL import Image, ImageCms


def eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits for each channel: of 16-bit values the upper 8, of black and white L."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        grey = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "L" and image.has_transparency_data:
        return image.convert("LA")
    return image


def rgb_of_cmyk(image: Image.Image, profile: object) -> Image.Image:
    """In sRGB, through the image's own profile if that is a usable one."""
    if isinstance(profile, bytes) and profile[16:20] == b"CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")
