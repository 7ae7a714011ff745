"""ASGI middleware before the vendors: logs every request, and carries out the faults that are set.

It works on raw ASGI, since some faults are below what a framework can express: a connection that ends without an
answer, half a body.
"""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outpaint_mcp.sandbox.faults import Fault, Faults
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.tasks import Failure
from outpaint_mcp.sandbox.vendors.base import FAILURE_IN_SCOPE, Action, Vendor
from outpaint_mcp.sandbox.vendors.bodies import RejectedError, json_or_none

# An image of 25 MB in base64, and what is beside it.
MAX_BODY_BYTES = 35_000_000
MAX_LOGGED_BYTES = 16_384

# A challenge's header is documented; the page is shortened: https://developers.cloudflare.com (2026-11).
_CHALLENGE = "<!DOCTYPE html><title>Just a moment...</title><script>window._cf_chl_opt={}</script>"
_HTML = "<!doctype html><title>Bad gateway</title><h1>502 Bad gateway</h1>"


@dataclass(slots=True)
class RequestRecord:
    """One request as it came. `auth` is `right`, `wrong` or `missing`; the key itself is not kept.

    `path` includes the vendor's name; `body` is the JSON, or how many bytes of what hash it was instead; `at` is Unix
    time; `status` is None where nothing was answered.
    """

    vendor: str
    action: Action | None
    method: str
    path: str
    query: str
    auth: str
    idempotency_key: str | None
    body: Any
    at: float
    fault: str | None = None
    status: int | None = None


class Connections:
    """The open connections of a server, by the client's address, so that a fault can close one."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def opened(self, transport: asyncio.Transport) -> None:
        self._open[transport.get_extra_info("peername")[:2]] = transport

    def closed(self, transport: asyncio.Transport) -> None:
        self._open = {peer: other for peer, other in self._open.items() if other is not transport}

    def abort(self, client: tuple[str, int] | None) -> bool:
        """Closes the client's connection at once; False where it is not a real one."""
        transport = self._open.get(tuple(client)) if client else None  # type: ignore[arg-type]
        if transport is None:
            return False
        transport.abort()
        return True


