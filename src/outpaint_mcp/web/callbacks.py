"""Takes the vendors' callbacks: webhooks that say that a task has changed."""

from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, RateLimitedError, UnknownTaskError
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.web.refusals import refusal

MAX_BYTES: Final = 64 * 1024
"""The largest callback that is read: some hold the whole task."""
AT_ONCE: Final = 32
"""How many callbacks are read at the same time."""
SECONDS: Final = 10.0
"""How long a callback may take to be read."""

_UNKNOWN: Final = UnknownTaskError("No task awaits this callback.", "Call the URL that came with the order.")
_TOO_LARGE: Final = InvalidRequestError("The callback is too large.", f"Send at most {MAX_BYTES // 1024} KB.")
_TOO_MANY: Final = RateLimitedError("Too many callbacks arrive at once.", "Call again in 5 seconds.")
_TOO_SLOW: Final = InvalidRequestError("The callback came too slowly.", f"Send it within {SECONDS:g} seconds.")


class CallbackRoute:
    """Answers POST; a callback that is not genuine gets the same answer whatever is wrong with it.

    Args:
        lazy: the service.
    """

    def __init__(self, lazy: LazyService) -> None:
        self._lazy = lazy
        self._arriving = 0

    async def answer(self, request: Request) -> Response:
        # Nobody is to send on what is not read.
        closing = {"Connection": "close"}
        provider, token = request.path_params["provider"], request.path_params["token"]
        try:
            service = await self._lazy.get()
            if not service.may_call_back(provider, token):
                return refusal(404, _UNKNOWN, closing)
            if int(request.headers.get("content-length", 0)) > MAX_BYTES:
                return refusal(413, _TOO_LARGE, closing)
            if self._arriving >= AT_ONCE:
                return refusal(503, _TOO_MANY, {**closing, "Retry-After": "5"})
            self._arriving += 1
            try:
                with anyio.fail_after(SECONDS):
                    body = await _read(request, MAX_BYTES)
            finally:
                self._arriving -= 1
            if body is None:
                return refusal(413, _TOO_LARGE, closing)
            taken = await service.handle_callback(provider, token, request.headers, body)
        except TimeoutError:
            return refusal(408, _TOO_SLOW, closing)
        except (ClientDisconnect, OutpaintError):
            return refusal(404, _UNKNOWN, closing)
        return PlainTextResponse("ok") if taken else refusal(404, _UNKNOWN, closing)


async def _read(request: Request, most: int) -> bytes | None:
    """The body of a request; None if it has more bytes than that."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            return None
    return bytes(body)
