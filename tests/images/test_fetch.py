"""Fetching from strangers' URLs, against a server on loopback that answers with exactly the bytes it is told to.

Where a test is about which address is opened, a resolver is passed in: no name is ever looked up on a network.
"""

import gzip
import logging
import random
import ssl
import tempfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, Listener
from anyio.streams.tls import TLSListener

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError, OutpaintError
from outpaint_mcp.images.fetch import MAX_REDIRECTS, ImageFetcher, resolve

BODY = bytes(range(256)) * 40
CAP = 50_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Answer = bytes | Callable[[ByteStream], Awaitable[None]]


@dataclass
class RawServer:
    """Where it listens, and the head of every request that came."""

    port: int
    requests: list[str] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def ok(body: bytes, *headers: str) -> bytes:
    lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@asynccontextmanager
async def serving(answers: Mapping[str, Answer], context: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve `answers` by path, anything else as 404; the connection is closed after each."""
    listeners = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener: Listener[ByteStream] = listeners
    server = RawServer(listeners.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 (not Django's)
    if context is not None:
        listener = TLSListener(listeners, context, standard_compatible=False, handshake_timeout=5)

    async def handle(stream: ByteStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive()
                server.requests.append(head.decode("latin-1"))
                answer = answers.get(head.split()[1].decode(), b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")
                if isinstance(answer, bytes):
                    await stream.send(answer)
                else:
                    await answer(stream)

    async with listeners, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()


@dataclass
class Names:
    """A resolver with a table; each name's answers are given one after the other, the last one for ever."""

    answers: Mapping[str, Sequence[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such name")
        answers = self.answers[host]
        return answers[min(self.asked.count(host), len(answers)) - 1]


def fetcher(
    resolver: Names | None = None,
    *,
    allow_private: bool = True,
    timeout: float = 10.0,
    connect_timeout: float = 5.0,
    ssl_context: ssl.SSLContext | None = None,
) -> ImageFetcher:
    return ImageFetcher(
        max_bytes=CAP,
        allow_private=allow_private,
        resolver=resolver or Names({}),
        timeout=timeout,
        connect_timeout=connect_timeout,
        ssl_context=ssl_context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


async def body_of(one: ImageFetcher, url: str) -> bytes:
    received = bytearray()

    async def write(piece: bytes) -> None:
        received.extend(piece)
        assert len(received) <= CAP

    await one.fetch(url, write)
    return bytes(received)


async def refusal(one: ImageFetcher, url: str) -> OutpaintError:
    with pytest.raises((InvalidImageError, ForbiddenUrlError)) as caught:
        await body_of(one, url)
    return caught.value


async def test_the_body_arrives_whole() -> None:
    async with serving({"/a.png?x=1": ok(BODY)}) as server:
        assert await body_of(fetcher(), server.url("/a.png?x=1#part")) == BODY
    head = server.requests[0].lower()
    assert f"host: 127.0.0.1:{server.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "cookie" not in head
    assert head.count("host:") == 1


async def test_a_chunked_body_arrives_whole() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    async with serving({"/": chunked}) as server:
        assert await body_of(fetcher(), server.url()) == BODY


async def test_loopback_is_refused_unless_the_operator_allows_it() -> None:
    async with serving({"/": ok(BODY)}) as server:
        assert isinstance(await refusal(fetcher(allow_private=False), server.url()), ForbiddenUrlError)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1%25eth0]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7F.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://127%2e0.0.1/",
        "http://user@127.0.0.1/",
        "http://user:word@example.org/",
        "http://a\\\\@127.0.0.1/",
        "ftp://example.org/a.png",
        "gopher://127.0.0.1/",
        "file:///etc/passwd",
    ],
)
async def test_urls_that_are_never_opened(url: str) -> None:
    assert isinstance(await refusal(fetcher(Names({"example.org": [["127.0.0.1"]]})), url), ForbiddenUrlError)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a.png",
        "http://[::1",
        "http://a b/",
        "http://*/",
        "http://a..b/",
        "http://h:0/",
        "http://0177.0.0.1/",
        "http://h:99999/",
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 200 + "b/",
        "http://" + "a" * 70_000,
        "http://\uff11.example/",
        "http://x/\udc80",
        "http://nobody-here.example/",
    ],
)
async def test_urls_that_cannot_be_opened(url: str) -> None:
    assert isinstance(await refusal(fetcher(), url), InvalidImageError)


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["169.254.169.254"],
        ["fe80::1%lo"],
        ["what?"],
    ],
)
async def test_a_name_with_any_inner_address_is_refused(addresses: list[str]) -> None:
    names = Names({"inner.example": [addresses]})
    error = await refusal(fetcher(names, allow_private=False), "http://inner.example/")
    assert isinstance(error, ForbiddenUrlError)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that answers differently the second time is looked up once, and that answer is connected to."""
    names = Names({"images.example": [["127.0.0.1"], ["169.254.169.254"]]})
    async with serving({"/a": ok(BODY)}) as server:
        assert await body_of(fetcher(names), server.url("/a", host="images.example")) == BODY
    assert names.asked == ["images.example"]
    assert f"host: images.example:{server.port}\r\n" in server.requests[0].lower()


async def test_every_hop_is_looked_up_and_checked_anew() -> None:
    names = Names({"images.example": [["127.0.0.1"], ["169.254.169.254"]]})
    async with serving({"/a": redirect("/b"), "/b": ok(BODY)}) as server:
        assert isinstance(await refusal(fetcher(names), server.url("/a", host="images.example")), ForbiddenUrlError)
    assert len(server.requests) == 1


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    names = Names({"two.example": [["127.0.0.2", "127.0.0.1"]]})
    async with serving({"/": ok(BODY)}) as server:
        assert await body_of(fetcher(names), server.url(host="two.example")) == BODY


async def test_nobody_listening_is_an_invalid_image() -> None:
    async with serving({}) as server:
        pass
    error = await refusal(fetcher(), server.url())
    assert isinstance(error, InvalidImageError)
    assert "cannot be connected to" in error.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with serving({"/a": redirect("b?c=1", status), "/b?c=1": ok(BODY)}) as server:
        assert await body_of(fetcher(), server.url("/a")) == BODY


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/", "file:///etc/passwd", "http://u:p@127.0.0.1/", "//0x7f.1/", "http://inner.example/"],
)
async def test_a_redirect_to_a_forbidden_place_is_refused(location: str) -> None:
    names = Names({"inner.example": [["169.254.169.254"]]})
    async with serving({"/": redirect(location)}) as server:
        assert isinstance(await refusal(fetcher(names), server.url()), ForbiddenUrlError)


async def test_a_redirect_loop_ends() -> None:
    async with serving({"/": redirect("/")}) as server:
        assert "redirects more than" in (await refusal(fetcher(), server.url())).message
    assert len(server.requests) == MAX_REDIRECTS + 1


async def test_a_redirect_without_a_place_or_to_nonsense_is_an_invalid_image() -> None:
    nowhere = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    async with serving({"/a": nowhere, "/b": redirect("http://[nonsense")}) as server:
        assert isinstance(await refusal(fetcher(), server.url("/a")), InvalidImageError)
        assert isinstance(await refusal(fetcher(), server.url("/b")), InvalidImageError)


async def test_a_missing_page_is_an_invalid_image_that_says_so() -> None:
    async with serving({}) as server:
        error = await refusal(fetcher(), server.url("/gone?token=hidden"))
    assert isinstance(error, InvalidImageError)
    assert "HTTP 404" in error.message
    assert "127.0.0.1" in error.message


async def test_an_announced_size_above_the_cap_is_refused_at_once() -> None:
    async with serving({"/": b"HTTP/1.1 200 OK\r\nContent-Length: 50001\r\n\r\n"}) as server:
        assert "larger than" in (await refusal(fetcher(), server.url())).message


async def test_an_endless_body_is_cut_at_the_cap() -> None:
    async def endless(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send(bytes(4096))

    async with serving({"/": endless}) as server:
        assert "larger than" in (await refusal(fetcher(), server.url())).message


async def test_a_body_of_exactly_the_cap_is_taken() -> None:
    async with serving({"/": ok(bytes(CAP)), "/more": ok(bytes(CAP + 1))}) as server:
        assert len(await body_of(fetcher(), server.url())) == CAP
        assert "larger than" in (await refusal(fetcher(), server.url("/more"))).message


@pytest.mark.parametrize(
    "shortened", [ok(BODY)[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"", b"nonsense"]
)
async def test_a_broken_answer_is_an_invalid_image(shortened: bytes) -> None:
    async with serving({"/": shortened}) as server:
        assert "broke off" in (await refusal(fetcher(), server.url())).message


async def test_a_slow_body_ends_with_the_total_time_out() -> None:
    async def slow(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await anyio.sleep_forever()

    async with serving({"/": slow}) as server:
        assert "within 0.2 seconds" in (await refusal(fetcher(timeout=0.2), server.url())).message


async def test_a_slow_look_up_ends_with_the_total_time_out() -> None:
    async def slow(host: str, port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        return ()

    one = ImageFetcher(max_bytes=CAP, resolver=slow, timeout=0.1)
    assert "did not arrive from slow.example" in (await refusal(one, "http://slow.example/")).message


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_that_is_compressed_unasked_is_unpacked(name: str, pack: Callable[[bytes], bytes]) -> None:
    async with serving({"/": ok(pack(BODY), f"Content-Encoding: {name}")}) as server:
        assert await body_of(fetcher(), server.url()) == BODY


async def test_a_gzip_bomb_is_cut_at_the_cap() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < CAP
    async with serving({"/": ok(bomb, "Content-Encoding: gzip")}) as server:
        assert "larger than" in (await refusal(fetcher(), server.url())).message


@pytest.mark.parametrize("encoding", ["aws-chunked", "none", "utf-8", "binary", "br", "image/png", "gzip", "deflate"])
async def test_what_is_called_encoded_and_is_not_is_handed_on_as_it_is(encoding: str) -> None:
    async def in_pieces(stream: ByteStream) -> None:
        head, body = ok(BODY, f"Content-Encoding: {encoding}")[: -len(BODY)], BODY
        for piece in (head, body[:1], body[1:5], body[5:]):
            await stream.send(piece)
            await anyio.sleep(0.01)

    async with serving({"/": in_pieces}) as server:
        assert await body_of(fetcher(), server.url()) == BODY


async def test_an_unknown_encoding_beside_a_known_one_changes_nothing() -> None:
    async with serving({"/": ok(gzip.compress(BODY), "Content-Encoding: gzip, aws-chunked")}) as server:
        assert await body_of(fetcher(), server.url()) == BODY


async def test_a_compressed_body_that_breaks_within_is_broken_off() -> None:
    broken = gzip.compress(random.Random(1).randbytes(20_000))[:15_000] + bytes(5_000)  # noqa: S311
    async with serving({"/": ok(broken, "Content-Encoding: gzip")}) as server:
        assert "broke off" in (await refusal(fetcher(), server.url())).message


async def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is what is under test here, so it cannot be passed in."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving({"/": ok(BODY)}) as server:
        assert await body_of(fetcher(), server.url()) == BODY


async def test_no_cookie_comes_back() -> None:
    answers = {"/a": redirect("/b").replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"), "/b": ok(BODY)}
    async with serving(answers) as server:
        await body_of(fetcher(), server.url("/a"))
    assert "cookie" not in server.requests[1].lower()


async def test_the_query_stays_out_of_messages_and_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving({"/a?hush": redirect("/b?hush"), "/c?hush": ok(BODY)}) as server:
        error = await refusal(fetcher(), server.url("/a?hush"))
        await body_of(fetcher(), server.url("/c?hush"))
    assert "hush" not in str(error) + caplog.text


async def test_many_fetches_wait_in_line() -> None:
    inside = most = 0

    async def counted(stream: ByteStream) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(50):  # time enough for all others to come in, were they let
            await anyio.lowlevel.checkpoint()
        inside -= 1
        await stream.send(ok(BODY))

    one = ImageFetcher(max_bytes=CAP, allow_private=True, at_once=3)
    async with serving({"/": counted}) as server, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(body_of, one, server.url())
    assert len(server.requests) == 20
    assert most == 3


async def test_the_systems_resolver_knows_loopback() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1", 80)


async def test_the_certificate_is_checked_against_the_name_and_not_the_address() -> None:
    names = Names({"images.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    asked: list[str | None] = []
    served, trusted = certificate_for("images.example")
    served.sni_callback = lambda _socket, name, _context: asked.append(name)
    one = fetcher(names, ssl_context=trusted)
    async with serving({"/": ok(BODY)}, served) as server:
        assert await body_of(one, f"https://images.example:{server.port}/") == BODY
        refused = await refusal(one, f"https://other.example:{server.port}/")
    assert asked == ["images.example", "other.example"]
    assert "certificate" in refused.message


def certificate_for(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of that name serves with, and a client that trusts it alone."""
    x509 = pytest.importorskip("cryptography.x509")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    kinds = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _contexts(
        certificate.public_bytes(kinds.Encoding.PEM),
        key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()),
    )


def _contexts(certificate: bytes, key: bytes) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(key + certificate)
        served.load_cert_chain(chain)
    return served, ssl.create_default_context(cadata=certificate.decode())
