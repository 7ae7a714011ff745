"""Clients that send too much, too slowly, or do not read: none of it is held, and the others are answered meanwhile.

The server is a process of its own, so that its memory can be seen.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from outpaint_mcp.web.callbacks import AT_ONCE as MAX_CALLBACKS
from outpaint_mcp.web.uvicorn_server import MAX_HEAD_BYTES

from ..serving import settings_for
from ..transports.processes import HttpServer, http_server
from .target import (
    ACCEPT,
    Memory,
    Target,
    attacked,
    head,
    open_files,
    refusal,
    rest_of,
    status_of,
    tokens_of,
    until_asked,
)

MIB = 2**20
GIB = 2**30
SLACK = 96 * MIB
"""How much more memory an attack may cost: some requests of the largest size that is taken."""
MODERN = {
    "Mcp-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "outpaint",
}


@dataclass(frozen=True, slots=True)
class Fort:
    server: HttpServer
    target: Target
    token: str
    others_token: str
    memory: Memory

    def authorized(self, *lines: str) -> tuple[str, ...]:
        return (
            f"Host: 127.0.0.1:{self.target.port}",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            f"Accept: {ACCEPT}",
            *lines,
        )

    def meanwhile(self) -> contextlib.AbstractAsyncContextManager[list[float]]:
        """See `Target.meanwhile`; the client is another one than who does harm."""
        return self.target.meanwhile(token=self.others_token)


@contextlib.asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[Fort]:
    file, (token, others_token) = tokens_of(folder, "ann", "bob")
    environment = {"OUTPAINT_TOKENS_FILE": str(file), "OUTPAINT_DATA_DIR": str(folder / "data"), "PATH": "/usr/bin"}
    environment |= {"OUTPAINT_MAX_REQUESTS_PER_MINUTE": "1000000", "OUTPAINT_MAX_SESSIONS": "1000000"}
    # So that callbacks are read.
    environment |= {"OUTPAINT_PUBLIC_URL": "https://outpaint.example", "LEGNEXT_API_KEY": "key"}
    async with http_server(environment) as server:
        yield Fort(
            server, Target(httpx2.URL(server.base_url).port or 0), token, others_token, Memory(server.process.pid)
        )


@pytest.fixture(scope="module")
async def fort(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fort]:
    async with standing(tmp_path_factory.mktemp("fort")) as opened:
        await opened.target.took(token=opened.token)
        yield opened


# Too much


async def pour(stream: SocketStream, size: int, *, chunked: bool) -> int:
    """Send so many bytes, or as many as are taken; returns how many were."""
    piece = b"[" * MIB
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    sent = 0
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while sent < size:
            await stream.send(framed)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("path", "with_token", "status"),
    [
        ("/mcp", True, 413),
        ("/mcp", False, 401),
        ("/messages/?session_id=00000000000000000000000000000000", True, 413),
        ("/webhooks/legnext/token", False, 404),
        (f"/webhooks/legnext/{'0' * 64}", False, 413),
    ],
)
async def test_a_body_of_a_gigabyte_is_refused_and_not_held(
    fort: Fort, path: str, with_token: bool, status: int, chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIB}"
    host, authorization, *others = fort.authorized(framing)
    lines = [host, *([authorization] if with_token else []), *others]
    before = fort.memory.reset()
    with anyio.fail_after(60):
        async with fort.meanwhile() as took, fort.target.socket() as stream:
            await stream.send(head("POST", path, *lines))
            async with anyio.create_task_group() as both:
                answer = b""

                async def receive() -> None:
                    nonlocal answer
                    with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                        answer = await stream.receive()

                both.start_soon(receive)
                await pour(stream, GIB, chunked=chunked)
            # A connection that is closed on a client that still sends may lose what was said last.
            assert (not answer and path.startswith("/webhooks")) or status_of(answer) == status
    assert took, "somebody asked meanwhile"
    assert fort.memory.highest() - before < SLACK


async def test_a_request_of_the_largest_size_is_taken(fort: Fort) -> None:
    """So that the refusals mean something."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x" * 15 * MIB}}).encode()
    lines = fort.authorized(f"Content-Length: {len(body)}", "Connection: close")
    answer = await fort.target.says(head("POST", "/mcp", *lines) + body)
    assert status_of(answer) == 400
    assert b"session" in answer.lower(), "it was read, and only its session is missing"


