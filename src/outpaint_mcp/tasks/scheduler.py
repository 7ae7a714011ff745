"""Advances every task when it is due: the only polling loop. It knows when, not what."""

import contextlib
import heapq
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.events import Observer, TaskEvent, TaskEvents
from outpaint_mcp.domain.record import LEASE_SECONDS
from outpaint_mcp.tasks.lifecycle import LATE_POLL_SECONDS
from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often it looks for what other processes changed."""
TIDY_SECONDS = 6 * 3600.0
"""How often old images are deleted."""
AT_ONCE = 64
"""How many tasks of one provider are advanced at the same time: one that hangs holds up nobody else's."""
TICK_SECONDS = 0.01
"""How long it sleeps at least: tasks that fall due one after another are begun together."""


class _Lane:
    """The tasks of one provider that are due, and the workers that advance them.

    Workers are kept, since starting one takes longer than a task of which there is nothing new.
    """

    def __init__(self) -> None:
        self.due: deque[tuple[str, float]] = deque()
        self.ready = anyio.Semaphore(0, fast_acquire=True)
        self.workers = 0
        self.idle = 0


class Scheduler:
    """Keeps a service's tasks moving while it runs.

    Args:
        service: whose tasks.
        events: tells when tasks are due.
        clock: when it is.
        observer: told how late each task is advanced.
    """

    def __init__(
        self, service: Service, events: TaskEvents, *, clock: Clock | None = None, observer: Observer | None = None
    ) -> None:
        self._service = service
        self._clock = clock or SystemClock()
        self._observer = observer or Observer()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str, str]] = []
        self._lanes = defaultdict[str, _Lane](_Lane)
        self._busy: set[str] = set()
        self._wakes_at = 0.0
        self._woken = anyio.Event()
        self._events = events

    def schedule(self, task_id: str, due_at: float, provider: str) -> None:
        """Have a task advanced.

        Args:
            task_id: which.
            due_at: when, in seconds since the epoch; an earlier time that was agreed before stays.
            provider: whose it is.
        """
        # No task is due later than that; the clock may have been set since the time was agreed.
        seconds = min(due_at - self._clock.now(), LATE_POLL_SECONDS)
        self._agree(task_id, self._clock.monotonic() + seconds, provider)

    def _agree(self, task_id: str, due_at: float, provider: str) -> None:
        """The same by the monotonic clock, as are all times here: the other one may be set back."""
        if due_at >= self._due.get(task_id, float("inf")):
            return
        self._due[task_id] = due_at
        if len(self._heap) > 100 + 2 * len(self._due):
            self._heap = [entry for entry in self._heap if self._due.get(entry[1]) == entry[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due_at, task_id, provider))
        if due_at < self._wakes_at:
            self._woken.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        unsubscribe = self._events.subscribe(self._hear)
        try:
            async with anyio.create_task_group() as tasks:
                # Who watches a task from its first call on hears of what is written after that: the first look, from
                # which on changes are told, comes before.
                with contextlib.suppress(OutpaintError):
                    await self._service.look_around()
                tasks.start_soon(self._run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            unsubscribe()

    def _hear(self, event: TaskEvent) -> None:
        if event.due_at is not None:
            self.schedule(event.task_id, event.due_at, event.provider)

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stay_alive)
            tasks.start_soon(self._look_around)
            tasks.start_soon(self._tidy)
            while True:
                now = self._clock.monotonic()
                while self._heap and self._heap[0][0] <= now:
                    due_at, task_id, provider = heapq.heappop(self._heap)
                    # Another entry has taken its place, or the task is being advanced and looked at again after that.
                    if self._due.get(task_id) != due_at or task_id in self._busy:
                        continue
                    self._busy.add(task_id)
                    lane = self._lanes[provider]
                    lane.due.append((task_id, due_at))
                    lane.ready.release()
                    if lane.idle < len(lane.due) and lane.workers < AT_ONCE:
                        lane.workers += 1
                        lane.idle += 1
                        tasks.start_soon(self._work, lane, provider)
                await self._pause()

    async def _work(self, lane: _Lane, provider: str) -> None:
        """Advance a lane's tasks, one after another."""
        while True:
            await lane.ready.acquire()
            lane.idle -= 1
            task_id, due_at = lane.due.popleft()
            self._observer.advanced_late(self._clock.monotonic() - due_at)
            del self._due[task_id]
            next_at = await self._advance(task_id)
            asked_meanwhile = self._due.pop(task_id, None)
            self._busy.discard(task_id)
            if asked_meanwhile is not None:
                self._agree(task_id, asked_meanwhile, provider)
            if next_at is not None:
                self.schedule(task_id, next_at, provider)
            lane.idle += 1

    async def _advance(self, task_id: str) -> float | None:
        try:
            return await self._service.advance(task_id)
        except OutpaintError as error:
            # The store: nothing was asked or changed, so the same again in a moment.
            logger.error("%s could not be advanced: %s", task_id, error)
            return self._clock.now() + LEASE_SECONDS
        except Exception:
            logger.exception("advancing %s failed", task_id)
            return self._clock.now() + 6 * LEASE_SECONDS

    async def _pause(self) -> None:
        """Until a task is due."""
        wakes_at = self._heap[0][0] if self._heap else float("inf")
        seconds = wakes_at - self._clock.monotonic()
        if seconds <= TICK_SECONDS:
            # Nothing can be due before. Where thousands of tasks are open it is nearly always so.
            await self._clock.sleep(TICK_SECONDS)
            return
        self._woken, self._wakes_at = anyio.Event(), wakes_at
        async with anyio.create_task_group() as either:

            async def sleep() -> None:
                await self._clock.sleep(seconds)
                either.cancel_scope.cancel()

            if seconds < float("inf"):
                either.start_soon(sleep)
            await self._woken.wait()
            either.cancel_scope.cancel()

    async def _stay_alive(self) -> None:
        """Renew this process's lease and take over the tasks of processes that are gone."""
        while True:
            try:
                for task_id, due_at, provider in await self._service.renew():
                    self.schedule(task_id, due_at, provider)
            except OutpaintError as error:
                logger.error("the store cannot be used: %s", error)
            await self._clock.sleep(LEASE_SECONDS / 3)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._service.tidy()
            except (OutpaintError, OSError) as error:
                logger.warning("old images could not be deleted: %s", error)
            await self._clock.sleep(TIDY_SECONDS)

    async def _look_around(self) -> None:
        while True:
            with contextlib.suppress(OutpaintError):
                await self._service.look_around()
            await self._clock.sleep(LOOK_SECONDS)
