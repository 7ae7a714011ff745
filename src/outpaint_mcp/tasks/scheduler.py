"""Advances every task when it is due: the only polling loop. It knows when, not what."""

import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.events import Observer, TaskEvent, TaskEvents
from outpaint_mcp.domain.record import CLAIM_SECONDS, DueTask
from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 0.5
"""When it looks again for what other processes changed, after the store could not be used."""
HOLD_SECONDS = CLAIM_SECONDS / 5
"""How often it says what it is still at work on."""
FORGET_SECONDS = 60.0
"""How often it lets go of what it holds of tasks that other processes have finished, whether or not that was told."""
TIDY_SECONDS = 6 * 3600.0
"""How often old images are deleted."""
OWED_SECONDS = 5.0
"""How often images are put into the bucket that it did not take before."""
AT_ONCE = 64
"""How many tasks of one provider are advanced at the same time: one that hangs holds up nobody else's."""
TICK_SECONDS = 0.02
MOST_TICKS = 5
"""How long it sleeps at least, and how many times longer where many tasks are due: what falls due one after another is
taken together, and what was asked for in vain is written down together. It sleeps longer (`Store.batch_seconds`) unless
somebody says that a task is due, or all are taken for which there is room."""
SET_SECONDS = 1.0
"""By how much the clock is set at least when it is set; less is drift, or somebody keeping it right."""


class _Lane:
    """The tasks of one provider that were taken, and the workers that advance them.

    Workers are kept, since starting one takes longer than a task of which there is nothing new.
    """

    def __init__(self) -> None:
        self.due: deque[DueTask] = deque()
        self.ready = anyio.Semaphore(0, fast_acquire=True)
        self.workers = 0
        self.idle = 0

    @property
    def room(self) -> int:
        """How many more tasks can be begun at once."""
        return AT_ONCE - (self.workers - self.idle) - len(self.due)


class Scheduler:
    """Keeps a service's tasks moving while it runs.

    Args:
        service: whose tasks.
        events: tells when tasks are due.
        clock: when it is.
        observer: told how late each task is advanced.
        polls: whether it advances tasks; else it says only what this process is at work on, and hears of changes.
    """

    def __init__(
        self,
        service: Service,
        events: TaskEvents,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        polls: bool = True,
    ) -> None:
        self._service = service
        self._polls = polls
        self._clock = clock or SystemClock()
        self._observer = observer or Observer()
        self._lanes = defaultdict[str, _Lane](_Lane)
        # On the monotonic clock: when it looks next, and until when it leaves what workers have done.
        self._looks_at = self._batch_ends_at = 0.0
        self._has_worked = False
        self._sooner = anyio.Event()
        self._events = events

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        unsubscribe = self._events.subscribe(self._hear)
        try:
            async with anyio.create_task_group() as tasks:
                # Who watches a task from its first call on hears of what is written after that: the first look, from
                # which on changes are told, comes before.
                with contextlib.suppress(OutpaintError):
                    await self._service.due_tasks.look_around()
                tasks.start_soon(self._run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            unsubscribe()

    def _hear(self, event: TaskEvent) -> None:
        if event.due_at is not None:
            self._look_in(event.due_at - self._clock.now())

    def _look_in(self, seconds: float) -> None:
        """Look for due tasks in so many seconds, if not sooner."""
        at = self._clock.monotonic() + seconds
        if at < self._looks_at:
            self._looks_at = at
            self._sooner.set()

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hold)
            tasks.start_soon(self._look_around)
            tasks.start_soon(self._forget)
            tasks.start_soon(self._tidy)
            tasks.start_soon(self._put_owed)
            if not self._polls:
                return
            set_ahead = self._clock.now() - self._clock.monotonic()
            while True:
                try:
                    ahead = self._clock.now() - self._clock.monotonic()
                    if abs(ahead - set_ahead) > SET_SECONDS:
                        await self._service.due_tasks.wake_all()
                        set_ahead = ahead
                    # Who has something to say from here on is heard in the next round.
                    self._looks_at = self._batch_ends_at = float("inf")
                    self._has_worked = False
                    taken, next_at = await self._service.due_tasks.take(lambda provider: self._lanes[provider].room)
                except OutpaintError as error:
                    logger.error("the store cannot be used: %s", error)
                    await self._clock.sleep(CLAIM_SECONDS / 3)
                    continue
                for due in taken:
                    lane = self._lanes[due.provider]
                    lane.due.append(due)
                    lane.ready.release()
                    if lane.idle < len(lane.due) and lane.workers < AT_ONCE:
                        lane.workers += 1
                        lane.idle += 1
                        tasks.start_soon(self._work, lane)
                await self._pause(taken, next_at)

    async def _work(self, lane: _Lane) -> None:
        """Advance a lane's tasks, one after another."""
        while True:
            await lane.ready.acquire()
            lane.idle -= 1
            due = lane.due.popleft()
            self._observer.advanced_late(max(0.0, self._clock.now() - due.due_at))
            try:
                await self._service.due_tasks.advance(due)
            except OutpaintError as error:
                # The store: nothing was changed, so the same again in a moment.
                logger.error("%s could not be advanced: %s", due.task_id, error)
            except Exception:
                logger.exception("advancing %s failed", due.task_id)
            lane.idle += 1
            # There is room again, and maybe something to be written down.
            self._has_worked = True
            self._look_in(self._batch_ends_at - self._clock.monotonic())

    async def _pause(self, taken: list[DueTask], next_at: float | None) -> None:
        """Until a task is due, at `next_at` or as somebody says."""
        many = (1 + len(taken)) * TICK_SECONDS
        batch = least = min(many, MOST_TICKS * TICK_SECONDS)
        if all(self._lanes[due.provider].room > 0 for due in taken):
            batch = max(least, min(many, self._service.due_tasks.batch_seconds))
        self._batch_ends_at = self._clock.monotonic() + batch
        if next_at is not None:
            self._look_in(max(next_at - self._clock.now(), batch))
        if self._has_worked:
            self._look_in(batch)
        await self._clock.sleep(least)
        while (seconds := self._looks_at - self._clock.monotonic()) > 0:
            self._sooner = anyio.Event()
            async with anyio.create_task_group() as either:

                async def sleep(seconds: float) -> None:
                    await self._clock.sleep(seconds)
                    either.cancel_scope.cancel()

                if seconds < float("inf"):
                    either.start_soon(sleep, seconds)
                await self._sooner.wait()
                either.cancel_scope.cancel()

    async def _hold(self) -> None:
        while True:
            await self._clock.sleep(HOLD_SECONDS)
            try:
                await self._service.due_tasks.hold()
            except OutpaintError as error:
                logger.error("the store cannot be used: %s", error)

    async def _forget(self) -> None:
        while True:
            await self._clock.sleep(FORGET_SECONDS)
            try:
                await self._service.due_tasks.forget_over()
            except OutpaintError as error:
                logger.error("the store cannot be used: %s", error)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._service.tidy()
            except (OutpaintError, OSError) as error:
                logger.warning("old images could not be deleted: %s", error)
            await self._clock.sleep(TIDY_SECONDS)

    async def _put_owed(self) -> None:
        while True:
            try:
                await self._service.put_owed()
            except OSError as error:
                logger.warning("images could not be put into the bucket: %s", error)
            await self._clock.sleep(OWED_SECONDS)

    async def _look_around(self) -> None:
        while True:
            try:
                if await self._service.due_tasks.look_around():
                    # Another process may have left a task, or woken one.
                    self._look_in(0.0)
            except OutpaintError:
                await self._clock.sleep(AGAIN_SECONDS)
