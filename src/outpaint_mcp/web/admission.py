"""What one client may have open at once over HTTP: sessions, and requests whose bodies are held.

It stands before the SDK, which makes a session for whoever asks for one and reads every body whole.
"""

import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outpaint_mcp.domain.errors import RateLimitedError
from outpaint_mcp.domain.holding import HOLDING
from outpaint_mcp.server.app import RATE_LIMITED
from outpaint_mcp.server.rate_limits import RateLimits

SESSION_IDLE_SECONDS: Final = 600.0
"""How long a session may be unused before it is closed."""
ARRIVING: Final = 64
"""How many bodies of one client may be on their way at the same time."""
SMALL_BODY: Final = 64 * 1024
"""Bodies up to this size count only while they are on their way: a connection buffers as much in any case."""
HELD_BODIES: Final = 2
"""How many bodies of the largest size one client may have in memory; smaller ones count by their size."""
ROOM_SECONDS: Final = 20.0
"""How long a body waits, unread, until others are no longer held."""


@dataclass(slots=True)
class _Session:
    """A session of the SDK's; `unused_since` counts while no request of it is `in_flight`."""

    in_flight: int
    unused_since: float


@dataclass(slots=True)
class _Client:
    """What a client has open. `connecting` counts sessions without an id: those being opened, and those over SSE."""

    sessions: dict[str, _Session] = field(default_factory=dict)
    connecting: int = 0
    arriving: int = 0
    held: int = 0
    less_held: anyio.Event = field(default_factory=anyio.Event)

    @property
    def is_idle(self) -> bool:
        return not (self.sessions or self.connecting or self.arriving or self.held)


class _Body:
    """A request's body, which counts as held until neither its request nor what handles it needs it any more."""

    def __init__(self, client: _Client, size: int) -> None:
        self._client = client
        self._size = size
        self._users = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        if not self._users:
            self._client.held += self._size
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._release(self._size)

    def turns_out_to_have(self, size: int) -> None:
        """Let go of what was held in excess; call it while the body is used."""
        excess, self._size = self._size - size, size
        self._release(excess)

    def _release(self, size: int) -> None:
        self._client.held -= size
        self._client.less_held.set()
        self._client.less_held = anyio.Event()


