"""The local engine as a provider: its options and limits, and jobs that outlive the process that drew them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import ResultImage, Status, TaskUpdate
from outpaint_mcp.images.files import name_in
from outpaint_mcp.providers.local.plan import MAX_PIXELS
from outpaint_mcp.providers.local.provider import LocalProvider

from ..through import image_order, input_image, order
from .conftest import Landscape

REQUEST = OutpaintRequest(image="a.png", zoom=1.5)


@pytest.fixture
def source(tmp_path: Path, landscape: Landscape) -> InputImage:
    path = tmp_path / "source.png"
    Image.fromarray(landscape()).save(path)
    return input_image(96, 72, path=str(path), url=None)


async def finished(provider: LocalProvider, update: TaskUpdate) -> TaskUpdate:
    assert update.remote_id is not None
    with anyio.fail_after(120):
        while not update.status.is_final:
            await anyio.sleep(0.02)
            update = await provider.poll(update.remote_id)
    return update


def file_of(image: ResultImage, folder: Path) -> Path:
    return folder / "data" / "images" / (name_in(image.url) or "")


def drawn(update: TaskUpdate, folder: Path) -> list[bytes]:
    return [file_of(image, folder).read_bytes() for image in update.images]


def fast(source: InputImage, **changes: Any) -> Order:
    return image_order(source, options={"quality": "fast"}, **changes)


async def test_a_job_is_drawn_where_its_frame_says_and_costs_nothing(tmp_path: Path, source: InputImage) -> None:
    provider = LocalProvider(tmp_path / "data")
    async with provider.running():
        update = await provider.start(fast(source))
        assert update.status is Status.QUEUED
        update = await finished(provider, update)
    assert update.status is Status.SUCCEEDED
    assert (update.cost and update.cost.usd, update.is_grid) == (0, False)
    (image,) = update.images
    assert (image.mime_type, image.width, image.height) == ("image/png", 144, 108)
    pixels = np.asarray(Image.open(file_of(image, tmp_path)))
    assert np.array_equal(pixels[18:90, 24:120], np.asarray(Image.open(source.path)))


async def test_the_same_order_sent_again_is_the_same_job_and_another_process_finishes_it(
    tmp_path: Path, source: InputImage
) -> None:
    first, second = LocalProvider(tmp_path / "data"), LocalProvider(tmp_path / "data")
    async with first.running():
        update = await first.start(fast(source))
    assert not update.status.is_final
    async with second.running():
        assert (await second.start(fast(source))).remote_id == update.remote_id
        done = await finished(second, await second.poll(update.remote_id or ""))
        other = await second.start(fast(source, key="op-2-0"))
        assert other.remote_id != update.remote_id
        assert drawn(await finished(second, other), tmp_path) == drawn(done, tmp_path), (
            "the seed is of the image's bytes"
        )
    third = LocalProvider(tmp_path / "data")
    assert (await third.poll(update.remote_id or "")).images == done.images, "a result is read without drawing"


@pytest.mark.parametrize("remote_id", ["", "draw-", "draw-../../x", "op-1", "draw-" + "0" * 32])
async def test_an_id_that_is_no_jobs_is_unknown(remote_id: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownTaskError):
        await LocalProvider(tmp_path).poll(remote_id)


async def test_an_image_that_cannot_be_read_fails_the_job(tmp_path: Path, source: InputImage) -> None:
    await anyio.Path(source.path).write_bytes(b"no image")
    provider = LocalProvider(tmp_path / "data")
    async with provider.running():
        update = await finished(provider, await provider.start(fast(source)))
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert update.failure.code == "invalid_image"


@pytest.mark.parametrize(
    "options",
    [{"seed": -1}, {"seed": "seven"}, {"quality": "better"}, {"variants": 5}, {"format": "gif"}, {"strength": 1}],
)
def test_an_option_that_does_not_fit_is_refused_by_name(options: dict[str, Any], tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(InvalidRequestError, match=f"provider_options.{name} ") as refused:
        LocalProvider(tmp_path).check(
            OutpaintRequest(image="a.png", zoom=1.5, provider_options=options), SourceKind.IMAGE
        )
    assert "quality (fast, balanced, best)" in refused.value.advice


def test_options_are_ordered_with_their_defaults_so_that_the_same_job_is_the_same_order(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path)
    provider.check(REQUEST, SourceKind.IMAGE)
    defaults = {"quality": "balanced", "variants": 1, "format": "png"}
    for given in ({}, {"variants": 1}):
        assert provider.normalised_options(given, OutpaintRequest()) == defaults
    assert provider.normalised_options({"seed": 7, "format": "webp"}, OutpaintRequest()) == {
        **defaults,
        "seed": 7,
        "format": "webp",
    }


def test_each_variant_has_a_seed_of_its_own(tmp_path: Path, source: InputImage) -> None:
    job = LocalProvider(tmp_path).build_job(image_order(source, options={"seed": 7, "variants": 3}))
    assert job.seeds == (7, 8, 9)


@pytest.mark.parametrize(
    ("size", "zoom", "ratio"),
    [
        ((5712, 4284), 2, None),
        ((12_000, 10_000), 1, AspectRatio(6000, 5001)),
        ((16_384, 3000), 1.01, AspectRatio(9, 16)),
        ((120_000_000, 1), 1.5, None),
        ((1, 60_000_000), 1.5, AspectRatio(1, 7)),
    ],
)
def test_what_is_too_large_is_drawn_smaller_in_the_same_shape(
    tmp_path: Path, size: tuple[int, int], zoom: float, ratio: AspectRatio | None
) -> None:
    frame = Frame.around(*size, zoom=zoom, aspect_ratio=ratio)
    job = LocalProvider(tmp_path).build_job(replace(image_order(input_image(*size)), frame=frame))
    width, height, x, y = job.canvas
    assert job.size is not None
    inner_width, inner_height = job.size
    assert 0.99 * MAX_PIXELS < width * height <= MAX_PIXELS
    assert 0 <= x <= width - inner_width
    assert 0 <= y <= height - inner_height
    assert (width, height) != job.size, "there is something to draw"
    if min(size) > 1:
        assert inner_width / inner_height == pytest.approx(size[0] / size[1], rel=0.001)
        assert width / height == pytest.approx(frame.canvas_width / frame.canvas_height, rel=0.01)
        assert inner_width / width == pytest.approx(frame.width / frame.canvas_width, rel=0.001)


def test_what_fits_is_not_scaled(tmp_path: Path) -> None:
    frame = Frame(8000, MAX_PIXELS // 8000, 0, 0, 8000, 9999)
    job = LocalProvider(tmp_path).build_job(replace(image_order(input_image(8000, 9999)), frame=frame))
    assert (job.canvas, job.size) == ((8000, MAX_PIXELS // 8000, 0, 0), None)


def test_a_task_is_not_what_it_draws(tmp_path: Path) -> None:
    with pytest.raises(UnexpectedResponseError):
        LocalProvider(tmp_path).build_job(order())


async def test_what_a_new_image_does_not_keep_is_said_once(tmp_path: Path) -> None:
    frames = [Image.merge("RGB", [Image.effect_noise((1600, 1400), 90) for _ in "RGB"]) for _ in range(2)]
    exif = Image.Exif()
    exif[0x8298] = "Somebody"
    path = tmp_path / "source.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], exif=exif, compress_level=1)
    source = input_image(1600, 1400, path=str(path), url=None)
    provider = LocalProvider(tmp_path)
    async with provider.running():
        options = {"quality": "fast", "variants": 2}
        frame = Frame(1640, 1400, 20, 0, 1600, 1400)
        update = await finished(
            provider,
            await provider.start(replace(image_order(source, options=options), frame=frame)),
        )
    assert len(update.notes) == 2, update.notes
    assert update.notes[0] == "Not kept in the new image: all frames or pages but the first; the copyright notice."
    assert re.fullmatch(r'The new PNG has \d+ MB, .*"format": "jpeg".*', update.notes[1])
