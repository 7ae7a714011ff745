"""The original pasted back into what a vendor drew wholly anew, through the service: polled and synchronous vendors."""

import base64
import contextlib
import io
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any, ClassVar

import anyio
import httpx2
import numpy as np
import pytest
from PIL import Image, ImageChops

import outpaint_mcp.providers as api
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.task import Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.image_copies import COPY_AGAIN_SECONDS

from ..counting import CountingProvider, MovedClock, running, service_over
from ..images.test_library import serving
from ..images.test_paste_back import PLACE, redrawn, scene
from ..providers.easel import KEY, Easel, Shelf, file_at, listed, nowhere
from ..providers.network import Queue
from .test_hand_over import JOB, Frames

ORIGINAL = scene().crop(PLACE)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


DRAWN = png(redrawn(scene()))
MOVED = png(ImageChops.offset(redrawn(scene()), 5, 0))
OTHER = png(redrawn(scene()).rotate(180))


class Redrawing(Frames):
    """Draws everything anew, and answers with several images."""

    original = api.Original.PASTED_BACK

    def parse_result(self, body: Any) -> api.TaskUpdate:
        return self.update("done", urls=tuple(body["images"]))


class RedrawingEasel(Easel):
    original = api.Original.PASTED_BACK
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/paint",
            source=api.Argument(wire="image"),
            zoom=api.Zoom(wire="zoom"),
            arguments={api.Feature.PROVIDER_OPTIONS: api.Argument("any")},
        )
    }


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def request(folder: Path, provider: str, **options: Any) -> api.OutpaintRequest:
    path = folder / "picture.png"
    path.write_bytes(png(ORIGINAL))
    return api.OutpaintRequest(image=str(path), provider=provider, zoom=2, provider_options=options)


def easel(folder: Path, *answers: httpx2.Response) -> tuple[RedrawingEasel, Queue]:
    queue = Queue(list(answers))
    return RedrawingEasel(queue.client(), keep=Shelf(folder).keep, key=KEY), queue


def done(base: str, *names: str) -> list[httpx2.Response | Exception]:
    urls = [f"{base}/{name}" for name in names]
    return [httpx2.Response(200, json={**JOB, "status": "done"}), httpx2.Response(200, json={"images": urls})]


def holds_original(data: bytes, across: int = 0) -> bool:
    box = PLACE[0] + across, PLACE[1], PLACE[2] + across, PLACE[3]
    return np.array_equal(np.asarray(Image.open(io.BytesIO(data)).crop(box)), np.asarray(ORIGINAL))


async def test_the_original_is_pasted_into_each_image_of_a_synchronous_vendor(
    tmp_path: Path, clock: MovedClock
) -> None:
    provider, queue = easel(tmp_path, listed(DRAWN, MOVED, OTHER), listed(DRAWN))
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        task = await service.outpaint(request(tmp_path, "easel"), at_least=30)
        assert task.status is api.Status.SUCCEEDED
        shown = [file_at(image.url) for image in task.images]
        assert [holds_original(shown[0]), holds_original(shown[1], 5), shown[2] == OTHER] == [True] * 3
        assert [(image.mime_type, image.width, image.height) for image in task.images] == [("image/png", 480, 320)] * 3
        assert [note.partition(":")[0] for note in task.notes] == ["Image 2", "Image 3"]
        assert "5 pixels to the right" in task.notes[0]
        assert "was not pasted back" in task.notes[1]
        assert await service.image(task.id, 1) == (shown[0], "image/png")
        # What is extended further is what is shown.
        further = api.OutpaintRequest(task_id=task.id, image_index=1, provider="easel", zoom=2)
        await service.outpaint(further, at_least=30)
        sent = json.loads(queue.requests[1].content)["image"]
        assert holds_original(base64.b64decode(sent.partition(",")[2]))


async def test_the_original_is_pasted_into_a_polled_vendors_images_also_after_a_restart(
    tmp_path: Path, clock: MovedClock
) -> None:
    with serving({"/1": DRAWN, "/2": OTHER}) as base:
        queue = Queue([httpx2.Response(200, json=JOB), *done(base, "1", "2")])
        provider = Redrawing(queue.client(), key="key")
        async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
            asked = request(tmp_path, "frames", model="form", keep_original=True)
            task = await service.outpaint(asked, at_least=30)
            assert task.status is api.Status.RUNNING
        assert b"keep_original" not in queue.requests[0].content
        async with running(service_over(tmp_path, provider, clock=clock, owner="two"), clock) as service:
            await clock.move(30)
            task = await service.get_task(task.id)
    assert task.status is api.Status.SUCCEEDED
    assert holds_original(file_at(task.images[0].url))
    assert task.images[1].url == f"{base}/2"
    assert [note.partition(":")[0] for note in task.notes] == ["Image 2"]


async def test_what_cannot_be_fetched_at_first_is_pasted_when_it_can_be(tmp_path: Path, clock: MovedClock) -> None:
    bodies: dict[str, bytes] = {}
    with serving(bodies) as base:
        queue = Queue([httpx2.Response(200, json=JOB), *done(base, "1")])
        provider = Redrawing(queue.client(), key="key")
        async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
            task = await service.outpaint(request(tmp_path, "frames", model="form"), at_least=30)
            await clock.move(10)
            task = await service.get_task(task.id)
            assert (task.status, task.images[0].url) == (api.Status.SUCCEEDED, f"{base}/1")
            assert "the original is not pasted back yet" in task.notes[0]
            bodies["/1"] = DRAWN
            await clock.move(2 * COPY_AGAIN_SECONDS)
            task = await service.get_task(task.id)
            assert task.notes == ()
            assert holds_original(file_at(task.images[0].url))