class FaultInjector:
    """The ASGI application that is put around the vendors' one."""

    def __init__(
        self,
        app: ASGIApp,
        vendors: Mapping[str, Vendor],
        faults: Faults,
        connections: Connections,
        settings: SandboxSettings,
    ) -> None:
        self._app = app
        self._vendors = vendors
        self._faults = faults
        self._connections = connections
        self._settings = settings
        self.log: deque[RequestRecord] = deque(maxlen=settings.max_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vendor, path = self._vendor_of(scope)
        if vendor is None:
            await self._app(scope, receive, send)
            return
        raw = await _read(receive)
        if raw is None:
            await vendor.rejection(RejectedError(413, "The request is too large"))(scope, receive, send)
            return
        body = json_or_none(raw)
        is_image = scope["path"].startswith("/images/")
        action = "image" if is_image else vendor.classify(scope["method"], path, body)
        record = self._log(scope, vendor, action, raw, body)
        fault = self._faults.take(vendor.name, action) if action else None

        async def log_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        if fault is None:
            await self._app(scope, _replay(raw, receive), log_and_send)
            return
        record.fault = fault.fault
        response = await self._misbehave(fault, vendor, scope, raw, receive)
        if response is None:
            await self._disconnect(scope, receive)
        else:
            await response(scope, receive, log_and_send)

    async def _misbehave(
        self, fault: Fault, vendor: Vendor, scope: Scope, raw: bytes, receive: Receive
    ) -> Response | None:
        """The answer that `fault` gives; None where it gives none and the connection is to end."""
        if fault.fault == "slow" and not fault.accepted:
            await self._settings.sleep(fault.seconds)
        if fault.fault == "restart":
            vendor.restart()
        if fault.fault == "fail":
            message = fault.message if "message" in fault.model_fields_set else None
            scope[FAILURE_IN_SCOPE] = Failure(fault.code, message)
        if fault.accepted or fault.fault in _CHANGES_THE_ANSWER:
            original = await _capture(self._app, scope, _replay(raw, receive))
            if fault.fault in _CHANGES_THE_ANSWER:
                if fault.fault == "slow" and fault.accepted:
                    await self._settings.sleep(fault.seconds)
                return _changed(original, fault, vendor)
        return _instead(fault, vendor)

    async def _disconnect(self, scope: Scope, receive: Receive) -> None:
        if not self._connections.abort(scope.get("client")):
            # A client that calls this application directly has no socket to close: it gets the error that it would
            # have seen on one.
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        while (await receive())["type"] != "http.disconnect":
            pass

    def _vendor_of(self, scope: Scope) -> tuple[Vendor | None, str]:
        """The vendor that the request is for, if any, and its path below that vendor's base URL."""
        if scope["type"] != "http":
            return None, ""
        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if first == "images":
            first, _, rest = rest.partition("/")
        return self._vendors.get(first), f"/{rest}"

    def _log(self, scope: Scope, vendor: Vendor, action: Action | None, raw: bytes, body: Any) -> RequestRecord:
        headers = Headers(scope=scope)
        key = headers.get(vendor.key_header)
        auth = "missing" if key is None else "right" if vendor.is_authorized(key) else "wrong"
        if raw and (body is None or len(raw) > MAX_LOGGED_BYTES):
            body = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        record = RequestRecord(
            vendor=vendor.name,
            action=action,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            auth=auth,
            idempotency_key=headers.get("idempotency-key"),
            body=body,
            at=self._settings.clock(),
        )
        self.log.append(record)
        return record


_CHANGES_THE_ANSWER = frozenset(
    {"slow", "truncated_json", "unknown_status", "capitalised", "bare_string", "image_urls", "no_zoom", "fail"}
)


def _instead(fault: Fault, vendor: Vendor) -> Response | None:
    match fault.fault:
        case "status":
            rejection = vendor.rejection(RejectedError(fault.status or 500, fault.message, code=fault.code))
            if fault.retry_after is not None:
                rejection.headers["retry-after"] = f"{fault.retry_after:g}"
            return rejection
        case "html":
            return HTMLResponse(_HTML, status_code=fault.status or 502)
        case "challenge":
            return HTMLResponse(_CHALLENGE, fault.status or 403, {"cf-mitigated": "challenge", "server": "cloudflare"})
        case "gone":
            return vendor.rejection(RejectedError(404, "Not found"))
        case "job_shaped_refusal":
            return vendor.task_shaped_rejection(fault.status or 403, fault.message, fault.code)
        case "refused_in_200":
            return vendor.rejection_in_200(fault.message)
        case _:
            return None


def _without_zooms(value: Any) -> Any:
    """In place of each zoom that is listed as possible there is something else."""
    if isinstance(value, list):
        return [_without_zooms(inner) for inner in value]
    if isinstance(value, dict) and "label" in value:
        return dict.fromkeys(value, "Vary")
    if isinstance(value, dict):
        return {key: _without_zooms(inner) for key, inner in value.items() if key != "outpaint"}
    return "vary" if isinstance(value, str) and value.startswith("outpaint_") else value


def _changed(original: Response, fault: Fault, vendor: Vendor) -> Response:
    raw = bytes(original.body)
    match fault.fault:
        case "truncated_json":
            return _with_body(original, raw[: len(raw) // 2])
        case "unknown_status":
            return _with_json(original, lambda body: _with_status(body, vendor, lambda _: fault.word))
        case "capitalised":
            return _with_json(original, lambda body: _with_status(body, vendor, str.capitalize))
        case "bare_string":
            return _with_json(original, vendor.as_bare_string)
        case "image_urls":
            return _with_json(original, lambda body: _with_image_urls(body, fault.word))
        case "no_zoom":
            return _with_json(original, _without_zooms)
        case _:
            return original


def _with_status(value: Any, vendor: Vendor, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_with_status(inner, vendor, change) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: change(inner)
        if key == "status" and isinstance(inner, str) and inner in vendor.statuses.all
        else _with_status(inner, vendor, change)
        for key, inner in value.items()
    }


def _with_image_urls(value: Any, word: str) -> Any:
    if isinstance(value, list):
        return [_with_image_urls(inner, word) for inner in value]
    if isinstance(value, dict):
        return {key: _with_image_urls(inner, word) for key, inner in value.items()}
    if isinstance(value, str) and value.startswith(("http://", "https://")) and "/images/" in value:
        return word.replace("{url}", value).replace("{rest}", value.partition(":")[2])
    return value


def _with_json(original: Response, change: Callable[[Any], Any]) -> Response:
    body = json_or_none(bytes(original.body))
    return original if body is None else _with_body(original, json.dumps(change(body)).encode())


def _with_body(original: Response, body: bytes) -> Response:
    headers = {name: value for name, value in original.headers.items() if name != "content-length"}
    return Response(body, original.status_code, headers)


async def _read(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(raw: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return replay


async def _capture(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """The answer of `app`, kept instead of sent."""
    status = 500
    headers: dict[str, str] = {}
    body = bytearray()

    async def collect(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message.get("headers", [])}
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await app(scope, receive, collect)
    return Response(bytes(body), status, headers)
