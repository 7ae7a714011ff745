"""Downloads a file from a URL that a client gave, guarded against server-side request forgery.

Every host is resolved once, all its addresses are checked, and the connection goes to an address that was checked, so
that DNS rebinding achieves nothing. Redirects are followed here, and each of them is checked anew. Knows nothing of
images.
"""

import functools
import importlib.metadata
import re
import socket
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpcore2
import httpx2

from outpaint_mcp import __version__
from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError
from outpaint_mcp.domain.retry_after import read_retry_after
from outpaint_mcp.images.addresses import is_address, may_connect
from outpaint_mcp.images.size_limit import too_large

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host name and a port to all its IP addresses; raises OSError when there is none."""
Write = Callable[[bytes], Awaitable[None]]

MAX_REDIRECTS: Final = 5
_MAX_ADDRESSES_TRIED: Final = 4
_MAX_HOST: Final = 253  # characters, by the rules of DNS
_HOST_NAME: Final = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PIECE: Final = 256 * 1024
_MAX_HEAD: Final = 64 * 1024
"""Bytes before the body: a server may send any number of interim (1xx) responses before the final one."""
_HEADERS: Final = (
    (b"Accept", b"image/jpeg,image/png,image/webp,image/gif,*/*;q=0.1"),
    # Images are compressed already, and a compressed body may expand to any size.
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"close"),
)
_LATER: Final = {429: "too many requests", 503: "it is not available now"}
_GZIP, _ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS | 32
_ENCODINGS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_BROKEN: Final = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of `host`, by the system's resolver."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """Whose certificates this machine trusts, read once for the whole process: that takes longer than most requests."""
    return httpx2.create_ssl_context()


@functools.cache
def user_agent() -> bytes:
    """The program's name and version, and where to read about it if the package says so: some hosts demand that."""
    try:
        named = importlib.metadata.metadata("outpaint-mcp").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        named = []
    urls = [url.strip() for label, _, url in (one.partition(",") for one in named) if label.strip() == "Homepage"]
    return f"outpaint-mcp/{__version__}{''.join(f' (+{url})' for url in urls[:1])}".encode()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: from which host in the end, and what that calls it."""

    host: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str
    sets_cookie: bool


class ImageFetcher:
    """Fetches files of at most `max_bytes`.

    Args:
        allow_private: whether loopback and private addresses are allowed; link-local and metadata ones never are.
        timeout: for one file with all its redirects, in seconds.
        connect_timeout: for one attempt to connect, in seconds.
        at_once: the most files that are fetched at the same time; waiting for a turn does not count as timeout.
        ssl_context: what certificates are checked with; by default the usual authorities.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        allow_private: bool = False,
        resolver: Resolve = resolve,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        at_once: int = 16,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._allow_private = allow_private
        self._resolver = resolver
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._slots = anyio.CapacityLimiter(at_once)
        self._ssl_context = ssl_context

    async def fetch(self, url: str, write: Write) -> Fetched:
        """Pass the body to `write` in pieces, never more than `max_bytes` of it.

        Raises:
            ForbiddenUrlError: the URL, or one that it redirects to, must not be opened.
            InvalidImageError: it cannot be downloaded; messages name the host, and nothing else of the URL.
        """
        target = _parse(url)
        visited: list[httpx2.URL] = []
        wants_cookies = False
        async with self._slots:
            try:
                with anyio.fail_after(self._timeout):
                    for _ in range(MAX_REDIRECTS + 1):
                        answer = await self._hop(target, write)
                        if isinstance(answer, Fetched):
                            return answer
                        visited.append(target)
                        wants_cookies = wants_cookies or answer.sets_cookie
                        target = _parse_redirect(target, answer.location)
                        if wants_cookies and target in visited:
                            break
            except TimeoutError:
                raise InvalidImageError(
                    f"The image did not arrive from {_ascii_host(target)} within {self._timeout:g} seconds.",
                    "Try again later, or give another URL.",
                ) from None
        if wants_cookies:
            raise InvalidImageError(
                f"{_ascii_host(target)} redirects until a cookie comes back: it wants a browser's session.",
                "Give a direct link that needs no cookies, or download the image and give the file.",
            )
        raise InvalidImageError(
            f"The image's URL redirects more than {MAX_REDIRECTS} times.", "Give the URL that it ends at."
        )

    async def _hop(self, target: httpx2.URL, write: Write) -> Fetched | _Redirect:
        """Make one request: the body goes to `write`, unless it is a redirect."""
        for address in await self._checked_addresses(target):
            head = _Head()
            request = self._request(target, address)
            # One connection for each request: it is never shared by two names at one address, of which only one was
            # verified. Without httpx, so without proxies, which would resolve the name themselves.
            connection = httpcore2.AsyncHTTPConnection(
                request.url.origin,
                ssl_context=self._ssl_context or trusted_authorities(),
                network_backend=_Backend(head),
            )
            response: httpcore2.Response | None = None
            try:
                response = await connection.handle_async_request(request)
                head.is_over = True
                return await self._receive(target, response, write)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            except _BROKEN as error:
                raise _broken_off(target) from error
            finally:
                with anyio.CancelScope(shield=True):
                    if response is not None:
                        await response.aclose()
                    await connection.aclose()
        raise InvalidImageError(
            f"{_ascii_host(target)} cannot be connected to, or its certificate is not valid.",
            "Check the URL, or give another one.",
        )

    def _request(self, target: httpx2.URL, address: str) -> httpcore2.Request:
        timeouts = {"connect": self._connect_timeout, "read": self._timeout, "write": self._timeout}
        return httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=target.raw_scheme, host=address, port=_port(target), target=target.raw_path),
            headers=[(b"Host", target.netloc), (b"User-Agent", user_agent()), *_HEADERS],
            # The certificate is checked against the name, although the connection goes to an address.
            extensions={"timeout": timeouts, "sni_hostname": _ascii_host(target).rstrip(".")},
        )

    async def _checked_addresses(self, target: httpx2.URL) -> Sequence[str]:
        host = _ascii_host(target)
        if is_address(host):
            addresses: Sequence[str] = (host,)
        else:
            try:
                addresses = await self._resolver(host, _port(target))
            except (OSError, ValueError) as error:
                raise _not_found(target) from error
        if not all(may_connect(address, allow_private=self._allow_private) for address in addresses):
            raise ForbiddenUrlError(f"{_ascii_host(target)} is an address on a private or special network.")
        if not addresses:
            raise _not_found(target)
        return addresses[:_MAX_ADDRESSES_TRIED]

    async def _receive(self, target: httpx2.URL, response: httpcore2.Response, write: Write) -> Fetched | _Redirect:
        headers = httpx2.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in headers:
            return _Redirect(headers["location"], "set-cookie" in headers)
        if response.status in _LATER:
            seconds = read_retry_after(headers.get("retry-after"), time.time())
            after = "later" if seconds is None else f"in {max(1, round(seconds)):,} seconds"
            raise InvalidImageError(
                f"{_ascii_host(target)} answered HTTP {response.status}: {_LATER[response.status]}.",
                f"Try again {after}, or give another URL or the image's file.",
            )
        if not 200 <= response.status < 300:
            raise InvalidImageError(
                f"{_ascii_host(target)} answered HTTP {response.status} for the image's URL.",
                "Check that the URL is right, public and not expired.",
            )
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            raise too_large(self._max_bytes)
        decode = _decoder(target, headers.get("content-encoding", ""))
        mime_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        received = 0
        async for raw in response.aiter_stream():
            for piece in decode(raw):
                received += len(piece)
                if received > self._max_bytes:
                    raise too_large(self._max_bytes)
                await write(piece)
        return Fetched(_ascii_host(target), mime_type)


