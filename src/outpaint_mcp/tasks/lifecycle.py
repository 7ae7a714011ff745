"""The state machine of a task: each step's order is sent, polled until it is final, and the images are copied."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from outpaint_mcp.domain.clock import Clock, Uptime
from outpaint_mcp.domain.errors import (
    OrderUnconfirmedError,
    OutpaintError,
    TimedOutError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.record import (
    CLAIM_SECONDS,
    LATEST_SECONDS,
    DueTask,
    JobKind,
    LastAnswer,
    OrderState,
    Record,
    Secrets,
)
from outpaint_mcp.domain.task import Failure, Status, TaskUpdate
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.image_copies import ImageCopies
from outpaint_mcp.tasks.jobs import Jobs
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.poll_times import PollTimes
from outpaint_mcp.tasks.sending import OrderSender
from outpaint_mcp.tasks.transitions import (
    before_copying,
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

LATE_POLL_SECONDS = LATEST_SECONDS
LATE_POLL_UNTIL = 24 * 3600.0
"""A task that ran out of time is polled every 10 minutes until it is a day old."""
POLL_FAILED = "The last poll of"
AGAIN_SECONDS = 0.1
"""When a worker looks again for a task of its own that is just being advanced."""
LEAVE_SECONDS = 5.0
"""What is due later than that is no worker's to wait for: a place at the engine, or a bucket that is away."""
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
        jobs: what workers do.
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
        jobs: Jobs,
        task_timeout: float,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._copies = copies
        self._providers = providers
        self._times = times
        self._jobs = jobs
        self._task_timeout = task_timeout
        self._clock: Clock = ledger.clock

    async def advance(self, task_id: str) -> float | None:
        """Do the next thing for a task now, unless another process sees to it.

        Returns:
            When it is to be advanced next, in seconds since the epoch; None if there is nothing more to do here.
        """
        flight = self._ledger.known_flight(task_id)
        if flight is not None and flight.placing is not None:
            return None
        record = await self._ledger.store.own(task_id, now=self._clock.now())
        if record is None:
            return None
        try:
            return await self._claimed(task_id, record, None)
        except Exception:
            self._ledger.store.let_go(task_id)
            raise

    async def work(self, task_id: str, kind: JobKind) -> None:
        """Do a job of a task; a drawing to its end, since nobody else can ask for it."""
        with self._jobs.at_work(task_id):
            while True:
                due_at = await self.advance(task_id)
                if due_at is None and self._ledger.store.is_held(task_id):
                    # It was due, and is taken by this process for that.
                    due_at = self._clock.now() + AGAIN_SECONDS
                wait = None if due_at is None else due_at - self._clock.now()
                if wait is None or wait > LEAVE_SECONDS or kind is JobKind.COPY:
                    return
                await self._clock.sleep(max(0.0, wait))

    async def advance_due(self, due: DueTask) -> None:
        """Do the next thing for a task that is due: send a later step's order, poll the order, give it up."""
        try:
            await self._advance_due(due)
        except Exception:
            now = self._clock.now()
            self._ledger.store.nothing_new(due.task_id, asked_at=now, due_at=now + CLAIM_SECONDS)
            raise

    async def _advance_due(self, due: DueTask) -> None:
        answer: TaskUpdate | OutpaintError | None = None
        provider, last = self._providers.get(due.provider), due.last_answer
        if provider is not None and last is not None and not self._jobs.draws(provider):
            answer = await self._poll(provider, last.remote_id, last.reference)
            at, until = self._clock.uptime(), last.until
            if _digest(answer) == last.digest and at.boot == until.boot and at.seconds < until.seconds:
                # With thousands of open tasks, reading and writing them each time would be most of the work.
                now = self._clock.now()
                interval = self._times.interval(provider, last.step, awaits_callback=due.calls_back)
                self._ledger.store.nothing_new(due.task_id, asked_at=now, due_at=now + self._times.scattered(interval))
                return
        await self._claimed(due.task_id, await self._ledger.store.get(due.task_id), answer)

    async def _claimed(
        self, task_id: str, record: Record | None, answer: TaskUpdate | OutpaintError | None
    ) -> float | None:
        """Do the next thing for a task that this process has claimed; returns when the one after is due."""
        due_at = None if record is None else await self._next(record, answer)
        if self._ledger.store.is_held(task_id):
            # There was nothing to write down.
            await self._ledger.store.release(task_id, due_at)
        return due_at

    async def _next(self, record: Record, answer: TaskUpdate | OutpaintError | None) -> float | None:
        if record.task.status is Status.SUCCEEDED and record.due_at is not None:
            if self._jobs.next_of(record) is JobKind.COPY:
                return await self._jobs.hand_over(record, JobKind.COPY)
            record = await self._copies.copied_again(record)
            await self._ledger.save(record, durable=False)
            return record.due_at
        if record.task.status.is_final:
            return None
        if record.task.provider not in self._providers:
            # Another process may have it.
            return self._clock.now()
        position = position_of(record)
        step = record.steps[position]
        if step.state is not OrderState.INTENDED and (kind := self._jobs.next_of(record)) is not None:
            return await self._jobs.hand_over(record, kind)
        match step.state:
            case OrderState.INTENDED if position == 0:
                return await self._sender.send_unsent(record)
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
                last = record.last_answer
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
        provider = self._providers[record.task.provider]
        if isinstance(answer, OutpaintError):
            return await self._not_answered(record, position, answer)
        asked_at = self._clock.now()
        before = record = replace(without_note(record, POLL_FAILED), failures=0)
        step = record.steps[position]
        flight, kept = self._ledger.known_flight(record.task.id), record.secrets or Secrets()
        secrets = (() if flight is None else flight.secrets) + (kept.webhook.secrets if kept.webhook else ())
        known = replace(redacted(answer, secrets), remote_id=step.remote_id)
        record = updated(record, position, known, provider, self._ledger.now())
        if record.task.status is Status.SUCCEEDED:
            if self._jobs.next_of(record) is JobKind.COPY:
                return await self._jobs.hand_over(before_copying(record, position, asked_at), JobKind.COPY)
            record = replace(await self._copies.copied(record), stays=False)
        if not record.task.status.is_final:
            record = self._rescheduled(record, provider, position)
        # A status that any poll would tell again need not wait for the disk.
        private = [replace(one, status=Status.RUNNING) for one in record.steps]
        settled = private != [replace(one, status=Status.RUNNING) for one in before.steps]
        durable = settled or record.task.status.is_final
        last = None
        if position == position_of(record) and not record.task.status.ends_a_wait:
            at = self._clock.uptime()
            until = Uptime(at.boot, at.seconds + self._task_timeout - self._ledger.age(record))
            last = LastAnswer(step.remote_id or "", record.reference, step.name, _digest(answer), asked_at, until)
        await self._ledger.save(record, durable=durable, last_answer=last)
        return record.due_at

    async def _not_answered(self, record: Record, position: int, error: OutpaintError) -> float | None:
        """A poll without an answer changes nothing, but it is noted, and repeated later."""
        provider = self._providers[record.task.provider]
        if isinstance(error, UnknownTaskError) and provider.holds_orders and self._sender.may_send_again(record):
            # The process that drew it is gone, and nothing was paid.
            return await self._sender.send_again(record, position)
        failures = record.failures + 1
        record = replace(record, failures=failures)
        record = with_note(record, f"{POLL_FAILED} {provider.title} failed: {error.message}", replacing=POLL_FAILED)
        if isinstance(error, UnknownTaskError) and failures >= FORGOTTEN_AFTER:
            failure = Failure(
                code=UnknownTaskError.code, message=f"{provider.title} does not know the task.", retryable=False
            )
            record = with_task(record, self._ledger.now(), status=Status.UNKNOWN, failure=failure)
        record = self._rescheduled(record, provider, position)
        if record.task.status is not Status.UNKNOWN:
            wait = max(self._times.backoff(failures), error.retry_after or 0)
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
            step = record.steps[position].name
            interval = self._times.interval(provider, step, awaits_callback=record.calls_back)
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

    async def wanted(self, record: Record) -> None:
        """A client asks for a task: where polls are rare (it is unknown, or a callback is awaited), it is polled now.

        Never sooner after the last poll than the provider's own interval.
        """
        task, now = record.task, self._clock.now()
        provider = self._providers.get(task.provider)
        if provider is None or record.due_at is None:
            return
        if task.status is Status.UNKNOWN:
            polled_at = task.updated_at.timestamp()
        elif record.last_answer is not None:
            polled_at = record.last_answer.asked_at
        else:
            return
        interval = self._times.interval(provider, record.steps[position_of(record)].name)
        # A time of the last poll that lies ahead is of a clock that was set back since.
        at = now + min(max(0, polled_at + interval - now), interval)
        if at < record.due_at:
            await self._ledger.store.wake(task.id, at)
            self._ledger.publish(record, at)

    async def called_back(self, record: Record) -> None:
        """The provider called: the task is polled now, and from then on as if it never called."""
        now = self._clock.now()
        await self._ledger.store.wake(record.task.id, now, called_back=True)
        self._ledger.publish(record, now)


def _digest(answer: TaskUpdate | OutpaintError) -> str:
    """What stands for an answer, for comparing it with the next."""
    return hashlib.sha256(repr(answer).encode(errors="backslashreplace")).hexdigest()
