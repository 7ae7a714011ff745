"""Sends orders: written to disk before, marked as sent, sent at most once, and settled by what came back.

All of that happens in a task group of its own, never in the call that asked for it: a client that goes away cancels
nothing.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

import anyio
import anyio.abc

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    KeyConflictError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
)
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.record import CLAIM_SECONDS, UNSENT_SECONDS, JobKind, OrderState, Record, Secrets
from outpaint_mcp.domain.task import Status
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.callbacks import Callbacks
from outpaint_mcp.tasks.checks import no_zoom
from outpaint_mcp.tasks.image_copies import ImageCopies
from outpaint_mcp.tasks.jobs import Jobs
from outpaint_mcp.tasks.leaving import as_it_may_leave, is_at_hand
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.poll_times import PollTimes
from outpaint_mcp.tasks.transitions import (
    before_copying,
    failure_of,
    finished,
    updated,
    with_note,
    with_step,
    with_task,
    without_note,
)

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 20.0
"""How long a stop waits for the answers to orders that are being sent."""
KEY_VALID_SECONDS: Final = 23 * 3600.0
"""How old a task may be whose lost order is sent again under its idempotency key.

Apiframe forgets a key after 24 hours, and the same request is a new order then. The hour between is for clocks that
differ and for requests that hang.
"""
REFUSAL_SECONDS: Final = 60.0
"""How long a refusal of an order is remembered for the calls that wait for it."""
PLACE_SECONDS: Final = 30.0
"""When an order that waits for a place at its provider is tried again, should nobody have said that there is one."""
BUCKET_SECONDS: Final = 2.0
"""When a drawing is tried again whose image the bucket does not give just now."""
WAITING_NOTE: Final = "It waits for its turn: the operator limits how many tasks run at this provider at a time."


class OrderSender:
    """Places orders.

    Args:
        ledger: where tasks are written down.
        images: the images of this machine.
        copies: copies the images of finished tasks.
        providers: by name.
        callbacks: our own webhooks.
        times: when tasks are polled.
        jobs: what workers do.
        max_in_flight: how many tasks of a provider may run there at a time, by its name; any number of the others.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        images: ImageLibrary,
        copies: ImageCopies,
        providers: Mapping[str, Provider],
        callbacks: Callbacks,
        times: PollTimes,
        jobs: Jobs,
        max_in_flight: Mapping[str, int],
    ) -> None:
        self._ledger = ledger
        self._images = images
        self._copies = copies
        self._providers = providers
        self._callbacks = callbacks
        self._times = times
        self._jobs = jobs
        self._max_in_flight = max_in_flight
        self._clock: Clock = ledger.clock
        self._tasks: anyio.abc.TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While orders can be placed. On the way out, those that are being sent get their answers first."""
        async with anyio.create_task_group() as self._tasks:
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
                    for flight in self._ledger.flights().values():
                        if flight.placing is not None:
                            await flight.placing.wait()
                self._tasks.cancel_scope.cancel()

    def place(self, record: Record, order: Order) -> None:
        """Send a task's first order, in a task of its own. Does nothing while that is going on already.

        Args:
            record: the task.
            order: with what must not be on disk: the webhook, and the input image's whole URL.
        """
        group = self._group()
        flight = self._ledger.flight(record.task.id)
        if flight.placing is not None:
            return
        flight.refusal = None
        flight.webhook = order.webhook or flight.webhook
        if isinstance(order.source, InputImage):
            flight.image = order.source
        flight.placing = anyio.Event()
        group.start_soon(self._place, record)

    def place_when_free(self, record: Record, order: Order) -> None:
        """Send a task's first order if the process that was about to send it turns out to be gone."""
        self._group().start_soon(self._await_turn, record.task.id, order)

    async def _await_turn(self, task_id: str, order: Order) -> None:
        # Longer than the claim of one that is gone, also on a machine that is slow just now.
        until = self._clock.monotonic() + 6 * CLAIM_SECONDS
        while self._clock.monotonic() < until:
            await self._clock.sleep(0.5)
            record = await self._ledger.store.get(task_id)
            if record is None or record.task.status.is_final or record.steps[0].state is not OrderState.INTENDED:
                return
            record = await self._ledger.store.own(task_id, now=self._clock.now())
            if record is not None:
                if record.task.status.is_final or record.steps[0].state is not OrderState.INTENDED:
                    await self._ledger.store.release(task_id, record.due_at)
                else:
                    self.place(record, order)
                return

    async def placed(self, task_id: str, seconds: float) -> None:
        """Wait until a task's first order is answered, for at most `seconds`.

        Raises:
            OutpaintError: the provider refused the order.
        """
        flight = self._ledger.known_flight(task_id)
        if flight is not None:
            if flight.placing is not None:
                with anyio.move_on_after(seconds):
                    await flight.placing.wait()
            # It may have been refused before anybody waited.
            if flight.refusal is not None:
                raise flight.refusal.again()

    async def _place(self, record: Record) -> None:
        """Send a task's first order, and hand the task to the scheduler."""
        task_id = record.task.id
        flight = self._ledger.flight(task_id)
        try:
            if self._jobs.draws(self._providers[record.task.provider]):
                await self._check_room(record)
            await self.send(record, 0)
        except OutpaintError as error:
            self._ledger.store.let_go(task_id)
            flight.refusal = error.again()
            self._group().start_soon(self._forget_refusal, task_id)
        finally:
            if flight.placing is not None:
                flight.placing.set()
                flight.placing = None
            self._ledger.forget_if_done(task_id)

    async def _forget_refusal(self, task_id: str) -> None:
        await self._clock.sleep(REFUSAL_SECONDS)
        if (flight := self._ledger.known_flight(task_id)) is not None and flight.placing is None:
            flight.refusal = None
            self._ledger.forget_if_done(task_id)

    # Sending an order

    async def send(self, record: Record, position: int, *, again: bool = False) -> float | None:
        """Send the order of one step and write down what came of it.

        Args:
            record: the task.
            position: which of its steps.
            again: the order was sent before and its answer lost; only for providers where repeating is safe.

        Returns:
            When the task is to be advanced next.

        Raises:
            OutpaintError: a refusal of the first order, after it was written down.
        """
        task_id = record.task.id
        provider = self._providers[record.task.provider]
        if position > 0 and record.zooms is False and record.order is not None and record.order.zoom is not None:
            # What the upscaled image has was not known before.
            await self._settle_refused(record, position, no_zoom(provider))
            return None
        if position == 0 and not again and (most := self._max_in_flight.get(provider.name)) is not None:
            if not await self._ledger.store.take_place(task_id, most=most, now=self._clock.now()):
                # Until another one of its provider is final.
                return await self._wait(with_note(record, WAITING_NOTE), PLACE_SECONDS)
            if record.waits:
                # Its time begins now.
                record = replace(without_note(record, WAITING_NOTE), ordered_at=self._clock.uptime())
        if self._jobs.draws(provider):
            if not self._jobs.is_at_work(record):
                return await self._jobs.hand_over(record, JobKind.DRAW)
            record = replace(record, ordered_at=self._clock.uptime())
            if not await is_at_hand(self._images, record):
                return await self._wait(record, BUCKET_SECONDS)
        record, order = self._request_for(record, position, provider)
        if not again and not await self._ledger.store.mark_sent(task_id, position, now=self._clock.now()):
            self._ledger.claims_lost += 1
            return None
        try:
            async with as_it_may_leave(self._images, order, provider) as (leaving, notes):
                update = await provider.start(leaving)
        except OrderUnconfirmedError as error:
            return await self.settle_unconfirmed(record, position, error)
        except OutpaintError as error:
            if again and (not isinstance(error, InvalidRequestError) or isinstance(order.source, InputImage)):
                # Sending it again was refused, not the order (or the upload before it): that it may have been taken is
                # as true as before.
                return await self.settle_unconfirmed(record, position, OrderUnconfirmedError(error.message))
            await self._settle_refused(record, position, error)
            if position == 0:
                raise
            return None
        except Exception:
            # A fault of ours or of a plug-in: whether anything was sent cannot be known.
            logger.exception("placing the order %s-%d failed", task_id, position)
            lost = OrderUnconfirmedError(f"The order to {provider.title} broke off on this side.")
            return await self.settle_unconfirmed(record, position, lost)
        for note in notes:
            record = with_note(record, note)
        record = replace(record, stays=provider.holds_orders)
        record = with_step(record, position, state=OrderState.ACCEPTED, remote_id=update.remote_id)
        record = updated(record, position, update, provider, self._ledger.now())
        if record.task.status is Status.SUCCEEDED:
            if self._jobs.next_of(record) is JobKind.COPY:
                answered = before_copying(record, position, self._clock.now())
                return await self._jobs.hand_over(answered, JobKind.COPY, settling=True)
            if provider.synchronous and provider.finishing(order) is not None:
                # The answer is nowhere else, and it takes seconds until the original is pasted back.
                await self._ledger.save(before_copying(record, position, self._clock.now()), settling=True, go_on=True)
            record = await self._copies.copied(record)
        elif not record.task.status.is_final:
            first = self._times.first(provider, record.steps[position].name, awaits_callback=record.calls_back)
            record = replace(record, due_at=self._clock.now() + first)
        await self._ledger.save(record, settling=True)
        return record.due_at

    async def _wait(self, record: Record, seconds: float) -> float:
        """Leave a task to whoever comes when it is due; returns when that is."""
        due_at = self._clock.now() + seconds
        await self._ledger.save(replace(record, due_at=due_at))
        return due_at

    async def _check_room(self, record: Record) -> None:
        """Raises RateLimitedError, after it was written down, if the client may not have one more drawing."""
        try:
            await self._jobs.check_room(record)
        except RateLimitedError as error:
            await self._settle_refused(record, 0, error)
            raise

    def _request_for(self, record: Record, position: int, provider: Provider) -> tuple[Record, Order]:
        """What the provider is asked for one step, with what is in memory only; and the record, maybe with a note."""
        order = record.order
        if order is None:
            raise TypeError("a task that was imported is not ordered")
        flight, secrets = self._ledger.flight(record.task.id), record.secrets or Secrets()
        step = record.steps[position].name
        source = order.source
        if position > 0:
            upscaled = record.steps[position - 1].remote_id or ""
            source = Parent(upscaled, record.reference, is_grid=False)
        elif isinstance(source, InputImage):
            source = flight.image or replace(source, url=secrets.image_url)
        webhook = None
        if step is StepName.OUTPAINT:
            webhook = flight.webhook or secrets.webhook
            if webhook is None and order.wants_webhook:
                record = with_note(
                    record, "The webhook was lost when the server restarted: this order went without it."
                )
        order = order.for_step(
            step, key=f"{record.task.id}-{position}", client=record.client, source=source, webhook=webhook
        )
        if step is StepName.OUTPAINT and not order.wants_webhook:
            flight.callback = self._callbacks.webhook_for(provider, record.task.id, order)
            record = replace(record, calls_back=flight.callback is not None)
            order = replace(order, webhook=flight.callback)
        return record, order

    async def _settle_refused(self, record: Record, position: int, error: OutpaintError) -> None:
        """The order was certainly not taken: it and those after it give their reservations back."""
        steps = tuple(
            replace(step, reserved=False, state=OrderState.REFUSED if step.position == position else step.state)
            if step.position >= position
            else step
            for step in record.steps
        )
        record = finished(replace(record, steps=steps), Status.FAILED, position, failure_of(error), self._ledger.now())
        await self._ledger.save(record, settling=True)

    async def settle_unconfirmed(self, record: Record, position: int, error: OrderUnconfirmedError) -> float | None:
        """The order may have been taken: the task is unknown and keeps its reservation.

        Where nothing is paid it has failed: nothing is in doubt then, and it may be ordered again.
        """
        if not self._providers[record.task.provider].costs_money and not self.may_send_again(record):
            lost = failure_of(ProviderUnavailableError(f"{error.message} Nothing was paid."))
            await self._ledger.save(finished(record, Status.FAILED, position, lost, self._ledger.now()), settling=True)
            return None
        due_at: float | None = None
        if self.may_send_again(record) and not isinstance(error, KeyConflictError):
            due_at = self._clock.now() + self._times.backoff(max(record.failures, 1)) * 6
        record = with_step(record, position, state=OrderState.UNCONFIRMED, status=Status.UNKNOWN)
        record = with_task(record, self._ledger.now(), status=Status.UNKNOWN, failure=failure_of(error))
        await self._ledger.save(replace(record, due_at=due_at), settling=True)
        return due_at

    def may_send_again(self, record: Record) -> bool:
        """Whether an order whose answer was lost can be sent again without placing it twice.

        Not if its key may have been forgotten, or how old it is cannot be known.
        """
        provider = self._providers[record.task.provider]
        age = self._ledger.key_age(record)
        is_young = age is not None and age < KEY_VALID_SECONDS
        return provider.idempotent and (is_young or not (provider.costs_money or provider.self_hosted))

    def why_not_again(self, record: Record) -> str:
        """Why an order that has an idempotency key is not sent again, as a further sentence; empty if it has none."""
        if not self._providers[record.task.provider].idempotent:
            return ""
        if self._ledger.key_age(record) is None:
            return (
                " It is not sent again under its idempotency key: how old that is cannot be known after the machine "
                "was restarted or its clock set back."
            )
        return " The time in which its idempotency key is remembered is over, so it is not sent again."

    async def send_again(self, record: Record, position: int) -> float | None:
        """Send an order again whose answer was lost, under the same key, where that cannot place it twice."""
        try:
            return await self.send(replace(record, failures=record.failures + 1), position, again=True)
        except OutpaintError:
            return None

    async def send_unsent(self, record: Record) -> float | None:
        """Send a first order that waited for a place, or whose process is gone; returns when the task is due next.

        Where what it is sent with is not kept, it waits for the same call, which brings that again. What has waited too
        long is given up.
        """
        waits = UNSENT_SECONDS - self._ledger.age(record)
        # What waits for a place or for a worker may wait for long.
        if (
            record.waits
            or self._jobs.draws(self._providers[record.task.provider])
            or (waits > 0 and self._ledger.store.keeps_secrets)
        ):
            try:
                return await self.send(record, 0)
            except OutpaintError:
                if self._ledger.store.is_held(record.task.id):
                    # Nothing could be written down.
                    raise
                return None
        if waits > 0:
            return self._clock.now() + waits
        record = replace(record, steps=tuple(replace(step, reserved=False) for step in record.steps))
        record = with_note(record, "The order was never sent: the server stopped before. Nothing was paid.")
        await self._ledger.save(finished(record, Status.CANCELLED, 0, None, self._ledger.now()))
        return None

    def _group(self) -> anyio.abc.TaskGroup:
        if self._tasks is None:
            raise RuntimeError("orders are placed only inside running()")
        return self._tasks
