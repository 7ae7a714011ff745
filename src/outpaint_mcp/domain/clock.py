"""The clock that is passed in: what time it is, and sleeping. Tests pass one that they move themselves."""

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, for what is stored. Somebody may set it, forwards and back."""
        ...

    def monotonic(self) -> float:
        """Seconds since any moment, for how long something lasts in this process. Nobody sets it."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
