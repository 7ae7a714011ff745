"""Every kind of picture goes in, and what it was besides its pixels comes out again."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from outpaint_mcp.images.containers import PNG_START, chunk
from outpaint_mcp.images.decode import open_image
from outpaint_mcp.providers.local.raster import ImageFormat, Nature, encode, to_pixels

Landscape = Callable[..., NDArray[np.uint8]]
PLAIN = Nature(grey=False, icc_profile=None)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


def file_of(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image_format", "mode", "channels", "grey"),
    [
        ("PNG", "1", 3, True),
        ("PNG", "L", 3, True),
        ("PNG", "LA", 4, True),
        ("PNG", "P", 3, False),
        ("PNG", "RGB", 3, False),
        ("PNG", "RGBA", 4, False),
        ("PNG", "I;16", 3, True),
        ("JPEG", "L", 3, True),
        ("JPEG", "RGB", 3, False),
        ("JPEG", "CMYK", 3, False),
        ("WEBP", "RGB", 3, False),
        ("WEBP", "RGBA", 4, False),
        ("GIF", "L", 3, False),
        ("GIF", "P", 3, False),
    ],
)
def test_every_mode_of_every_format_becomes_rgb_or_rgba(
    image_format: str, mode: str, channels: int, grey: bool, landscape: Landscape
) -> None:
    image = Image.fromarray(landscape())
    if mode == "I;16":
        image = Image.fromarray(landscape()[..., 0].astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    else:
        image = image.convert(mode)
    pixels, nature = to_pixels(open_image(file_of(image, image_format)))
    assert pixels.shape == (72, 96, channels)
    assert pixels.dtype == np.uint8
    assert nature.grey is grey
    back = open_image(encode(pixels, nature))
    modes = {(3, False): "RGB", (4, False): "RGBA", (3, True): "L", (4, True): "LA"}
    assert back.mode == ("I;16" if mode == "I;16" else modes[channels, grey])
    assert np.array_equal(to_pixels(back)[0], pixels)


def test_sixteen_bits_keep_their_upper_eight() -> None:
    values = np.array([[0, 255, 256, 0x1234], [0xFF00, 0xFFFF, 0x80FF, 0x7FFF]], np.uint16)
    pixels, _ = to_pixels(open_image(file_of(Image.fromarray(values), "PNG")))
    assert pixels[..., 1].tolist() == [[0, 0, 1, 0x12], [0xFF, 0xFF, 0x80, 0x7F]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode: str) -> None:
    image = Image.new("RGB", (4, 4), "black")
    image.putpixel((1, 1), (255, 255, 255))
    image = image.convert(mode)
    black = {"L": 0, "P": image.getpixel((0, 0)), "RGB": (0, 0, 0)}[mode]
    pixels, _ = to_pixels(open_image(file_of(image, "PNG", transparency=black)))
    assert pixels.shape == (4, 4, 4)
    assert pixels[0, 0, 3] == 0
    assert pixels[1, 1].tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize(
    ("depth", "colour_type", "clear", "other"),
    [
        (1, 0, b"\0\0", b"\0\1"),
        (2, 0, b"\0\1", b"\0\3"),
        (4, 0, b"\0\5", b"\0\7"),
        (8, 0, b"\0\7", b"\0\xc8"),
        (16, 0, b"\3\xe8", b"\x9c\x40"),
        (8, 2, b"\0\1\0\2\0\3", b"\0\4\0\5\0\6"),
        (16, 2, b"\3\xe8" * 3, b"\x9c\x40" * 3),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth_is_transparent(
    depth: int, colour_type: int, clear: bytes, other: bytes
) -> None:
    def row(colour: bytes) -> bytes:
        if depth == 16:
            return b"\0" + colour * 8
        if depth == 8:
            return b"\0" + colour[1::2] * 8
        return b"\0" + bytes([sum(colour[1] << place for place in range(0, 8, depth))]) * depth

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 2, depth, colour_type, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(row(clear) + row(other)))
    pixels, _ = to_pixels(open_image(PNG_START + header + chunk(b"tRNS", clear) + data + chunk(b"IEND", b"")))
    assert pixels[..., 3].tolist() == [[0] * 8, [255] * 8]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_the_colour_profile_is_written_again(image_format: ImageFormat, landscape: Landscape) -> None:
    image = Image.fromarray(landscape())
    pixels, nature = to_pixels(open_image(file_of(image, "PNG", icc_profile=SRGB)))
    assert open_image(encode(pixels, nature, image_format)).info["icc_profile"] == SRGB


def test_a_profile_for_other_colours_than_the_pictures_is_dropped(landscape: Landscape) -> None:
    colour, grey = Image.fromarray(landscape()), Image.fromarray(landscape()).convert("L")
    assert to_pixels(open_image(file_of(colour, "PNG", icc_profile=GREY_PROFILE)))[1].icc_profile is None
    assert to_pixels(open_image(file_of(grey, "PNG", icc_profile=SRGB)))[1].icc_profile is None
    assert to_pixels(open_image(file_of(grey, "PNG", icc_profile=GREY_PROFILE)))[1].icc_profile == GREY_PROFILE
    assert to_pixels(open_image(file_of(colour, "PNG", icc_profile=b"short")))[1].icc_profile is None


@pytest.mark.parametrize("profile", [None, b"garbage", SRGB, SRGB[:16] + b"CMYK" + SRGB[20:]])
def test_cmyk_with_any_profile_becomes_plausible_rgb_without_one(profile: bytes | None) -> None:
    red = Image.new("RGB", (16, 16), (220, 20, 20)).convert("CMYK")
    options = {} if profile is None else {"icc_profile": profile}
    pixels, nature = to_pixels(open_image(file_of(red, "JPEG", quality=95, **options)))
    assert pixels[8, 8, 0] > 180
    assert pixels[8, 8, 1:].max() < 70
    assert nature.icc_profile is None


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_lossless_formats_keep_every_value_even_under_full_transparency(image_format: ImageFormat) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    pixels[:10, :, 3] = 0
    assert np.array_equal(np.asarray(open_image(encode(pixels, PLAIN, image_format)).convert("RGBA")), pixels)


def test_jpeg_shows_transparent_parts_on_white_and_keeps_the_rest_closely() -> None:
    pixels = np.full((32, 32, 4), (30, 90, 160, 255), np.uint8)
    pixels[:16] = (0, 0, 0, 0)
    shown = np.asarray(open_image(encode(pixels, PLAIN, "jpeg"))).astype(int)
    assert shown[:14].min() > 245
    assert np.abs(shown[18:] - [30, 90, 160]).max() < 8


@pytest.mark.parametrize(("image_format", "side"), [("jpeg", 65_536), ("webp", 16_384)])
def test_a_side_too_long_for_the_format_is_a_value_error(image_format: ImageFormat, side: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(np.zeros((1, side, 3), np.uint8), PLAIN, image_format)


@pytest.mark.parametrize("profile", [None, SRGB])
def test_a_png_keeps_its_resolution_and_what_its_colours_mean(profile: bytes | None) -> None:
    tags = PngImagePlugin.PngInfo()
    if profile is None:
        tags.add(b"cICP", bytes((12, 13, 0, 1)))
        tags.add(b"gAMA", (45_455).to_bytes(4, "big"))
    source = file_of(Image.new("RGB", (8, 6), "teal"), "PNG", pnginfo=tags, dpi=(300, 300), icc_profile=profile)
    with Image.open(io.BytesIO(encode(*to_pixels(open_image(source))))) as back:
        back.load()
        assert [round(one) for one in back.info["dpi"]] == [300, 300]
        assert back.info.get("icc_profile") == profile
        assert back.info.get("gamma") == (0.45455 if profile is None else None)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "CMYK"])
def test_a_large_picture_is_scaled_in_bands_as_if_it_were_done_at_once(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2600, 2000, 4), np.uint8)
    noise[..., 3] |= 128  # what is hardly visible has no precise colour
    image = Image.fromarray(noise).convert(mode)
    whole = image.convert("RGBA" if image.has_transparency_data else "RGB").resize(
        (777, 1010), Image.Resampling.LANCZOS
    )
    pixels, nature = to_pixels(image, (777, 1010))
    assert nature.grey == (mode in ("L", "LA"))
    assert np.abs(pixels.astype(int) - np.asarray(whole)).max() <= 2
