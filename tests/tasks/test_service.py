"""The use cases at their own door: pictures that come and go, clients kept apart, a service that stops."""

import io
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from PIL import Image

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import (
    ForbiddenUrlError,
    InvalidImageError,
    InvalidRequestError,
    OrderUnconfirmedError,
    ProviderUnavailableError,
    UnknownTaskError,
)
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, ResultImage, Status, Task, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.size_limit import MAX_BYTES
from outpaint_mcp.providers.declarations import Argument, Operation, Zoom
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import Service, ServiceOptions

from ..counting import SINGLE, CountingProvider, MovedClock, raising, running, service_over
from ..images.test_library import file_of, serving
from ..serving import picture
from .test_orders import final, request, stored_bytes

RESULT = file_of(size=(40, 30))
RESULT_2 = file_of(size=(44, 30))
OTHER = "somebody-else"


def pixels(data: bytes) -> bytes:
    """What there is to see of an image; a vendor gets it written anew."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


class PictureProvider(CountingProvider):
    """One that takes pictures of one's own too, and reads their files as it orders. `read` has their pixels."""

    name = "painting"
    title = "Painting"
    sources: ClassVar[tuple[SourceForm, ...]] = (SourceForm.GRID, SourceForm.UPSCALED, SourceForm.OWN_IMAGE)
    operations: ClassVar = {
        SourceKind.TASK: Operation(zoom=Zoom(1.1, 2.0), arguments={Feature.IMAGE_INDEX: Argument("1 to 4")}),
        SourceKind.IMAGE: Operation(zoom=Zoom(1.1, 2.0), arguments={Feature.PROMPT: Argument("any")}),
    }

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []

    async def start(self, order: Order) -> TaskUpdate:
        if isinstance(order.source, InputImage):
            self.read.append(pixels(await anyio.Path(order.source.path).read_bytes()))
        return await super().start(order)


class RepeatablePictureProvider(PictureProvider):
    idempotent: ClassVar[bool] = True


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def bodies() -> dict[str, bytes]:
    """What the vendor's image server gives; a path that is taken out is gone."""
    return {"/0.png": RESULT, "/1.png": RESULT_2}


@pytest.fixture
def images(bodies: dict[str, bytes]) -> Iterator[str]:
    """The vendor's image server; its base URL."""
    with serving(bodies) as base:
        yield base


def own(path: Path, **changes: Any) -> OutpaintRequest:
    return OutpaintRequest(**{"image": str(path), "provider": "painting", **changes})


def finish(vendor: CountingProvider, remote_id: str, *urls: str) -> None:
    vendor.set(
        remote_id,
        Status.SUCCEEDED,
        images=tuple(ResultImage(url) for url in urls),
        is_grid=len(urls) > 1,
        cost=Cost(amount=8, unit="points"),
    )


async def done(service: Service, clock: MovedClock, vendor: CountingProvider, *urls: str) -> Task:
    """A task that succeeded with these images."""
    task = await service.outpaint(request(provider=vendor.name))
    assert task.remote_id is not None
    finish(vendor, task.remote_id, *urls)
    await clock.move(11)
    task = await service.get_task(task.id)
    assert task.status is Status.SUCCEEDED
    return task


def files_in(folder: Path) -> list[Path]:
    return sorted(path for name in ("sources", "images") for path in (folder / name).glob("*") if path.is_file())


# Images that come and go


@pytest.mark.parametrize(("room", "old"), [({"keep_images_bytes": 1}, False), ({"keep_images_days": 30}, True)])
async def test_pictures_are_deleted_by_age_and_by_size_but_never_the_source_of_an_open_task(
    tmp_path: Path, clock: MovedClock, images: str, room: dict[str, Any], old: bool
) -> None:
    vendor = PictureProvider()

    async def left(service: Service) -> list[Path]:
        for file in files_in(tmp_path):
            if old:
                os.utime(file, (0, 0))
        await service.tidy()
        return files_in(tmp_path)

    async with running(service_over(tmp_path, vendor, clock=clock, **room), clock) as service:
        task = await service.outpaint(own(picture(tmp_path)))
        before = files_in(tmp_path)
        assert (len(before), await left(service)) == (1, before)
        finish(vendor, "r-0", f"{images}/0.png")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
        assert await left(service) == []


