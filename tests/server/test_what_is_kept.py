"""What a new image keeps of its source besides the pixels, and that a note names what it does not keep."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import anyio
import numpy as np
import pytest
from mcp import Client
from PIL import ExifTags, Image, ImageCms, ImageFilter, PngImagePlugin, TiffImagePlugin

from outpaint_mcp.images.containers import chunk

from ..serving import connected, settings_for
from .test_app import text_of

SECRET = "Somebody"
WIDTH, HEIGHT = 320, 240
SRGB = ImageCms.createProfile("sRGB")
DISPLAY_P3, LINEAR = (b"cICP", bytes((12, 13, 0, 1))), (b"gAMA", (100_000).to_bytes(4, "big"))
HDR = (b"cICP", bytes((9, 16, 0, 1)))


def photo(mode: str = "RGB") -> Image.Image:
    noise = Image.merge("RGB", [Image.effect_noise((WIDTH, HEIGHT), 90) for _ in "RGB"])
    return noise.filter(ImageFilter.GaussianBlur(3)).convert(mode)


def flat(colour: str = "teal", mode: str = "RGB") -> Image.Image:
    """For what does not depend on the pixels: its ground goes on, which takes a fraction of the time of a photo."""
    return Image.new("RGB", (96, 64), colour).convert(mode)


def file_of(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def exif(**tags: Any) -> Image.Exif:
    found = Image.Exif()
    for name, value in tags.items():
        found[getattr(ExifTags.Base, name)] = value
    return found


def camera() -> bytes:
    found = exif(Copyright=SECRET, Artist=SECRET, Model=SECRET, DateTime="2026:05:12 16:42:48", UserComment=SECRET)
    found.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 12.0, 5.0)})
    return file_of(flat(), "JPEG", exif=found, xmp=b"<x:xmpmeta/>", comment=SECRET)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segments(*segments: bytes, after: bytes = b"") -> bytes:
    data = file_of(flat(), "JPEG")
    return data[:2] + b"".join(segments) + data[2:] + after


def xmp(text: str) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def several(kind: int) -> bytes:
    entries = struct.pack(">IIIHHIIIHH", 0x20030000, 9, 0, 0, 0, kind, 9, 9, 0, 0)
    index = b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHII", 0xB002, 7, 32, 26) + bytes(4) + entries
    return with_segments(segment(0xE2, b"MPF\0" + index))


def tagged(*tags: tuple[bytes, bytes], image: Image.Image) -> bytes:
    data = file_of(image, "PNG")
    return data[:33] + b"".join(chunk(*tag) for tag in tags) + data[33:]


def png_of_16_bits() -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(HEIGHT * (1 + 6 * WIDTH)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def texts() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("Comment", SECRET)
    return found


LOST: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "a camera's photo": (
        camera,
        "the copyright notice; the author; the camera's data; the date; the position (GPS); the description; "
        "texts and comments; XMP",
    ),
    "nothing but pixels": (lambda: file_of(flat(), "JPEG", exif=exif(Orientation=6, XResolution=72.0)), None),
    "an animated GIF": (
        lambda: file_of(flat(mode="P"), "GIF", save_all=True, append_images=[flat("navy", "P")]),
        "all frames or pages but the first",
    ),
    "an animated WebP": (
        lambda: file_of(flat(), "WEBP", save_all=True, append_images=[flat("navy")]),
        "all frames or pages but the first",
    ),
    "an animated PNG": (
        lambda: file_of(flat(), "PNG", save_all=True, append_images=[flat("navy")]),
        "all frames or pages but the first",
    ),
    "pages of a TIFF": (
        lambda: file_of(flat(), "TIFF", save_all=True, append_images=[flat("navy")]),
        "all frames or pages but the first",
    ),
    "16 bits of grey": (lambda: file_of(flat(mode="L").convert("I;16"), "TIFF"), "the bits of each channel beyond 8"),
    "16 bits of colour": (png_of_16_bits, "the bits of each channel beyond 8"),
    "texts": (lambda: file_of(flat(), "PNG", pnginfo=texts()), "texts and comments"),
    "IPTC": (lambda: with_segments(segment(0xED, b"Photoshop 3.0\08BIM\x04\x04\0\0")), "IPTC"),
    "a gain map": (
        lambda: with_segments(xmp('<x:xmpmeta xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/">')),
        "the gain map (HDR); XMP",
    ),
    "a depth map": (
        lambda: with_segments(xmp('<x:xmpmeta xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/">')),
        "the depth map; XMP",
    ),
    "a motion photo": (lambda: with_segments(after=b"\0\0\0\x18ftypmp42" + bytes(99)), "the motion photo's video"),
    "several pictures": (lambda: several(0x020002), "the other images of a multi-picture file (MPF)"),
    "a camera's preview": (lambda: several(0x010001), None),
    "HDR as JPEG": (
        lambda: tagged(HDR, image=flat()),
        "the colour tags, such as of HDR (a jpeg file has none; png keeps them)",
    ),
}


async def extended(client: Client, file: Path, image_format: str = "jpeg") -> tuple[Image.Image, Any]:
    """The new image, and the result of the call."""
    options = {"format": image_format, "quality": "fast"}
    result = await client.call_tool("outpaint", {"image": str(file), "zoom": 1.05, "provider_options": options})
    assert not result.is_error, text_of(result)
    image = Image.open(io.BytesIO(await data_of(result)))
    image.load()
    return image, result


async def data_of(result: Any) -> bytes:
    (made,) = result.structured_content["images"]
    return await anyio.Path(url2pathname(made["url"].removeprefix("file://"))).read_bytes()


async def test_one_note_names_what_a_new_image_does_not_keep(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        for name, (data, lost) in LOST.items():
            file = tmp_path / name
            file.write_bytes(data())
            _, result = await extended(client, file)
            notes = [note for note in result.structured_content["notes"] if "Not kept" in note]
            assert notes == ([] if lost is None else [f"Not kept in the new image: {lost}."]), name
            assert all(note in text_of(result) for note in notes)
            assert SECRET not in text_of(result)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
async def test_grey_of_16_bits_is_kept_in_a_png_and_its_plain_ground_goes_on(tmp_path: Path, kind: str) -> None:
    values = np.full((48, 64), 0x9A37, np.uint16)
    values[12:36, 16:48] = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 83
    file = tmp_path / "scan"
    file.write_bytes(file_of(Image.fromarray(values), kind))
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": str(file), "zoom": 1.5})
        image = Image.open(io.BytesIO(await data_of(result)))
        assert not any("Not kept" in note for note in result.structured_content["notes"])
    made = np.array(image)
    assert (image.mode, image.size) == ("I;16", (96, 72))
    assert np.array_equal(made[12:60, 16:80], values)
    made[12:60, 16:80] = 0x9A37
    assert (made == 0x9A37).all()


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
async def test_colours_are_meant_as_the_tags_of_the_source_say(tmp_path: Path, image_format: str) -> None:
    sources = {
        # The red of sRGB in Display P3, and half the light.
        "wide": (tagged(DISPLAY_P3, image=Image.new("RGB", (64, 48), (234, 51, 35))), (255, 0, 0)),
        "linear": (tagged(LINEAR, image=Image.new("RGB", (64, 48), (55, 55, 55))), (128, 128, 128)),
        "grey": (tagged(LINEAR, image=Image.new("L", (64, 48), 55)), (128, 128, 128)),
    }
    async with connected(settings_for(tmp_path)) as client:
        for name, (data, seen) in sources.items():
            file = tmp_path / name
            file.write_bytes(data)
            made, result = await extended(client, file, image_format)
            assert not any("colour" in note for note in result.structured_content["notes"]), name
            if image_format == "png":
                tags = DISPLAY_P3 if name == "wide" else LINEAR
                assert chunk(*tags) in await data_of(result)
                continue
            profile = ImageCms.ImageCmsProfile(io.BytesIO(made.info["icc_profile"]))
            shown = ImageCms.profileToProfile(
                made, profile, SRGB, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
            )
            assert shown is not None
            pixel = shown.getpixel((30, 20))
            assert isinstance(pixel, tuple)
            assert max(abs(one - other) for one, other in zip(pixel, seen, strict=True)) <= 4, (name, pixel)


async def test_the_resolution_turns_with_the_image(tmp_path: Path) -> None:
    upside_down = exif(Orientation=3, XResolution=300.0, YResolution=150.0, ResolutionUnit=2)
    centimetres = exif(
        Orientation=8,
        XResolution=TiffImagePlugin.IFDRational(30000, 254),
        YResolution=TiffImagePlugin.IFDRational(15000, 254),
        ResolutionUnit=3,
    )
    files = {
        "header.jpg": file_of(flat(), "JPEG", dpi=(300, 150), exif=exif(Orientation=6)),
        "exif.jpg": file_of(flat(), "JPEG", exif=centimetres),
        "header.png": file_of(flat(), "PNG", dpi=(300, 150), exif=exif(Orientation=6)),
        "exif.webp": file_of(flat(), "WEBP", exif=upside_down),
    }
    async with connected(settings_for(tmp_path)) as client:
        # What is read does not depend on what is written.
        for name, image_format in [*((name, "png") for name in files), ("header.jpg", "jpeg"), ("header.jpg", "webp")]:
            (tmp_path / name).write_bytes(files[name])
            made, result = await extended(client, tmp_path / name, image_format)
            tags = made.getexif()
            found = made.info.get("dpi") or (tags[0x011A], tags[0x011B])
            expected = (300, 150) if name == "exif.webp" else (150, 300)
            assert tuple(round(float(one)) for one in found) == expected, name
            assert not any("Not kept" in note for note in result.structured_content["notes"])


def of_an_interlaced_png() -> bytes:
    """One of flat rows, as Pillow writes none."""
    header = struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 1)
    passes = [(32, 32), (32, 32), (64, 32), (64, 64), (128, 64), (128, 128), (256, 128)]
    rows = b"".join((b"\0" + bytes([40]) * width) * height for width, height in passes)
    idat = zlib.compress(rows, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def dark(mode: str = "RGB") -> Image.Image:
    """Far from the grey that a decoder leaves where data is missing."""
    return photo().point(lambda value: value // 3).convert(mode)


CUT: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: file_of(dark(), "JPEG"),
    "JPEG of full colour": lambda: file_of(dark(), "JPEG", subsampling=0, quality=95),
    "progressive JPEG": lambda: file_of(dark(), "JPEG", progressive=True),
    "grey JPEG": lambda: file_of(dark("L"), "JPEG", restart_marker_rows=2),
    "PNG": lambda: file_of(dark(), "PNG"),
    "palette PNG": lambda: file_of(dark("P"), "PNG"),
    "interlaced PNG": of_an_interlaced_png,
    "TIFF": lambda: file_of(dark(), "TIFF"),
}
OTHERS: dict[str, Callable[[], bytes]] = {
    "WebP": lambda: file_of(dark(), "WEBP"),
    "BMP": lambda: file_of(dark(), "BMP"),
    "packed TIFF": lambda: file_of(dark(), "TIFF", compression="tiff_lzw", strip_size=1 << 24),
}


def mean(image: Image.Image, box: tuple[int, int, int, int]) -> float:
    pixels = image.crop(box).convert("L").tobytes()
    return sum(pixels) / len(pixels)


async def test_a_file_that_is_cut_off_is_extended_if_next_to_no_pixels_are_missing(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        for name, encode in CUT.items():
            data = encode()
            with Image.open(io.BytesIO(data)) as opened:
                whole = opened.convert("RGB")
            # Of what lies behind the last pixels, the kinds of files have the same.
            for missing in (10, 40) if name in ("JPEG", "PNG") else (40,):
                file = tmp_path / f"{name} cut by {missing}"
                file.write_bytes(data[:-missing])
                made, result = await extended(client, file, "png")
                notes = [note for note in result.structured_content["notes"] if "is cut off" in note]
                assert missing < 40 or (notes and notes[0] in text_of(result)), file
                left, top = (made.width - whole.width) // 2, (made.height - whole.height) // 2
                kept = made.convert("RGB").crop((left, top, left + whole.width, top + whole.height))
                upper = (0, 0, whole.width, whole.height - 17)
                assert kept.crop(upper).tobytes() == whole.crop(upper).tobytes(), file
                corner = (whole.width - 8, whole.height - 8, whole.width, whole.height)
                assert abs(mean(kept, corner) - mean(whole, corner)) < 40, file


async def test_a_file_of_which_more_is_missing_is_refused_as_cut_off(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        for name, encode in (CUT | OTHERS).items():
            data = encode()
            for part in (0.5, 0.9)[: 1 if name == "progressive JPEG" else 2]:
                file = tmp_path / f"{name} cut to {part}"
                file.write_bytes(data[: int(len(data) * part)])
                result = await client.call_tool("outpaint", {"image": str(file), "zoom": 1.05})
                assert result.is_error, file
                assert text_of(result).startswith("[invalid_image] The image's file is cut off"), file
