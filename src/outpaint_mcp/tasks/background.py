"""Work that outlives the call that began it: a call waits as long as it may, and the same call again joins it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import anyio
import anyio.abc

from outpaint_mcp.domain.errors import NotReadyError, OutpaintError, RateLimitedError
from outpaint_mcp.domain.holding import holding

T = TypeVar("T")

KEPT_SECONDS: Final = 300.0
"""How long an outcome is kept for the same call again."""
MOST_OF_A_CLIENT: Final = 100
"""How much work of one client may go on at a time, so that short calls cannot pile it up."""


class _Work:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.taken = anyio.Event()
        self.result: Any = None
        self.failure: Exception | None = None


class Background:
    """Work by client and key; it goes on whether or not somebody waits for it."""

    def __init__(self) -> None:
        self._work: dict[tuple[str, str], _Work] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What is not done at the end of the block is given up."""
        async with anyio.create_task_group() as self._tasks:
            try:
                yield
            finally:
                self._tasks.cancel_scope.cancel()
                self._tasks = None

    async def within(self, seconds: float, work: Callable[[], Awaitable[T]], *, client: str, key: str, what: str) -> T:
        """The outcome of `work`, begun now unless it goes on already under the same key.

        Args:
            seconds: how long to wait for it.
            work: what to do.
            client: for whom.
            key: what it is; the same key of the same client stands for the same work.
            what: what takes so long, for the refusal: a sentence's beginning.

        Raises:
            NotReadyError: it takes longer.
            RateLimitedError: the client has too much under way.
            OutpaintError: what the work raises.
        """
        found = self._work.get((client, key)) or self._begin(client, key, work)
        with anyio.move_on_after(seconds):
            await found.done.wait()
        if not found.done.is_set():
            raise NotReadyError(
                f"{what} takes longer than this call may wait.",
                "Make the same call again, its arguments unchanged: the work goes on, and nothing is paid twice.",
            )
        found.taken.set()
        self._forget((client, key), found)
        failure, result = found.failure, found.result
        if failure is None:
            return cast("T", result)
        try:
            # Without the frames of those who were told before.
            raise failure.with_traceback(None)
        finally:
            # Else this frame and the error hold each other, and all that the request brought.
            del found, failure

    def _begin(self, client: str, key: str, work: Callable[[], Awaitable[Any]]) -> _Work:
        if self._tasks is None:
            raise RuntimeError("the service takes orders only inside running()")
        under_way = sum(1 for (whose, _), one in self._work.items() if whose == client and not one.done.is_set())
        if under_way >= MOST_OF_A_CLIENT:
            raise RateLimitedError(
                f"{under_way} of your calls are still at work.", "Nothing was done. Repeat one of them, or call later."
            )
        found = self._work[client, key] = _Work()
        self._tasks.start_soon(self._run, (client, key), found, work)
        return found

    async def _run(self, place: tuple[str, str], found: _Work, work: Callable[[], Awaitable[Any]]) -> None:
        # What those get who wait when it is given up.
        found.failure = NotReadyError("The server is stopping.", "Make the same call again in a minute.")
        try:
            with holding():
                found.result = await work()
            found.failure = None
        except OutpaintError as error:
            # Without its frames, which hold the request.
            found.failure = error.with_traceback(None)
        except Exception as error:
            found.failure = error
        finally:
            found.done.set()
        with anyio.move_on_after(KEPT_SECONDS):
            await found.taken.wait()
        self._forget(place, found)

    def _forget(self, place: tuple[str, str], found: _Work) -> None:
        if self._work.get(place) is found:
            del self._work[place]
