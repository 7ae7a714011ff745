"""What is due, for whoever keeps tasks moving: taking it, advancing it, and hearing of what other processes do."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.record import DueTask
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.lifecycle import TaskLifecycle

logger = logging.getLogger(__name__)

ASKED_AT_ONCE: Final = 500
"""Of how many tasks the store is asked in one query."""


class DueTasks:
    """The open tasks of a service.

    Args:
        ledger: where tasks are written down.
        lifecycle: advances them.
        providers: by name.
        events: where changes are published.
    """

    def __init__(
        self, *, ledger: Ledger, lifecycle: TaskLifecycle, providers: Mapping[str, Provider], events: TaskEvents
    ) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._clock = ledger.clock
        self._lifecycle = lifecycle
        self._providers = providers
        self._events = events
        self._seen: dict[str, TaskEvent] = {}
        self._missing: set[str] = set()
        self._to_look_at = float("inf")

    @property
    def batch_seconds(self) -> float:
        """As `Store.batch_seconds`."""
        return self._store.batch_seconds

    @property
    def neglected_seconds(self) -> float:
        """For how long it has been time to look for due tasks, and nobody did."""
        return max(0.0, self._clock.monotonic() - self._to_look_at)

    async def take(self, room: Callable[[str], int]) -> tuple[list[DueTask], float | None]:
        """Claim the tasks that are due, of each provider as many as there is `room` for.

        Returns:
            The tasks, and when the next one is due of those for which there was room, in seconds since the epoch.
        """

        def room_here(provider: str) -> int:
            if provider in self._providers:
                return room(provider)
            if provider not in self._missing:
                self._missing.add(provider)
                logger.warning("there are open tasks of the provider %s, which is not installed", provider)
            return 0

        self._to_look_at = min(self._to_look_at, self._clock.monotonic())
        now = self._clock.now()
        taken, next_at = await self._store.take_due(room_here, now=now)
        self._to_look_at = float("inf") if next_at is None else self._clock.monotonic() + next_at - now
        return taken, next_at

    async def advance(self, due: DueTask) -> None:
        """Do the next thing for a task that was taken."""
        await self._lifecycle.advance_due(due)

    async def hold(self) -> None:
        """Say that this process is still at work on the tasks that it has taken."""
        await self._store.hold(now=self._clock.now())

    async def wake_all(self) -> None:
        """Have every open task advanced now, since the clock was set."""
        await self._store.wake_all(now=self._clock.now())

    async def look_around(self) -> bool:
        """Wait until other processes may have changed tasks, and publish how those stand that somebody watches here.

        What this process holds of those that are over is let go.

        Returns:
            Whether it may be any task, also one that is due.
        """
        changed = await self._store.heard(self._clock)
        watched = self._events.watched
        self._seen = {task_id: seen for task_id, seen in self._seen.items() if task_id in watched}
        asked = {task_id for task_id in watched if changed is None or task_id in changed}
        at_rest = set() if changed is None else set(self._ledger.at_rest(changed))
        for event in await self._store.events(asked | at_rest) if asked or at_rest else ():
            if event.task_id in at_rest:
                self._ledger.forget_if_over(event)
            if event.task_id in asked and self._seen.get(event.task_id) != event:
                self._seen[event.task_id] = event
                self._events.publish(event)
        return changed is None

    async def forget_over(self) -> None:
        """Let go of what this process holds of tasks that are over, though nobody may have told that they are."""
        ids = list(self._ledger.flights())
        for first in range(0, len(ids), ASKED_AT_ONCE):
            if at_rest := self._ledger.at_rest(ids[first : first + ASKED_AT_ONCE]):
                for event in await self._store.events(at_rest):
                    self._ledger.forget_if_over(event)
