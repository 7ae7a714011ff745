"""What each kind of failure says about an order, against a real socket that fails at each point."""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from outpaint_mcp.api_client import MAX_ATTEMPTS, ApiClient, Endpoint, Timeouts
from outpaint_mcp.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.task import ApiCall

Act = Callable[[anyio.abc.SocketStream, bytes], Awaitable[None]]
ORDER = ApiCall("POST", "/order", json={"what": "a lake"})
QUESTION = ApiCall("GET", "/task/1")


def answer(status: int, body: str = "{}", *headers: str) -> Act:
    async def act(stream: anyio.abc.SocketStream, request: bytes) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body.encode())}", "Connection: close", *headers]
        await stream.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    return act


async def say_nothing(stream: anyio.abc.SocketStream, request: bytes) -> None:
    # Until the client gives up.
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        await stream.receive()


async def hang_up(stream: anyio.abc.SocketStream, request: bytes) -> None:
    pass


async def reset(stream: anyio.abc.SocketStream, request: bytes) -> None:
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 (anyio's, no database)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


async def stop_in_the_head(stream: anyio.abc.SocketStream, request: bytes) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-")


async def stop_in_the_body(stream: anyio.abc.SocketStream, request: bytes) -> None:
    await stream.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": ')


async def speak_no_http(stream: anyio.abc.SocketStream, request: bytes) -> None:
    await stream.send(b"220 mail.example.com ESMTP\r\n")


class Vendor:
    """A socket server that does what it is told, request by request, and counts whole requests."""

    def __init__(self, *acts: Act) -> None:
        self._acts = list(acts)
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request or (request.startswith(b"POST") and not request.endswith(b"}")):
                request += await stream.receive()
            self.requests.append(request)
            act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
            await act(stream, request)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            "Vendor", f"http://127.0.0.1:{self.port}", {"x-api-key": "planted-key"}, lambda status, body: None
        )


