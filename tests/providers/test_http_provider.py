"""What every vendor over HTTP gets for nothing: refusals before anything is sent, keys, secrets, ids."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import httpx2
import pytest

import outpaint_mcp.providers as api
from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.calls import MAX_CODE, MAX_IMAGES, MAX_MESSAGE, MAX_NOTES, MAX_UNIT
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.vtrix import Vtrix

from .published import job
from .through import KEY, UUID, Vendor, image_order, input_image, of, order, polled, started

REQUEST = OutpaintRequest(task_id=UUID, zoom=1.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"task_id": "a\r\nX-Evil: 1"},
        {"image": "https://example.com/\x00"},
        {"webhook": Webhook("https://example.com/h", events=())} | {"provider_options": {"a": "b\x1b[31m"}},
        {"provider_options": {"a\nb": 1}},
        {"provider_options": {"a": [{"b": ("c", "d\x7f")}]}},
        {"provider_options": {"a": math.nan}},
        {"provider_options": {"a": "\ud800"}},
        {"provider_options": {"a": {1, 2}}},
        {"prompt": "\ud800"},
        {"webhook": Webhook("https://example.com/h\r\nX-Evil: 1")},
        {"webhook": Webhook("https://example.com/\u2028")},
        {"webhook": Webhook("https://example.com/a b")},
        {"webhook": Webhook("ftp://example.com/h")},
        {"webhook": Webhook("https:///h")},
        {"webhook": Webhook("https://example.com:port/h")},
        {"webhook": Webhook("https://example.com:0/h")},
        {"webhook": Webhook("http://[half")},
        {"webhook": Webhook("")},
    ],
)
def test_what_cannot_go_over_the_wire_as_it_is_is_refused(changes: dict[str, Any]) -> None:
    provider, _ = of(Legnext)
    provider.check(REQUEST, SourceKind.TASK)
    with pytest.raises(InvalidRequestError):
        provider.check(replace(REQUEST, **changes), SourceKind.TASK)


def test_an_honest_request_passes() -> None:
    provider, _ = of(Legnext)
    honest = replace(
        REQUEST,
        prompt="two\nlines, \u00fcber \U0001f3de",
        webhook=Webhook("https://example.com:8443/h?x=1"),
        provider_options={"a": ["b", {"c": None, "d": 1.5}]},
    )
    provider.check(honest, SourceKind.TASK)


async def test_without_a_key_nothing_is_sent_and_the_variable_is_named() -> None:
    provider, vendor = of(Legnext, key=None)
    assert provider.needs == ("LEGNEXT_API_KEY",)
    with pytest.raises(ConfigurationError, match="LEGNEXT_API_KEY"):
        await provider.start(order())
    with pytest.raises(ConfigurationError, match="LEGNEXT_API_KEY"):
        await provider.poll(UUID)
    assert vendor.requests == []


@pytest.mark.parametrize("key", ["a\nb", "a b", "k\u00e4y"])
async def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(key: str) -> None:
    provider, vendor = of(Legnext, key=key)
    assert provider.needs == ()
    with pytest.raises(ConfigurationError) as refused:
        await provider.poll(UUID)
    assert key not in str(refused.value)
    assert vendor.requests == []


@pytest.mark.parametrize("remote_id", ["", ".", "..", "a b", "\u00e4", "a\n", "x" * 201])
async def test_an_id_that_no_vendor_has_is_unknown_and_not_asked_for(remote_id: str) -> None:
    provider, vendor = of(Legnext)
    with pytest.raises(UnknownTaskError):
        await provider.poll(remote_id)
    assert vendor.requests == []


async def test_an_id_stays_one_segment_of_the_path() -> None:
    provider, vendor = of(Legnext, (200, job("pending")))
    await provider.poll("../../account?x=1#y")
    assert vendor.requests[0].url.raw_path == b"/api/v1/job/..%2F..%2Faccount%3Fx%3D1%23y"


async def test_no_message_repeats_a_key_a_secret_or_a_query() -> None:
    said = f"{KEY} hush token=7 sig=hush-too"
    hook = Webhook("https://example.com/h?token=7", "hush")
    own = image_order(input_image(url="https://example.com/a.png?sig=hush-too"), prompt="x", webhook=hook)
    provider, _ = of(Legnext, (400, {"message": said}))
    with pytest.raises(InvalidRequestError) as refused:
        await provider.start(own)
    assert refused.value.message == "Legnext answered 400: “*** *** *** ***”."
    failed, _ = of(Legnext, (200, job("failed", error={"code": KEY, "message": said})))
    update = await failed.poll(UUID)
    assert update.failure is not None
    assert KEY not in update.failure.message
    assert update.failure.provider_code == "***"
    odd, _ = of(Legnext, (200, job(f"{KEY[:30]}\nresting")))
    assert "\n" not in (await odd.poll(UUID)).notes[0]


class Schemed(Legnext):
    """Sends its key after a word of its own."""

    auth_header: ClassVar[tuple[str, str]] = ("Authorization", "Key {key}")


async def test_a_key_is_hidden_whatever_the_form_of_its_header() -> None:
    provider, vendor = of(Schemed, (401, {"message": f"no such key: {KEY}"}))
    with pytest.raises(AuthenticationError) as refused:
        await provider.poll(UUID)
    assert vendor.requests[0].headers["authorization"] == f"Key {KEY}"
    assert refused.value.message == "Legnext answered 401: “no such key: ***”."


async def test_the_base_url_can_be_replaced() -> None:
    vendor = Vendor([(200, job("pending"))])
    client = HttpClient(transport=httpx2.MockTransport(vendor.handle))
    await Legnext(client, key=KEY, base_url="http://127.0.0.1:9/legnext/").poll(UUID)
    assert str(vendor.requests[0].url) == f"http://127.0.0.1:9/legnext/v1/job/{UUID}"


class Nameless(Legnext):
    """Reads any answer as one without an id, as a careless plug-in might."""

    def parse_submit(self, body: Any) -> TaskUpdate:
        return replace(self.parse_fetch(body), remote_id=None)


async def test_an_order_that_got_no_id_is_unconfirmed_whoever_read_the_answer() -> None:
    provider, _ = of(Nameless, (200, job("pending")))
    with pytest.raises(OrderUnconfirmedError):
        await provider.start(order())


def test_what_a_vendor_does_not_have_says_so() -> None:
    provider, _ = of(Legnext)
    for use in (lambda: provider.build_upload(input_image(), b""), lambda: provider.parse_upload({})):
        with pytest.raises(NotImplementedError, match="legnext"):
            use()
    with pytest.raises(TypeError, match="legnext"):
        provider.build_upscale(order())
    upscaling, _ = of(Apiframe)
    with pytest.raises(TypeError, match="apiframe"):
        upscaling.build_upscale(image_order())


@pytest.mark.parametrize("one", [Legnext, Apiframe])
def test_an_answer_that_does_not_fit_names_the_field_and_never_its_value(one: type[HttpProvider]) -> None:
    provider, _ = of(one)
    with pytest.raises(UnexpectedResponseError, match="status") as unexpected:
        provider.parse_fetch({"job_id": "7", "status": {"hush": 1}})
    assert "hush" not in str(unexpected.value)
    with pytest.raises(OutpaintError, match="the whole"):
        provider.parse_fetch("hush")


@pytest.mark.parametrize("task_id", ["x" * 201, "a b", "a\nb", "a\x00b", "идентификатор"])
async def test_what_cannot_be_an_id_leaves_the_order_unconfirmed(task_id: str) -> None:
    with pytest.raises(OrderUnconfirmedError, match="no id"):
        await started(Legnext, order(), (200, job("pending", job_id=task_id)))


async def test_what_an_answer_holds_is_bounded() -> None:
    contents = [{"type": "image", "url": f"https://cdn.example.com/{at}.png", "jobId": "j" * 201} for at in range(400)]
    many = await polled(Vtrix, (200, {"id": "d", "status": "completed", "output": [{"content": contents}]}))
    assert (len(many.images), many.reference) == (MAX_IMAGES, None)
    said = {"code": "c" * 10_000, "message": "m" * 1_000_000}
    failed = await polled(Legnext, (200, job("failed", error=said)))
    assert failed.failure is not None
    assert len(failed.failure.message) <= MAX_MESSAGE
    assert len(failed.failure.provider_code or "") == MAX_CODE


class Talkative(Legnext):
    """Says more than anybody can read."""

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        cost = api.Cost(amount=1, unit="u" * 1000)
        notes = tuple(f"{at} " + "n" * 1000 for at in range(1000))
        return replace(super().parse_fetch(body), notes=notes, cost=cost)


async def test_what_a_vendors_own_reader_makes_of_an_answer_is_bounded_too() -> None:
    update = await polled(Talkative, (200, job("pending")))
    assert len(update.notes) == MAX_NOTES
    assert max(map(len, update.notes)) == MAX_MESSAGE
    assert update.cost is not None
    assert len(update.cost.unit) == MAX_UNIT