class _Head:
    """Counts the bytes that a server sends before the body of its response."""

    def __init__(self) -> None:
        self.is_over = False
        self._received = 0

    def count(self, received: int) -> None:
        self._received += received
        if not self.is_over and self._received > _MAX_HEAD:
            raise httpcore2.RemoteProtocolError("the head of the response is too long")


class _Backend(httpcore2.AnyIOBackend):
    """Connections whose heads are counted: httpcore reads interim responses for as long as they come."""

    def __init__(self, head: _Head) -> None:
        self._head = head

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(*arguments, **options), self._head)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, head: _Head) -> None:
        self._stream = stream
        self._head = head

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        data = await self._stream.read(max_bytes if self._head.is_over else min(max_bytes, 4096), timeout)
        self._head.count(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(*arguments, **options), self._head)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _parse(url: str) -> httpx2.URL:
    """The URL, if it may be opened, as far as can be told before its host is resolved."""
    try:
        target = httpx2.URL(url)
        host = _ascii_host(target)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidImageError("The image's URL cannot be read.", "Check how the URL is written.") from None
    if target.scheme not in ("http", "https"):
        raise ForbiddenUrlError("The image's URL is neither http nor https.")
    if target.userinfo:
        raise ForbiddenUrlError("The image's URL has a user name in it.", "Give a public URL, without a user name.")
    if not is_address(host):
        # 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to some resolvers: addresses must be written in full.
        if re.search(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", host):
            raise ForbiddenUrlError("The image's URL has an IP address as its host that is not written the usual way.")
        if len(host) > _MAX_HOST or _HOST_NAME.fullmatch(host) is None:
            raise InvalidImageError("The image's URL has an invalid host.", "Check how the URL is written.")
    if not 0 < _port(target) < 65_536:
        raise InvalidImageError("The image's URL has an invalid port.", "Check how the URL is written.")
    return target


def _parse_redirect(target: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return _parse(str(target.join(location)))
    except (httpx2.InvalidURL, ValueError):
        raise InvalidImageError(
            f"{_ascii_host(target)} redirects to a URL that cannot be read.", "Give the direct link to the image."
        ) from None


def _ascii_host(target: httpx2.URL) -> str:
    return target.raw_host.decode("ascii")


def _port(target: httpx2.URL) -> int:
    if target.port is None:
        return 443 if target.scheme == "https" else 80
    return target.port


def _decoder(target: httpx2.URL, encoding: str) -> Callable[[bytes], Iterable[bytes]]:
    """Undoes one layer of compression that was not requested, in pieces of at most `_PIECE` bytes.

    Whatever else hosts write there (`aws-chunked`, `utf-8`, `none`) is ignored, and so is what they call compressed and
    is not: whoever decodes the image judges.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    wbits = next((_ENCODINGS[name] for name in names if name in _ENCODINGS), None)
    if wbits is None:
        return lambda raw: (raw,)
    inflater = zlib.decompressobj(wbits)
    beginning: bytes | None = b""
    is_plain = False

    def inflate(raw: bytes) -> Iterator[bytes]:
        nonlocal beginning, is_plain
        if beginning is not None:
            beginning += raw
        while raw and not is_plain:
            try:
                piece = inflater.decompress(raw, _PIECE)
            except zlib.error as error:
                if beginning is None:
                    raise _broken_off(target) from error
                raw, is_plain = beginning, True
                break
            if piece:
                beginning = None
                yield piece
            raw = inflater.unconsumed_tail
        if is_plain and raw:
            beginning = None
            yield raw

    return inflate


def _broken_off(target: httpx2.URL) -> InvalidImageError:
    return InvalidImageError(
        f"The image's transfer from {_ascii_host(target)} broke off.", "Try again, or give another URL."
    )


def _not_found(target: httpx2.URL) -> InvalidImageError:
    return InvalidImageError(f"There is no host {_ascii_host(target)}.", "Check the URL.")
