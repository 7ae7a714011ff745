"""Writes tasks down: the store, what this process holds of them in memory, and the events that tell of every change."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.record import LATEST_SECONDS, LastAnswer, Record
from outpaint_mcp.domain.task import StoredImage
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.in_flight import InFlight
from outpaint_mcp.tasks.transitions import with_copies

logger = logging.getLogger(__name__)


class Ledger:
    """What sending and polling write into.

    Args:
        store: where tasks are kept.
        events: where every change is published.
        clock: when it is.

    `claims_lost` counts the tasks that another process took over while this one was at work on them.
    """

    def __init__(self, store: Store, events: TaskEvents, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._events = events
        self._in_flight: dict[str, InFlight] = {}
        self.claims_lost = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def flight(self, task_id: str) -> InFlight:
        """What this process holds of a task; begun if it holds nothing yet."""
        return self._in_flight.setdefault(task_id, InFlight())

    def known_flight(self, task_id: str) -> InFlight | None:
        """What this process holds of a task, if anything."""
        return self._in_flight.get(task_id)

    def flights(self) -> dict[str, InFlight]:
        """What this process holds, by task."""
        return dict(self._in_flight)

    def at_rest(self, ids: Iterable[str]) -> list[str]:
        """Those of these tasks of which this process holds something, though it is at work on none of them."""
        flights = ((task_id, self.known_flight(task_id)) for task_id in ids)
        return [
            task_id
            for task_id, flight in flights
            if flight is not None and flight.placing is None and not self.store.is_held(task_id)
        ]

    def forget_if_over(self, event: TaskEvent) -> None:
        """Let go of what orders are sent with, if none of this task will be sent any more."""
        flight = self.known_flight(event.task_id)
        if flight is not None and (event.status.is_final or event.is_over):
            flight.webhook = flight.image = flight.callback = None
        self.forget_if_done(event.task_id)

    def forget_if_done(self, task_id: str) -> None:
        """Let go of a task of which nothing is held."""
        if self._in_flight.get(task_id) == InFlight():
            del self._in_flight[task_id]

    def age(self, record: Record) -> float:
        """For how many seconds a task has been there: by the clock that nobody sets, as far as that can tell."""
        at, since = self.clock.uptime(), record.ordered_at
        if since is not None and since.boot == at.boot and since.seconds <= at.seconds:
            return at.seconds - since.seconds
        return max(0.0, self.clock.now() - record.task.created_at.timestamp())

    def key_age(self, record: Record) -> float | None:
        """How old the idempotency keys of a task's orders are at most, in seconds; None if that cannot be known.

        The wall clock alone does not tell: it may have been ahead when the task was ordered, and a task that was left
        behind for a day would look new. The uptime does, until the machine is booted again; then nothing does.
        """
        at, since = self.clock.uptime(), record.ordered_at
        by_clock = self.clock.now() - record.task.created_at.timestamp()
        if since is None or since.boot != at.boot or not since.seconds <= at.seconds or by_clock < 0:
            return None
        return max(by_clock, at.seconds - since.seconds)

    async def save(
        self,
        record: Record,
        *,
        durable: bool = True,
        settling: bool = False,
        go_on: bool = False,
        last_answer: LastAnswer | None = None,
    ) -> None:
        """Write a task that this process has claimed down, and publish the change.

        Args:
            record: the task.
            durable: whether to wait for the disk; not for what another poll would tell again.
            settling: it holds the answer to an order, which is nowhere else: it is tried until the disk takes it.
            go_on: this process goes on with it.
            last_answer: what it holds all of, so that the same answer again need not be written down.

        Raises:
            ConfigurationError: the store cannot be written, and it was not `settling`.
        """
        task = record.task
        if record.due_at is not None:
            # No task is due later than that.
            record = replace(record, due_at=min(record.due_at, self.clock.now() + LATEST_SECONDS))
        record = replace(record, last_answer=last_answer)
        while True:
            try:
                if not await self.store.save(record, durable=durable, force=settling, go_on=go_on):
                    self.claims_lost += 1
                break
            except ConfigurationError as error:
                if not settling:
                    raise
                logger.error("the answer to the order %s (%s) cannot be stored: %s", task.id, task.remote_id, error)
                await self.clock.sleep(1)
        event = _event_of(record, record.due_at)
        self.forget_if_over(event)
        self._events.publish(event)

    async def add_copies(self, task_id: str, copies: Mapping[int, StoredImage]) -> None:
        """Write down what was copied for a reader, unless somebody else sees to the task."""
        record = await self.store.own(task_id, now=self.clock.now())
        if record is not None:
            record = with_copies(record, copies)
            try:
                await self.store.save(record, durable=False)
            except ConfigurationError:
                self.store.let_go(task_id)
                raise
            self.publish(record, record.due_at)

    def publish(self, record: Record, due_at: float | None) -> None:
        """Tell of a task, and have it advanced at `due_at`, in seconds since the epoch."""
        self._events.publish(_event_of(record, due_at))


def _event_of(record: Record, due_at: float | None) -> TaskEvent:
    task = record.task
    return TaskEvent(task.id, record.client, task.status, due_at, is_over=due_at is None)
