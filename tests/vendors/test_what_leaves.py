"""What a vendor receives of the client's own image: upright pixels, their colour profile, and nothing else."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status

from .service_at_sandbox import service_at_sandbox

SECRET = "SECRET-PLACE"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{SECRET}</x:xmpmeta>'.encode()
LONG, SHORT = 96, 64


def halves() -> Image.Image:
    """As it lies in the file: red on the left, blue on the right."""
    image = Image.new("RGB", (LONG, SHORT), "blue")
    image.paste("red", (0, 0, LONG // 2, SHORT))
    return image


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6
    found[0x010E] = found[0x8298] = SECRET
    found.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 5.0), 29: SECRET})
    return found


def file_of(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, icc_profile=PROFILE, exif=exif(), **options)
    # Where a motion photo's video lies.
    return buffer.getvalue() + b"\0\0\0\x18ftypmp42" + SECRET.encode()


def png() -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", SECRET)
    texts.add_itxt("XML:com.adobe.xmp", SECRET)
    return file_of(halves(), "PNG", pnginfo=texts)


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: file_of(halves(), "JPEG", xmp=XMP, comment=SECRET, subsampling=0),
    "PNG": png,
    "WEBP": lambda: file_of(halves(), "WEBP", xmp=XMP, lossless=True),
    "TIFF": lambda: file_of(halves(), "TIFF"),
    "AVIF": lambda: file_of(halves(), "AVIF", xmp=XMP),
}
if not features.check("avif"):
    del FILES["AVIF"]


async def received(tmp_path: Path, image: str) -> bytes:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.finished(OutpaintRequest(image=image, provider="apiframe", zoom=1.5))
        assert task.status is Status.SUCCEEDED, task.failure
        (body,) = at.bodies("apiframe", "outpaint")
        async with httpx2.AsyncClient() as client:
            data = (await client.get(body["fluxFillParams"]["image"])).content
    assert list((tmp_path / "incoming").iterdir()) == [], "the copy is gone when the order is sent"
    return data


@pytest.mark.parametrize("name", FILES)
async def test_a_vendor_receives_upright_pixels_and_their_profile(name: str, tmp_path: Path) -> None:
    source = tmp_path / "photo"
    source.write_bytes(FILES[name]())
    data = await received(tmp_path, str(source))
    assert SECRET.encode() not in data
    assert b"ftypmp42" not in data
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (SHORT, LONG)
        assert not image.getexif()
        assert image.info["icc_profile"] == PROFILE
        top, bottom = (image.convert("RGB").getpixel((5, y)) for y in (5, LONG - 5))
    for pixel, expected in ((top, (255, 0, 0)), (bottom, (0, 0, 255))):
        assert isinstance(pixel, tuple)
        assert all(abs(is_now - was) <= 12 for is_now, was in zip(pixel, expected, strict=True))


async def test_a_data_uri_is_cleaned_too(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert SECRET.encode() not in await received(tmp_path, uri)


async def test_transparency_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "palette.png"
    image = halves().quantize(4)
    image.save(source, transparency=0)
    with Image.open(io.BytesIO(await received(tmp_path, str(source)))) as sent:
        assert sent.convert("RGBA").tobytes() == Image.open(source).convert("RGBA").tobytes()
