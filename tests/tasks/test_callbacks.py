"""Callbacks at the level of orders: what is heeded, and what it leads to, over a vendor that counts its questions."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.piapi import Piapi
from outpaint_mcp.providers.vtrix import Vtrix
from outpaint_mcp.tasks.callbacks import AGAIN_SECONDS, Callbacks
from outpaint_mcp.tasks.service import Service

from ..counting import GRID, SINGLE, CountingProvider, MovedClock, UpscalingProvider, running, service_over, take_due

PUBLIC = "https://outpaint.example/behind"


class CallingProvider(CountingProvider):
    """One that calls back with the id of its task, unsigned."""

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        return kind is SourceKind.TASK and url.startswith("https:")

    def callback_token(self, task_id: str) -> str:
        return hashlib.sha256(f"{self.name}/{task_id}".encode()).hexdigest()

    async def called_back(self, headers: Mapping[str, str], body: bytes, token: str = "") -> str:
        try:
            return str(json.loads(body)["id"])
        except (ValueError, KeyError, TypeError):
            raise InvalidRequestError("It names no task.") from None


class CallingUpscalingProvider(CallingProvider, UpscalingProvider):
    """One that calls back, and extends upscaled images only."""


def request(**changes: Any) -> OutpaintRequest:
    return OutpaintRequest(**{"task_id": SINGLE, "provider": "counting", **changes})


def body(remote_id: str) -> bytes:
    return json.dumps({"id": remote_id}).encode()


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("store.db*"))


def token_of(webhook: Webhook | None) -> str:
    assert webhook is not None
    return webhook.url.rpartition("/")[2]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def vendor() -> CallingProvider:
    return CallingProvider()


def service_called(folder: Path, *vendors: Provider, clock: MovedClock, url: str = PUBLIC, **options: Any) -> Service:
    """A service whose vendors call back at `url`."""
    return service_over(folder, *vendors, clock=clock, callbacks=Callbacks(url, seconds=clock.now), **options)


@pytest.fixture
async def service(tmp_path: Path, vendor: CallingProvider, clock: MovedClock) -> AsyncIterator[Service]:
    async with running(service_called(tmp_path, vendor, clock=clock), clock) as opened:
        yield opened


async def ordered(service: Service, vendor: CountingProvider, **changes: Any) -> Task:
    """A task that is ordered; what was asked to understand it is not counted."""
    task = await service.outpaint(request(**changes))
    vendor.polls.clear()
    return task


# The address


@pytest.mark.parametrize("public_url", [PUBLIC, f"{PUBLIC}/"])
async def test_an_address_is_under_the_public_url_and_names_its_provider(
    tmp_path: Path, vendor: CallingProvider, clock: MovedClock, public_url: str
) -> None:
    async with running(service_called(tmp_path, vendor, clock=clock, url=public_url), clock) as service:
        await ordered(service, vendor)
    made = vendor.orders[0].webhook
    assert made is not None
    assert made.url.startswith(f"{PUBLIC}/webhooks/counting/")
    assert len(token_of(made)) == 64
    assert made.secret == token_of(made), "so that no message repeats it"
    assert "?" not in made.url


async def test_every_order_of_every_vendor_and_key_has_a_token_of_its_own_which_a_restart_leaves_as_it_is() -> None:
    def tokens() -> list[str]:
        client = HttpClient()
        return [
            kind(client, key=key).callback_token(task)
            for kind in (Vtrix, Piapi, Apiframe)
            for key in ("one", "two")
            for task in ("op-1", "op-2")
        ]

    assert len(set(tokens())) == 12
    assert tokens() == tokens()


async def test_without_a_key_no_callback_is_genuine(tmp_path: Path, clock: MovedClock) -> None:
    class Keyless(CallingProvider):
        def callback_token(self, task_id: str) -> str:
            return Legnext(HttpClient(), key=None).callback_token(task_id)

    vendor = Keyless()
    async with running(service_called(tmp_path, vendor, clock=clock), clock) as service:
        await ordered(service, vendor)
        assert not await service.handle_callback("counting", "", {}, body("r-0"))


async def test_an_order_goes_out_with_its_address(service: Service, vendor: CallingProvider) -> None:
    task = await ordered(service, vendor)
    token = vendor.callback_token(task.id)
    assert vendor.orders[0].webhook == Webhook(f"{PUBLIC}/webhooks/counting/{token}", secret=token)


async def test_only_the_order_of_the_outpaint_is_called_back_about(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CallingUpscalingProvider()
    async with running(service_called(tmp_path, vendor, clock=clock), clock) as service:
        await service.outpaint(request(task_id=GRID, image_index=2))
        vendor.finish("r-0")
        await clock.move(3)
        upscale, outpaint = vendor.orders
    assert (upscale.step, upscale.webhook) == (StepName.UPSCALE, None)
    assert outpaint.step is StepName.OUTPAINT
    assert outpaint.webhook is not None


async def test_a_callers_address_that_a_restart_lost_is_not_replaced_by_ours(tmp_path: Path, clock: MovedClock) -> None:
    vendor = CallingUpscalingProvider()
    own = Webhook("https://client.example/done")
    for owner in ("one", "two"):
        async with running(service_called(tmp_path, vendor, clock=clock, owner=owner), clock) as service:
            task = await service.outpaint(request(task_id=GRID, image_index=2, webhook=own))
            if owner == "two":
                vendor.finish("r-0")
                await clock.move(3)
                task = await service.get_task(task.id)
    assert [order.step for order in vendor.orders] == [StepName.UPSCALE, StepName.OUTPAINT]
    assert vendor.orders[1].webhook is None
    assert any("webhook was lost" in note for note in task.notes)


async def test_a_provider_that_cannot_reach_the_address_is_asked_as_ever(
    tmp_path: Path, vendor: CallingProvider, clock: MovedClock
) -> None:
    unreachable = service_called(tmp_path, vendor, clock=clock, url="http://outpaint.example")
    async with running(unreachable, clock) as service:
        await ordered(service, vendor)
        assert vendor.orders[0].webhook is None
        await clock.move(21)
    assert len(vendor.polls) == 3, "after 10 s and then every 5 s"


async def test_a_callers_own_address_goes_to_the_provider_and_ours_does_not(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    own = Webhook("https://client.example/done?key=1", secret="of-the-client")
    await ordered(service, vendor, webhook=own)
    assert vendor.orders[0].webhook == own
    await clock.move(21)
    assert len(vendor.polls) == 3, "the client is called, so this server asks as ever"


# What a callback leads to


async def test_who_is_to_call_back_is_asked_rarely_until_it_calls_and_then_at_once(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    task = await ordered(service, vendor)
    await clock.move(29)
    assert vendor.polls == []
    vendor.finish("r-0")
    assert await service.handle_callback("counting", token_of(vendor.orders[0].webhook), {}, body("r-0"))
    await clock.move(0)
    assert vendor.polls == ["r-0"]
    assert (await service.get_task(task.id)).status is Status.SUCCEEDED


async def test_a_callback_that_gets_lost_is_made_up_for_by_a_question(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    task = await ordered(service, vendor)
    await clock.move(31)
    assert vendor.polls == ["r-0"], "after 30 s in place of 10"
    await clock.move(28)
    assert len(vendor.polls) == 1, "and every 30 s in place of 5"
    vendor.finish("r-0")
    await clock.move(4)
    assert (await service.get_task(task.id)).status is Status.SUCCEEDED


async def test_what_a_callback_says_is_not_believed(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    task = await ordered(service, vendor)
    told = json.dumps({"id": "r-0", "status": "completed", "images": ["https://example.com/1.png"]}).encode()
    assert await service.handle_callback("counting", token_of(vendor.orders[0].webhook), {}, told)
    await clock.move(0)
    assert vendor.polls == ["r-0"]
    now = await service.get_task(task.id)
    assert (now.status, now.images) == (Status.QUEUED, ())


async def test_who_called_too_early_is_asked_as_if_it_never_called(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    await ordered(service, vendor)
    assert await service.handle_callback("counting", token_of(vendor.orders[0].webhook), {}, body("r-0"))
    await clock.move(21)
    assert len(vendor.polls) == 5, "at once, and then every 5 s"


async def test_who_calls_while_it_is_asked_is_asked_again_at_once(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    task = await ordered(service, vendor)
    clock.leave(service)
    await clock.move(31)
    (due,) = [one for one in (await take_due(service)).tasks if one.task_id == task.id]
    assert await service.handle_callback("counting", token_of(vendor.orders[0].webhook), {}, body("r-0"))
    await service.due_tasks.advance(due)
    assert vendor.polls == ["r-0"]
    assert (await take_due(service)).ids == [task.id]


async def test_a_thousand_callbacks_at_once_are_one_question(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    await ordered(service, vendor)
    token = token_of(vendor.orders[0].webhook)
    for _ in range(1000):
        assert await service.handle_callback("counting", token, {}, body("r-0")), "each is genuine"
        await clock.move(0)
    assert len(vendor.polls) == 1
    await clock.move(AGAIN_SECONDS * 1.01)
    assert await service.handle_callback("counting", token, {}, body("r-0"))
    await clock.move(0)
    assert len(vendor.polls) == 2, "a later one counts again"


async def test_callbacks_about_one_task_do_not_hold_up_those_about_another(
    service: Service, vendor: CallingProvider, clock: MovedClock
) -> None:
    for prompt in ("one", "other"):
        await ordered(service, vendor, prompt=prompt)
    for number in (0, 0, 1):
        assert await service.handle_callback(
            "counting", token_of(vendor.orders[number].webhook), {}, body(f"r-{number}")
        )
        await clock.move(0)
    assert vendor.polls == ["r-0", "r-1"]


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
async def test_callbacks_about_a_task_that_has_ended_lead_to_nothing(
    service: Service, vendor: CallingProvider, clock: MovedClock, end: Status
) -> None:
    task = await ordered(service, vendor)
    vendor.set("r-0", end)
    token = token_of(vendor.orders[0].webhook)
    for _ in range(5):
        assert await service.handle_callback("counting", token, {}, body("r-0"))
        await clock.move(AGAIN_SECONDS * 2)
    assert len(vendor.polls) == 1
    assert (await service.get_task(task.id)).status is end


# What is not heeded


@pytest.mark.parametrize(
    ("provider", "token", "about"),
    [
        ("counting", "0" * 64, "r-0"),
        ("counting", "", "r-0"),
        ("counting", "é\0", "r-0"),
        ("counting", "{token}x", "r-0"),
        ("counting", "{TOKEN}", "r-0"),
        ("counting", "{other}", "r-0"),
        ("counting", "{token}", "r-1"),
        ("counting", "{token}", "r-99"),
        ("counting", "{token}", None),
        ("counting", "{token}", "op"),
        ("legnext", "{token}", "r-0"),
        ("nobody", "{token}", "r-0"),
        ("", "{token}", "r-0"),
    ],
)
async def test_a_callback_that_is_not_genuine_leads_to_nothing(
    service: Service,
    vendor: CallingProvider,
    clock: MovedClock,
    provider: str,
    token: str,
    about: str | None,
) -> None:
    task, _ = await ordered(service, vendor, prompt="one"), await ordered(service, vendor, prompt="other")
    right, others = (token_of(order.webhook) for order in vendor.orders)
    sent = token.replace("{token}", right).replace("{TOKEN}", right.upper()).replace("{other}", others)
    told = b"no JSON" if about is None else body(task.id if about == "op" else about)
    assert not await service.handle_callback(provider, sent, {}, told)
    await clock.move(1)
    assert vendor.polls == []
    assert await service.handle_callback("counting", right, {}, body("r-0")), "the genuine one is heeded after it"
    await clock.move(0)
    assert vendor.polls == ["r-0"]


async def test_a_callback_is_heeded_after_a_restart_and_its_task_is_asked_for_in_any_case(
    tmp_path: Path, vendor: CallingProvider, clock: MovedClock
) -> None:
    async with running(service_called(tmp_path, vendor, clock=clock), clock) as first:
        task = await ordered(first, vendor)
        other = await ordered(first, vendor, zoom=1.9)
    for remote_id in ("r-0", "r-1"):
        vendor.finish(remote_id)
    async with running(service_called(tmp_path, vendor, clock=clock, owner="two"), clock) as second:
        assert await second.handle_callback("counting", token_of(vendor.orders[0].webhook), {}, body("r-0"))
        await clock.move(0)
        assert vendor.polls == ["r-0"]
        assert (await second.get_task(task.id)).status is Status.SUCCEEDED
        await clock.move(31)
        assert (await second.get_task(other.id)).status is Status.SUCCEEDED


# What is told of it


class EchoingVendor:
    """Legnext, saying back whatever it was sent: in a refusal, or in the failure of the task that it took."""

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses
        self._told = ""
        self.sent: dict[str, Any] = {}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(SINGLE):
            output = {"image_url": "http://127.0.0.1:9/1.png"}
            return self._job(job_id=SINGLE, status="completed", task_type="upscale", output=output)
        if request.method == "GET":
            return self._job(status="failed", error={"code": 500, "message": f"the task failed: {self._told}"})
        self._told = request.content.decode()
        self.sent = json.loads(self._told)
        if self._refuses:
            return httpx2.Response(400, json={"code": 400, "message": f"not so: {self._told}"})
        return self._job(status="pending")

    def _job(self, **job: Any) -> httpx2.Response:
        return httpx2.Response(200, json={"job_id": "r-0", **job})


OWN = Webhook("https://client.example/done?key=a-secret-of-the-client")


@pytest.mark.parametrize("own", [None, OWN])
@pytest.mark.parametrize("refuses", [True, False])
async def test_a_vendor_that_says_the_address_back_brings_no_secret_to_light(
    tmp_path: Path, clock: MovedClock, own: Webhook | None, refuses: bool
) -> None:
    vendor = EchoingVendor(refuses=refuses)
    async with HttpClient(transport=httpx2.MockTransport(vendor)) as client:
        legnext = Legnext(client, key="the-key", base_url="http://vendor.test")
        async with running(service_called(tmp_path, legnext, clock=clock), clock) as service:
            try:
                task = await service.outpaint(request(provider="legnext", webhook=own, zoom=1.5))
                await clock.move(61)
                task = await service.get_task(task.id)
                assert task.status is Status.FAILED
                told = task.model_dump_json()
            except InvalidRequestError as error:
                assert refuses
                told = str(error)
    ours = vendor.sent.get("callback", "").rpartition("/")[2]
    secret, address = ("a-secret-of-the-client", "client.example") if own else (ours, "outpaint.example")
    assert secret
    assert address in told, "the vendor's words are passed on"
    assert secret not in told
    assert secret.encode() not in stored_bytes(tmp_path)
