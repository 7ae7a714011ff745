"""Untrusted image files: what is accepted, how it is measured, and that every bad file is refused in one way."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.images.decode import MAX_CHECKED_PIXELS, MAX_INPUT_PIXELS, measure, open_image, shrink
from outpaint_mcp.images.small_copy import PREVIEW, SCREEN, SmallCopy

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def file_of(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def gradient(width: int = 24, height: int = 16, mode: str = "RGB") -> Image.Image:
    channels = [Image.linear_gradient("L").resize((width, height)).rotate(turn) for turn in (0, 90, 180)]
    return Image.merge("RGB", channels).convert(mode)


FILES = {name: file_of(gradient(), name) for name in FORMATS}


def png_header_of(width: int, height: int) -> bytes:
    """A PNG that claims this size, with almost nothing behind it: what a decompression bomb looks like from outside."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("image_format", FORMATS)
def test_each_format_is_measured_from_bytes_and_from_a_file(image_format: str, tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(FILES[image_format])
    expected = (f"image/{image_format.lower()}", 24, 16)
    assert measure(FILES[image_format]) == expected
    assert measure(path) == expected


@pytest.mark.parametrize(("orientation", "size"), [(1, (24, 16)), (3, (24, 16)), (6, (16, 24)), (8, (16, 24))])
def test_exif_orientation_is_applied(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = file_of(gradient(), "JPEG", exif=exif)
    assert measure(turned) == ("image/jpeg", *size)
    assert open_image(turned).size == size


def test_orientation_moves_the_pixels_and_not_only_the_size() -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3
    assert open_image(file_of(image, "PNG", exif=exif)).getpixel((2, 1)) == (255, 0, 0)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    animation = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(animation).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


def test_the_colour_profile_is_kept() -> None:
    profile = b"not read here, only kept"
    assert open_image(file_of(gradient(), "PNG", icc_profile=profile)).info["icc_profile"] == profile


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, this is a text file that calls itself image.png",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    ],
    ids=["empty", "text", "svg", "png magic", "jpeg magic", "gif magic", "webp magic"],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError, match=r"^\[invalid_image\] The "):
        measure(data)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_truncated_file_is_refused(image_format: str) -> None:
    whole = file_of(gradient(200, 150), image_format)
    with pytest.raises(InvalidImageError):
        measure(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("width", "height"), [(12_001, 10_000), (120_001, 1000), (2**31 - 1, 2**31 - 1), (100_000, 100_000)]
)
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(InvalidImageError, match="pixels"):
        measure(png_header_of(width, height))


def test_a_refusal_names_the_size_that_is_taken() -> None:
    with pytest.raises(InvalidImageError) as refusal:
        measure(png_header_of(16_000, 9_000))
    assert refusal.value.advice == "Scale it down to 14605x8215 or less."


@pytest.mark.parametrize(("orientation", "size"), [(1, (12_000, 8000)), (6, (8000, 12_000))])
def test_of_a_large_image_only_the_header_is_read(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = file_of(Image.new("L", (12_000, 8000)), "JPEG", exif=exif)
    assert measure(photo[:2000]) == ("image/jpeg", *size)


def test_the_limit_itself_is_allowed() -> None:
    large = file_of(Image.new("1", (8000, MAX_CHECKED_PIXELS // 8000)), "PNG")
    assert measure(large) == ("image/png", 8000, 5000)


@pytest.mark.parametrize(("at_least", "size"), [((100, 60), (100, 60)), ((51, 30), (100, 60)), ((50, 25), (50, 30))])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("end", [None, -2])
def test_a_jpeg_is_decoded_no_larger_than_it_must_be(
    at_least: tuple[int, int], size: tuple[int, int], orientation: int, end: int | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = file_of(gradient(100, 60), "JPEG", exif=exif)[:end]
    if orientation == 6:
        at_least, size = (at_least[1], at_least[0]), (size[1], size[0])
    assert open_image(photo, at_least).size == size


def test_far_too_many_pixels_are_refused_with_how_many_are_taken() -> None:
    with pytest.raises(InvalidImageError) as refusal:
        measure(png_header_of(16_320, 12_240))
    assert refusal.value.advice == "Scale it down to 10954x10954 pixels, or as many in another shape."


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(InvalidImageError, match="cannot be read"):
            measure(path)


@given(data=st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x40\x00\x00\x00WEBP"):
        with pytest.raises(InvalidImageError):
            measure(start + data)


@given(
    image_format=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    cut=st.floats(0, 1),
)
@settings(deadline=None, max_examples=250)
def test_a_damaged_file_is_measured_or_refused(image_format: str, changes: list[tuple[float, int]], cut: float) -> None:
    data = bytearray(FILES[image_format])
    for where, value in changes:
        data[int(where * len(data))] = value
    with contextlib.suppress(InvalidImageError):
        _, width, height = measure(bytes(data[: int(cut * len(data))]))
        assert 1 <= width * height <= MAX_INPUT_PIXELS


def test_a_preview_is_small_and_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.effect_noise((1600, 900), 120).convert("RGB").save(path)
    mime_type, preview = shrink(path, PREVIEW)
    assert len(preview) <= 100_000
    found, width, height = measure(preview)
    assert found == mime_type == "image/jpeg"
    assert max(width, height) <= 512


def test_transparent_parts_are_white_in_a_preview_and_stay_on_a_screen(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(path)
    assert open_image(shrink(path, PREVIEW)[1]).getpixel((5, 5)) == (255, 255, 255)
    mime_type, data = shrink(path, SCREEN)
    assert mime_type == "image/webp"
    assert open_image(data).convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


def test_a_small_copy_keeps_to_a_byte_limit_by_shrinking(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.effect_noise((600, 600), 120).convert("RGB").save(path)
    assert len(shrink(path, SmallCopy(600, 5_000))[1]) <= 5_000
