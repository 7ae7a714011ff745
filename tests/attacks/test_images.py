"""What strangers give as a picture is opened neither on this machine's network nor on its disk, and costs little.

The server is the real one over HTTP; where a test is about names, a resolver is passed in, and no name is looked up.
"""

import base64
import contextlib
import functools
import io
import json
import re
import resource
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream
from mcp import Client
from PIL import Image, PngImagePlugin

from outpaint_mcp.images.fetch import MAX_REDIRECTS
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.size_limit import MAX_BYTES
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.service import Service, ServiceOptions
from outpaint_mcp.web.admission import Admission
from outpaint_mcp.web.app import HttpApp, HttpOptions, hosts_of, origins_of
from outpaint_mcp.web.uvicorn_server import listening, serving

from ..serving import settings_for
from ..transports.processes import called, http_server
from .target import Memory, Target, attacked, refusal, until_asked, wire

MIB = 2**20
SECONDS = 20.0
"""How long a refusal may take at most on a busy machine; none has a reason to take a tenth of it."""


def png(width: int = 24, height: int = 16, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG", **options)
    return buffer.getvalue()


PNG = png()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(PNG), PNG)


def data_uri(data: bytes, mime_type: str = "image/png") -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def refused(client: Client, image: str) -> str:
    """The text of the refusal; as long as it is that the image is being read, the call is made again, as it says."""
    with anyio.fail_after(SECONDS):
        while True:
            told = await refusal(client, "outpaint", image=image, provider="local", zoom=1.5, wait_seconds=0)
            if not told.startswith("[not_ready] "):
                return told


