"""Rate limits per client: requests per minute, and calls that wait at the same time. Knows neither MCP nor HTTP.

Written here rather than taken from a library, since it takes one number per client and an addition.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from outpaint_mcp.domain.errors import RateLimitedError

FORGET_AT = 10_000
"""From how many clients on those that have used none of their limit are forgotten."""


class RateLimits:
    """Counts each client's requests and waiting calls.

    Args:
        requests_per_minute: how many requests a client may make in a minute, also all at once. None: no limit.
        waits: how many calls of one client may wait at the same time. None: no limit.
        seconds: a monotonic clock.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        waits: int | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = requests_per_minute
        self._waits = waits
        self._seconds = seconds
        # When each client's limit will be unused again (the generic cell rate algorithm).
        self._free_at: dict[str, float] = {}
        self._waiting: dict[str, int] = {}

    def count(self, client: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the client has made too many; this one was not counted.
        """
        if self._per_minute is None:
            return
        now = self._seconds()
        each = 60 / self._per_minute
        free_at = max(now, self._free_at.get(client, now)) + each
        # A tolerance of a thousandth of a request, for rounding errors.
        if free_at - now > 60 + each / 1000:
            wait = free_at - now - 60
            raise RateLimitedError(
                f"More than {self._per_minute} requests came from you within a minute.",
                f"Nothing was done. Call again in {max(1, round(wait + 0.5))} s.",
                retry_after=wait,
            )
        self._free_at[client] = free_at
        if len(self._free_at) > FORGET_AT:
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}

    @contextlib.contextmanager
    def waiting(self, client: str) -> Iterator[None]:
        """Count one waiting call of the client while the block lasts.

        Raises:
            RateLimitedError: the client has as many waiting calls as it may.
        """
        waiting = self._waiting.get(client, 0)
        if self._waits is not None and waiting >= self._waits:
            raise RateLimitedError(
                f"{waiting} of your calls are waiting already.",
                "Nothing was done. Call with wait_seconds=0, or when another call has returned.",
            )
        self._waiting[client] = waiting + 1
        try:
            yield
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
