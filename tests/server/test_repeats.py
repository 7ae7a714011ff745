"""The same call again, for an image whose URL gives other bytes each time, or none any more."""

import contextlib
import io
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from mcp import Client
from PIL import Image, PngImagePlugin

from outpaint_mcp.domain.errors import OrderUnconfirmedError
from outpaint_mcp.domain.request import Feature, SourceKind
from outpaint_mcp.domain.task import ResultImage, Status
from outpaint_mcp.providers.declarations import Argument, Operation, Zoom
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.tools import ResultShape
from outpaint_mcp.storage.sqlite.schema import MIGRATIONS, rehash
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import Service

from ..counting import SINGLE, MovedClock, raising, running, service_over
from ..images.test_library import serving
from ..serving import connected, picture, settings_for
from ..tasks.test_orders import stored_bytes
from ..tasks.test_service import PictureProvider

pytestmark = pytest.mark.usefixtures("decoded_here")


class Painter(PictureProvider):
    operations: ClassVar = {
        SourceKind.TASK: Operation(zoom=Zoom(1.1, 2.0), arguments={Feature.PROMPT: Argument("any")}),
        SourceKind.IMAGE: Operation(
            zoom=Zoom(1.0, 2.0),
            arguments={
                Feature.PROMPT: Argument("any"),
                Feature.ASPECT_RATIO: Argument("any"),
                Feature.SIDES: Argument("any"),
            },
        ),
    }


