"""What clients say stays what they say: nothing of it becomes a header, a path or a request of its own at a vendor.

The vendors are the sandbox's, reached through a tap that keeps the bytes as they went over the wire.
"""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from mcp import Client

from ..transports.processes import (
    HttpServer,
    Vendors,
    called,
    http_server,
    open_vendors,
    seed_id,
    text_of,
    until,
    variables,
)
from .target import refusal, wire

VENDORS = ("legnext", "vtrix", "piapi", "apiframe", "apimart")
SEPARATORS = ("\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1b", "\x7f")
EVIL = "X-Evil: 1"
EXPECTED_HEADERS = {
    b"host",
    b"accept",
    b"accept-encoding",
    b"connection",
    b"user-agent",
    b"content-length",
    b"content-type",
    b"authorization",
    b"x-api-key",
    b"idempotency-key",
    b"traceparent",
    b"tracestate",
}
EXPECTED_PATH = re.compile(rb"/[a-z]+(/[a-z0-9-]+){1,5}|/[a-z]+/[a-z0-9/-]+/[A-Za-z0-9._%-]+|/images/[A-Za-z0-9/._-]+")


@dataclass(slots=True)
class Tap:
    """Stands before the vendors and keeps every byte that goes to them."""

    port: int = 0
    received: list[bytearray] = field(default_factory=list)

    @property
    def sent(self) -> bytes:
        return b"".join(self.received)

    def requests(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The target and the headers of each request, read as strictly as a server would."""
        found = []
        for stream in self.received:
            rest = bytes(stream)
            while rest:
                head, _, rest = rest.partition(b"\r\n\r\n")
                line, *lines = head.split(b"\r\n")
                matched = re.fullmatch(rb"(GET|POST|PUT|DELETE) (\S+) HTTP/1\.1", line)
                assert matched is not None, line
                pairs = [one.partition(b":") for one in lines]
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                assert len(headers) == len(pairs), "no header comes twice"
                rest = rest[int(headers.get(b"content-length", b"0")) :]
                found.append((matched[2], headers))
        return found

    def check(self) -> None:
        for target, headers in self.requests():
            assert set(headers) <= EXPECTED_HEADERS
            assert headers[b"host"] == f"127.0.0.1:{self.port}".encode()
            assert EXPECTED_PATH.fullmatch(target) is not None, target
            assert b"%2e%2e" not in target.lower().split(b"/")
            assert not {b".", b".."} & set(target.split(b"/"))


@contextlib.asynccontextmanager
async def tapped(port: int) -> AsyncIterator[Tap]:
    tap = Tap()

    async def pump(source: SocketStream, sink: SocketStream, kept: bytearray | None) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                piece = await source.receive()
                if kept is not None:
                    kept += piece
                await sink.send(piece)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await sink.send_eof()

    async def handle(client: SocketStream) -> None:
        kept = bytearray()
        tap.received.append(kept)
        async with client, await anyio.connect_tcp("127.0.0.1", port) as server, anyio.create_task_group() as both:
            both.start_soon(pump, client, server, kept)
            both.start_soon(pump, server, client, None)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tap.port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (not Django's)
        tasks.start_soon(listener.serve, handle)
        yield tap
        tasks.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class Counter:
    """Where orders are placed, and the tap behind it."""

    server: HttpServer
    vendors: Vendors
    tap: Tap

    def order(self, vendor: str, **changes: Any) -> dict[str, Any]:
        order = {"task_id": seed_id(vendor, grid=False), "provider": vendor, "zoom": 1.5, "wait_seconds": 0}
        return {**order, **changes}

    def ordered(self) -> int:
        return len(self.vendors.sandbox.orders())


@pytest.fixture(scope="module")
async def counter(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Counter]:
    folder = tmp_path_factory.mktemp("counter")
    async with open_vendors() as vendors, tapped(int(vendors.base_url.rpartition(":")[2])) as tap:
        environment = {
            name: value.replace(vendors.base_url, f"http://127.0.0.1:{tap.port}")
            for name, value in variables(folder, vendors, OUTPAINT_MAX_REQUESTS_PER_MINUTE="1000000").items()
        }
        async with http_server(environment) as server:
            yield Counter(server, vendors, tap)
            tap.check()


@pytest.fixture(scope="module")
async def client(counter: Counter) -> AsyncIterator[Client]:
    async with counter.server.client("http-legacy") as connected:
        yield connected


@pytest.fixture(params=["http", "http-legacy"])
async def each_client(request: pytest.FixtureRequest, counter: Counter) -> AsyncIterator[Client]:
    async with counter.server.client(request.param) as connected:
        yield connected


WEBHOOK_URLS = (
    *(f"http://127.0.0.1:9/a{separator}{EVIL}" for separator in SEPARATORS),
    "\r\nhttp://127.0.0.1:9/a",
    "http://127.0.0.1:9/a\n",
    "http://127.0.0.1:9/a\u2028",
    "http://127.0.0.1\r\nHost: evil.example",
    "http://127.0.0.1\tHost: evil.example",
    "http://127.0.0.1:9/a b",
    "http://127.0.0.1:9/a\u00a0b",
    "http://",
    "http:///a",
    "http://:80/",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:x/",
    "//127.0.0.1:9/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:9/_a",
    "javascript:alert(1)",
)
USER_INFO = (
    "http://evil.example@127.0.0.1:9/a",
    "http://127.0.0.1:80@evil.example/a",
    "http://Host:evil.example@127.0.0.1:9/a",
    "https://user:hush-hush@hooks.example/a",
)


async def test_a_webhook_that_is_no_plain_url_is_refused_and_nothing_reaches_a_vendor(
    counter: Counter, client: Client
) -> None:
    before = counter.ordered()
    for vendor in VENDORS:
        orders_before = len(counter.vendors.sandbox.requests(vendor, "submit"))
        for url in WEBHOOK_URLS:
            told = await refusal(client, "outpaint", **counter.order(vendor, webhook_url=url))
            assert re.match(r"\[(invalid_request|unsupported_feature)\] ", told), (vendor, url, told)
        assert len(counter.vendors.sandbox.requests(vendor, "submit")) == orders_before
    assert counter.ordered() == before
    assert EVIL.encode() not in counter.tap.sent


async def test_a_webhook_with_a_user_name_is_refused(counter: Counter, client: Client) -> None:
    """One host is read in it by some, another one by others; and a password would be kept with the task."""
    before = counter.ordered()
    for vendor in VENDORS:
        for url in USER_INFO:
            told = await refusal(client, "outpaint", **counter.order(vendor, webhook_url=url))
            assert re.match(r"\[(invalid_request|unsupported_feature)\] ", told), (vendor, url, told)
    assert counter.ordered() == before
    assert b"hush-hush" not in counter.tap.sent


async def test_a_plain_webhook_reaches_the_vendor_as_it_is(counter: Counter, each_client: Client) -> None:
    """So that the refusals mean something."""
    url = f"http://127.0.0.1:9/hook/{each_client.protocol_version}?key=value"
    await called(each_client, "outpaint", **counter.order("legnext", webhook_url=url, prompt=url))
    bodies = [order.body for order in counter.vendors.sandbox.orders("legnext")]
    assert url in [body.get("callback") for body in bodies]


@pytest.mark.parametrize("separator", ["\r\n", "\x00", "\u2028"])
async def test_options_and_secrets_with_line_ends_are_refused(counter: Counter, client: Client, separator: str) -> None:
    before = counter.ordered()
    evil = f"a{separator}{EVIL}"
    changes: list[dict[str, Any]] = [
        {"provider_options": {"custom_id": evil}},
        {"provider_options": {"metadata": {"deep": [{"deeper": evil}]}}},
        {"provider_options": {"metadata": {evil: 1}}},
        {"provider_options": {evil: 1}},
        {"provider_options": json.dumps({"metadata": evil})},
        {"webhook_url": "http://127.0.0.1:9/a", "webhook_secret": evil},
    ]
    for vendor in VENDORS:
        for change in changes:
            told = await refusal(client, "outpaint", **counter.order(vendor, **change))
            assert re.match(r"\[(invalid_request|unsupported_feature)\] ", told), (vendor, change, told)
    assert counter.ordered() == before
    assert EVIL.encode() not in counter.tap.sent


@pytest.mark.parametrize("separator", ["\r\n", "\x00", "\u2028"])
async def test_ids_with_line_ends_within_are_refused(counter: Counter, client: Client, separator: str) -> None:
    seen = len(counter.vendors.sandbox.requests())
    for vendor in VENDORS:
        for evil in (f"a{separator}{EVIL}", f"{seed_id(vendor, grid=False)}{separator}a", "\x00a", "a\x00"):
            for tool in ("get_task", "outpaint"):
                told = await refusal(client, tool, task_id=evil, provider=vendor)
                assert re.match(r"\[(invalid_request|unknown_task)\] ", told), (vendor, evil, told)
    for evil in (f"op-a{separator}{EVIL}", f"legnext{separator}{EVIL}"):
        assert (await client.call_tool("get_task", {"task_id": evil})).is_error
        assert (await client.call_tool("get_task", {"task_id": "a", "provider": evil})).is_error
        assert (await client.call_tool("outpaint", {"task_id": "a", "provider": evil})).is_error
    for asked in counter.vendors.sandbox.requests()[seen:]:
        # Those of tasks that are followed meanwhile.
        named = asked.body["task_id"] if isinstance(asked.body, dict) else asked.path.rpartition("/")[2]
        assert named in {order.id for order in counter.vendors.sandbox.orders()}


async def test_an_id_leads_to_no_other_path_of_a_vendor(counter: Counter, client: Client) -> None:
    for vendor in VENDORS:
        for evil in (
            "../../account",
            "..",
            ".",
            "%2e%2e",
            "%2e%2e%2faccount",
            "a/../../b",
            "a/b",
            "a%2fb",
            "a?key=1",
            "a#b",
            "a;b",
            "a\\b",
            "a b",
            "//evil.example/",
            "http://evil.example/",
            "a@evil.example",
            "\u00e9\uff0f..",
            "\ud800",
        ):
            for tool in ("get_task", "outpaint") if vendor == "legnext" else ("get_task",):
                result = await _call(client, tool, {"task_id": evil, "provider": vendor})
                assert result is None or re.match(r"\[(invalid_request|unknown_task)\] ", result), (vendor, evil)
    counter.tap.check()
    assert all(one.status in (200, 400, 404, None) for one in counter.vendors.sandbox.requests(action=None))


async def _call(client: Client, tool: str, arguments: dict[str, Any]) -> str | None:
    """A refusal's text; None where not even the client can send it."""
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None
    return await refusal(client, tool, **arguments)


async def test_a_prompt_may_hold_anything_and_is_nothing_but_a_prompt(counter: Counter, each_client: Client) -> None:
    smuggled = "\r\n\r\nPOST /legnext/api/v1/evil HTTP/1.1\r\nHost: evil.example\r\nX-Evil: 1\r\n\r\n"
    seen = len(counter.vendors.sandbox.requests())
    prompts = {
        f"{each_client.protocol_version} a{separator}{EVIL}{smuggled} \u00e9 \U0001f600" for separator in SEPARATORS
    }
    for prompt in prompts:
        result = await each_client.call_tool("outpaint", counter.order("legnext", prompt=prompt))
        if result.is_error:
            assert text_of(result).startswith("[invalid_request] ")
            prompts = prompts - {prompt}
    folded = {" ".join(prompt.split()) for prompt in prompts}
    await until(
        lambda: folded <= {order.body.get("remixPrompt") for order in counter.vendors.sandbox.orders("legnext")}
    )
    counter.tap.check()
    assert not any("evil" in one.path for one in counter.vendors.sandbox.requests()[seen:])


@pytest.mark.parametrize("separator", [*SEPARATORS, " ", "\t"])
async def test_an_images_url_with_line_ends_asks_nobody_for_anything_else(
    counter: Counter, client: Client, separator: str
) -> None:
    async with wire() as elsewhere:
        for url in (
            f"{elsewhere.url}/a{separator}{EVIL}",
            f"{elsewhere.url}/a?b={separator}{EVIL}",
            f"{elsewhere.url}/a#{separator}{EVIL}",
            f"http://127.0.0.1{separator}{EVIL}:{elsewhere.port}/a",
            f"http://user{separator}{EVIL}@127.0.0.1:{elsewhere.port}/a",
        ):
            told = await refusal(client, "outpaint", image=url, provider="local", zoom=1.5)
            assert re.match(r"\[(invalid_image|forbidden_url)\] ", told), told
        for received in elsewhere.received:
            line, *lines = bytes(received).partition(b"\r\n\r\n")[0].split(b"\r\n")
            assert re.fullmatch(rb"GET [!-~]+ HTTP/1\.1", line) is not None
            assert not any(one.lower().startswith(b"x-evil") for one in lines)
            assert {one.partition(b":")[0].lower() for one in lines} <= EXPECTED_HEADERS