async def test_an_image_is_read_from_our_own_copy_though_the_vendor_has_forgotten_it(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png")
        bodies.clear()
        assert await service.image(task.id, 1) == (RESULT, "image/png")
        assert (task.images[0].width, task.images[0].height, task.images[0].mime_type) == (40, 30, "image/png")


async def test_an_image_that_was_deleted_here_is_fetched_again_while_the_vendor_has_it_and_is_else_an_error(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock, keep_images_bytes=0), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png", f"{images}/1.png")
        await service.tidy()
        assert files_in(tmp_path) == []
        assert await service.preview(task.id) is None
        assert await service.image(task.id, 2) == (RESULT_2, "image/png")
        assert len(files_in(tmp_path)) == 1, "and kept"
        await service.tidy()
        bodies.clear()
        with pytest.raises(InvalidImageError) as caught:
            await service.image(task.id, 2)
        assert "404" in str(caught.value)
        with pytest.raises(UnknownTaskError, match="no image 3"):
            await service.image(task.id, 3)


async def test_a_vendors_image_over_50_mb_is_kept_out_and_the_task_says_so(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    bodies["/0.png"] = RESULT + bytes(MAX_BYTES)
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png", f"{images}/1.png")
        assert task.images[0].url == f"{images}/0.png", "its URL is given all the same"
        assert any("could not be copied" in note for note in task.notes)
        with pytest.raises(InvalidImageError, match="larger than 50 MB"):
            await service.image(task.id, 1)
        assert (await service.image(task.id, 2))[0] == RESULT_2
    assert [path.stat().st_size for path in files_in(tmp_path)] == [len(RESULT_2)]


async def test_an_own_picture_over_50_mb_is_refused_before_a_task_exists(tmp_path: Path, clock: MovedClock) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(RESULT)
        file.truncate(MAX_BYTES + 1)
    vendor = PictureProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        with pytest.raises(InvalidImageError, match="larger than 50 MB"):
            await service.outpaint(own(tmp_path / "big.png"))
        assert await service.recent() == []
    assert (vendor.orders, files_in(tmp_path)) == ([], [])


async def test_images_that_cannot_be_copied_at_once_are_copied_later_and_the_note_goes(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    del bodies["/1.png"]
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png", f"{images}/1.png")
        assert any("could not be copied" in note for note in task.notes)
        bodies["/1.png"] = RESULT_2
        await clock.move(61)
        bodies.clear()
        task = await service.get_task(task.id)
        assert not any("could not be copied" in note for note in task.notes)
        assert (await service.image(task.id, 2))[0] == RESULT_2


async def test_images_that_can_never_be_copied_are_tried_for_two_hours(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    bodies.clear()
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png")
        await clock.move(2 * 3600 + 120)
        bodies["/0.png"] = RESULT
        await clock.move(600)
        assert files_in(tmp_path) == []
        assert any("could not be copied" in note for note in (await service.get_task(task.id)).notes)
        assert (await service.image(task.id, 1))[0] == RESULT, "who asks for it has it fetched"


async def test_an_image_that_another_process_looks_after_is_shown_and_its_task_left_to_that_process(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    vendor = CountingProvider()
    body = bodies.pop("/0.png")
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    async with running(one, clock), two.running():
        task = await done(one, clock, vendor, f"{images}/0.png")
        bodies["/0.png"] = body
        assert (await two.image(task.id, 1))[0] == RESULT
        assert any("could not be copied" in note for note in (await two.get_task(task.id)).notes)
        await clock.move(61)
        assert not any("could not be copied" in note for note in (await two.get_task(task.id)).notes)


# One vendor's image as another's source


@pytest.mark.parametrize("kept", [False, True])
async def test_a_finished_image_can_be_handed_to_another_vendor_whether_it_could_be_copied_before_or_not(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes], kept: bool
) -> None:
    counting, painting = CountingProvider(), PictureProvider()
    body = bodies["/1.png"]
    if not kept:
        del bodies["/1.png"]
    async with running(service_over(tmp_path, counting, painting, clock=clock), clock) as service:
        task = await done(service, clock, counting, f"{images}/0.png", f"{images}/1.png")
        if not kept:
            with pytest.raises(InvalidImageError):
                await service.outpaint(request(task_id=task.id, image_index=2, provider="painting"))
            bodies["/1.png"] = body
        await service.outpaint(request(task_id=task.id, image_index=2, provider="painting"))
        with pytest.raises(InvalidRequestError, match="image_index is 3"):
            await service.outpaint(request(task_id=task.id, image_index=3, provider="painting"))
    (order,) = painting.orders
    assert isinstance(order.source, InputImage)
    assert (order.source.url, order.source.width, order.source.height) == (f"{images}/1.png", 44, 30)
    assert painting.read == [pixels(RESULT_2)]


async def test_what_is_left_to_copy_is_copied_by_the_process_whose_reader_took_the_task_over(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    vendor, there = CountingProvider(), dict(bodies)
    bodies.clear()
    async with running(service_over(tmp_path, vendor, clock=clock, owner="one"), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png", f"{images}/1.png")
    bodies.update(there)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    heard: list[TaskEvent] = []
    async with two.running():
        two.events.subscribe(heard.append)
        await two.image(task.id, 1)
        assert [event.task_id for event in heard if event.due_at is not None] == [task.id]
        await two._lifecycle.advance(task.id)
        bodies.clear()
        assert (await two.image(task.id, 2))[0] == RESULT_2


@pytest.mark.parametrize("lives", [True, False])
async def test_a_finished_image_that_was_deleted_here_is_fetched_again_for_another_vendor_or_refused(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes], lives: bool
) -> None:
    counting, painting = CountingProvider(), PictureProvider()
    options: dict[str, Any] = {"keep_images_bytes": 0, "daily_limits": DailyLimits(orders=2)}
    async with running(service_over(tmp_path, counting, painting, clock=clock, **options), clock) as service:
        task = await done(service, clock, counting, f"{images}/0.png")
        await service.tidy()
        handed_on = request(task_id=task.id, provider="painting")
        if lives:
            assert (await service.outpaint(handed_on)).status is Status.QUEUED
            assert painting.read == [pixels(RESULT)]
        else:
            bodies.clear()
            with pytest.raises(InvalidImageError):
                await service.outpaint(handed_on)


async def test_a_task_without_images_has_none_to_hand_on(tmp_path: Path, clock: MovedClock) -> None:
    counting, painting = CountingProvider(), PictureProvider()
    async with running(service_over(tmp_path, counting, painting, clock=clock), clock) as service:
        task = await done(service, clock, counting)
        assert task.next == "Done, but none of its images can be opened here: see the notes, or the task at counting."
        with pytest.raises(InvalidRequestError, match="no image 1"):
            await service.outpaint(request(task_id=task.id, provider="painting"))
        assert await service.preview(task.id) is None
    assert painting.orders == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_pictures_url_reaches_the_vendor_whole_and_after_a_restart_our_copy_does_in_its_place(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes], restarted: bool
) -> None:
    signed = f"{images}/0.png?sig=planted"
    bodies["/0.png?sig=planted"] = RESULT
    vendor = RepeatablePictureProvider()
    vendor.before_start = raising(OrderUnconfirmedError("The connection broke."))
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(OutpaintRequest(image=signed, provider="painting"))
        assert (task.status, task.request["image"]) == (Status.UNKNOWN, f"{images}/0.png")
        if not restarted:
            await clock.move(30)
    async with running(service_over(tmp_path, vendor, clock=clock, owner="two"), clock):
        await clock.move(30)
    (order,) = vendor.orders
    assert isinstance(order.source, InputImage)
    assert order.source.url == (None if restarted else signed)
    assert vendor.read == [pixels(RESULT)] * 2
    assert b"planted" not in stored_bytes(tmp_path)


# Callers


async def test_two_callers_never_see_each_others_tasks_by_any_door(
    tmp_path: Path, clock: MovedClock, images: str
) -> None:
    vendor = CountingProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, f"{images}/0.png")
        assert await service.preview(task.id) is not None
        vendor.polls.clear()
        remote = {"task_id": "r-0", "provider": "counting"}
        for attempt in (
            lambda: service.get_task(task.id, client=OTHER),
            lambda: service.get_task(task.id, provider="counting", client=OTHER),
            lambda: service.image(task.id, 1, client=OTHER),
            lambda: service.preview(task.id, client=OTHER),
            lambda: service.outpaint(request(task_id=task.id, provider="auto"), client=OTHER),
            lambda: service.outpaint(request(task_id=task.id), client=OTHER),
            lambda: service.get_task("r-0", provider="counting", client=OTHER),
            lambda: service.outpaint(request(**remote), client=OTHER),
        ):
            with pytest.raises(UnknownTaskError):
                await attempt()
        assert vendor.polls == [], "nor is the vendor asked on their behalf"
        assert await service.recent(client=OTHER) == []
        assert {one.id for one in await service.recent()} >= {task.id}
        assert (await service.get_task("r-0", provider="counting")).id == task.id
    assert len(vendor.orders) == 1


async def test_another_callers_task_is_refused_in_the_same_words_as_one_that_there_is_not(
    tmp_path: Path, clock: MovedClock
) -> None:
    async with running(service_over(tmp_path, CountingProvider(), clock=clock), clock) as service:
        task = await service.outpaint(request())
        said: list[str] = []
        for task_id in (task.id, "op-nothing"):
            with pytest.raises(UnknownTaskError) as caught:
                await service.get_task(task_id, client=OTHER)
            said.append(str(caught.value).replace(task_id, "..."))
    assert said[0] == said[1]


async def test_the_same_order_of_two_callers_is_two_orders_on_two_budgets(tmp_path: Path, clock: MovedClock) -> None:
    vendor = PictureProvider()
    async with running(
        service_over(tmp_path, vendor, clock=clock, daily_limits=DailyLimits(orders=1)), clock
    ) as service:
        order = own(picture(tmp_path))
        first = await service.outpaint(order)
        second = await service.outpaint(order, client=OTHER)
        assert first.id != second.id
        figures = await service.figures()
    assert len(vendor.orders) == 2
    assert {client: caps.orders for client, caps in figures.left.items()} == {"local": 0, OTHER: 0}


# Files of this machine


class DrawingProvider(CountingProvider):
    """One that draws on this machine."""

    leaves_machine: ClassVar[bool] = False


@pytest.mark.parametrize("vendor", [DrawingProvider(), CountingProvider()], ids=["drawn here", "from a vendor"])
async def test_only_what_draws_on_this_machine_may_name_a_file_of_it_as_its_image(
    tmp_path: Path, clock: MovedClock, vendor: CountingProvider
) -> None:
    path = picture(tmp_path)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await done(service, clock, vendor, path.as_uri())
        if vendor.leaves_machine:
            assert (files_in(tmp_path), await service.preview(task.id)) == ([], None)
            with pytest.raises(ForbiddenUrlError):
                await service.image(task.id, 1)
        else:
            assert await service.image(task.id, 1) == (path.read_bytes(), "image/png")


# Ids


async def test_a_providers_own_id_needs_the_providers_name_and_one_that_there_is(
    tmp_path: Path, clock: MovedClock
) -> None:
    async with running(service_over(tmp_path, CountingProvider(), clock=clock), clock) as service:
        with pytest.raises(UnknownTaskError, match="name the provider"):
            await service.get_task(SINGLE)
        with pytest.raises(InvalidRequestError, match="no provider 'nobody'"):
            await service.get_task(SINGLE, provider="nobody")


async def test_a_task_that_is_taken_in_while_it_runs_is_followed_to_its_end(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    vendor.set("elsewhere", Status.RUNNING)
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.get_task("elsewhere", provider="counting")
        assert task.status is Status.RUNNING
        vendor.finish("elsewhere")
        assert (await final(service, clock, task)).status is Status.SUCCEEDED
    assert vendor.orders == []


async def test_a_task_that_is_taken_in_when_it_is_done_is_taken_in_with_its_images(
    tmp_path: Path, clock: MovedClock, images: str, bodies: dict[str, bytes]
) -> None:
    vendor = CountingProvider()
    finish(vendor, "elsewhere", f"{images}/0.png")
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.get_task("elsewhere", provider="counting")
        await clock.move(1)
        bodies.clear()
        assert (task.status, (await service.image(task.id, 1))[0]) == (Status.SUCCEEDED, RESULT)


# Callbacks


class CalledProvider(CountingProvider):
    async def called_back(self, headers: Any, body: bytes, token: str = "") -> str:
        return body.decode()

    def callback_token(self, task_id: str) -> str:
        return f"token-of-{task_id}"


async def test_a_callback_is_about_a_task_that_there_is_of_a_provider_that_there_is(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CalledProvider()
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        token = vendor.callback_token(task.id)
        vendor.polls.clear()
        for provider, body in (("counting", b"r-9"), ("nobody", b"r-0")):
            assert not await service.handle_callback(provider, token, {}, body)
        assert not await service.handle_callback("counting", "another's", {}, b"r-0")
        await clock.move(1)
        assert vendor.polls == []
        vendor.finish("r-0")
        assert await service.handle_callback("counting", token, {}, b"r-0")
        await clock.move(1)
        assert (await service.get_task(task.id)).status is Status.SUCCEEDED
        vendor.polls.clear()
        assert await service.handle_callback("counting", token, {}, b"r-0")
        await clock.move(1)
        assert vendor.polls == []


# Starting and stopping


async def test_what_is_asked_of_a_service_that_does_not_run_is_sent_once_it_does_and_only_once(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    one = service_over(tmp_path, vendor, clock=clock)
    two = service_over(tmp_path, vendor, clock=clock, owner="two")
    for service in (one, two):
        with pytest.raises(RuntimeError, match="inside running"):
            await service.outpaint(request())
    assert vendor.orders == []
    async with two.running(), running(one, clock):
        task = await one.outpaint(request())
        assert (task.status, (await two.outpaint(request())).id) == (Status.QUEUED, task.id)
    assert len(vendor.orders) == 1


async def test_a_service_that_stops_sends_waiters_home_takes_no_orders_and_still_tells_of_tasks(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    found: list[Task] = []
    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())

        async def wait() -> None:
            found.append(await service.get_task(task.id, wait_seconds=45))

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            await clock.until_asleep()
            with anyio.fail_after(10):
                await service.stop(5)
        assert [one.status for one in found] == [Status.QUEUED]
        with pytest.raises(ProviderUnavailableError, match="stopping"):
            await service.outpaint(request(zoom=1.5))
        assert (await service.get_task(task.id, wait_seconds=45)).status is Status.QUEUED, "at once"
    assert len(vendor.orders) == 1


class HeldClaims(SqliteStore):
    """A store that is slow to write an intent down."""

    reached: anyio.Event
    go_on: anyio.Event

    async def claim(self, record: Record, **options: Any) -> tuple[Record, bool]:
        self.reached.set()
        await self.go_on.wait()
        return await super().claim(record, **options)


async def test_an_order_that_was_under_way_when_the_service_began_to_stop_is_placed_and_answered(
    tmp_path: Path, clock: MovedClock
) -> None:
    vendor = CountingProvider()
    store = HeldClaims(tmp_path / "store.db", "one")
    store.reached, store.go_on = anyio.Event(), anyio.Event()
    found: list[Task] = []
    service = Service(
        store=store,
        images=ImageLibrary(tmp_path, roots=(tmp_path,), allow_private=True),
        providers={"counting": vendor},
        options=ServiceOptions(auto=("counting",)),
        clock=clock,
    )
    async with running(service, clock):

        async def call() -> None:
            found.append(await service.outpaint(request(), wait_seconds=45))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await store.reached.wait()
            tasks.start_soon(service.stop, 30)
            await anyio.wait_all_tasks_blocked()
            store.go_on.set()
    assert [(task.status, task.remote_id) for task in found] == [(Status.QUEUED, "r-0")]


async def test_a_service_that_nobody_uses_stops_at_once(tmp_path: Path, clock: MovedClock) -> None:
    async with running(service_over(tmp_path, CountingProvider(), clock=clock), clock) as service:
        with anyio.fail_after(2):
            await service.stop(60)


# Waiting


async def test_progress_is_the_vendors_where_it_gives_one_and_always_rises(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CountingProvider()
    heard: list[float] = []

    async def listen(percent: float, message: str) -> None:
        heard.append(percent)

    async with running(service_over(tmp_path, vendor, clock=clock), clock) as service:
        task = await service.outpaint(request())
        vendor.set("r-0", Status.RUNNING, progress=40)
        await clock.move(11)

        async def wait() -> None:
            await service.get_task(task.id, wait_seconds=14, on_progress=listen)

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            vendor.set("r-0", Status.RUNNING, progress=20)
            for said in range(1, 4):
                while len(heard) < said:
                    await anyio.wait_all_tasks_blocked()
                await clock.until_asleep()
                await clock.move(5)
    assert heard[0] == 40
    assert all(before < after < 100 for before, after in pairwise(heard))