async def test_without_the_original_the_image_is_left_alone_and_a_note_says_so(
    tmp_path: Path, clock: MovedClock
) -> None:
    with serving({"/1": DRAWN}) as base:
        queue = Queue([httpx2.Response(200, json=JOB), *done(base, "1")])
        provider = Redrawing(queue.client(), key="key")
        async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
            task = await service.outpaint(request(tmp_path, "frames", model="form"), at_least=30)
            for file in (tmp_path / "sources").iterdir():
                file.unlink()
            await clock.move(30)
            task = await service.get_task(task.id)
            assert (task.status, task.images[0].url) == (api.Status.SUCCEEDED, f"{base}/1")
            assert task.notes == ("The original is no longer on this server, so it was not pasted back.",)
            assert await service.image(task.id, 1) == (DRAWN, "image/png")


async def test_keep_original_false_is_another_order_and_leaves_what_the_vendor_drew(
    tmp_path: Path, clock: MovedClock
) -> None:
    provider, queue = easel(tmp_path, listed(DRAWN), listed(DRAWN))
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        tasks: list[Task] = [
            await service.outpaint(request(tmp_path, "easel", **options), at_least=30)
            for options in ({}, {"keep_original": True}, {"keep_original": False})
        ]
    assert tasks[0].id == tasks[1].id != tasks[2].id
    assert holds_original(file_at(tasks[0].images[0].url))
    assert file_at(tasks[2].images[0].url) == DRAWN
    assert len(queue.requests) == 2
    assert not any(b"keep_original" in one.content for one in queue.requests)


@pytest.mark.parametrize("value", ["false", 0, None, [False]])
async def test_keep_original_is_a_boolean(value: object, tmp_path: Path, clock: MovedClock) -> None:
    provider, _ = easel(tmp_path)
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        with pytest.raises(
            api.InvalidRequestError, match="keep_original in provider_options is true or false"
        ) as found:
            await service.outpaint(request(tmp_path, "easel", keep_original=value))
    assert found.value.advice.startswith("Give false")


async def test_keep_original_is_refused_where_nothing_is_pasted_back(tmp_path: Path, clock: MovedClock) -> None:
    other = Frames(Queue([]).client(), key="key")
    able = RedrawingEasel(Queue([]).client(), keep=nowhere, key=KEY)
    async with running(service_over(tmp_path, other, able, CountingProvider(), clock=clock), clock) as service:
        with pytest.raises(api.UnsupportedFeatureError, match="Frames has no keep_original") as found:
            await service.outpaint(request(tmp_path, "frames", keep_original=False))
    assert "Leave keep_original out" in found.value.advice
    assert "easel" in found.value.advice
    assert able.info().original == "pasted back"


CANNOT_PASTE = """
import json, sys
from outpaint_mcp.images import decode_worker as worker
do = worker._do
worker._do = lambda action, file, job: sys.exit(1) if action == "paste" else do(action, file, job)
worker.main()
"""


async def test_an_image_into_which_nothing_can_be_pasted_is_kept_as_it_came(tmp_path: Path, clock: MovedClock) -> None:
    provider, _ = easel(tmp_path, listed(DRAWN))
    images = ImageLibrary(tmp_path, roots=(tmp_path,), decoder=(sys.executable, "-c", CANNOT_PASTE))
    async with running(service_over(tmp_path, provider, clock=clock, images=images), clock) as service:
        task = await service.outpaint(request(tmp_path, "easel"), at_least=30)
    assert task.status is api.Status.SUCCEEDED
    assert file_at(task.images[0].url) == DRAWN
    assert "could not be pasted back" in task.notes[0]


WAITS_TO_PASTE = """
import sys, time
from pathlib import Path
from outpaint_mcp.images import decode_worker as worker
do = worker._do
def waiting(action, file, job):
    while action == "paste" and not Path(sys.argv[1]).exists():
        time.sleep(0.02)
    return do(action, file, job)
worker._do = waiting
worker.main()
"""


async def test_a_synchronous_vendors_answer_is_on_disk_before_the_original_is_pasted_back(
    tmp_path: Path, clock: MovedClock
) -> None:
    provider, queue = easel(tmp_path, listed(DRAWN, OTHER))
    go = tmp_path / "go"
    images = ImageLibrary(tmp_path, roots=(tmp_path,), decoder=(sys.executable, "-c", WAITS_TO_PASTE, str(go)))
    left = tmp_path / "left.db"
    answered = anyio.Event()

    def hear(event: TaskEvent) -> None:
        if event.status is api.Status.RUNNING:
            answered.set()

    async with running(service_over(tmp_path, provider, clock=clock, images=images), clock) as service:
        service.events.subscribe(hear)
        async with anyio.create_task_group() as calls:
            calls.start_soon(service.outpaint, request(tmp_path, "easel"))
            with anyio.fail_after(30):
                await answered.wait()
            # As if this process were killed now.
            with (
                contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as store,
                contextlib.closing(sqlite3.connect(left)) as copy,
            ):
                store.backup(copy)
            (task,) = await service.recent()
            go.touch()
    later = service_over(tmp_path, provider, clock=clock, store=SqliteStore(left, "two"))
    await clock.move(60)
    async with running(later, clock):
        await clock.move(10)
        task = await later.get_task(task.id)
    assert task.status is api.Status.SUCCEEDED
    assert holds_original(file_at(task.images[0].url))
    assert "Image 2" in task.notes[0]
    assert len(queue.requests) == 1
