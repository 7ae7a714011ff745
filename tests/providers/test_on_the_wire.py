"""What the network itself decides: a real server on loopback that fails at each point of a request."""

import gzip
import socket
from contextlib import suppress

import anyio
import pytest
from anyio.abc import SocketStream

from outpaint_mcp.domain.errors import (
    InsufficientCreditsError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnexpectedResponseError,
)
from outpaint_mcp.providers.http_client import HttpClient, Timeouts

from .network import ORDER, Behaviour, endpoint, http, job_of, says, vendor


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
