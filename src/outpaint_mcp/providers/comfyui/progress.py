"""How far ComfyUI is with an order, in steps of its samplers: heard on a WebSocket while the order runs.

Polling does without: whatever goes wrong here, an order only shows no percentage.
"""

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.abc

from outpaint_mcp.images.fetch import trusted_authorities

logger = logging.getLogger(__name__)

OPEN_SECONDS: Final = 5.0
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Of a message; previews are among them, which nobody looks at."""
ALMOST: Final = 99.0
"""Percent: after the last step the image is still to be decoded and saved."""


class Progress:
    """Listens to the orders that run, inside `running`."""

    def __init__(self) -> None:
        self._tasks: anyio.abc.TaskGroup | None = None
        self._following: dict[str, anyio.CancelScope] = {}
        self._shares: dict[str, dict[str, float]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()
        self._tasks = None

    def percent(self, prompt_id: str, samplers: int) -> float | None:
        """How far an order is of which so many samplers run; None while nothing was heard."""
        shares = self._shares.get(prompt_id)
        if not shares:
            return None
        return min(100 * sum(shares.values()) / max(samplers, len(shares)), ALMOST)

    def follow(self, prompt_id: str, base_url: str, headers: Mapping[str, str], *, is_near: bool) -> None:
        """Listen to an order until it ends; it was sent with its own id as the client's."""
        if self._tasks is not None and prompt_id not in self._following:
            self._following[prompt_id] = anyio.CancelScope()
            self._tasks.start_soon(self._listen, prompt_id, base_url, headers, is_near)

    def leave(self, prompt_id: str) -> None:
        """Listen no longer: the order has ended."""
        self._shares.pop(prompt_id, None)
        if (scope := self._following.pop(prompt_id, None)) is not None:
            scope.cancel()

    async def _listen(self, prompt_id: str, base_url: str, headers: Mapping[str, str], is_near: bool) -> None:
        # Imported when an engine runs something, not by every server.
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        parts = urlsplit(base_url)
        scheme, query = parts.scheme.replace("http", "ws"), f"clientId={prompt_id}"
        url = urlunsplit((scheme, parts.netloc, f"{parts.path}/ws", query, ""))
        with self._following[prompt_id]:
            try:
                async with connect(
                    url,
                    additional_headers=dict(headers),
                    open_timeout=OPEN_SECONDS,
                    max_size=MAX_MESSAGE_BYTES,
                    ssl=trusted_authorities() if parts.scheme == "https" else None,
                    proxy=None if is_near else True,
                    logger=_quiet,
                ) as socket:
                    async for message in socket:
                        if isinstance(message, str):
                            self._hear(prompt_id, message)
            except (OSError, TimeoutError, WebSocketException, ValueError) as error:
                logger.debug("no progress of %s: %s", prompt_id, type(error).__name__)

    def _hear(self, prompt_id: str, message: str) -> None:
        try:
            told = json.loads(message)
        except (ValueError, RecursionError):
            return
        match told:
            case {
                "type": "progress",
                "data": {"prompt_id": str(about), "node": str(node), "value": int() | float() as value, "max": most},
            } if about == prompt_id and isinstance(most, int | float) and most > 0:
                self._shares.setdefault(prompt_id, {})[node] = min(max(value / most, 0.0), 1.0)


_quiet: Final = logging.getLogger(f"{__name__}.websockets")
_quiet.setLevel(logging.WARNING)
"""What the library logs holds whole URLs and headers."""
