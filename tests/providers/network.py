"""A vendor's network in tests: a queue of answers, or a server on loopback that behaves as it is told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

import anyio
import httpx2
from anyio.abc import SocketStream

from outpaint_mcp.domain.errors import OutpaintError, UnexpectedResponseError
from outpaint_mcp.providers.calls import ApiCall, Endpoint
from outpaint_mcp.providers.http_client import HttpClient

NOW = 1_790_000_000.0
KEY = "sk-not-to-be-shown"
ASK = ApiCall("GET", "/v1/job/7?page=2")
ORDER = ApiCall("POST", "/v1/outpaint", json={"zoom": 2})


def judge_by_status(status: int, body: Any) -> OutpaintError | None:
    return None


def endpoint(
    base_url: str = "http://vendor.test",
    read_error: Callable[[int, Any], OutpaintError | None] = judge_by_status,
    secrets: tuple[str, ...] = (),
) -> Endpoint:
    return Endpoint("Vendor", base_url, {"Authorization": f"Bearer {KEY}"}, read_error, secrets)


def job_of(body: Any) -> str:
    """A reader as the adapters have it."""
    if not isinstance(body, dict) or "job" not in body:
        raise UnexpectedResponseError("Vendor names no job.")
    return str(body["job"])


@dataclass
class Queue:
    """A transport that gives one answer after the other and keeps the requests."""

    answers: list[httpx2.Response | Exception]
    requests: list[httpx2.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def client(self) -> HttpClient:
        return HttpClient(
            transport=httpx2.MockTransport(self.handle), sleep=self.sleep, jitter=lambda: 1.0, clock=lambda: NOW
        )


def form_of(request: httpx2.Request) -> dict[str, bytes]:
    """The fields of a multipart form."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    fields: dict[str, bytes] = {}
    for part in message_from_bytes(head + request.content).walk():
        if not part.is_multipart():
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            fields[str(part.get_param("name", header="content-disposition"))] = data
    return fields


def answer(status: int = 200, body: Any = None, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"job": "7"} if body is None else body, headers=named)


Behaviour = Callable[[SocketStream, list[bytes]], Awaitable[None]]


@asynccontextmanager
async def vendor(behave: Behaviour) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A vendor that does `behave` with each connection; its address, and what it received."""
    received: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await behave(stream, received)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (no Django here)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{port}", received
        tasks.cancel_scope.cancel()


def says(data: bytes) -> Behaviour:
    async def behave(stream: SocketStream, received: list[bytes]) -> None:
        received.append(await stream.receive())
        await stream.send(data)

    return behave


def http(status: str, body: bytes = b"{}", *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return says("\r\n".join(lines).encode() + body)
