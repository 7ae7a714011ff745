"""How much one client may ask at once. Knows neither MCP nor HTTP.

Written here rather than taken from a library: what is needed is one number per client and an addition.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from outpaint_mcp.domain.errors import RateLimitedError

FORGET_AT = 10_000
"""With how many clients those that have been quiet are forgotten."""


class RateLimits:
    """Counts what each client asks.

    Args:
        requests_per_minute: how many requests a client may make in a minute; as many may come at once. None: any.
        waits: how many calls of one client may wait at the same time. None: any.
        seconds: a clock that only runs forward.
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
        # When each client will have made up for what it has asked (the generic cell rate algorithm).
        self._free_at: dict[str, float] = {}
        self._waiting: dict[str, int] = {}

    def count(self, client: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the client has made too many; it was not counted.
        """
        if self._per_minute is None:
            return
        now = self._seconds()
        each = 60 / self._per_minute
        free_at = max(now, self._free_at.get(client, now)) + each
        # A thousandth of one forgives what adding fractions leaves over.
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
        """A block during which one call of the client waits.

        Raises:
            RateLimitedError: as many as may already do.
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
