"""What is left to workers, where there are any: having images drawn, and copying those of finished tasks.

A process that comes to such work hands it over, and goes on with it only if it is the worker that has the job.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from outpaint_mcp.domain.errors import RateLimitedError
from outpaint_mcp.domain.record import Job, JobKind, OrderState, Record
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.transitions import position_of

LOST_SECONDS: Final = 15.0
"""How long after it was handed over a job is looked for again; one that still waits to be begun is not doubled."""
COPY_PRIORITY: Final = 100
"""Above every drawing: somebody waits for an image that is there."""


class Jobs:
    """What this process hands over, and what it is at work on.

    Args:
        ledger: where tasks are written down.
        providers: by name.
        workers: whether there are workers.
        max_waiting: how many drawings of one client may be open; any number if None.
    """

    def __init__(
        self, *, ledger: Ledger, providers: Mapping[str, Provider], workers: bool, max_waiting: int | None
    ) -> None:
        self._ledger = ledger
        self._providers = providers
        self._workers = workers
        self._max_waiting = max_waiting
        self._at_work: set[str] = set()

    @contextlib.contextmanager
    def at_work(self, task_id: str) -> Iterator[None]:
        """A block in which this process does the job of a task."""
        self._at_work.add(task_id)
        try:
            yield
        finally:
            self._at_work.discard(task_id)

    def is_at_work(self, record: Record) -> bool:
        """Whether this process does the job of a task."""
        return record.task.id in self._at_work

    def draws(self, provider: Provider) -> bool:
        """Whether workers place the orders of a provider, and wait for what it draws."""
        return self._workers and provider.holds_orders

    def next_of(self, record: Record) -> JobKind | None:
        """Which job an open task needs next; None if that is nobody's or this process's own to do."""
        if not self._workers or self.is_at_work(record):
            return None
        if record.task.status is Status.SUCCEEDED:
            return JobKind.COPY if len(record.copies) < len(record.task.images) else None
        provider, state = self._providers[record.task.provider], record.steps[position_of(record)].state
        if self.draws(provider) and (state in (OrderState.INTENDED, OrderState.ACCEPTED) or provider.idempotent):
            return JobKind.DRAW
        # An answer that is nowhere else is worked on: see `transitions.before_copying`.
        is_there = provider.synchronous and state is OrderState.ACCEPTED and bool(record.task.images)
        return JobKind.COPY if is_there else None

    async def check_room(self, record: Record) -> None:
        """Refuse a drawing if as many of the client's are open as may be.

        Raises:
            RateLimitedError: they are. Nothing was handed over.
        """
        if self._max_waiting is not None and (count := await self._open(record)) > self._max_waiting:
            raise RateLimitedError(
                f"{count - 1} drawings of yours are waiting already.",
                "Nothing was ordered. Call again when some of them are done.",
            )

    async def _open(self, record: Record) -> int:
        return await self._ledger.store.open_tasks(record.client, record.task.provider)

    async def hand_over(self, record: Record, kind: JobKind, *, settling: bool = False) -> float:
        """Have a worker go on with a task; returns when it is looked for again. For `settling` see `Ledger.save`."""
        # Whoever has one image drawn does not wait for somebody's hundred.
        priority = COPY_PRIORITY if kind is JobKind.COPY else -await self._open(record)
        due_at = self._ledger.clock.now() + LOST_SECONDS
        job = Job(kind, priority)
        await self._ledger.save(replace(record, due_at=due_at, job=job, stays=False), settling=settling)
        return due_at