@pytest.fixture(scope="module")
async def strict(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a server as it is by default."""
    settings = settings_for(tmp_path_factory.mktemp("strict"), max_requests_per_minute=1_000_000)
    async with attacked(settings) as target, target.client() as client:
        yield client


@pytest.fixture(scope="module")
async def open_to_loopback(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a server that opens loopback and private addresses, so that a redirect has a place to start from."""
    settings = settings_for(
        tmp_path_factory.mktemp("lenient"), allow_private_urls=True, max_requests_per_minute=1_000_000
    )
    async with attacked(settings) as target, target.client() as client:
        yield client


class Names:
    """A resolver: each name's answers one after the other, the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {f"{name}.example": list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("no such name")
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextlib.asynccontextmanager
async def with_names(
    folder: Path, names: Names, *, allow_private: bool = True, fetch_timeout: float = 5.0
) -> AsyncIterator[Client]:
    """A client of a server whose resolver is `names`."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Service]:
        service = Service(
            store=SqliteStore(folder / "store.db", "test"),
            images=ImageLibrary(
                folder, roots=(), allow_private=allow_private, resolver=names, fetch_timeout=fetch_timeout
            ),
            providers={"local": LocalProvider(folder)},
            options=ServiceOptions(auto=("local",), paths_allowed=False, import_tasks=False),
        )
        async with service.running():
            yield service

    listener = listening("127.0.0.1", 0)
    late = LazyService(opened)
    port: int = listener.getsockname()[1]
    door = HttpOptions(hosts_of("127.0.0.1", None, ()), origins_of(None, ()), f"http://127.0.0.1:{port}/mcp")
    admission = Admission(RateLimits(), lambda: "anybody", max_sessions=1000, max_body_bytes=door.max_body_bytes)
    app = HttpApp(build_server(late, client_of=lambda: "anybody"), late, door, admission)
    async with serving(app.asgi, listener), app.running(), Target(port).client() as client:
        yield client


# URLs


FORBIDDEN_HOSTS = (
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0X7F.1",
    "017700000001",
    "0177.1",
    "127.0.0.1.",
    "127.0.0.0x1",
    "0",
    "0.0.0.0",  # noqa: S104 (a URL's host)
    "0x0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "10.0.0.1",
    "10.1",
    "172.16.0.1",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "100.100.100.200",
    "168.63.129.16",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "localhost",
    "LOCALHOST",
    "user@127.0.0.1",
    "user:word@127.0.0.1",
    "example.org@127.0.0.1",
    "example.org:80@127.0.0.1",
    "127.0.0.1@example.org",
    "127.0.0.1%2f@example.org",
)
METADATA = re.compile(r"169\.254|a9fe|2852039166|fe80|ec2|100\.100\.100|168\.63")
UNWRITABLE_HOSTS = (
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.1%00.example.org",
    "127\uff0e0\uff0e0\uff0e1",
    "127\u30020\u30020\u30021",
    "\u2460\u2461\u2466.0.0.1",
    "[127.0.0.1]",
    "[::1",
    "[::ffff:127.0.0.1.]",
    "127.0.0.1\\@example.org",
    "127.0.0.1 example.org",
    "a..b",
    "*",
    "",
)


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
async def test_a_url_to_this_machine_or_its_network_is_forbidden_however_it_is_written(
    strict: Client, host: str
) -> None:
    async with wire(OK) as inner:
        for url in (
            f"http://{host}:{inner.port}/a.png",
            f"HTTP://{host}:{inner.port}",
            f" http://{host}:{inner.port}/ ",
        ):
            told = await refused(strict, url)
            assert told.startswith("[forbidden_url] "), (url, told)
        assert inner.received == [], "nobody has even connected"


@pytest.mark.parametrize("host", UNWRITABLE_HOSTS)
async def test_a_url_whose_host_cannot_be_read_is_refused(strict: Client, host: str) -> None:
    async with wire(OK) as inner:
        told = await refused(strict, f"http://{host}:{inner.port}/a.png")
        assert re.match(r"\[(forbidden_url|invalid_image)\] ", told), told
        assert inner.received == []


@pytest.mark.parametrize("host", [host for host in FORBIDDEN_HOSTS if METADATA.search(host)])
async def test_not_even_an_operator_who_opens_the_own_network_opens_the_metadata_service(
    open_to_loopback: Client, host: str
) -> None:
    assert (await refused(open_to_loopback, f"http://{host}/latest/meta-data/")).startswith("[forbidden_url] ")


@pytest.mark.parametrize(
    "image",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "file:etc/passwd",
        "file://localhost/etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "file://evil.example/share/a.png",
        "file:///proc/self/environ",
        "file:///etc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
        "ftp://127.0.0.1/a.png",
        "gopher://127.0.0.1:70/_a",
        "dict://127.0.0.1:11211/stats",
        "ldap://127.0.0.1/",
        "jar:http://127.0.0.1!/a.png",
        "javascript:alert(1)",
        "blob:http://127.0.0.1/a",
        "outpaint://tasks",
        "unix:///var/run/docker.sock",
        "http+unix://%2fvar%2frun%2fdocker.sock/a",
        "/etc/passwd",
        " /etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "/dev/stdin",
        ".",
        "..",
        "../../../../etc/passwd",
        "etc/passwd",
        "~",
        "~/.ssh/id_rsa",
        "~root/.bashrc",
        "$HOME/a.png",
        "\\\\evil.example\\share\\a.png",
        "//evil.example/share/a.png",
        "\\\\?\\C:\\a.png",
        "C:\\Windows\\win.ini",
        "C:/Windows/win.ini",
        "%2fetc%2fpasswd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd\x00.png",
        "http:/etc/passwd",
        "http:etc/passwd",
        "https:\\\\127.0.0.1\\a.png",
    ],
)
async def test_no_path_and_no_other_scheme_is_opened(strict: Client, image: str) -> None:
    told = await refused(strict, image)
    http = image.startswith("http")
    assert told.startswith(("[invalid_image] ", "[forbidden_url] ") if http else "[forbidden_url] "), told
    assert not re.search(r"root:|etc/passwd|No such file|Errno", told)


