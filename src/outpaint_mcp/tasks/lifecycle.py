"""The state machine of a task: each step's order is sent, polled until it is final, and the images are copied."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.errors import (
    OrderUnconfirmedError,
    OutpaintError,
    TimedOutError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.record import OrderState, Record
from outpaint_mcp.domain.task import Failure, Status, TaskUpdate
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.image_copies import ImageCopies
from outpaint_mcp.tasks.in_flight import LastPoll
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.poll_times import PollTimes
from outpaint_mcp.tasks.sending import OrderSender
from outpaint_mcp.tasks.transitions import (
    kept_answer,
    position_of,
    redacted,
    updated,
    with_note,
    with_step,
    with_task,
    without_note,
)

logger = logging.getLogger(__name__)

LATE_POLL_SECONDS = 600.0
LATE_POLL_UNTIL = 24 * 3600.0
"""A task that ran out of time is polled every 10 minutes until it is a day old."""
POLL_FAILED = "The last poll of"
FORGOTTEN_AFTER = 3
"""How often in a row a provider must say that it does not know a task before it is believed."""


class TaskLifecycle:
    """Advances tasks.

    Args:
        ledger: where tasks are written down.
        sender: places the orders.
        copies: copies the images of finished tasks.
        providers: by name.
        times: when tasks are polled.
        task_timeout: after how many seconds a task that is not final becomes `unknown`.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        sender: OrderSender,
        copies: ImageCopies,
        providers: Mapping[str, Provider],
        times: PollTimes,
        task_timeout: float,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._copies = copies
        self._providers = providers
        self._times = times
        self._task_timeout = task_timeout
        self._clock: Clock = ledger.clock

    async def advance(self, task_id: str) -> float | None:
        """Do the next thing for a task: send a later step's order, poll the order, give it up.

        Returns:
            When it is to be advanced next, in seconds since the epoch; None if there is nothing more to do here.
        """
        flight = self._ledger.known_flight(task_id)
        if flight is not None and flight.placing is not None:
            return None
        answer: TaskUpdate | OutpaintError | None = None
        last = flight.last_poll if flight is not None else None
        if flight is not None and last is not None:
            answer = await self._poll(last.provider, last.remote_id, last.reference)
            now = self._clock.now()
            if (
                answer == last.update
                and self._clock.monotonic() < last.until
                and last.lapses == self._ledger.store.lapses
            ):
                # Nothing new: with thousands of open tasks, reading and writing them each time would be most of the
                # work. The store's due time grows old, which matters to nobody but a process that takes over.
                last.polled_at = now
                interval = self._times.interval(last.provider, last.step, awaits_callback=flight.awaits_callback)
                return now + self._times.scattered(interval)
        record = await self._ledger.store.get(task_id)
        if record is None:
            return None
        if not record.mine:
            if not await self._ledger.store.own(task_id, now=self._clock.now()):
                if flight is not None:
                    flight.last_poll = None
                return None
            # Whose it was may have sent the order since it was read.
            record = await self._ledger.store.get(task_id)
            if record is None:
                return None
        if record.task.status is Status.SUCCEEDED and record.due_at is not None:
            record = await self._copies.copied_again(record)
            await self._ledger.save(record, durable=False)
            return record.due_at
        if record.task.status.is_final:
            return None
        if record.task.provider not in self._providers:
            logger.warning("task %s belongs to the provider %s, which is not installed", task_id, record.task.provider)
            return None
        position = position_of(record)
        step = record.steps[position]
        match step.state:
            case OrderState.INTENDED if position == 0:
                return await self._sender.release_unsent(record)
            case OrderState.INTENDED:
                return await self._sender.send(record, position)
            case OrderState.SENT | OrderState.UNCONFIRMED if self._sender.may_send_again(record):
                return await self._sender.send_again(record, position)
            case OrderState.SENT:
                # The process that sent it is gone, and with it the answer.
                stopped = "The server stopped before the provider's answer to the order arrived."
                lost = OrderUnconfirmedError(f"{stopped}{self._sender.why_not_again(record)}")
                return await self._sender.settle_unconfirmed(record, position, lost)
            case OrderState.UNCONFIRMED if record.due_at is not None:
                lost = OrderUnconfirmedError(f"The answer to the order was lost.{self._sender.why_not_again(record)}")
                return await self._sender.settle_unconfirmed(record, position, lost)
            case OrderState.ACCEPTED:
                if self._providers[record.task.provider].synchronous and record.task.images:
                    # The process that was working on the images is gone.
                    return await self._take_answer(record, position, kept_answer(record, position))
                if answer is None or last is None or last.remote_id != step.remote_id:
                    answer = await self._poll(
                        self._providers[record.task.provider], step.remote_id or "", record.reference
                    )
                return await self._take_answer(record, position, answer)
            case _:
                return None

    async def _poll(self, provider: Provider, remote_id: str, reference: str | None) -> TaskUpdate | OutpaintError:
        """How the provider says that an order stands, or why it does not say so."""
        try:
            return await provider.poll(remote_id, reference)
        except OutpaintError as error:
            return error
        except Exception:
            logger.exception("polling %s failed", remote_id)
            return UnexpectedResponseError(f"The answer of {provider.title} could not be read.")

    async def _take_answer(self, record: Record, position: int, answer: TaskUpdate | OutpaintError) -> float | None:
        """Write down what the provider says of an order."""
        task_id = record.task.id
        provider = self._providers[record.task.provider]
        if isinstance(answer, OutpaintError):
            return await self._not_answered(record, position, answer)
        flight = self._ledger.flight(task_id)
        flight.failures = 0
        before = record = without_note(record, POLL_FAILED)
        lapses = self._ledger.store.lapses
        step = record.steps[position]
        known = replace(redacted(answer, flight.secrets), remote_id=step.remote_id)
        record = updated(record, position, known, provider, self._ledger.now())
        if record.task.status is Status.SUCCEEDED:
            record = await self._copies.copied(record)
        if not record.task.status.is_final:
            record = self._rescheduled(record, provider, position)
        # A status that any poll would tell again need not wait for the disk.
        private = [replace(one, status=Status.RUNNING) for one in record.steps]
        settled = private != [replace(one, status=Status.RUNNING) for one in before.steps]
        await self._ledger.save(record, durable=settled or record.task.status.is_final)
        if position == position_of(record) and not record.task.status.ends_a_wait:
            until = self._ledger.since(record) + self._task_timeout
            self._ledger.flight(task_id).last_poll = LastPoll(
                provider, step.remote_id or "", record.reference, step.name, answer, self._clock.now(), until, lapses
            )
        return record.due_at

    async def _not_answered(self, record: Record, position: int, error: OutpaintError) -> float | None:
        """A poll without an answer changes nothing, but it is noted, and repeated later."""
        provider = self._providers[record.task.provider]
        flight = self._ledger.flight(record.task.id)
        flight.failures += 1
        record = with_note(record, f"{POLL_FAILED} {provider.title} failed: {error.message}", replacing=POLL_FAILED)
        if isinstance(error, UnknownTaskError) and flight.failures >= FORGOTTEN_AFTER:
            failure = Failure(
                code=UnknownTaskError.code, message=f"{provider.title} does not know the task.", retryable=False
            )
            record = with_task(record, self._ledger.now(), status=Status.UNKNOWN, failure=failure)
        record = self._rescheduled(record, provider, position)
        if record.task.status is not Status.UNKNOWN:
            wait = max(self._times.backoff(flight.failures), error.retry_after or 0)
            # Whatever a vendor names, a task's time is up when it is up.
            record = replace(
                record, due_at=self._clock.now() + min(wait, self._task_timeout - self._ledger.age(record))
            )
        await self._ledger.save(record, durable=False)
        return record.due_at

    def _rescheduled(self, record: Record, provider: Provider, position: int) -> Record:
        """The record with its next due time; out of time it becomes unknown and is polled rarely."""
        now = self._clock.now()
        age = self._ledger.age(record)
        if record.steps[position_of(record)].state is OrderState.INTENDED:
            # A step is done, late or not: the next one is ordered.
            return replace(record, due_at=now)
        if age < self._task_timeout and record.task.status is not Status.UNKNOWN:
            awaits = self._ledger.flight(record.task.id).awaits_callback
            interval = self._times.interval(provider, record.steps[position].name, awaits_callback=awaits)
            return replace(record, due_at=now + self._times.scattered(interval))
        if record.task.status is not Status.UNKNOWN:
            minutes = self._task_timeout / 60
            failure = Failure(
                code=TimedOutError.code,
                message=f"The task was not finished after {minutes:g} minutes.",
                retryable=False,
            )
            record = with_step(record, position, status=Status.UNKNOWN)
            record = with_task(record, self._ledger.now(), status=Status.UNKNOWN, failure=failure)
        return replace(record, due_at=now + LATE_POLL_SECONDS if age < LATE_POLL_UNTIL else None)

    # What others want of it

    def wanted(self, record: Record) -> None:
        """A client asks for a task: where polls are rare (it is unknown, or a callback is awaited), it is polled now.

        Never sooner after the last poll than the provider's own interval.
        """
        task, now = record.task, self._clock.now()
        provider = self._providers.get(task.provider)
        flight = self._ledger.known_flight(task.id)
        if provider is None:
            return
        if task.status is Status.UNKNOWN and record.due_at is not None:
            polled_at = task.updated_at.timestamp()
        elif flight is not None and flight.last_poll is not None:
            polled_at = flight.last_poll.polled_at
        else:
            return
        interval = self._times.interval(provider, record.steps[position_of(record)].name)
        # A time of the last poll that lies ahead is of a clock that was set back since.
        self._ledger.publish(record, now + min(max(0, polled_at + interval - now), interval))

    def called_back(self, record: Record) -> None:
        """The provider called: the task is polled now, and from then on as if it never called."""
        if (flight := self._ledger.known_flight(record.task.id)) is not None:
            flight.awaits_callback = False
        self._ledger.publish(record, self._clock.now())
