"""What a vendor receives of the client's own image: upright pixels, their colour profile, and nothing else."""

import base64
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from outpaint_mcp.domain.errors import UnsupportedFeatureError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers import Provider, provider_classes
from outpaint_mcp.providers.apiframe import Apiframe

from ..images.test_fetch import ok, serving
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


async def test_the_task_says_what_was_not_sent_with_an_image(tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    source.write_bytes(FILES["JPEG"]())
    async with service_at_sandbox(tmp_path) as at:
        task = await at.finished(OutpaintRequest(image=str(source), provider="apiframe", zoom=1.5))
    (note,) = [note for note in task.notes if "Not sent" in note]
    assert note == (
        "Not sent with the image: the copyright notice; the position (GPS); the description; texts and comments; "
        "the motion photo's video; XMP."
    )


async def test_colour_tags_are_sent_as_a_profile(tmp_path: Path) -> None:
    tags = PngImagePlugin.PngInfo()
    tags.add(b"cICP", bytes((12, 13, 0, 1)))
    source = tmp_path / "wide.png"
    # What sRGB's red is in Display P3.
    Image.new("RGB", (LONG, SHORT), (234, 51, 35)).save(source, pnginfo=tags)
    with Image.open(io.BytesIO(await received(tmp_path, str(source)))) as sent:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(sent.info["icc_profile"]))
        shown = ImageCms.profileToProfile(sent, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert shown is not None
    assert shown.getpixel((5, 5)) == (255, 0, 0)


def noise() -> Image.Image:
    return Image.frombytes("RGB", (600, 500), os.urandom(900_000))


@pytest.mark.parametrize(
    ("encode", "advice"),
    [
        # As PNG it is no smaller than its pixels are.
        (lambda: file_of(noise(), "TIFF"), "save it as JPEG, or scale it down to "),
        (lambda: file_of(noise(), "JPEG", quality=98, subsampling=0), "scale it down to "),
    ],
)
async def test_what_is_sent_is_measured_against_the_vendors_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Callable[[], bytes], advice: str
) -> None:
    declare(monkeypatch, max_bytes=500_000)
    source = tmp_path / "photo"
    source.write_bytes(encode())
    async with service_at_sandbox(tmp_path) as at:
        with pytest.raises(UnsupportedFeatureError) as refused:
            await at.service.outpaint(OutpaintRequest(image=str(source), provider="apiframe", zoom=1.5))
        assert at.bodies("apiframe", "outpaint") == []
    assert refused.value.advice.startswith(f"Give a smaller image: {advice}")
    found = re.search(r"(\d+)x(\d+) or less", refused.value.advice)
    assert found is not None
    smaller = noise().resize((int(found[1]), int(found[2])))
    smaller.save(source, "PNG")
    assert await received(tmp_path, str(source)), "what the advice names is taken"


async def test_only_what_is_sent_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, max_bytes=500_000)
    source = tmp_path / "photo"
    source.write_bytes(FILES["JPEG"]() + os.urandom(600_000))
    assert len(await received(tmp_path, str(source))) < 500_000


async def test_a_provider_that_uploads_what_has_a_url_uploads_a_clean_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, max_url=1000)
    async with serving({"/photo.jpg": ok(FILES["JPEG"]())}) as host:
        data = await received(tmp_path, host.url("/photo.jpg").replace("127.0.0.1", "localhost"))
    assert SECRET.encode() not in data


def declare(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    operations = dict(Apiframe.operations)
    operations[SourceKind.IMAGE] = replace(operations[SourceKind.IMAGE], **changes)
    monkeypatch.setattr(Apiframe, "operations", operations)


@pytest.mark.parametrize("vendor", ["apiframe", "legnext", "vtrix"])
async def test_no_provider_can_read_a_file_that_holds_more_than_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    data = file_of(halves().resize((600, 500)), "JPEG")
    read: list[bytes] = []

    def watch(kind: type[Provider], name: str) -> None:
        original = getattr(kind, name)

        def watched(self: Provider, *arguments: Any, **more: Any) -> Any:
            for one in (*arguments, *more.values()):
                image = one.source if isinstance(one, Order) else one
                if isinstance(image, InputImage):
                    path = Path(image.path)
                    read.append(path.read_bytes() if image.path else b"")
            return original(self, *arguments, **more)

        monkeypatch.setattr(kind, name, watched)

    for name in ("check_image", "check_order", "usd_for", "start", "build_submit"):
        watch(provider_classes()[vendor], name)
    async with serving({"/photo.jpg": ok(data)}) as host, service_at_sandbox(tmp_path) as at:
        image = host.url("/photo.jpg").replace("127.0.0.1", "localhost")
        prompt = None if vendor == "apiframe" else "a meadow"
        await at.service.outpaint(OutpaintRequest(image=image, provider=vendor, zoom=1.5, prompt=prompt))
        assert len(at.bodies(vendor, "outpaint")) == 1
    assert len(read) >= 4
    assert any(read) == (vendor == "apiframe")
    assert not any(SECRET.encode() in one for one in read)
