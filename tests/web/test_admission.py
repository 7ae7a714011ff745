"""What one client may have open at once: the application behind the door does as each test needs, on a moved clock."""

from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from outpaint_mcp.domain.holding import holding
from outpaint_mcp.server.app import RATE_LIMITED
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.web.admission import ARRIVING, HELD_BODIES, SESSION_IDLE_SECONDS, SMALL_BODY, Admission

LARGEST = 2 * SMALL_BODY


@dataclass(slots=True)
class Door:
    """An application behind `Admission` that opens a session for whoever names none, and holds bodies until told."""

    now: float = 1000.0
    name: str = "ann"
    opened: int = 0
    holding: int = 0
    let_go: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.admission = Admission(
            RateLimits(requests_per_minute=100, seconds=lambda: self.now),
            lambda: self.name,
            max_sessions=3,
            max_body_bytes=LARGEST,
            seconds=lambda: self.now,
        )

    admission: Admission = field(init=False)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        session = request.headers.get("mcp-session-id")
        if body == b"bad":
            await Response("bad", 400, {"mcp-session-id": "none"})(scope, receive, send)
            return
        if len(body) > SMALL_BODY:
            self.holding += 1
            await self.let_go.wait()
        if session is None:
            self.opened += 1
            session = f"session-{self.opened}"
        await Response("ok", 200, {"mcp-session-id": session})(scope, receive, send)

    def client(self, kind: Any = "streamable") -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.admission.to(self.answer, kind))
        return httpx2.AsyncClient(transport=transport, base_url="http://server")


@pytest.fixture
def door() -> Door:
    return Door()


async def test_a_client_opens_so_many_sessions_and_another_one_its_own(door: Door) -> None:
    async with door.client() as client, door.client("sse") as sse:
        assert [(await client.post("/")).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await sse.get("/")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) == SESSION_IDLE_SECONDS
        error = refused.json()["error"]
        assert error["code"] == RATE_LIMITED
        assert error["message"].startswith("[rate_limited] 3 sessions of yours are open, as many as may be. ")
        assert (await client.post("/", headers={"mcp-session-id": "session-1"})).status_code == 200
        assert (await client.post("/", headers={"mcp-protocol-version": LATEST_MODERN_VERSION})).status_code == 200
        door.name = "bob"
        assert (await client.post("/")).status_code == 200


async def test_a_session_counts_until_it_is_ended_or_was_unused_for_long(door: Door) -> None:
    async with door.client() as client:
        for _ in range(3):
            await client.post("/")
        door.now += SESSION_IDLE_SECONDS - 1
        await client.post("/", headers={"mcp-session-id": "session-1"})
        assert (await client.post("/")).headers["retry-after"] == "1"
        door.now += 2
        assert [(await client.post("/")).status_code for _ in range(3)] == [200, 200, 429]
        assert (await client.delete("/", headers={"mcp-session-id": "session-1"})).status_code == 200
        assert [(await client.post("/")).status_code for _ in range(2)] == [200, 429]


async def test_what_opens_no_session_counts_as_a_request_all_the_same(door: Door) -> None:
    async with door.client() as client:
        statuses = [(await client.post("/", content=b"bad")).status_code for _ in range(101)]
        assert statuses == [400] * 100 + [429]
        assert (await client.post("/", content=b"bad")).headers["retry-after"] == "1"


def pieces(size: int) -> Iterator[bytes]:
    yield bytes(size)


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    for piece in pieces(size):
        yield piece


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_bodies_wait_unread_while_as_many_are_held_as_may_be(door: Door, chunked: bool) -> None:
    statuses: list[int] = []

    async def post(client: httpx2.AsyncClient) -> None:
        headers = {"mcp-protocol-version": LATEST_MODERN_VERSION}
        content = in_pieces(LARGEST) if chunked else bytes(LARGEST)
        statuses.append((await client.post("/", content=content, headers=headers)).status_code)

    async with door.client() as client, anyio.create_task_group() as posts:
        for _ in range(HELD_BODIES + 2):
            posts.start_soon(post, client)
        await anyio.wait_all_tasks_blocked()
        assert door.holding == HELD_BODIES
        assert (await client.post("/", content=b"small")).status_code == 200
        door.name = "bob"
        posts.start_soon(post, client)
        await anyio.wait_all_tasks_blocked()
        assert door.holding == HELD_BODIES + 1, "another client has room of its own"
        door.let_go.set()
    assert statuses == [200] * (HELD_BODIES + 3)


async def test_a_body_is_held_while_its_message_is_handled_after_its_request_is_over(door: Door) -> None:
    """Over SSE a message's request ends before the message is handled."""
    done = anyio.Event()

    async def handle() -> None:
        with holding():
            await done.wait()

    async with anyio.create_task_group() as handlers:

        async def accept(scope: Scope, receive: Receive, send: Send) -> None:
            await Request(scope, receive).body()
            copy_context().run(handlers.start_soon, handle)
            await Response(status_code=202)(scope, receive, send)
            await anyio.lowlevel.checkpoint()

        transport = httpx2.ASGITransport(door.admission.to(accept, "messages"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
            for _ in range(HELD_BODIES):
                assert (await client.post("/", content=bytes(LARGEST))).status_code == 202
            with anyio.move_on_after(0.1) as waiting:
                await client.post("/", content=bytes(LARGEST))
            assert waiting.cancelled_caught
            done.set()
            assert (await client.post("/", content=bytes(LARGEST))).status_code == 202


async def test_a_client_that_sends_very_many_bodies_at_once_is_refused(door: Door) -> None:
    silent = anyio.Event()

    async def never() -> AsyncIterator[bytes]:
        await silent.wait()
        yield b""

    async with door.client() as client, anyio.create_task_group() as slow:
        headers = {"content-length": "10", "mcp-protocol-version": LATEST_MODERN_VERSION}

        async def post() -> None:
            await client.post("/", content=never(), headers=headers)

        for _ in range(ARRIVING):
            slow.start_soon(post)
        await anyio.wait_all_tasks_blocked()
        refused = await client.post("/", content=b"{}")
        assert refused.status_code == 429
        assert refused.headers["connection"] == "close"
        assert f"{ARRIVING} of your requests are still being sent." in refused.json()["error"]["message"]
        door.name = "bob"
        assert (await client.post("/", content=b"{}")).status_code == 200
        slow.cancel_scope.cancel()
    door.name = "ann"
    async with door.client() as client:
        assert (await client.post("/", content=b"{}")).status_code == 200
