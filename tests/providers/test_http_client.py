"""Sending to vendors: what is asked again, what is never, and what each failure says about an order.

The network's part is decided by a real server on loopback that fails at each point; the rest by a queue of answers.
"""

import gzip
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    InvalidImageError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.providers.http_client import (
    MAX_ATTEMPTS,
    MAX_BACKOFF,
    MAX_BODY_BYTES,
    MAX_MESSAGE,
    ApiCall,
    Endpoint,
    HttpClient,
    Timeouts,
    UploadFile,
)
from outpaint_mcp.providers.money import TAKEN_AFTER, Taken, taken_by_status
from outpaint_mcp.providers.rejections import find_code, find_message, refusal

NOW = 1_790_000_000.0
KEY = "sk-not-to-be-shown"
ASK = ApiCall("GET", "/v1/job/7?page=2")
ORDER = ApiCall("POST", "/v1/outpaint", json={"zoom": 2})


def judge_by_status(status: int, body: Any) -> OutpaintError | None:
    return None


def endpoint(
    base_url: str = "http://vendor.test",
    read_error: Callable[[int, Any], OutpaintError | None] = judge_by_status,
    secrets: tuple[str, ...] = (),
) -> Endpoint:
    return Endpoint("Vendor", base_url, {"Authorization": f"Bearer {KEY}"}, read_error, secrets)


def job_of(body: Any) -> str:
    """A reader as the adapters have it."""
    if not isinstance(body, dict) or "job" not in body:
        raise UnexpectedResponseError("Vendor names no job.")
    return str(body["job"])


@dataclass
class Queue:
    """A transport that gives one answer after the other and keeps the requests."""

    answers: list[httpx2.Response | Exception]
    requests: list[httpx2.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def client(self) -> HttpClient:
        return HttpClient(
            transport=httpx2.MockTransport(self.handle), sleep=self.sleep, jitter=lambda: 1.0, clock=lambda: NOW
        )


def answer(status: int = 200, body: Any = None, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"job": "7"} if body is None else body, headers=named)


async def reading(queue: Queue, at: Endpoint | None = None) -> Any:
    async with queue.client() as client:
        return await client.read(at or endpoint(), ASK)


async def ordering(queue: Queue, at: Endpoint | None = None, *, idempotent: bool = False) -> str:
    async with queue.client() as client:
        return await client.order(at or endpoint(), ORDER, job_of, idempotent=idempotent)


# Reading


@pytest.mark.parametrize(
    "failure",
    [
        httpx2.ConnectError("x"),
        httpx2.ReadTimeout("x"),
        httpx2.RemoteProtocolError("x"),
        answer(408),
        answer(429),
        answer(500),
        answer(503),
        httpx2.Response(200, content=b"<html>"),
        httpx2.Response(200, content=b""),
        httpx2.Response(200, content=b'{"job": NaN}'),
        httpx2.Response(200, content=b'{"job": "\\ud800"}'),
        httpx2.Response(200, content=b"[" * 200_000),
        httpx2.Response(200, content=b'"' + b"x" * MAX_BODY_BYTES + b'"'),
        httpx2.Response(200, content=b"\xff\xfe\x00"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_read_is_asked_again_after_whatever_may_pass(failure: httpx2.Response | Exception) -> None:
    queue = Queue([failure, answer()])
    assert await reading(queue) == {"job": "7"}
    assert len(queue.requests) == 2
    assert queue.slept == [1.0]


async def test_a_read_gives_up_after_some_attempts_and_its_pauses_grow_to_a_limit() -> None:
    queue = Queue([answer(500, {"error": "no"}) for _ in range(MAX_ATTEMPTS)])
    with pytest.raises(ProviderUnavailableError, match="Vendor answered 500: no"):
        await reading(queue)
    assert len(queue.requests) == MAX_ATTEMPTS
    assert queue.slept == [1.0, 2.0, 4.0]
    assert max(queue.slept) <= MAX_BACKOFF


async def test_an_answer_that_stays_unreadable_is_unexpected() -> None:
    queue = Queue([httpx2.Response(200, content=b"<html>") for _ in range(MAX_ATTEMPTS)])
    with pytest.raises(UnexpectedResponseError, match="not JSON"):
        await reading(queue)


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("7", 7.0),
        ("0", 1.0),
        ("2.5", 2.5),
        ("Mon, 21 Sep 2026 14:13:29 GMT", 9.0),
        ("Mon, 21 Sep 2020 14:13:29 GMT", 1.0),
        ("soon", 1.0),
        ("Mon, 99 Sep 2026 99:99:99 GMT", 1.0),
    ],
)
async def test_a_read_waits_as_long_as_the_vendor_says(header: str, pause: float) -> None:
    queue = Queue([answer(429, retry_after=header), answer()])
    await reading(queue)
    assert queue.slept == [pause]


async def test_a_pause_that_is_too_long_to_wait_for_here_is_handed_to_the_caller() -> None:
    queue = Queue([answer(429, retry_after="3600")])
    with pytest.raises(RateLimitedError) as refused:
        await reading(queue)
    assert refused.value.retry_after == 3600
    assert queue.slept == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, UnexpectedResponseError),
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, AuthenticationError),
        (404, UnknownTaskError),
        (409, InvalidRequestError),
        (413, InvalidImageError),
        (418, UnexpectedResponseError),
        (422, InvalidRequestError),
    ],
)
async def test_a_refusal_is_mapped_by_its_status_and_not_asked_again(status: int, kind: type[OutpaintError]) -> None:
    queue = Queue([answer(status, {"message": "no", "code": "e7"}, location="http://elsewhere.test/")])
    with pytest.raises(kind) as refused:
        await reading(queue)
    assert len(queue.requests) == 1
    if status != 302:
        assert refused.value.message == f"Vendor answered {status}: no."
        assert refused.value.provider_code == "e7"


