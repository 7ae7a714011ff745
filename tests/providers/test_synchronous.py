"""A vendor whose answer is the image: a pretend one, over a queue of answers, on loopback and behind the service."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

import outpaint_mcp.providers as api
from outpaint_mcp.domain.errors import OrderUnconfirmedError
from outpaint_mcp.providers.http_client import Timeouts
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.synchronous import LONGEST_PAUSE
from outpaint_mcp.storage.sqlite.store import SqliteStore

from ..counting import MovedClock, running, service_over
from ..serving import picture
from .easel import (
    CENT,
    KEY,
    LARGER,
    PNG,
    Easel,
    Shelf,
    UploadingEasel,
    easel,
    file_at,
    listed,
    nowhere,
    on_disk,
    painted,
)
from .network import Behaviour, http, vendor
from .through import image_order, order

# The answer


@pytest.mark.parametrize("mime_type", ["image/png", "Image/PNG; charset=binary"])
async def test_an_answer_that_is_an_image_is_stored_and_finishes_the_task(mime_type: str, tmp_path: Path) -> None:
    provider, queue = easel(Shelf(tmp_path).keep, painted(PNG, mime_type))
    update = await provider.start(image_order(prompt="a lake"))
    assert (update.status, update.remote_id, update.progress) == (api.Status.SUCCEEDED, "op-1-0", 100)
    assert on_disk(update, tmp_path) == [PNG]
    (image,) = update.images
    assert (image.mime_type, image.width, image.height) == ("image/png", 48, 36)
    assert image.stored is not None
    assert (update.is_grid, update.cost, update.notes) == (False, CENT, ())
    (sent,) = queue.requests
    assert str(sent.url) == "https://easel.example/paint"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.content == b'{"image":"https://example.com/picture.png?sig=hush","zoom":1.5,"prompt":"a lake"}'


async def test_images_within_json_are_stored_in_their_order(tmp_path: Path) -> None:
    answer = listed(LARGER, PNG, price=0.02, warnings=[f"key {KEY}\nis old"])
    provider, _ = easel(Shelf(tmp_path).keep, answer)
    update = await provider.start(image_order())
    assert update.status is api.Status.SUCCEEDED
    assert on_disk(update, tmp_path) == [LARGER, PNG]
    assert update.is_grid is True
    assert update.cost == api.Cost(amount=0.02, unit="USD", usd=0.02)
    assert update.notes == ("key *** is old",), "a vendor's words are shown in one line, without the key"


async def test_the_input_image_is_uploaded_before_where_the_vendor_wants_that(tmp_path: Path) -> None:
    uploaded = httpx2.Response(200, json={"at": "https://easel.example/up/1"})
    provider, queue = easel(Shelf(tmp_path).keep, uploaded, painted(), one=UploadingEasel)
    path = picture(tmp_path)
    own = image_order()
    assert isinstance(own.source, api.InputImage)
    update = await provider.start(replace(own, source=replace(own.source, path=str(path), url=None)))
    assert update.status is api.Status.SUCCEEDED
    upload, sent = queue.requests
    assert path.read_bytes() in upload.content
    assert sent.content == b'{"image":"https://easel.example/up/1","zoom":1.5}'


@pytest.mark.parametrize("answer", [painted(b"<html>"), listed(b"no image", price=0.02)], ids=["bytes", "json"])
async def test_bytes_that_are_no_image_fail_the_task(answer: httpx2.Response, tmp_path: Path) -> None:
    provider, _ = easel(Shelf(tmp_path).keep, answer)
    update = await provider.start(image_order())
    assert (update.status, update.remote_id, update.images) == (api.Status.FAILED, "op-1-0", ())
    assert update.failure is not None
    assert (update.failure.code, update.failure.retryable) == ("unexpected_response", False)
    assert update.failure.message.startswith("Easel answered with something that is not an image. ")
    assert update.cost is not None, "it was paid all the same"


async def test_one_bad_image_does_not_lose_the_others(tmp_path: Path) -> None:
    provider, _ = easel(Shelf(tmp_path).keep, listed(PNG, b"no image", LARGER))
    update = await provider.start(image_order())
    assert update.status is api.Status.SUCCEEDED
    assert on_disk(update, tmp_path) == [PNG, LARGER]
    assert "1 of the 3 images" in update.notes[0]


@pytest.mark.parametrize(
    "answer",
    [
        listed(),
        httpx2.Response(200, json={"images": ["no base64!"]}),
        httpx2.Response(200, json={"status": "queued"}),
        painted(PNG, "application/json"),
        httpx2.Response(200, content=b""),
        httpx2.ReadTimeout("x"),
        httpx2.RemoteProtocolError("x"),
        httpx2.Response(500, json={"error": "no"}),
        httpx2.Response(504, content=b"<html>"),
    ],
    ids=lambda answer: type(answer).__name__,
)
async def test_a_lost_answer_and_one_without_an_image_leave_the_order_unconfirmed(
    answer: httpx2.Response | Exception,
) -> None:
    provider, queue = easel(nowhere, answer, painted())
    with pytest.raises(OrderUnconfirmedError):
        await provider.start(image_order())
    assert len(queue.requests) == 1, "an order is sent once"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(400, json={"error": "bad zoom"}), api.InvalidRequestError),
        (httpx2.Response(400, json={"error": "nsfw"}), api.ContentRejectedError),
        (httpx2.Response(401, json={"error": f"no such key: {KEY}"}), api.AuthenticationError),
        (httpx2.Response(402, json={"error": "poor"}), api.InsufficientCreditsError),
        (httpx2.Response(429, json={"error": "slow down"}), api.RateLimitedError),
        (httpx2.Response(422, content=PNG, headers={"content-type": "image/png"}), api.InvalidRequestError),
        (httpx2.ConnectError("x"), api.ProviderUnavailableError),
    ],
)
async def test_a_rejection_is_sure(answer: httpx2.Response | Exception, kind: type[api.OutpaintError]) -> None:
    provider, queue = easel(nowhere, answer, painted())
    with pytest.raises(kind) as refused:
        await provider.start(image_order())
    assert type(refused.value) is kind
    assert KEY not in str(refused.value)
    assert len(queue.requests) == 1


async def test_there_is_nothing_to_poll() -> None:
    provider, queue = easel(nowhere)
    with pytest.raises(api.UnknownTaskError, match="keeps no tasks"):
        await provider.poll("op-1-0")
    assert queue.requests == []


async def test_a_tasks_image_is_not_what_it_extends() -> None:
    provider, _ = easel(nowhere)
    with pytest.raises(api.UnsupportedFeatureError, match="finished tasks"):
        provider.check(api.OutpaintRequest(task_id="op-1"), api.SourceKind.TASK)
    with pytest.raises(KeyError):
        provider.build_submit(order())


def test_its_options_are_reserved_under_the_arguments_that_stand_for_them() -> None:
    assert Easel.reserved_options() == {"image": "image", "zoom": "zoom", "prompt": "prompt"}
    assert Easel.undeclared() == ()


# The disk


async def test_an_image_waits_until_the_disk_takes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    shelf = Shelf(tmp_path, refusals=2)
    provider, queue = easel(shelf.keep, painted(), sleep=sleep)
    with caplog.at_level(logging.ERROR):
        update = await provider.start(image_order())
    assert update.status is api.Status.SUCCEEDED
    assert on_disk(update, tmp_path) == [PNG]
    assert shelf.handed == [PNG] * 3
    assert slept == [1.0, 2.0]
    assert caplog.text.count("an image of easel cannot be stored") == 2
    assert len(queue.requests) == 1, "it is paid once"


async def test_the_pauses_of_a_disk_that_stays_full_have_a_limit(tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    provider, _ = easel(Shelf(tmp_path, refusals=10).keep, painted(), sleep=sleep)
    assert (await provider.start(image_order())).status is api.Status.SUCCEEDED
    assert max(slept) == slept[-1] == LONGEST_PAUSE


# The network

IMPATIENT = Timeouts(connect=2, pool=2, write=2, read=0.2, read_total=3, order_total=3)


def silent_for(seconds: float, then: Behaviour) -> Behaviour:
    async def behave(stream: SocketStream, received: list[bytes]) -> None:
        await anyio.sleep(seconds)
        await then(stream, received)

    return behave


def image(data: bytes = PNG) -> Behaviour:
    return http("200 OK", data, "content-type: image/png")


class Patient(Easel):
    order_seconds = 5.0


class Hurried(Easel):
    order_seconds = 0.4


class Narrow(Easel):
    max_answer_bytes = 1000


async def test_a_vendor_that_is_silent_while_it_paints_is_not_cut_off(tmp_path: Path) -> None:
    async with vendor(silent_for(0.7, image())) as (url, received), api.HttpClient(timeouts=IMPATIENT) as client:
        update = await Patient(client, keep=Shelf(tmp_path).keep, key=KEY, base_url=url).start(image_order())
        assert on_disk(update, tmp_path) == [PNG]
        assert len(received) == 1
        # A vendor that is polled answers an order at once, or not at all.
        with pytest.raises(OrderUnconfirmedError, match="in time"):
            await Legnext(client, key=KEY, base_url=url).start(order())


async def test_a_vendor_that_is_silent_for_longer_than_an_order_may_take_leaves_it_unconfirmed() -> None:
    async with vendor(silent_for(2, image())) as (url, _), api.HttpClient(timeouts=IMPATIENT) as client:
        with anyio.fail_after(1.5), pytest.raises(OrderUnconfirmedError, match="in time"):
            await Hurried(client, keep=nowhere, key=KEY, base_url=url).start(image_order())


@pytest.mark.parametrize("one", [Easel, Narrow])
async def test_an_answer_over_the_limit_leaves_the_order_unconfirmed(one: type[Easel], tmp_path: Path) -> None:
    large = b"no image at all. " * 100
    assert len(large) > Narrow.max_answer_bytes
    async with vendor(image(large)) as (url, _), api.HttpClient(timeouts=IMPATIENT) as client:
        provider = one(client, keep=Shelf(tmp_path).keep, key=KEY, base_url=url)
        if one is Narrow:
            with pytest.raises(OrderUnconfirmedError, match="longer than 1,000 bytes"):
                await provider.start(image_order())
        else:
            # Within the limit it is read whole, and is judged as an image.
            assert (await provider.start(image_order())).status is api.Status.FAILED


async def test_a_connection_that_breaks_within_the_image_leaves_the_order_unconfirmed() -> None:
    async def breaks(stream: SocketStream, received: list[bytes]) -> None:
        received.append(await stream.receive())
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 5000\r\n\r\n" + PNG)

    async with vendor(breaks) as (url, _), api.HttpClient(timeouts=IMPATIENT) as client:
        with pytest.raises(OrderUnconfirmedError, match="broke the connection off"):
            await Easel(client, keep=nowhere, key=KEY, base_url=url).start(image_order())


# Behind the service


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def request(folder: Path) -> api.OutpaintRequest:
    return api.OutpaintRequest(image=str(picture(folder)), provider="easel", zoom=1.5, prompt="a lake")


UPLOADED = httpx2.Response(200, json={"at": "https://easel.example/up/1"})


async def test_a_task_succeeds_with_its_image_on_disk_and_its_copy_recorded(tmp_path: Path, clock: MovedClock) -> None:
    shelf = Shelf(tmp_path)
    provider, queue = easel(shelf.keep, UPLOADED, painted(), one=UploadingEasel)
    store = SqliteStore(tmp_path / "store.db", "one")
    async with running(service_over(tmp_path, provider, clock=clock, store=store), clock) as service:
        task = await service.outpaint(request(tmp_path))
        assert (task.status, task.remote_id) == (api.Status.SUCCEEDED, f"{task.id}-0")
        (made,) = task.images
        assert (made.mime_type, made.width, made.height) == ("image/png", 48, 36)
        assert file_at(made.url) == PNG
        assert (task.cost, task.failure, task.notes) == (CENT, None, ())
        record = await store.get(task.id)
        assert record is not None
        assert record.copies[1].sha256 in made.url
        assert record.due_at is None
        assert await service.image(task.id, 1) == (PNG, "image/png")

        again = await service.outpaint(request(tmp_path))
        assert again.id == task.id, "the same order gives the first task back"
        await clock.move(24 * 3600)
    assert [one.url.path for one in queue.requests] == ["/upload", "/paint"], "nothing is polled or sent again"
    assert shelf.handed == [PNG]


FAILS_AT_PIXELS = 'import os; print(\'{"done": ["image/png", 48, 36]}\') if \'"size"\' in input() else os.abort()'


@pytest.mark.parametrize(
    ("decoder", "seconds", "size"),
    [(FAILS_AT_PIXELS, 60, (48, 36)), ("import time; time.sleep(600)", 0.2, (None, None))],
    ids=["its pixels cannot be decoded", "nothing answers in time"],
)
async def test_a_paid_image_that_cannot_be_decoded_here_is_kept_as_it_came_and_can_be_extended(
    decoder: str, seconds: float, size: tuple[int | None, int | None], tmp_path: Path, clock: MovedClock
) -> None:
    shelf = Shelf(tmp_path, decoder=(sys.executable, "-S", "-c", decoder), decode_timeout=seconds)
    provider, queue = easel(shelf.keep, UPLOADED, painted(), UPLOADED, painted(LARGER), one=UploadingEasel)
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        task = await service.outpaint(request(tmp_path))
        (made,) = task.images
        assert (task.status, made.mime_type, (made.width, made.height)) == (api.Status.SUCCEEDED, "image/png", size)
        assert file_at(made.url) == PNG
        assert task.notes == ("Some images could not be checked here, and are kept as the provider gave them.",)
        assert await service.image(task.id, 1) == (PNG, "image/png")
        further = await service.outpaint(api.OutpaintRequest(image=f"outpaint://tasks/{task.id}/images/1", zoom=2))
        assert further.status is api.Status.SUCCEEDED
        assert b"48" not in queue.requests[-1].content


async def test_a_task_is_not_final_before_its_image_is_on_disk(tmp_path: Path, clock: MovedClock) -> None:
    seen: list[api.Status] = []

    async def sleep(seconds: float) -> None:
        (task,) = await service.recent()
        seen.append(task.status)

    provider, _ = easel(Shelf(tmp_path, refusals=2).keep, UPLOADED, painted(), one=UploadingEasel, sleep=sleep)
    service = service_over(tmp_path, provider, clock=clock)
    async with running(service, clock):
        task = await service.outpaint(request(tmp_path))
    assert seen == [api.Status.QUEUED, api.Status.QUEUED]
    assert task.status is api.Status.SUCCEEDED


async def test_a_lost_answer_is_unknown_and_says_that_there_is_nothing_to_look_up(
    tmp_path: Path, clock: MovedClock
) -> None:
    provider, queue = easel(nowhere, UPLOADED, httpx2.ReadTimeout("x"), one=UploadingEasel)
    async with running(service_over(tmp_path, provider, clock=clock), clock) as service:
        task = await service.outpaint(request(tmp_path))
        assert task.status is api.Status.UNKNOWN
        assert task.failure is not None
        assert task.failure.code == "order_unconfirmed"
        assert "there is nothing to look up" in task.next
        assert "may pay twice" in task.next
        await clock.move(24 * 3600)
        assert (await service.get_task(task.id)).status is api.Status.UNKNOWN
    assert len(queue.requests) == 2, "nothing is polled or sent again"