def nested(depth: int, opening: str, inner: str, closing: str) -> str:
    return opening * depth + inner + closing * depth


DEEP: dict[str, Callable[[int], str]] = {
    "nothing but brackets": lambda depth: nested(depth, "[", "", "]"),
    "brackets that stay open": lambda depth: "[" * depth,
    "an object": lambda depth: nested(depth, '{"a":', "1", "}"),
    "parameters": lambda depth: (
        '{"jsonrpc":"2.0","id":1,"method":"ping","params":' + nested(depth, '{"a":', "1", "}") + "}"
    ),
    "provider options": lambda depth: (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"outpaint","_meta":{'
        '"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},'
        '"arguments":{"task_id":"x","provider":"legnext","provider_options":' + nested(depth, '{"a":', "1", "}") + "}}}"
    ),
    "provider options as text": lambda depth: (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"outpaint","_meta":{'
        '"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},'
        '"arguments":{"task_id":"x","provider":"legnext","provider_options":"'
        + nested(depth, '{\\"a\\":', "1", "}")
        + '"}}}'
    ),
    "an id": lambda depth: '{"jsonrpc":"2.0","method":"ping","id":' + nested(depth, "[", "1", "]") + "}",
    "a number without end": lambda depth: '{"jsonrpc":"2.0","method":"ping","id":' + "9" * depth + "}",
}


@pytest.mark.parametrize("depth", [900, 5_000, 1_000_000])
@pytest.mark.parametrize("what", DEEP)
async def test_json_that_is_nested_deeply_is_refused_and_breaks_nothing(fort: Fort, what: str, depth: int) -> None:
    body = DEEP[what](depth)
    modern, older = MODERN, {"Mcp-Protocol-Version": "2025-11-25"}
    log_before = len(fort.server.log)
    with anyio.fail_after(20):
        for headers in (modern, older):
            lines = fort.authorized(*(f"{name}: {value}" for name, value in headers.items()))
            request = head("POST", "/mcp", *lines, f"Content-Length: {len(body)}", "Connection: close") + body.encode()
            answer = await fort.target.says(request)
            status = status_of(answer)
            assert 200 <= status < 500
            if status == 200:
                assert b'"isError":true' in answer or b'"error":' in answer
    await fort.target.took(token=fort.others_token)
    assert b"Traceback" not in fort.server.log[log_before:]


@pytest.mark.parametrize("many", [True, False], ids=["many lines", "one line"])
async def test_four_megabytes_of_headers_are_refused_long_before_their_end(fort: Fort, many: bool) -> None:
    lines = [f"X-{number}: {'x' * 100}" for number in range(40_000)] if many else ["X: " + "x" * 4 * MIB]
    before = fort.memory.reset()
    async with fort.meanwhile():
        for _ in range(5):
            request = head("POST", "/mcp", f"Host: 127.0.0.1:{fort.target.port}", *lines)
            async with fort.target.socket() as stream, anyio.create_task_group() as both:

                async def send(stream: SocketStream = stream, request: bytes = request) -> None:
                    with contextlib.suppress(anyio.BrokenResourceError):
                        await stream.send(request)

                both.start_soon(send)
                with anyio.fail_after(10):
                    answer = await rest_of(stream)
            # Where more was sent than is read, what the server said may be lost with the connection.
            assert not answer or status_of(answer) in (400, 431)
    assert fort.memory.highest() - before < SLACK


async def test_a_head_of_nearly_the_largest_size_is_taken(fort: Fort) -> None:
    """So that the refusals mean something."""
    padding = "x" * (MAX_HEAD_BYTES - 1000)
    answer = await fort.target.ask(token=fort.token, X_Padding=padding)
    assert answer.status == 200


# Too slow


def slow_head(fort: Fort) -> bytes:
    return b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


def slow_body(fort: Fort) -> bytes:
    return head("POST", "/mcp", *fort.authorized("Content-Length: 1000")) + b'{"jsonrpc":'


def slow_body_of_a_stranger(fort: Fort) -> bytes:
    return head("POST", "/mcp", f"Host: 127.0.0.1:{fort.target.port}", "Content-Length: 1000") + b'{"jsonrpc":'


def nothing(fort: Fort) -> bytes:
    return b""


def endless_questions(fort: Fort) -> bytes:
    """Requests one after the other, whose answers nobody reads."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": _META}}).encode()
    headers = [f"{name}: {value}" for name, value in MODERN.items() if not name.endswith(("Method", "Name"))]
    lines = fort.authorized(*headers, "Mcp-Method: tools/list", f"Content-Length: {len(body)}")
    return (head("POST", "/mcp", *lines) + body) * 500


_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    ("what", "count"),
    [(slow_head, 300), (slow_body, 300), (slow_body_of_a_stranger, 300), (nothing, 2000), (endless_questions, 5)],
)
async def test_clients_that_make_the_server_wait_hold_nobody_up(
    fort: Fort, what: Callable[[Fort], bytes], count: int
) -> None:
    sent = what(fort)
    log_before = len(fort.server.log)
    before = fort.memory.reset()
    with anyio.fail_after(60):
        async with fort.meanwhile() as took, contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            streams = [await stack.enter_async_context(fort.target.socket()) for _ in range(count)]
            for stream in streams:
                tasks.start_soon(_send_all, stream, sent)
            await until_asked(10, took)
            tasks.cancel_scope.cancel()
    assert fort.memory.highest() - before < SLACK
    assert b"Traceback" not in fort.server.log[log_before:], "that they went away is no failure of the server's"


async def _send_all(stream: SocketStream, sent: bytes) -> None:
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(sent)


@pytest.mark.parametrize(
    "path", ["nobody/" + "0" * 64, "local/" + "0" * 64, "legnext/" + "0" * 63, "legnext/" + "g" * 64]
)
async def test_a_callback_whose_url_cannot_be_ours_is_refused_before_its_body(fort: Fort, path: str) -> None:
    request = head("POST", f"/webhooks/{path}", f"Host: 127.0.0.1:{fort.target.port}", "Content-Length: 1000")
    with anyio.fail_after(5):
        assert status_of(await fort.target.says(request)) == 404


def callback(fort: Fort) -> bytes:
    """A callback to a URL that may be ours, without its body of two bytes."""
    lines = [f"Host: 127.0.0.1:{fort.target.port}", "Connection: close", "Content-Length: 2"]
    return head("POST", f"/webhooks/legnext/{'0' * 64}", *lines)


async def test_so_many_callbacks_are_read_at_once(fort: Fort) -> None:
    more = 8
    answers: list[bytes] = []
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(fort.target.socket()) for _ in range(MAX_CALLBACKS + more)]

        async def send(stream: SocketStream) -> None:
            await stream.send(callback(fort))
            answers.append(await rest_of(stream))
            if len(answers) == more:
                for other in streams:
                    await _send_all(other, b"{}")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for stream in streams:
                    tasks.start_soon(send, stream)
    assert [status_of(answer) for answer in answers] == [503] * more + [404] * MAX_CALLBACKS
    assert b"retry-after: 5\r\n" in answers[0].lower()


async def test_the_server_reads_no_further_from_a_client_that_does_not_read(fort: Fort) -> None:
    sent = endless_questions(fort) * 100
    taken = 0
    async with fort.target.socket() as stream, anyio.create_task_group() as tasks:

        async def pour_on() -> None:
            nonlocal taken
            for start in range(0, len(sent), 65_536):
                await stream.send(sent[start : start + 65_536])
                taken = start

        tasks.start_soon(pour_on)
        last = -1
        while taken != last:
            last = taken
            # As long as others are answered it would have been, too.
            for _ in range(20):
                await fort.target.took(token=fort.others_token)
        tasks.cancel_scope.cancel()
    assert 0 < taken < len(sent) / 2


async def test_a_client_that_sends_its_head_or_a_callback_too_slowly_is_not_waited_for(fort: Fort) -> None:
    async with fort.target.socket() as silent, fort.target.socket() as slow, fort.target.socket() as calling:
        await slow.send(slow_head(fort))
        await calling.send(callback(fort))
        with anyio.fail_after(20):
            assert status_of(await rest_of(calling)) == 408
            assert await rest_of(silent) == b""
            assert await rest_of(slow) == b""


async def test_more_idle_clients_than_a_process_may_usually_open_files_lock_nobody_out(tmp_path: Path) -> None:
    """1,024 is what most systems let a process open unless it asks for more."""
    with open_files(1024):
        server = standing(tmp_path)
        fort = await server.__aenter__()
    try:
        async with fort.meanwhile() as took, contextlib.AsyncExitStack() as stack:
            for _ in range(1500):
                await stack.enter_async_context(fort.target.socket())
            await until_asked(2, took)
        assert b"Too many open files" not in fort.server.log
    finally:
        await server.__aexit__(None, None, None)


# Very many


async def test_very_many_sessions_are_refused_at_the_door_and_others_are_answered(tmp_path: Path) -> None:
    attempts, statuses = 500, list[int]()
    file, (anns, bobs) = tokens_of(tmp_path, "ann", "bob")
    async with attacked(settings_for(tmp_path, tokens_file=file)) as target, target.client(token=bobs) as bob:

        async def attack() -> None:
            for _ in range(attempts // 10):
                answer = await target.ask(token=anns)
                statuses.append(answer.status)
                assert answer.status == 200 or int(answer.headers["retry-after"]) > 0

        with anyio.fail_after(60):
            async with anyio.create_task_group() as attackers:
                for _ in range(10):
                    attackers.start_soon(attack)
                for _ in range(10):
                    assert (await refusal(bob, "get_task", task_id="op-unknown")).startswith("[unknown_task] ")
    assert {status: statuses.count(status) for status in set(statuses)} == {200: 50, 429: attempts - 50}


async def test_thousands_of_bad_tokens_are_refused_while_a_good_one_is_heeded(tmp_path: Path) -> None:
    connections, each = 20, 100
    async with standing(tmp_path) as fort:
        await fort.target.took(token=fort.others_token)
        log_before = bytes(fort.server.log)
        before = fort.memory.reset()
        statuses: list[int] = []

        async def attack(number: int) -> None:
            requests = [
                head("POST", "/mcp", f"Host: 127.0.0.1:{fort.target.port}", f"Authorization: Bearer opt_{number}-{one}",
                     "Content-Length: 0", *(["Connection: close"] if one == each - 1 else []))
                for one in range(each)
            ]  # fmt: skip
            async with fort.target.socket() as stream, anyio.create_task_group() as both:
                both.start_soon(_send_all, stream, b"".join(requests))
                answers = await rest_of(stream)
            statuses.extend(status_of(b"HTTP/1.1 " + part) for part in answers.split(b"HTTP/1.1 ")[1:])

        with anyio.fail_after(60):
            async with fort.meanwhile() as took, anyio.create_task_group() as attackers:
                for number in range(connections):
                    attackers.start_soon(attack, number)
        assert len(statuses) == connections * each
        assert set(statuses) == {401}
        assert took
        assert fort.memory.highest() - before < SLACK
        assert bytes(fort.server.log) == log_before, "the log does not grow with them"
