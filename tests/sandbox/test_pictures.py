"""What the sandbox draws, by the local engine where that matters."""

import io
from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
from PIL import Image

from outpaint_mcp.sandbox.pictures import (
    Box,
    Extended,
    Picture,
    PictureGoneError,
    Placed,
    PlainPainter,
    Scene,
    Sheet,
    Shelf,
)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf(PlainPainter(), max_side=1024, max_files=100)
    yield shelf
    shelf.close()


async def pixels(shelf: Shelf, picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    data, mime_type = await shelf.read(picture)
    assert mime_type == "image/png"
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


async def test_the_engine_paints_around_the_parents_own_pixels() -> None:
    shelf = Shelf(None, max_side=1024, max_files=100)
    parent = await pixels(shelf, Scene.of(1))
    painted = await pixels(shelf, Extended.of(Scene.of(1), 1.25))
    assert painted.shape == (320, 320, 3)
    assert np.array_equal(painted[32:288, 32:288], parent)
    ring = np.concatenate([painted[:32].reshape(-1, 3), painted[288:].reshape(-1, 3)])
    assert ring.std(axis=0).min() > 1
    shelf.close()


async def test_scenes_differ_by_seed_and_are_the_same_every_time(shelf: Shelf) -> None:
    other = Shelf(PlainPainter(), max_side=1024, max_files=100)
    one, two = await pixels(shelf, Scene.of(1)), await pixels(shelf, Scene.of(2))
    assert np.abs(one.astype(int) - two).mean() > 5
    assert np.array_equal(one, await pixels(other, Scene.of(1)))
    other.close()


async def test_a_sheet_shows_its_four_in_reading_order(shelf: Shelf) -> None:
    four = tuple(Scene.of(seed) for seed in range(4))
    sheet = await pixels(shelf, Sheet.of(four))
    corners = [sheet[:256, :256], sheet[:256, 256:], sheet[256:, :256], sheet[256:, 256:]]
    for corner, scene in zip(corners, four, strict=True):
        assert np.array_equal(corner, await pixels(shelf, scene))


async def test_a_chain_of_outpaints_stays_small(shelf: Shelf) -> None:
    picture: Picture = Scene.of(1)
    for _ in range(5):
        picture = Extended.of(picture, 2.0)
    assert (await pixels(shelf, picture)).shape == (1024, 1024, 3)


def test_pictures_made_alike_are_the_same_picture() -> None:
    scene = Scene.of(1)
    assert Extended.of(scene, 2, (32, 18)) == Extended.of(Scene.of(1), 2.0, (16, 9))
    assert Extended.of(scene, 2.0) != Extended.of(scene, 1.5)
    assert Extended.of(scene, 2.0, seed=1) != Extended.of(scene, 2.0)
    assert Extended.of(Scene.of(2), 2.0) != Extended.of(scene, 2.0)


async def test_a_placed_picture_lies_where_it_was_put(shelf: Shelf) -> None:
    box = Box(canvas_width=500, canvas_height=400, x=20, y=60, width=256, height=256)
    placed = await pixels(shelf, Placed.of(Scene.of(1), box))
    assert placed.shape == (400, 500, 3)
    assert np.array_equal(placed[60:316, 20:276], await pixels(shelf, Scene.of(1)))


async def test_a_picture_wanted_many_times_at_once_is_drawn_once(shelf: Shelf) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(shelf.read, Extended.of(Scene.of(1), 1.5))
    assert shelf.drawn == 2


async def test_the_oldest_files_go_and_are_drawn_again(tmp_path: Path, picture: bytes) -> None:
    shelf = Shelf(PlainPainter(), max_side=1024, max_files=3)
    stored = await shelf.store(picture)
    assert (stored.width, stored.height, stored.mime_type) == (60, 40, "image/png")
    assert (await shelf.read(stored.picture))[0] == picture
    first = (await shelf.file(Scene.of(0)), await pixels(shelf, Scene.of(0)))
    for seed in range(1, 4):
        await shelf.read(Scene.of(seed))
    assert not first[0].exists()
    assert np.array_equal(await pixels(shelf, Scene.of(0)), first[1])
    with pytest.raises(PictureGoneError):
        await shelf.read(Sheet.of((stored.picture,) * 4))
    shelf.close()
    assert not first[0].parent.exists()
