"""The clock that is passed in: what time it is, and sleeping. Tests pass one that they move themselves."""

import functools
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import anyio

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Uptime:
    """A moment on a clock that nobody sets: the seconds since a machine's boot, of this id.

    Two moments of one boot tell how long it is from one to the other; those of two boots tell nothing.
    """

    boot: str
    seconds: float


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, for what is stored. Somebody may set it, forwards and back."""
        ...

    def monotonic(self) -> float:
        """Seconds since any moment, for how long something lasts in this process. Nobody sets it."""
        ...

    def uptime(self) -> Uptime:
        """The same for all processes of this machine until it is booted again, and going on while it sleeps.

        Where the system names no boot, each process has an id of its own.
        """
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def uptime(self) -> Uptime:
        # Linux alone has the pair; a sleep of the machine is left out by most other clocks.
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        if boottime is None or (boot := _boot_id()) is None:
            return Uptime(_process_id(), time.monotonic())
        return Uptime(boot, time.clock_gettime(boottime))

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


@functools.cache
def _boot_id() -> str | None:
    """The kernel's id of this boot: https://man7.org/linux/man-pages/man4/random.4.html."""
    try:
        return BOOT_ID.read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


@functools.cache
def _process_id() -> str:
    return f"process-{secrets.token_hex(16)}"