class Stamping(dict[str, bytes]):
    """A web server's files, which writes the time into each PNG that it gives; `size` is the image's."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.size = (40, 30)
        self.expired = False

    def get(self, path: str, default: Any = None) -> Any:
        self.asked.append(path)
        if self.expired:
            return default
        stamp = PngImagePlugin.PngInfo()
        stamp.add_text("stamp", str(len(self.asked)))
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize(self.size).convert("RGB").save(buffer, "PNG", pnginfo=stamp)
        return buffer.getvalue()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def files() -> Stamping:
    return Stamping()


@pytest.fixture
def url(files: Stamping) -> Iterator[str]:
    with serving(files) as base:
        yield f"{base}/photo.png?signature=hush"


@contextlib.asynccontextmanager
async def client_of(service: Service, clock: MovedClock) -> AsyncIterator[Client]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Service]:
        async with running(service, clock):
            yield service

    async with Client(build_server(LazyService(opened), ResultShape, events=service.events)) as client:
        yield client


async def ordered(client: Client, image: str, **changes: Any) -> dict[str, Any]:
    arguments = {"image": image, "zoom": 1.5, "wait_seconds": 0, **changes}
    result = await client.call_tool("outpaint", arguments)
    assert not result.is_error, result.content
    task: dict[str, Any] = result.structured_content
    return task


async def test_a_url_whose_bytes_vary_or_that_expires_is_ordered_once(
    tmp_path: Path, clock: MovedClock, files: Stamping, url: str
) -> None:
    vendor = Painter()
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        first = await ordered(client, url)
        assert len(files.asked) == 1
        # Named or found by auto, the same frame written in another way, and also with repeat while it is open.
        for again in ({}, {"provider": "painting"}, {"aspect_ratio": "4:3"}, {"repeat": True}):
            same = await ordered(client, url, **again)
            assert same["id"] == first["id"]
            assert any("nothing new was ordered" in note for note in same["notes"])
        files.expired = True
        assert (await ordered(client, url))["id"] == first["id"]
        vendor.finish("r-0")
        await clock.move(300)
        assert (await ordered(client, url))["status"] == "succeeded"
    # Another process: the store alone knows of it.
    async with client_of(service_over(tmp_path, vendor, clock=clock, owner="two"), clock) as client:
        assert (await ordered(client, url))["id"] == first["id"]
        assert len(files.asked) == 1, "nothing is fetched for what stands"
        files.expired = False
        anew = await ordered(client, url, repeat=True)
        assert anew["id"] != first["id"], "the first is final"
        vendor.finish("r-1")
        await clock.move(30)
        assert (await ordered(client, url))["id"] == anew["id"], "the newest"
        await clock.move(620)
        assert (await ordered(client, url))["id"] not in (first["id"], anew["id"]), "10 minutes after"
    assert len(vendor.orders) == 3
    assert b"hush" not in stored_bytes(tmp_path)


async def test_a_url_that_gives_an_image_of_another_shape_is_ordered_though_the_first_could_not_be_extended_so(
    tmp_path: Path, clock: MovedClock, files: Stamping, url: str
) -> None:
    vendor = Painter()
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        first = await ordered(client, url)
        files.size = (30, 40)
        upright = await ordered(client, url, zoom=1, aspect_ratio="1:1", sides=["left"])
    assert upright["id"] != first["id"]
    assert len(vendor.orders) == 2


@pytest.mark.parametrize("other", [{"zoom": 1.6}, {"prompt": "a lake"}, {"url": "&other"}])
async def test_anything_else_of_the_order_makes_it_another(
    tmp_path: Path, clock: MovedClock, url: str, other: dict[str, Any]
) -> None:
    vendor = Painter()
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        first = await ordered(client, url)
        second = await ordered(client, url + other.pop("url", ""), **other)
    assert first["id"] != second["id"]
    assert len(vendor.orders) == 2


@pytest.mark.parametrize("expired", [False, True])
async def test_an_order_whose_answer_was_lost_is_found_by_its_url(
    tmp_path: Path, clock: MovedClock, files: Stamping, url: str, expired: bool
) -> None:
    vendor = Painter()
    vendor.after_start = raising(OrderUnconfirmedError("The connection broke."))
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        first = await ordered(client, url)
        assert first["status"] == "unknown"
        files.expired = expired
        await clock.move(3600)
        assert (await ordered(client, url))["id"] == first["id"]
    assert len(vendor.orders) == 1


async def test_calls_at_the_same_moment_that_get_different_bytes_are_one_order(
    tmp_path: Path, clock: MovedClock, files: Stamping, url: str
) -> None:
    vendor = Painter()
    ids: list[str] = []
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:

        async def call() -> None:
            ids.append((await ordered(client, url))["id"])

        async with anyio.create_task_group() as calls:
            for _ in range(3):
                calls.start_soon(call)
    assert len(set(ids)) == len(vendor.orders) == 1


async def test_an_order_that_an_earlier_version_stored_under_another_identity_is_found(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = Painter()
    order = {"task_id": SINGLE, "provider": "painting", "zoom": 1.5, "prompt": "a  lake "}
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        first = (await client.call_tool("outpaint", {**order, "wait_seconds": 0})).structured_content
    with sqlite3.connect(tmp_path / "store.db") as db:
        older = (
            "UPDATE tasks SET order_hash = 'older', plan = json_set(plan, '$.prompt', ?) WHERE order_hash IS NOT NULL"
        )
        db.execute(older, (order["prompt"],))
    db.close()
    updated = SqliteStore(tmp_path / "store.db", "two", migrations=(*MIGRATIONS, rehash))
    async with client_of(service_over(tmp_path, vendor, clock=clock, store=updated), clock) as client:
        again = (await client.call_tool("outpaint", {**order, "wait_seconds": 0})).structured_content
    assert again["id"] == first["id"]
    assert len(vendor.orders) == 1


async def test_a_file_with_other_bytes_is_another_image(tmp_path: Path, clock: MovedClock) -> None:
    vendor = Painter()
    path = tmp_path / "photo.png"
    async with client_of(service_over(tmp_path, vendor, clock=clock), clock) as client:
        path.write_bytes(Stamping().get("1"))
        first = await ordered(client, str(path), provider="painting")
        assert (await ordered(client, f"file://{path}", provider="painting"))["id"] == first["id"], (
            "the same bytes, named otherwise"
        )
        Image.new("RGB", (40, 30), "red").save(path)
        assert (await ordered(client, str(path), provider="painting"))["id"] != first["id"]
    assert len(vendor.orders) == 2


async def test_another_tasks_image_that_is_handed_on_is_found_when_its_url_is_gone(
    tmp_path: Path, clock: MovedClock, files: Stamping, url: str
) -> None:
    class OtherProvider(Painter):
        name = "other"
        title = "Other"

    maker, vendor = Painter(), OtherProvider()
    maker.set("made-1", Status.SUCCEEDED, images=(ResultImage(url),), is_grid=False)
    async with client_of(service_over(tmp_path, maker, vendor, clock=clock), clock) as client:
        made = (await client.call_tool("get_task", {"task_id": "made-1", "provider": "painting"})).structured_content
        order = {"task_id": made["id"], "provider": "other", "zoom": 1.5, "wait_seconds": 0}
        first = (await client.call_tool("outpaint", order)).structured_content
        assert first["provider"] == "other"
        files.expired = True
        for copy in (tmp_path / "images").iterdir():
            copy.unlink()
        again = (await client.call_tool("outpaint", order)).structured_content
    assert again["id"] == first["id"]
    assert len(vendor.orders) == 1


async def test_calls_at_the_same_time_for_different_images_are_different_orders(tmp_path: Path) -> None:
    widths = (40, 44, 48)
    made: dict[int, Any] = {}
    async with connected(settings_for(tmp_path)) as client, anyio.create_task_group() as calls:

        async def order(width: int) -> None:
            image = str(picture(tmp_path, width=width, name=f"{width}.png"))
            result = await client.call_tool("outpaint", {"image": image, "wait_seconds": 30})
            made[width] = result.structured_content

        for width in widths:
            calls.start_soon(order, width)
    assert {width: task["images"][0]["width"] for width, task in made.items()} == {one: 2 * one for one in widths}
