"""Fetches a file from a URL that a stranger gave, without becoming the stranger's way into a private network.

Every host is looked up once, every address of it is judged, and the connection goes to the very address that was
judged: a name that means another machine a moment later is of no use. Redirects are followed by hand, each hop anew.
Knows nothing of what a picture is.
"""

import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import anyio
import httpcore2
import httpx2

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError
from outpaint_mcp.images.addresses import is_address, may_connect
from outpaint_mcp.images.size_limit import too_large

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host name and a port to all its IP addresses; raises OSError when there is none."""
Write = Callable[[bytes], Awaitable[None]]

MAX_REDIRECTS: Final = 5
_MAX_ADDRESSES_TRIED: Final = 4
_MAX_HOST: Final = 253  # characters, by the rules of DNS
_HOST_NAME: Final = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PIECE: Final = 256 * 1024
_MAX_HEAD: Final = 64 * 1024
"""Bytes until an answer proper begins: before it a server may send any number of interim ones."""
_HEADERS: Final = {
    "Accept": "image/*,*/*;q=0.5",
    # A compressed body would only be a way to send more than the cap; pictures are compressed already.
    "Accept-Encoding": "identity",
    "User-Agent": "outpaint-mcp",
    "Connection": "close",
}


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of `host`, from the system's resolver."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class ImageFetcher:
    """Fetches files of at most `max_bytes`.

    Args:
        allow_private: opens loopback and private addresses, never link-local and metadata ones.
        timeout: for one file with all its redirects, in seconds.
        connect_timeout: for one attempt to connect, in seconds.
        at_once: how many files are fetched at the same time; the others wait, which does not count as time-out.
        ssl_context: what certificates are checked with; by default the system's authorities.
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

    async def fetch(self, url: str, write: Write) -> None:
        """Pass the body on to `write` in pieces, never more than `max_bytes` of it.

        Raises:
            ForbiddenUrlError: the URL, or where it redirects to, must not be opened.
            InvalidImageError: nothing can be had there; messages name the host, and nothing else of the URL.
        """
        target = _parse(url)
        async with self._slots:
            try:
                with anyio.fail_after(self._timeout):
                    for _ in range(MAX_REDIRECTS + 1):
                        location = await self._hop(target, write)
                        if location is None:
                            return
                        target = _parse_redirect(target, location)
            except TimeoutError:
                raise InvalidImageError(
                    f"The picture did not arrive from {_ascii_host(target)} within {self._timeout:g} seconds.",
                    "Try again later, or give another URL.",
                ) from None
        raise InvalidImageError(
            f"The picture's URL redirects more than {MAX_REDIRECTS} times.", "Give the URL that it ends at."
        )

    async def _hop(self, target: httpx2.URL, write: Write) -> str | None:
        """One request: the body goes to `write`, or the place of a redirect is returned."""
        addresses = await self._checked_addresses(target)
        for address in addresses:
            # A transport for each request: a connection is never shared by two names that live at one address,
            # of which only one was verified. Proxies are not asked: they would do a look-up of their own.
            head = _Head()
            transport = _Transport(self._verify(), head)
            async with transport:
                try:
                    response = await transport.handle_async_request(self._request(target, address))
                    head.is_over = True
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    continue
                except httpx2.TransportError as error:
                    raise _broken(target) from error
                try:
                    return await self._receive(target, response, write)
                except httpx2.TransportError as error:
                    raise _broken(target) from error
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
        raise InvalidImageError(
            f"{_ascii_host(target)} cannot be connected to, or its certificate is not valid.",
            "Check the URL, or give another one.",
        )

    def _verify(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = httpx2.create_ssl_context()
        return self._ssl_context

    def _request(self, target: httpx2.URL, address: str) -> httpx2.Request:
        patience = {name: self._timeout for name in ("read", "write", "pool")} | {"connect": self._connect_timeout}
        return httpx2.Request(
            "GET",
            target.copy_with(host=address, fragment=None),
            headers={"Host": target.netloc.decode("ascii"), **_HEADERS},
            # The certificate is checked against the name, although the connection goes to an address.
            extensions={"timeout": patience, "sni_hostname": _ascii_host(target).rstrip(".")},
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

    async def _receive(self, target: httpx2.URL, response: httpx2.Response, write: Write) -> str | None:
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return response.headers["location"]
        if not response.is_success:
            raise InvalidImageError(
                f"{_ascii_host(target)} answered HTTP {response.status_code} for the picture's URL.",
                "Check that the URL is right, public and not expired.",
            )
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            raise too_large(self._max_bytes)
        decode = _decoder(target, response.headers.get("content-encoding", ""))
        received = 0
        async for raw in response.aiter_raw():
            for piece in decode(raw):
                received += len(piece)
                if received > self._max_bytes:
                    raise too_large(self._max_bytes)
                await write(piece)
        return None


class _Head:
    """Counts what a server sends before its answer proper."""

    def __init__(self) -> None:
        self.is_over = False
        self._received = 0

    def count(self, received: int) -> None:
        self._received += received
        if not self.is_over and self._received > _MAX_HEAD:
            raise httpcore2.RemoteProtocolError("the answer does not begin")


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx's, over connections whose heads are counted: it reads interim answers as long as they come."""

    def __init__(self, ssl_context: ssl.SSLContext, head: _Head) -> None:
        super().__init__(verify=ssl_context, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=ssl_context, network_backend=_Backend(head))


class _Backend(httpcore2.AnyIOBackend):
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
    """The URL, if it may be opened as far as can be told before its host is looked up."""
    try:
        target = httpx2.URL(url)
        host = _ascii_host(target)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidImageError("The picture's URL cannot be read.", "Check how the URL is written.") from None
    if target.scheme not in ("http", "https"):
        raise ForbiddenUrlError("The picture's URL is neither http nor https.")
    if target.userinfo:
        raise ForbiddenUrlError("The picture's URL has a user name in it.", "Give a public URL, without a user name.")
    if not is_address(host):
        # 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to some resolvers: addresses are written in full.
        if re.search(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", host):
            raise ForbiddenUrlError("The picture's URL has an address for a host that is not written the usual way.")
        if len(host) > _MAX_HOST or _HOST_NAME.fullmatch(host) is None:
            raise InvalidImageError("The picture's URL has no host that there could be.", "Check how it is written.")
    if not 0 < _port(target) < 65_536:
        raise InvalidImageError("The picture's URL has a port that there cannot be.", "Check how the URL is written.")
    return target


def _parse_redirect(target: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return _parse(str(target.join(location)))
    except (httpx2.InvalidURL, ValueError):
        raise InvalidImageError(f"{_ascii_host(target)} redirects to a URL that cannot be read.") from None


def _ascii_host(target: httpx2.URL) -> str:
    return target.raw_host.decode("ascii")


def _port(target: httpx2.URL) -> int:
    if target.port is None:
        return 443 if target.scheme == "https" else 80
    return target.port


def _decoder(target: httpx2.URL, encoding: str) -> Callable[[bytes], Iterable[bytes]]:
    """Undoes one layer of compression by a server that was asked for none, in pieces of at most `_PIECE`."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda raw: (raw,)
    if name not in ("gzip", "x-gzip", "deflate"):
        raise InvalidImageError(f"{_ascii_host(target)} sends the picture in an encoding that was not asked for.")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def inflate(raw: bytes) -> Iterator[bytes]:
        while raw:
            try:
                yield inflater.decompress(raw, _PIECE)
            except zlib.error as error:
                raise _broken(target) from error
            raw = inflater.unconsumed_tail

    return inflate


def _broken(target: httpx2.URL) -> InvalidImageError:
    return InvalidImageError(
        f"The picture's transfer from {_ascii_host(target)} broke off.", "Try again, or give another URL."
    )


def _not_found(target: httpx2.URL) -> InvalidImageError:
    return InvalidImageError(f"There is no host {_ascii_host(target)}.", "Check the URL.")
