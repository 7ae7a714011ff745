"""What the sandbox draws, by the local engine where that matters."""

import io
from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
from PIL import Image

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Extended, Grid, ImageSpec, Placed, Scene
from outpaint_mcp.sandbox.image_store import ImageGoneError, ImageStore
from outpaint_mcp.sandbox.painters import PlainPainter


@pytest.fixture
def store() -> Iterator[ImageStore]:
    store = ImageStore(PlainPainter(), max_side=1024, max_files=100)
    yield store
    store.close()


async def pixels(store: ImageStore, image: ImageSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    data, mime_type = await store.read(image)
    assert mime_type == "image/png"
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


async def test_the_engine_paints_around_the_parents_own_pixels() -> None:
    store = ImageStore(None, max_side=1024, max_files=100)
    parent = await pixels(store, Scene.of(1))
    painted = await pixels(store, Extended.of(Scene.of(1), 1.25))
    assert painted.shape == (320, 320, 3)
    assert np.array_equal(painted[32:288, 32:288], parent)
    ring = np.concatenate([painted[:32].reshape(-1, 3), painted[288:].reshape(-1, 3)])
    assert ring.std(axis=0).min() > 1
    store.close()


async def test_scenes_differ_by_seed_and_are_the_same_every_time(store: ImageStore) -> None:
    other = ImageStore(PlainPainter(), max_side=1024, max_files=100)
    one, two = await pixels(store, Scene.of(1)), await pixels(store, Scene.of(2))
    assert np.abs(one.astype(int) - two).mean() > 5
    assert np.array_equal(one, await pixels(other, Scene.of(1)))
    other.close()


async def test_a_grid_shows_its_four_in_reading_order(store: ImageStore) -> None:
    four = tuple(Scene.of(seed) for seed in range(4))
    grid = await pixels(store, Grid.of(four))
    corners = [grid[:256, :256], grid[:256, 256:], grid[256:, :256], grid[256:, 256:]]
    for corner, scene in zip(corners, four, strict=True):
        assert np.array_equal(corner, await pixels(store, scene))


async def test_a_chain_of_outpaints_stays_small(store: ImageStore) -> None:
    image: ImageSpec = Scene.of(1)
    for _ in range(5):
        image = Extended.of(image, 2.0)
    assert (await pixels(store, image)).shape == (1024, 1024, 3)


def test_images_made_alike_are_the_same_image() -> None:
    scene = Scene.of(1)
    assert Extended.of(scene, 2, (32, 18)) == Extended.of(Scene.of(1), 2.0, (16, 9))
    assert Extended.of(scene, 2.0) != Extended.of(scene, 1.5)
    assert Extended.of(scene, 2.0, seed=1) != Extended.of(scene, 2.0)
    assert Extended.of(Scene.of(2), 2.0) != Extended.of(scene, 2.0)


async def test_a_placed_image_lies_where_it_was_put(store: ImageStore) -> None:
    frame = Frame(canvas_width=500, canvas_height=400, x=20, y=60, width=256, height=256)
    placed = await pixels(store, Placed.of(Scene.of(1), frame))
    assert placed.shape == (400, 500, 3)
    assert np.array_equal(placed[60:316, 20:276], await pixels(store, Scene.of(1)))


async def test_an_image_wanted_many_times_at_once_is_drawn_once(store: ImageStore) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(store.read, Extended.of(Scene.of(1), 1.5))
    assert store.drawn == 2


async def test_the_oldest_files_go_and_are_drawn_again(tmp_path: Path, image_bytes: bytes) -> None:
    store = ImageStore(PlainPainter(), max_side=1024, max_files=3)
    stored = await store.store(image_bytes)
    assert (stored.width, stored.height, stored.mime_type) == (60, 40, "image/png")
    assert (await store.read(stored.image))[0] == image_bytes
    first = (await store.file(Scene.of(0)), await pixels(store, Scene.of(0)))
    for seed in range(1, 4):
        await store.read(Scene.of(seed))
    assert not first[0].exists()
    assert np.array_equal(await pixels(store, Scene.of(0)), first[1])
    with pytest.raises(ImageGoneError):
        await store.read(Grid.of((stored.image,) * 4))
    store.close()
    assert not first[0].parent.exists()