async def test_nobody_can_find_out_which_files_there_are(strict: Client, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(PNG)
    (tmp_path / "folder.png").mkdir()
    named = [tmp_path / name for name in ("there.png", "missing.png", "folder.png", "folder.png/x")]
    told = {await refused(strict, str(path)) for path in named}
    assert len(told) == 1
    assert len({await refused(strict, path.as_uri()) for path in named} | told) == 1


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64,/etc/passwd",
        "data:/etc/passwd",
        "data:file:///etc/passwd,",
        "data:,/etc/passwd",
        "data:,file:///etc/passwd",
        "data:text/plain,http://127.0.0.1/",
        "data:image/png;base64," + base64.b64encode(b"/etc/passwd").decode(),
        "data:image/png;base64," + base64.b64encode(b"file:///etc/passwd").decode(),
        "data:image/png;base64,",
        "data:,",
        "data:",
        "data:image/png;base64,\u00e9",
        "data:image/png;base64," + "A" * 1001,
        "DATA:IMAGE/PNG;BASE64,!!!!",
    ],
)
async def test_a_path_in_a_data_uri_is_only_data(strict: Client, image: str) -> None:
    told = await refused(strict, image)
    assert told.startswith("[invalid_image] "), told
    assert "root:" not in told


# Redirects and names


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://2852039166/",
        "http://0.0.0.0/",
        "//169.254.169.254/",
        "http://user@127.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "outpaint://tasks",
    ],
)
async def test_every_hop_of_a_redirect_is_judged(open_to_loopback: Client, location: str) -> None:
    async with wire(redirect(location)) as last, wire(redirect(last.url + "/b")) as first:
        told = await refused(open_to_loopback, first.url + "/a")
        assert told.startswith("[forbidden_url] "), told
        assert (len(first.received), len(last.received)) == (1, 1)


async def test_redirects_without_end_end(open_to_loopback: Client) -> None:
    async with wire() as loop:
        loop.answer = redirect(loop.url)
        assert (await refused(open_to_loopback, loop.url)).startswith("[invalid_image] ")
        assert len(loop.received) == MAX_REDIRECTS + 1


async def test_a_name_that_means_another_machine_a_moment_later_is_of_no_use(tmp_path: Path) -> None:
    names = Names(rebinding=[["127.0.0.1"], ["169.254.169.254"]])
    async with wire(OK) as outer, with_names(tmp_path, names) as client:
        url = f"http://rebinding.example:{outer.port}/a.png"
        task = await called(client, "outpaint", image=url, provider="local", zoom=1.5, wait_seconds=0)
        assert task["id"]
        assert names.asked == ["rebinding.example"], "it is looked up once, and the answer is connected to"
        assert f"Host: rebinding.example:{outer.port}".encode() in outer.received[0]
        # The same URL would give back the same task, with nothing fetched.
        assert (await refused(client, f"{url}?again")).startswith("[forbidden_url] ")
        assert len(outer.received) == 1


async def test_a_name_is_judged_anew_at_each_hop(tmp_path: Path) -> None:
    names = Names(rebinding=[["127.0.0.1"], ["169.254.169.254"]])
    async with wire() as outer, with_names(tmp_path, names) as client:
        outer.answer = redirect(f"http://rebinding.example:{outer.port}/b")
        told = await refused(client, f"http://rebinding.example:{outer.port}/a")
        assert told.startswith("[forbidden_url] ")
        assert len(outer.received) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["0.0.0.0"],  # noqa: S104 (an answer of a resolver)
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
    ],
)
async def test_a_name_with_any_address_within_is_forbidden(tmp_path: Path, addresses: list[str]) -> None:
    async with wire(OK) as inner, with_names(tmp_path, Names(inner=[addresses]), allow_private=False) as client:
        told = await refused(client, f"http://inner.example:{inner.port}/a.png")
        assert told.startswith("[forbidden_url] "), told
        assert inner.received == []


# Images that are none, or too much


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((width * 3 + 1) * height if width * height < 10**6 else 9999)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


@functools.cache
def zeros(size: int) -> bytes:
    packer = zlib.compressobj(6)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