async def test_a_sentence_that_ends_by_itself_gets_no_full_stop() -> None:
    with pytest.raises(UnknownTaskError) as refused:
        await reading(Queue([answer(404, {"message": "gone!"})]))
    assert refused.value.message == "Vendor answered 404: gone!"


async def test_the_vendors_own_reading_of_an_answer_comes_before_the_status() -> None:
    def read_error(status: int, body: Any) -> OutpaintError | None:
        return refusal(InsufficientCreditsError, "Vendor", body) if status == 403 else None

    with pytest.raises(InsufficientCreditsError, match=r"Vendor refused: too poor\."):
        await reading(Queue([answer(403, {"error": "too poor"})]), endpoint(read_error=read_error))


async def test_a_reader_of_errors_that_breaks_leaves_the_word_to_the_status(caplog: pytest.LogCaptureFixture) -> None:
    def broken(status: int, body: Any) -> OutpaintError | None:
        raise KeyError("error")

    with pytest.raises(UnknownTaskError):
        await reading(Queue([answer(404)]), endpoint(read_error=broken))
    assert "KeyError" in caplog.text


async def test_the_request_carries_the_key_and_the_body_and_no_cookies() -> None:
    queue = Queue([answer(set_cookie="session=1; Path=/"), answer(), answer()])
    upload = ApiCall("POST", "/upload", file=UploadFile("file", "a.png", "image/png", b"PNG"), headers={"x-more": "1"})
    async with queue.client() as client:
        await client.read(endpoint(), ORDER)
        await client.read(endpoint(), upload)
        await client.read(endpoint(), ASK)
    first, second, third = queue.requests
    assert str(first.url) == "http://vendor.test/v1/outpaint"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.content == b'{"zoom":2}'
    assert second.headers["content-type"].startswith("multipart/form-data")
    assert second.headers["x-more"] == "1"
    assert b'name="file"; filename="a.png"' in second.content
    assert b"image/png" in second.content
    assert third.method == "GET"
    assert not any("cookie" in request.headers for request in queue.requests)


# Ordering: the table


def test_the_table_of_failures_has_an_entry_for_every_error_of_the_network() -> None:
    assert issubclass(httpx2.TransportError, tuple(TAKEN_AFTER))
    certain = {kind for kind, (taken, _) in TAKEN_AFTER.items() if taken is Taken.NO}
    assert certain == {
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.UnsupportedProtocol,
        httpx2.InvalidURL,
    }


@pytest.mark.parametrize(
    ("status", "retry_after", "own_key", "taken"),
    [
        (302, False, False, Taken.NO),
        (400, False, False, Taken.NO),
        (408, False, False, Taken.MAYBE),
        (408, True, False, Taken.MAYBE),
        (409, False, False, Taken.NO),
        (409, False, True, Taken.MAYBE),
        (429, False, False, Taken.NO),
        (500, True, False, Taken.MAYBE),
        (502, False, False, Taken.MAYBE),
        (503, False, False, Taken.MAYBE),
        (503, True, False, Taken.NO),
        (504, False, False, Taken.MAYBE),
        (599, False, False, Taken.MAYBE),
    ],
)
def test_what_a_status_says_about_an_order(status: int, retry_after: bool, own_key: bool, taken: Taken) -> None:
    assert taken_by_status(status, has_retry_after=retry_after, has_own_key=own_key) is taken


