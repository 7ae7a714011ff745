"""Serves one client over stdin and stdout, also one that changes its mind about the protocol's era.

A well-known host asks `server/discover` first, which opens the modern protocol, and then shakes hands all the same. The
SDK decides the era once a connection; here an `initialize` after it begins a new conversation on the same streams. And
a line that is no message is answered: whoever sent it waits.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCRequest
from pydantic import ValidationError

Incoming = SessionMessage | Exception


async def serve_stdio(server: Server[None]) -> None:
    """Serve until stdin ends."""
    async with stdio_server() as (read, write):
        await serve_streams(server, read, write)


async def serve_streams(
    server: Server[None], read: ObjectReceiveStream[Incoming], write: ObjectSendStream[SessionMessage]
) -> None:
    """Serve one client until `read` ends; the server's lifespan spans all its conversations."""
    # Once for all conversations, where `Server.run` would enter it for each.
    async with server.lifespan(server) as state, write:

        @asynccontextmanager
        async def conversation() -> AsyncIterator[MemoryObjectSendStream[Incoming]]:
            """One run of the SDK's loop, with streams of its own, since it closes them."""
            to_loop, from_client = anyio.create_memory_object_stream[Incoming](0)
            to_client, from_loop = anyio.create_memory_object_stream[SessionMessage](0)

            async def run() -> None:
                await serve_dual_era_loop(
                    server,
                    from_client,
                    to_client,
                    lifespan_state=state,
                    init_options=server.create_initialization_options(),
                )

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                tasks.start_soon(_forward, from_loop, write)
                async with to_loop:
                    yield to_loop

        pending: Incoming | None = None
        ended = False
        while not ended:
            shaken = False
            asked = False
            async with conversation() as to_loop:
                if pending is not None:
                    shaken = asked = True
                    await to_loop.send(pending)
                    pending = None
                ended = True
                async for message in read:
                    if isinstance(message, Exception):
                        await write.send(_answer_to(message))
                        continue
                    if not shaken and _is_handshake(message):
                        if asked:
                            pending, ended = message, False
                            break
                        shaken = True
                    asked = asked or _is_request(message)
                    await to_loop.send(message)


def _answer_to(error: Exception) -> SessionMessage:
    """The answer to a line that is no message, under the id that the line has, if it can be read."""
    refusal = ErrorData(code=PARSE_ERROR, message="The line is not JSON that can be read.")
    sent: Any = None
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False)
        if found[0]["type"] == "json_invalid":
            # Python's own reader takes more, such as half of a surrogate pair where a text was cut in an emoji.
            with contextlib.suppress(ValueError, RecursionError):
                sent = json.loads(found[0]["input"])
        else:
            refusal = ErrorData(code=INVALID_REQUEST, message="The line is no JSON-RPC request.")
            sent = next((one["input"] for one in found if isinstance(one["input"], dict)), None)
    id_ = sent.get("id") if isinstance(sent, dict) else None
    known = id_ if isinstance(id_, str | int) and not isinstance(id_, bool) else None
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=known, error=refusal))


def _is_request(message: Incoming) -> bool:
    return isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCRequest)


def _is_handshake(message: Incoming) -> bool:
    return (
        isinstance(message, SessionMessage)
        and isinstance(message.message, JSONRPCRequest)
        and message.message.method == "initialize"
    )


async def _forward(source: MemoryObjectReceiveStream[SessionMessage], sink: ObjectSendStream[SessionMessage]) -> None:
    async with source:
        async for message in source:
            await sink.send(message)