class Admission:
    """Counts what each client has open, and refuses with 429 what is too much.

    Args:
        limits: the requests of each client; opening a session counts as one.
        client_of: who makes the current request.
        max_sessions: the most sessions of one client.
        max_body_bytes: the size of the largest body; larger ones are the SDK's to refuse.
        seconds: a monotonic clock.
    """

    def __init__(
        self,
        limits: RateLimits,
        client_of: Callable[[], str],
        *,
        max_sessions: int,
        max_body_bytes: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._client_of = client_of
        self._max_sessions = max_sessions
        self._max_body_bytes = max_body_bytes
        self._seconds = seconds
        self._clients: dict[str, _Client] = {}
        self._forgotten_before = float("-inf")

    def to(self, app: ASGIApp, kind: Literal["streamable", "sse", "messages"]) -> ASGIApp:
        """The application, for clients that are within their limits.

        Args:
            app: the application.
            kind: ``streamable`` names its sessions itself, for ``sse`` each request is one, ``messages`` has none.
        """

        async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
            self._forget_unused()
            name, headers = self._client_of(), Headers(scope=scope)
            client = self._clients.setdefault(name, _Client())
            version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
            is_modern = version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
            try:
                async with contextlib.AsyncExitStack() as stack:
                    if kind == "sse" or (kind == "streamable" and not is_modern):
                        session_id = headers.get(MCP_SESSION_ID_HEADER) if kind == "streamable" else None
                        send = stack.enter_context(self._session(name, client, scope["method"], session_id, send))
                    receive = await stack.enter_async_context(self._body(client, headers, receive))
                    await app(scope, receive, send)
            except ClientDisconnect:
                # Nobody is there to be answered; uvicorn would log it as a failure of ours.
                pass
            except RateLimitedError as error:
                await _refusal(error)(scope, receive, send)
            finally:
                if client.is_idle:
                    self._clients.pop(name, None)

        return admitted

    @contextlib.contextmanager
    def _session(self, name: str, client: _Client, method: str, session_id: str | None, send: Send) -> Iterator[Send]:
        """Count a request towards its session, or as one that opens a session if it names none.

        Raises:
            RateLimitedError: it would open one too many.
        """
        session = client.sessions.get(session_id or "")
        opens = session_id is None
        if opens:
            self._limits.count(name)
            self._check_sessions(client)
            client.connecting += 1
        elif session is not None:
            session.in_flight += 1

        async def watched(message: Message) -> None:
            nonlocal session
            if message["type"] == "http.response.start":
                made = Headers(raw=message["headers"]).get(MCP_SESSION_ID_HEADER)
                if opens and session is None and made is not None and message["status"] < 400:
                    client.connecting -= 1
                    session = client.sessions[made] = _Session(1, self._seconds())
                elif session_id is not None and method == "DELETE" and message["status"] < 400:
                    client.sessions.pop(session_id, None)
            await send(message)

        try:
            yield watched
        finally:
            if session is not None:
                session.in_flight -= 1
                session.unused_since = self._seconds()
            elif opens:
                client.connecting -= 1

    def _check_sessions(self, client: _Client) -> None:
        if len(client.sessions) + client.connecting < self._max_sessions:
            return
        unused = [one.unused_since for one in client.sessions.values() if not one.in_flight]
        wait = min(unused) + SESSION_IDLE_SECONDS - self._seconds() if unused else SESSION_IDLE_SECONDS
        raise RateLimitedError(
            f"{self._max_sessions} sessions of yours are open, as many as may be.",
            "Nothing was done. End one (DELETE), or call again later: a session that is unused for "
            f"{SESSION_IDLE_SECONDS / 60:g} minutes is closed.",
            retry_after=wait,
        )

    def _forget_unused(self) -> None:
        """Forget the sessions that the SDK has closed by now, at most once a second."""
        before = self._seconds() - SESSION_IDLE_SECONDS
        if before < self._forgotten_before + 1:
            return
        self._forgotten_before = before
        for client in self._clients.values():
            for session_id, session in list(client.sessions.items()):
                if not session.in_flight and session.unused_since < before:
                    del client.sessions[session_id]
        self._clients = {name: client for name, client in self._clients.items() if not client.is_idle}

    @contextlib.asynccontextmanager
    async def _body(self, client: _Client, headers: Headers, receive: Receive) -> AsyncIterator[Receive]:
        """Count a request's body while it is on its way and while it is held.

        Raises:
            RateLimitedError: too many of them are.
        """
        chunked = "transfer-encoding" in headers
        size = self._max_body_bytes if chunked else int(headers.get("content-length", 0))
        if not 0 < size <= self._max_body_bytes:
            yield receive
            return
        if client.arriving >= ARRIVING:
            raise RateLimitedError(
                f"{ARRIVING} of your requests are still being sent.",
                "Nothing was done. Send fewer at the same time.",
                retry_after=1,
            )
        client.arriving += 1
        body, received, arrived = _Body(client, size if size > SMALL_BODY else 0), 0, False

        async def counted() -> Message:
            nonlocal received, arrived
            message = await receive()
            if message["type"] == "http.disconnect" and not arrived:
                raise ClientDisconnect()  # before the SDK takes it for a failure
            received += len(message.get("body", b""))
            if not arrived and not message.get("more_body", False):
                arrived = True
                client.arriving -= 1
                if chunked:
                    body.turns_out_to_have(received if received > SMALL_BODY else 0)
            return message

        try:
            if size > SMALL_BODY:
                await self._room(client, size)
            with body.used():
                token = HOLDING.set(body.used)
                try:
                    yield counted
                finally:
                    HOLDING.reset(token)
        finally:
            if not arrived:
                client.arriving -= 1

    async def _room(self, client: _Client, size: int) -> None:
        """Wait until a body of this size may be held.

        Raises:
            RateLimitedError: it may not within `ROOM_SECONDS`.
        """
        most = HELD_BODIES * self._max_body_bytes
        with anyio.move_on_after(ROOM_SECONDS):
            while client.held and client.held + size > most:
                await client.less_held.wait()
            return
        raise RateLimitedError(
            f"Your requests that are under way hold {most // 2**20} MB, as much as may be.",
            "Nothing was done. Call again when some of them are answered.",
            retry_after=ROOM_SECONDS,
        )


def _refusal(error: RateLimitedError) -> Response:
    wait = error.retry_after or 1
    details = {"code": RATE_LIMITED, "message": str(error), "data": {"retryAfter": wait}}
    # The connection is closed, for nobody reads the body.
    headers = {"Retry-After": str(math.ceil(wait)), "Connection": "close"}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": details})
    return Response(body, 429, headers, "application/json")
