"""Files that every viewer opens: what is not pixels is skipped, and what is missing of the pixels is still refused."""

import functools
import io
import os
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageChops, ImageCms

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.images.containers import MAX_SCANS, PNG_START, chunk
from outpaint_mcp.images.decode import measure, open_image

IMAGE = Image.merge("RGB", [Image.linear_gradient("L").resize((320, 200)).rotate(turn) for turn in (0, 90, 180)])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image_format: str, image: Image.Image = IMAGE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


PNG = encoded("PNG")
JPEG = encoded("JPEG", quality=90)
PROGRESSIVE = encoded("JPEG", quality=90, progressive=True)


def with_chunks(*chunks: bytes, after: int = 33) -> bytes:
    """The PNG with chunks after its header (or the first `after` bytes)."""
    return PNG[:after] + b"".join(chunks) + PNG[after:]


def bad(kind: bytes, body: bytes) -> bytes:
    whole = chunk(kind, body)
    return whole[:-1] + bytes([whole[-1] ^ 1])


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


LONG = b"a workflow, " * 200_000


@functools.cache
def bomb() -> bytes:
    return zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: with_chunks(chunk(b"tEXt", b"workflow\0" + LONG)),
        lambda: with_chunks(chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG))),
        lambda: with_chunks(chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG))),
        lambda: with_chunks(*[chunk(b"zTXt", b"part\0\0" + bomb())] * 3),
        lambda: with_chunks(chunk(b"zTXt", b"broken")),
        lambda: with_chunks(
            bad(b"tEXt", b"Comment\0x"), bad(b"gAMA", bytes(4)), bad(b"iCCP", b"x"), bad(b"tRNS", bytes(6))
        ),
        lambda: with_chunks(
            chunk(b"gAMA", b""), chunk(b"cHRM", b"x"), chunk(b"tRNS", b""), chunk(b"pHYs", b"1"), chunk(b"abCd", b"")
        ),
        lambda: with_chunks(
            chunk(b"iCCP", b"p\0\0" + bomb()), chunk(b"eXIf", b"no exif"), chunk(b"prVt", os.urandom(2_000_000))
        ),
        lambda: PNG[:-12],
        lambda: PNG[:-14],
        lambda: PNG + b"a second file",
        lambda: PNG[:-12] + bad(b"tEXt", b"at the end"),
        lambda: PNG[:-12] + chunk(b"tEXt", bytes(5000))[:100],
    ],
    ids=[
        "long text",
        "long compressed text",
        "long international text",
        "a bomb in parts",
        "broken text",
        "bad checksums",
        "empty chunks",
        "odd and large chunks",
        "no end",
        "cut at the end",
        "a second file",
        "a bad chunk at the end",
        "a chunk cut off",
    ],
)
def test_a_png_is_read_whatever_lies_beside_its_pixels(build: Callable[[], bytes]) -> None:
    read = open_image(build())
    assert ImageChops.difference(read, IMAGE).getbbox() is None
    assert "icc_profile" not in read.info


@pytest.mark.parametrize("size", [3000, 3_000_000])
def test_a_profile_is_kept_however_large_it_is(size: int) -> None:
    profile = SRGB + os.urandom(size)
    assert open_image(with_chunks(profile_chunk(profile))).info["icc_profile"] == profile
    assert open_image(encoded("JPEG", icc_profile=profile)).info["icc_profile"] == profile


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    "segments",
    [
        segment(0xE1, b"Exif\0\0not exif at all"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='9'>") + segment(0xFE, b"\xff\xd8"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x04"),
        segment(0xE0, b"JFIF\0")
        + segment(0xE2, b"ICC_PROFILE\0")
        + segment(0xEE, b"Adobe")
        + segment(0xE2, b"MPF\0MM"),
    ],
)
def test_a_jpeg_is_read_whatever_lies_beside_its_pixels(segments: bytes) -> None:
    data = JPEG[:2] + segments + JPEG[2:] + b"a video"
    assert ImageChops.difference(open_image(data), open_image(JPEG)).getbbox() is None


LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")
HEADER = PROGRESSIVE[LAST_SCAN : LAST_SCAN + 2 + PROGRESSIVE[LAST_SCAN + 3]]
SCANS = PROGRESSIVE.count(b"\xff\xda")


def with_scans(number: int, before_each: bytes = b"") -> bytes:
    """The progressive JPEG with so many scans, of which the last ones refine nothing."""
    return PROGRESSIVE[:-2] + (before_each + HEADER + bytes(4)) * (number - SCANS) + PROGRESSIVE[-2:]


@pytest.mark.parametrize("before_each", [b"", b"\xff" * 9, b"\xff\x01\xfe\xf0", b"\xff\xd0\xfe\xf0", b"\xff\xe0\0\0"])
@pytest.mark.parametrize("number", [MAX_SCANS + 1, 20_000])
def test_a_jpeg_of_very_many_scans_is_refused_whatever_lies_between_them(number: int, before_each: bytes) -> None:
    with pytest.raises(InvalidImageError, match="more than 100 scans"):
        measure(with_scans(number, before_each))


@pytest.mark.parametrize(
    "data",
    [
        with_scans(MAX_SCANS),
        JPEG[:2] + segment(0xE1, b"Exif\0\0" + HEADER * 500) + segment(0xE5, HEADER * 500) + JPEG[2:],
        JPEG + HEADER * 500,
        PROGRESSIVE[: LAST_SCAN + len(HEADER)] + b"\xff\0\xda" * 500 + PROGRESSIVE[LAST_SCAN + len(HEADER) :],
    ],
    ids=["as many as may be", "a preview's", "after the end", "a scan's data"],
)
def test_only_the_scans_of_the_image_itself_count(data: bytes) -> None:
    assert measure(data) == ("image/jpeg", 320, 200)


def test_a_jpeg_of_very_many_segments_is_refused() -> None:
    with pytest.raises(InvalidImageError, match="more than 10,000 segments"):
        measure(JPEG[:2] + segment(0xE0, b"") * 20_000 + JPEG[2:])


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, encoded("JPEG", IMAGE.convert("CMYK"), restart_marker_rows=1)])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_the_same_image(whole: bytes, missing: int) -> None:
    assert ImageChops.difference(open_image(whole[:-missing]), open_image(whole)).getbbox() is None
    with pytest.raises(InvalidImageError):
        measure(whole[: -len(whole) // 4])


def test_a_jpeg_may_lack_some_of_its_last_blocks_and_no_scan() -> None:
    assert measure(JPEG[:-8]) == ("image/jpeg", 320, 200)
    # Cut where the last scan begins: each pixel is there, and none as sharp as it should be.
    with pytest.raises(InvalidImageError):
        measure(PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda")])


@pytest.mark.parametrize(
    "data",
    [
        PNG_START + bad(b"IHDR", PNG[16:29]) + PNG[33:],
        PNG[: len(PNG) // 2],
        PNG[:33] + PNG[-12:],
    ],
    ids=["header's checksum", "pixels cut off", "no pixels"],
)
def test_a_png_with_faults_in_its_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError):
        measure(data)