def many_text_chunks() -> bytes:
    text = zeros(MIB)
    return b"".join(chunk(b"zTXt", b"k%d\x00\x00" % number + text) for number in range(300))


def gif_bomb() -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", 65_535, 65_535)
        + b"\x80\x00\x00"
        + bytes(6)
        + (b"," + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\x00\x02\x02\x4c\x01\x00;")
    )


BOMBS: dict[str, Callable[[], bytes]] = {
    "a PNG that claims 100,000 x 100,000": lambda: png_of(100_000, 100_000),
    "a PNG that claims all that can be": lambda: png_of(2**31 - 1, 2**31 - 1),
    "a PNG of one endless line": lambda: png_of(2**31 - 1, 1),
    "a PNG without pixels": lambda: png_of(0, 0),
    "a PNG just above the limit": lambda: png_of(12_000, 10_001),
    "a GIF that claims all that can be": gif_bomb,
    "a PNG that is cut short": lambda: PNG[: len(PNG) // 2],
    "a PNG with a broken sum": lambda: PNG[:60] + b"\x00\x01\x02" + PNG[63:],
    "an SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>',
    "an SVG that reads a file": lambda: (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>'
    ),
    "a page": lambda: b"<!doctype html><img src=x>",
    "an ICO": lambda: _saved("ICO"),
    "a PostScript program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "a PDF": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "the beginning of a JPEG": lambda: b"\xff\xd8\xff\xe0" + bytes(5000),
}


def _saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("what", BOMBS)
async def test_what_is_no_picture_or_too_much_of_one_is_refused_at_little_cost(strict: Client, what: str) -> None:
    bomb = BOMBS[what]()
    told = await refused(strict, data_uri(bomb))
    assert told.startswith("[invalid_image] "), told
    assert "root:" not in told
    # Of all the processes that this one has waited for, decoders among them.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 1500 * MIB


BESIDE_PIXELS: dict[str, Callable[[], bytes]] = {
    "a PNG with much compressed text": lambda: png_of(24, 16, chunk(b"zTXt", b"key\x00\x00" + zeros(200 * MIB))),
    "a PNG with much international text": lambda: png_of(
        24, 16, chunk(b"iTXt", b"key\x00\x01\x00\x00\x00" + zeros(200 * MIB))
    ),
    "a PNG with very many texts": lambda: png_of(24, 16, many_text_chunks()),
    "a PNG with a huge colour profile": lambda: png_of(24, 16, chunk(b"iCCP", b"icc\x00\x00" + zeros(200 * MIB))),
}


@pytest.mark.parametrize("what", BESIDE_PIXELS)
async def test_a_bomb_beside_the_pixels_is_skipped_at_little_cost(strict: Client, what: str) -> None:
    order = {"image": data_uri(BESIDE_PIXELS[what]()), "provider": "local", "zoom": 1.5, "wait_seconds": 45}
    assert (await called(strict, "outpaint", **order))["status"] == "succeeded"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 1500 * MIB


async def test_a_png_that_claims_to_be_a_jpeg_is_taken_for_what_it_is(strict: Client) -> None:
    order = {"image": data_uri(PNG, "image/jpeg"), "provider": "local", "zoom": 1.5, "wait_seconds": 45}
    task = await called(strict, "outpaint", **order)
    assert task["status"] == "succeeded"
    assert task["request"]["image"].startswith("data:image/png;sha256=")


async def test_what_a_picture_says_about_itself_is_told_to_nobody(strict: Client) -> None:
    said = PngImagePlugin.PngInfo()
    said.add_text("Comment", "hush-hush")
    order = {"image": data_uri(png(pnginfo=said)), "provider": "local", "zoom": 1.5, "wait_seconds": 45}
    assert "hush-hush" not in json.dumps(await called(strict, "outpaint", **order))


async def test_a_data_uri_above_the_limit_is_refused_with_few_words(strict: Client) -> None:
    told = await refused(strict, "data:," + "x" * 10_000_000)
    assert told.startswith("[invalid_image] ")
    assert len(told) < 500


# Streams


@contextlib.asynccontextmanager
async def endless(head: bytes, piece: bytes, pause: float = 0) -> AsyncIterator[str]:
    """Where an answer begins that does not end; its URL."""

    async def handle(stream: SocketStream) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                await stream.receive()
                await stream.send(head)
                while True:
                    await stream.send(piece)
                    if pause:
                        await anyio.sleep(pause)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/a.png"  # noqa: S610
        tasks.cancel_scope.cancel()


STREAMS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "a body without end": lambda: (b"HTTP/1.1 200 OK\r\n\r\n", bytes(65_536)),
    "chunks without end": lambda: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + bytes(65_536) + b"\r\n",
    ),
    "a picture without end": lambda: (b"HTTP/1.1 200 OK\r\n\r\n" + PNG[:60], bytes(65_536)),
    "more than is taken": lambda: (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1), bytes(65_536)),
    "a length that is none": lambda: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        bytes(65_536),
    ),
    "a head without end": lambda: (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 60_000 + b"\r\n"),
    "a line without end": lambda: (b"HTTP/1.1 200 ", b"a" * 65_536),
    "a bomb in gzip": lambda: (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zeros(200 * MIB),
        b"x",
    ),
}


