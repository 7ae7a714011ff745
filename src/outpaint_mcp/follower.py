"""Advances every task when it is due: the only polling loop. Knows when, not what."""

import contextlib
import heapq
import logging
from collections.abc import AsyncIterator

import anyio

from outpaint_mcp.clock import Clock, SystemClock
from outpaint_mcp.errors import OutpaintError
from outpaint_mcp.service import Service
from outpaint_mcp.store import LEASE_SECONDS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often it looks for what other processes changed."""
TIDY_SECONDS = 6 * 3600.0
"""How often old pictures are deleted."""
AT_ONCE = 64
"""How many tasks are advanced at the same time."""


class Follower:
    """Keeps a service's tasks moving while it runs.

    Args:
        service: whose tasks; its `schedule` is set to this follower's.
        clock: when it is.
    """

    def __init__(self, service: Service, *, clock: Clock | None = None) -> None:
        self._service = service
        self._clock = clock or SystemClock()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._woken = anyio.Event()
        self._places = anyio.CapacityLimiter(AT_ONCE)
        service.schedule = self.schedule

    def schedule(self, task_id: str, due_at: float) -> None:
        """Have a task advanced at `due_at`, in seconds since the epoch, or earlier if that was agreed before."""
        if due_at >= self._due.get(task_id, float("inf")):
            return
        self._due[task_id] = due_at
        heapq.heappush(self._heap, (due_at, task_id))
        self._woken.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            yield
            tasks.cancel_scope.cancel()

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stay_alive)
            tasks.start_soon(self._look_around)
            tasks.start_soon(self._tidy)
            while True:
                self._woken = anyio.Event()
                now = self._clock.now()
                while self._heap and self._heap[0][0] <= now:
                    due_at, task_id = heapq.heappop(self._heap)
                    if self._due.get(task_id) == due_at and task_id not in self._busy:
                        self._busy.add(task_id)
                        await self._places.acquire_on_behalf_of(task_id)
                        tasks.start_soon(self._advance, task_id)
                await self._pause(None if not self._heap else self._heap[0][0] - now)

    async def _advance(self, task_id: str) -> None:
        del self._due[task_id]
        due_at: float | None = None
        try:
            due_at = await self._service.advance(task_id)
        except OutpaintError as error:
            # The store: nothing was asked or changed, so the same again in a moment.
            logger.error("%s could not be advanced: %s", task_id, error)
            due_at = self._clock.now() + LEASE_SECONDS
        except Exception:
            logger.exception("advancing %s failed", task_id)
            due_at = self._clock.now() + 6 * LEASE_SECONDS
        finally:
            self._busy.discard(task_id)
            self._places.release_on_behalf_of(task_id)
        asked_meanwhile = self._due.pop(task_id, None)
        times = [time for time in (due_at, asked_meanwhile) if time is not None]
        if times:
            self.schedule(task_id, min(times))

    async def _pause(self, seconds: float | None) -> None:
        """Until something is scheduled, or for `seconds`."""
        async with anyio.create_task_group() as either:

            async def sleep() -> None:
                if seconds is not None:
                    await self._clock.sleep(max(0.0, seconds))
                    either.cancel_scope.cancel()

            either.start_soon(sleep)
            await self._woken.wait()
            either.cancel_scope.cancel()

    async def _stay_alive(self) -> None:
        """Renew this process's lease and take over the tasks of processes that are gone."""
        while True:
            try:
                for task_id, due_at in await self._service.renew():
                    self.schedule(task_id, due_at)
            except OutpaintError as error:
                logger.error("the store cannot be used: %s", error)
            await self._clock.sleep(LEASE_SECONDS / 3)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._service.tidy()
            except (OutpaintError, OSError) as error:
                logger.warning("old pictures could not be deleted: %s", error)
            await self._clock.sleep(TIDY_SECONDS)

    async def _look_around(self) -> None:
        while True:
            with contextlib.suppress(OutpaintError):
                await self._service.look_around()
            await self._clock.sleep(LOOK_SECONDS)
