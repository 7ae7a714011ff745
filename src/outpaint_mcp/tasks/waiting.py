"""Calls that wait: until a task changes, until their time is up or the service stops, reporting progress meanwhile."""

import contextlib
import logging
import weakref
from collections.abc import Awaitable, Iterator
from typing import Final, TypeVar

import anyio

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.task import OnProgress

T = TypeVar("T")

logger = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 4.0
"""How often a waiting call reports progress at the least (SPEC: every 5 s)."""


class _Change:
    """The next change of a task; alive as long as somebody waits for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()


class Waits:
    """The calls that are being answered, and what they wait for.

    Args:
        events: tells of changes.
        clock: when it is.

    `stopping` says that nobody is to wait any more, `calls` how many calls are being answered.
    """

    def __init__(self, events: TaskEvents, clock: Clock) -> None:
        self._clock = clock
        self._changes: weakref.WeakValueDictionary[str, _Change] = weakref.WeakValueDictionary()
        self._scopes: dict[anyio.CancelScope, float] = {}
        self._idle = anyio.Event()
        self.stopping = False
        self.calls = 0
        events.subscribe(self._hear)

    def _hear(self, event: TaskEvent) -> None:
        if (change := self._changes.pop(event.task_id, None)) is not None:
            change.event.set()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A block during which a call is being answered."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            if not self.calls and self.stopping:
                self._idle.set()

    async def stop(self, seconds: float) -> None:
        """Have everybody return who waits; returns when all have, after `seconds` at the latest."""
        self.stopping = True
        for scope, grace in self._scopes.items():
            scope.deadline = anyio.current_time() + grace
        with anyio.move_on_after(seconds):
            if self.calls:
                await self._idle.wait()

    @contextlib.contextmanager
    def until_stopped(self, *, grace: float = 0.0) -> Iterator[None]:
        """A block that is left, whatever it waits for, `grace` seconds after the service began to stop."""
        with anyio.CancelScope() as scope:
            self._scopes[scope] = grace
            if self.stopping:
                scope.deadline = anyio.current_time() + grace
            try:
                yield
            finally:
                del self._scopes[scope]

    def next_change(self, task_id: str) -> _Change:
        """What `until_changed` waits for; to be asked for before the task is read, so that no change is missed."""
        return self._changes.setdefault(task_id, _Change())

    async def until_changed(self, change: _Change, seconds: float) -> None:
        """Until the change, for `seconds` by the service's clock at the most, or until the service stops."""
        with self.until_stopped():
            async with anyio.create_task_group() as either:

                async def sleep() -> None:
                    await self._clock.sleep(seconds)
                    either.cancel_scope.cancel()

                either.start_soon(sleep)
                await change.event.wait()
                either.cancel_scope.cancel()


class Progress:
    """What one call tells of its progress: ever more, and at least every `PROGRESS_SECONDS`."""

    def __init__(self, on_progress: OnProgress | None, clock: Clock) -> None:
        self._on_progress = on_progress
        self._clock = clock
        self._shown = 0.0

    async def report(self, percent: float, message: str) -> None:
        if self._on_progress is None:
            return
        percent = min(percent, 99.0)
        if percent <= self._shown:
            # Hosts want it rising; a little more says that it is alive.
            percent = self._shown + (100 - self._shown) * 0.02
        self._shown = percent
        try:
            await self._on_progress(percent, message)
        except Exception:
            # Who cannot be told still gets the result, which may have been paid for.
            logger.warning("progress cannot be reported", exc_info=True)
            self._on_progress = None

    async def during(self, work: Awaitable[T], message: str) -> T:
        """Wait for `work`, and say so meanwhile."""
        if self._on_progress is None:
            return await work
        outcome: list[T] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as both:
            # A scope of its own: anyio keeps the frames of a task that a group cancels until garbage is collected.
            telling = anyio.CancelScope()
            both.start_soon(self._tell, message, telling)
            try:
                outcome.append(await work)
            except Exception as error:
                # Carried out of the task group by hand, which would wrap it.
                failure = error
            telling.cancel()
        if failure is None:
            return outcome[0]
        try:
            raise failure
        finally:
            # Else this frame and the error hold each other, and all that the request brought.
            del failure

    async def _tell(self, message: str, until: anyio.CancelScope) -> None:
        with until:
            while True:
                await self._clock.sleep(PROGRESS_SECONDS)
                await self.report(0, message)