@dataclass(frozen=True, slots=True)
class Fetching:
    """A server process that fetches from loopback."""

    target: Target
    client: Client
    memory: Memory
    incoming: Path


@pytest.fixture(scope="module")
async def fetching(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fetching]:
    data = tmp_path_factory.mktemp("fetching")
    environment = {"OUTPAINT_DATA_DIR": str(data), "OUTPAINT_ALLOW_PRIVATE_URLS": "true", "PATH": "/usr/bin"}
    async with http_server(environment) as server, server.client() as client, wire(OK) as good:
        order = {"image": good.url, "provider": "local", "zoom": 1.5, "wait_seconds": 45}
        assert (await called(client, "outpaint", **order))["status"] == "succeeded"
        target = Target(httpx2.URL(server.base_url).port or 0)
        yield Fetching(target, client, Memory(server.process.pid), data / "incoming")


@pytest.mark.parametrize("what", STREAMS)
async def test_a_stream_without_end_is_cut_and_the_servers_memory_stays_flat(fetching: Fetching, what: str) -> None:
    head, piece = STREAMS[what]()
    before = fetching.memory.reset()
    async with endless(head, piece) as url:
        told = await refused(fetching.client, url)
    assert told.startswith("[invalid_image] ")
    assert fetching.memory.highest() - before < 64 * MIB
    assert list(fetching.incoming.iterdir()) == [], "nothing of it stays on the disk"


async def test_servers_that_send_interim_answers_without_end_hold_no_other_caller_up(fetching: Fetching) -> None:
    before = fetching.memory.reset()
    async with (
        fetching.target.meanwhile() as took,
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000) as url,
        anyio.create_task_group() as floods,
    ):
        for number in range(4):
            order = {"image": f"{url}?{number}", "provider": "local", "zoom": 1.5}
            floods.start_soon(fetching.client.call_tool, "outpaint", order)
        await until_asked(5, took)
        floods.cancel_scope.cancel()
    assert fetching.memory.highest() - before < 64 * MIB


@pytest.mark.parametrize("slow", ["the head", "the body", "interim answers", "very many interim answers"])
async def test_a_stream_that_drips_is_left_in_time(tmp_path: Path, slow: str) -> None:
    head, piece = {
        "the head": (b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n"),
        "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        "very many interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    }[slow]
    async with (
        with_names(tmp_path, Names(), fetch_timeout=0.5) as client,
        endless(head, piece, pause=0 if "many" in slow else 0.02) as url,
    ):
        told = await refused(client, url)
        assert told.startswith("[invalid_image] ")
        # So many that the answer cannot be meant to begin are not waited for at all.
        assert ("broke off" if "many" in slow else "within 0.5 seconds") in told
