"""Which formats are read, and that every other file is named."""

import importlib.util
import io

import pytest
from PIL import Image, TiffImagePlugin

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.images.decode import measure, open_image

IMAGE = Image.linear_gradient("L").resize((96, 64)).convert("RGB")


def encoded(image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, image_format, **options)
    return buffer.getvalue()


def container(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(100)


@pytest.mark.parametrize("image_format", ["AVIF", "TIFF", "BMP", "JPEG2000", "MPO"])
def test_what_the_installed_pillow_decodes_safely_is_read(image_format: str) -> None:
    more = {"save_all": True, "append_images": [IMAGE.rotate(90)]} if image_format in ("TIFF", "MPO") else {}
    data = encoded(image_format, **more)
    assert measure(data)[1:] == (96, 64)
    assert abs(open_image(data).convert("RGB").getpixel((5, 63))[0] - IMAGE.getpixel((5, 63))[0]) < 12  # type: ignore[index]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_is_upright_once(orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    data = encoded("TIFF", tiffinfo=tags)
    assert measure(data)[1:] == open_image(data).size == ((64, 96) if orientation > 4 else (96, 64))


def tagged_tiff(**values: object) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in values.items():
        tags[TAGS[name]] = value
    return encoded("TIFF", tiffinfo=tags)


TAGS = {"dng_version": 50706, "subfile_type": 254, "sub_ifds": 330}


def test_a_tiff_that_says_it_is_a_reduced_image_is_read_if_it_has_no_other() -> None:
    assert measure(tagged_tiff(subfile_type=1))[1:] == (96, 64)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tagged_tiff(dng_version=b"\x01\x04\x00\x00"), "RAW photo"),
        (tagged_tiff(subfile_type=1, sub_ifds=8), "RAW photo"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "RAW photo"),
        (container(b"crx ", b"crx ", b"isom"), "RAW photo"),
        (container(b"isom", b"mp42"), "a video"),
        (container(b"qt  "), "a video"),
        (b"\x1aE\xdf\xa3" + bytes(50), "a video"),
        (container(b"avif", b"mif1"), "AVIF"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
        (b"8BPS\0\1" + bytes(50), "Photoshop"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<!DOCTYPE HTML><html>", "web page"),
        (b'{"error": "not found"}', "JSON"),
        (encoded("ICO"), "icon"),
        (b"PK\3\4" + bytes(50), "ZIP"),
    ],
)
def test_a_file_that_is_not_read_is_named_with_what_to_do(data: bytes, name: str) -> None:
    with pytest.raises(InvalidImageError, match=name) as refused:
        measure(data)
    assert refused.value.advice != InvalidImageError.default_advice


def test_a_heic_photo_is_named_unless_its_decoder_is_installed() -> None:
    broken = container(b"heic", b"mif1", b"heic")
    installed = importlib.util.find_spec("pillow_heif") is not None
    with pytest.raises(InvalidImageError, match="cannot be decoded" if installed else "HEIC photo.* Export it as JPEG"):
        measure(broken)