@asynccontextmanager
async def talking_to(*acts: Act, slept: list[float] | None = None) -> AsyncIterator[tuple[ApiClient, Vendor]]:
    vendor = Vendor(*acts)

    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    timeouts = Timeouts(connect=1, pool=1, write=1, read=0.3, read_total=2, order_total=2)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    vendor.port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (anyio's, no database)
    async with (
        listener,
        ApiClient(sleep=sleep, timeouts=timeouts, jitter=lambda: 1.0) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, vendor.serve)
        yield client, vendor
        tasks.cancel_scope.cancel()


def number(body: Any) -> int:
    if not isinstance(body, dict) or not isinstance(body.get("id"), int):
        raise UnexpectedResponseError("There is no id.")
    return int(body["id"])


MAYBE_TAKEN: dict[str, Act] = {
    "hangs up after the request": hang_up,
    "resets after the request": reset,
    "never answers": say_nothing,
    "stops in the head": stop_in_the_head,
    "stops in the body": stop_in_the_body,
    "speaks no HTTP": speak_no_http,
    "200 that is no JSON": answer(200, "<html>"),
    "200 that is empty": answer(200, ""),
    "200 with another shape": answer(200, '{"ok": true}'),
    "200 with a list": answer(200, "[]"),
    "408": answer(408),
    "500": answer(500),
    "502 with a page": answer(502, "<html>"),
    "503 without Retry-After": answer(503),
    "504": answer(504),
}


@pytest.mark.parametrize("kind", MAYBE_TAKEN)
async def test_an_order_that_may_have_been_taken_is_unconfirmed_and_sent_once(kind: str) -> None:
    async with talking_to(MAYBE_TAKEN[kind]) as (client, vendor):
        with pytest.raises(OrderUnconfirmedError) as lost:
            await client.order(vendor.endpoint, ORDER, number)
        assert len(vendor.requests) == 1
    assert "planted-key" not in str(lost.value)


NOT_TAKEN: dict[str, tuple[Act, type[OutpaintError]]] = {
    "301": (answer(301, "", "Location: http://127.0.0.1:9/"), UnexpectedResponseError),
    "307": (answer(307, "", "Location: http://127.0.0.1:9/"), UnexpectedResponseError),
    "400": (answer(400, '{"message": "no"}'), InvalidRequestError),
    "401": (answer(401), AuthenticationError),
    "402": (answer(402), InsufficientCreditsError),
    "403": (answer(403), AuthenticationError),
    "404": (answer(404), UnknownTaskError),
    "422": (answer(422), InvalidRequestError),
    "429": (answer(429, "{}", "Retry-After: 9"), RateLimitedError),
    "503 with Retry-After": (answer(503, "{}", "Retry-After: 9"), ProviderUnavailableError),
}


@pytest.mark.parametrize("kind", NOT_TAKEN)
async def test_an_order_that_was_surely_refused_is_an_error_and_sent_once(kind: str) -> None:
    act, error = NOT_TAKEN[kind]
    async with talking_to(act) as (client, vendor):
        with pytest.raises(OutpaintError) as refused:
            await client.order(vendor.endpoint, ORDER, number)
        assert len(vendor.requests) == 1
    assert not isinstance(refused.value, OrderUnconfirmedError)
    assert type(refused.value) in (error, ProviderUnavailableError)
    if kind.startswith(("429", "503")):
        assert refused.value.retry_after == 9


@pytest.mark.parametrize("host", ["127.0.0.1:9", "does-not-exist.invalid", "127.0.0.1:PORT-tls"])
async def test_who_cannot_be_connected_to_took_no_order(host: str) -> None:
    # The last one speaks plain HTTP where TLS is asked for.
    async with talking_to(speak_no_http) as (client, vendor):
        tls = host.endswith("-tls")
        address = host.replace("PORT-tls", str(vendor.port))
        endpoint = Endpoint("Vendor", f"{'https' if tls else 'http'}://{address}", {}, lambda status, body: None)
        with pytest.raises(ProviderUnavailableError):
            await client.order(endpoint, ORDER, number)


async def test_under_a_key_of_its_own_a_lost_answer_is_asked_for_again_and_found() -> None:
    call = ApiCall("POST", "/order", json={"what": "a lake"}, headers={"Idempotency-Key": "key-1"})
    async with talking_to(hang_up, say_nothing, answer(200, '{"id": 7}')) as (client, vendor):
        assert await client.order(vendor.endpoint, call, number, idempotent=True) == 7
        assert len(vendor.requests) == 3
        assert all(b"key-1" in request for request in vendor.requests)


async def test_a_refusal_after_a_lost_answer_does_not_say_that_the_first_was_refused() -> None:
    call = ApiCall("POST", "/order", json={"what": "a lake"}, headers={"Idempotency-Key": "key-1"})
    async with talking_to(hang_up, answer(401)) as (client, vendor):
        with pytest.raises(OrderUnconfirmedError):
            await client.order(vendor.endpoint, call, number, idempotent=True)


@pytest.mark.parametrize(
    "act",
    [hang_up, reset, stop_in_the_body, speak_no_http, answer(500), answer(408), answer(429), answer(200, "<html>")],
)
async def test_a_question_is_asked_again_until_it_is_answered(act: Act) -> None:
    slept: list[float] = []
    async with talking_to(act, act, answer(200, '{"id": 7}'), slept=slept) as (client, vendor):
        assert await client.read(vendor.endpoint, QUESTION) == {"id": 7}
        assert len(vendor.requests) == 3
    assert len(slept) == 2
    assert slept == sorted(slept)
    assert max(slept) <= 10


async def test_a_question_is_given_up_after_a_few_attempts_with_the_last_error() -> None:
    async with talking_to(answer(500)) as (client, vendor):
        with pytest.raises(ProviderUnavailableError):
            await client.read(vendor.endpoint, QUESTION)
        assert len(vendor.requests) == MAX_ATTEMPTS


async def test_a_vendor_that_says_when_to_come_back_is_asked_then() -> None:
    slept: list[float] = []
    async with talking_to(answer(429, "{}", "Retry-After: 4"), answer(200), slept=slept) as (client, vendor):
        await client.read(vendor.endpoint, QUESTION)
    assert slept
    assert slept[0] >= 4


async def test_what_is_refused_for_good_is_asked_once() -> None:
    async with talking_to(answer(404)) as (client, vendor):
        with pytest.raises(UnknownTaskError):
            await client.read(vendor.endpoint, QUESTION)
        assert len(vendor.requests) == 1


async def test_a_refusal_about_content_is_known_by_its_words_where_the_vendor_says_so() -> None:
    def read_error(status: int, body: Any) -> OutpaintError | None:
        return ContentRejectedError("No.") if status == 400 else None

    async with talking_to(answer(400)) as (client, vendor):
        endpoint = Endpoint("Vendor", vendor.endpoint.base_url, {}, read_error)
        with pytest.raises(ContentRejectedError):
            await client.order(endpoint, ORDER, number)


async def test_a_key_that_a_vendor_repeats_is_not_shown() -> None:
    async with talking_to(answer(400, '{"message": "planted-key is wrong\\r\\nX: y"}')) as (client, vendor):
        with pytest.raises(InvalidRequestError) as refused:
            await client.order(vendor.endpoint, ORDER, number)
    assert "planted-key" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "planted-key" not in repr(vendor.endpoint)