@pytest.mark.parametrize(
    "error",
    [
        httpx2.WriteError("x"),
        httpx2.WriteTimeout("x"),
        httpx2.ReadTimeout("x"),
        httpx2.CloseError("x"),
        httpx2.LocalProtocolError("x"),
        httpx2.DecodingError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_order_whose_answer_is_lost_is_unconfirmed_and_never_sent_again(error: Exception) -> None:
    queue = Queue([error, answer()])
    with pytest.raises(OrderUnconfirmedError, match="is not known"):
        await ordering(queue)
    assert len(queue.requests) == 1


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("x"),
        httpx2.ConnectTimeout("x"),
        httpx2.PoolTimeout("x"),
        httpx2.ProxyError("x"),
        httpx2.UnsupportedProtocol("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_order_that_never_left_is_refused_and_never_sent_again(error: Exception) -> None:
    queue = Queue([error, answer()])
    with pytest.raises(ProviderUnavailableError):
        await ordering(queue)
    assert len(queue.requests) == 1


async def test_a_base_url_that_is_none_is_a_refusal() -> None:
    with pytest.raises(ProviderUnavailableError, match="base URL"):
        await ordering(Queue([]), endpoint("http://vendor.test:port"))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"job"', b"[]", b"null", b'{"other": 1}'])
async def test_an_order_that_was_answered_without_sense_is_unconfirmed(body: bytes) -> None:
    with pytest.raises(OrderUnconfirmedError):
        await ordering(Queue([httpx2.Response(200, content=body)]))


async def test_an_order_whose_answer_breaks_its_reader_is_unconfirmed(caplog: pytest.LogCaptureFixture) -> None:
    def parse(body: Any) -> str:
        return str(body["no such field"])

    async with Queue([answer()]).client() as client:
        with pytest.raises(OrderUnconfirmedError):
            await client.order(endpoint(), ORDER, parse)
    assert "KeyError" in caplog.text


async def test_a_vendor_that_refuses_in_words_under_200_took_no_order() -> None:
    def read_error(status: int, body: Any) -> OutpaintError | None:
        return refusal(InvalidRequestError, "Vendor", body)

    with pytest.raises(InvalidRequestError):
        await ordering(Queue([answer(200, {"message": "no"})]), endpoint(read_error=read_error))


async def test_a_vendor_that_says_under_200_that_it_is_broken_may_have_taken_the_order() -> None:
    def read_error(status: int, body: Any) -> OutpaintError | None:
        return refusal(ProviderUnavailableError, "Vendor", body)

    with pytest.raises(OrderUnconfirmedError):
        await ordering(Queue([answer(200, {"message": "no"})]), endpoint(read_error=read_error))


async def test_a_client_that_was_never_used_can_be_closed() -> None:
    async with HttpClient():
        pass


async def test_an_unconfirmed_order_tells_the_vendors_code_and_when_to_come_back() -> None:
    with pytest.raises(OrderUnconfirmedError) as unconfirmed:
        await ordering(Queue([answer(500, {"error": {"code": 17, "message": "no"}}, retry_after="9")]))
    assert unconfirmed.value.provider_code == "17"
    assert unconfirmed.value.retry_after == 9


# Ordering under a key of one's own


async def test_a_lost_answer_is_asked_for_again_under_the_same_key() -> None:
    queue = Queue([httpx2.ReadTimeout("x"), answer(500), answer()])
    assert await ordering(queue, idempotent=True) == "7"
    assert len({request.content for request in queue.requests}) == 1


async def test_asking_again_has_an_end() -> None:
    queue = Queue([httpx2.ReadTimeout("x") for _ in range(MAX_ATTEMPTS)])
    with pytest.raises(OrderUnconfirmedError):
        await ordering(queue, idempotent=True)
    assert queue.answers == []


async def test_a_refusal_of_the_body_after_a_lost_answer_shows_that_nothing_was_taken() -> None:
    with pytest.raises(InvalidRequestError):
        await ordering(Queue([httpx2.ReadTimeout("x"), answer(400)]), idempotent=True)


@pytest.mark.parametrize("status", [401, 402, 429])
async def test_a_refusal_that_may_come_before_the_key_is_looked_at_shows_nothing(status: int) -> None:
    answers: list[httpx2.Response | Exception] = [answer(status) for _ in range(MAX_ATTEMPTS - 1)]
    with pytest.raises(OrderUnconfirmedError):
        await ordering(Queue([httpx2.ReadTimeout("x"), *answers]), idempotent=True)


@pytest.mark.parametrize("status", [402, 429])
async def test_a_first_refusal_is_sure_and_is_not_sent_again_even_under_a_key(status: int) -> None:
    queue = Queue([answer(status)])
    with pytest.raises((InsufficientCreditsError, RateLimitedError)):
        await ordering(queue, idempotent=True)


async def test_a_conflict_about_our_own_key_may_hide_an_order() -> None:
    queue = Queue([answer(409), answer()])
    assert await ordering(queue, idempotent=True) == "7"


async def test_a_conflict_that_the_vendor_explains_is_sure() -> None:
    def read_error(status: int, body: Any) -> OutpaintError | None:
        return refusal(InvalidRequestError, "Vendor", body) if status == 409 else None

    with pytest.raises(InvalidRequestError):
        await ordering(Queue([answer(409)]), endpoint(read_error=read_error), idempotent=True)


async def test_a_pause_too_long_leaves_the_order_unconfirmed() -> None:
    queue = Queue([answer(500, retry_after="600")])
    with pytest.raises(OrderUnconfirmedError) as unconfirmed:
        await ordering(queue, idempotent=True)
    assert unconfirmed.value.retry_after == 600


# The network itself

Behaviour = Callable[[SocketStream, list[bytes]], Awaitable[None]]


@asynccontextmanager
async def vendor(behave: Behaviour) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A vendor that does `behave` with each connection; its address, and what it received."""
    received: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await behave(stream, received)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (no Django here)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{port}", received
        tasks.cancel_scope.cancel()


def says(data: bytes) -> Behaviour:
    async def behave(stream: SocketStream, received: list[bytes]) -> None:
        received.append(await stream.receive())
        await stream.send(data)

    return behave


def http(status: str, body: bytes = b"{}", *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return says("\r\n".join(lines).encode() + body)


async def closes_at_once(stream: SocketStream, received: list[bytes]) -> None:
    await stream.aclose()


async def reads_and_closes(stream: SocketStream, received: list[bytes]) -> None:
    received.append(await stream.receive())


async def never_answers(stream: SocketStream, received: list[bytes]) -> None:
    received.append(await stream.receive())
    received.append(await stream.receive())


async def resets(stream: SocketStream, received: list[bytes]) -> None:
    received.append(await stream.receive())
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    connection = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 (no Django here)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def drips_for_ever(stream: SocketStream, received: list[bytes]) -> None:
    received.append(await stream.receive())
    await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await stream.send(b" ")
        await anyio.sleep(0.05)


QUICK = Timeouts(connect=2, pool=2, write=2, read=0.3, read_total=1, order_total=1)
GZIP = gzip.compress(b'{"job": "7"}')

ON_THE_WIRE: list[tuple[str, Behaviour, type[OutpaintError] | None]] = [
    ("a good answer", http("200 OK", b'{"job": "7"}'), None),
    ("a packed answer", http("200 OK", GZIP, "content-encoding: gzip"), None),
    ("a badly packed answer", http("200 OK", b"no gzip", "content-encoding: gzip"), OrderUnconfirmedError),
    ("accepted and closed", closes_at_once, OrderUnconfirmedError),
    ("read and closed", reads_and_closes, OrderUnconfirmedError),
    ("reset", resets, OrderUnconfirmedError),
    ("half a head", says(b"HTTP/1.1 200 OK\r\ncontent-le"), OrderUnconfirmedError),
    ("half a body", says(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"job'), OrderUnconfirmedError),
    ("silence", never_answers, OrderUnconfirmedError),
    ("a drip", drips_for_ever, OrderUnconfirmedError),
    ("no HTTP", says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), OrderUnconfirmedError),
    ("garbage", http("200 OK", b"\x00\x01\x02"), OrderUnconfirmedError),
    ("a page", http("200 OK", b"<html>hello</html>"), OrderUnconfirmedError),
    ("a redirect", http("302 Found", b"", "location: /elsewhere"), UnexpectedResponseError),
    ("408", http("408 Request Timeout"), OrderUnconfirmedError),
    ("429", http("429 Too Many Requests"), RateLimitedError),
    ("500", http("500 Oops"), OrderUnconfirmedError),
    ("502, a page", http("502 Bad Gateway", b"<html>"), OrderUnconfirmedError),
    ("503", http("503 Busy"), OrderUnconfirmedError),
    ("503 with Retry-After", http("503 Busy", b"{}", "retry-after: 5"), ProviderUnavailableError),
    ("402, body lost", says(b"HTTP/1.1 402 No\r\ncontent-length: 100\r\n\r\n{"), InsufficientCreditsError),
]


@pytest.mark.parametrize(("behave", "kind"), [row[1:] for row in ON_THE_WIRE], ids=[row[0] for row in ON_THE_WIRE])
async def test_what_happens_on_the_wire_decides_whether_an_order_may_have_been_taken(
    behave: Behaviour, kind: type[OutpaintError] | None
) -> None:
    async with vendor(behave) as (url, received), HttpClient(timeouts=QUICK) as client:
        if kind is None:
            assert await client.order(endpoint(url), ORDER, job_of) == "7"
        else:
            with pytest.raises(kind) as failed:
                await client.order(endpoint(url), ORDER, job_of)
            assert type(failed.value) is kind
    assert sum(data.startswith(b"POST /v1/outpaint") for data in received) <= 1
    assert b"GET" not in b"".join(received), "a redirect is not followed"


async def test_a_refused_connection_and_an_unknown_name_take_no_order() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = (f"http://127.0.0.1:{closed.getsockname()[1]}", "http://no-such-host.invalid", "ftp://127.0.0.1")
        async with HttpClient(timeouts=QUICK) as client:
            for url in urls:
                with pytest.raises(ProviderUnavailableError):
                    await client.order(endpoint(url), ORDER, job_of)


async def test_a_failed_handshake_takes_no_order() -> None:
    async with vendor(http("200 OK")) as (url, received), HttpClient(timeouts=QUICK) as client:
        with pytest.raises(ProviderUnavailableError):
            await client.order(endpoint(url.replace("http:", "https:")), ORDER, job_of)
    assert b"outpaint" not in b"".join(received)


async def test_whoever_cancels_while_an_order_is_sent_is_obeyed() -> None:
    arrived = anyio.Event()

    async def tells(stream: SocketStream, received: list[bytes]) -> None:
        received.append(await stream.receive())
        arrived.set()
        await stream.receive()

    finished = False
    async with vendor(tells) as (url, _), HttpClient() as client, anyio.create_task_group() as tasks:

        async def order() -> None:
            nonlocal finished
            with suppress(OutpaintError):
                await client.order(endpoint(url), ORDER, job_of)
            finished = True

        tasks.start_soon(order)
        with anyio.fail_after(5):
            await arrived.wait()
        tasks.cancel_scope.cancel()
    assert not finished


# What is shown and logged


async def test_a_vendors_words_are_shown_in_one_line_without_our_secrets() -> None:
    said = f"bad key {KEY}\n\x1b[31msecret hush\ttoken=a b and token=a%20b" + " long" * 100
    queue = Queue([answer(401, {"error": {"message": said, "code": f"code-{KEY}"}})])
    with pytest.raises(AuthenticationError) as refused:
        await reading(queue, endpoint(secrets=("hush", "token=a%20b")))
    shown = refused.value.message
    for secret in (KEY, "hush", "token=a b", "token=a%20b", "\n", "\x1b"):
        assert secret not in shown
        assert secret not in repr(refused.value)
    assert len(shown) == MAX_MESSAGE
    assert refused.value.provider_code == "code-***"


async def test_the_log_names_the_request_and_never_a_key_a_query_or_a_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="outpaint_mcp.providers.http_client")
    await reading(Queue([answer(500), answer()]))
    lines = [record.getMessage() for record in caplog.records if record.name == "outpaint_mcp.providers.http_client"]
    assert [line.rpartition(" in ")[0] for line in lines] == ["GET /v1/job/7: 500", "GET /v1/job/7: 200"]


def test_an_endpoint_does_not_show_its_key() -> None:
    assert KEY not in repr(endpoint(secrets=("hush",)))
    assert "hush" not in repr(endpoint(secrets=("hush",)))


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (None, "", None),
        ("text", "", None),
        ({}, "", None),
        ({"error": "no"}, "no", None),
        ({"error": " "}, "", None),
        ({"error": {"message": "no", "code": "e1", "type": "x"}}, "no", "e1"),
        ({"error": {"code": 4007001, "error_message": "no"}}, "no", "4007001"),
        ({"error": {"code": 0, "message": ""}, "message": "no", "code": 12}, "no", "12"),
        ({"status": {"code": 403, "message": "no", "error_code": 40201}}, "no", "40201"),
        ({"status": "failed", "error": {"code": 0, "raw_message": "no"}}, "no", None),
        ({"success": False, "message": "no"}, "no", None),
        ({"code": True, "detail": "no"}, "no", None),
        ({"error": {"error": {"message": "too deep"}}}, "", None),
    ],
)
def test_a_vendors_sentence_and_code_are_found_wherever_they_stand(body: Any, message: str, code: str | None) -> None:
    assert find_message(body) == message
    assert find_code(body) == code
