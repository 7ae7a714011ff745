"""Placing orders and following them: the only state machine. Knows neither MCP nor HTTP.

An order goes: written down as intended, noted as being sent, sent once, its answer written down, asked for until it is
final, its images copied. All of that happens in a task group of its own, never in the call that asked for it: a client
that goes away cancels nothing.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import anyio
import anyio.abc

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    KeyConflictError,
    OrderUnconfirmedError,
    OutpaintError,
    TimedOutError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.record import DailyLimits, OrderState, Record
from outpaint_mcp.domain.request import SourceKind, Webhook
from outpaint_mcp.domain.task import Failure, Image, Status, Task, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary, KeptImage
from outpaint_mcp.images.sources import path_of
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.storage.store import LEASE_SECONDS, UNSENT_SECONDS, Store
from outpaint_mcp.tasks.resolver import Understood, order_from_plan
from outpaint_mcp.tasks.transitions import (
    failure_of,
    finished,
    hiding,
    noted,
    position_of,
    steps_with,
    touched,
    updated,
    with_kept,
    with_order,
    without_note,
)

logger = logging.getLogger(__name__)

STOP_SECONDS = 20.0
"""How long a stop waits for the answers to orders that are being sent."""
UPSCALE_POLL = (2.0, 2.0)
LATE_POLL_SECONDS = 600.0
LATE_POLL_UNTIL = 24 * 3600.0
"""A task that ran out of time is asked for every 10 minutes until it is a day old."""
KEY_VALID_SECONDS = 23 * 3600.0
"""How old a task may be whose lost order is asked for again under its key.

Apiframe forgets a key after 24 hours, and the same request is a new order then. The hour between is for clocks that
differ and for requests that hang.
"""
KEEP_SECONDS = 15.0
"""How long a finished task waits for its images to be copied before it is reported; the copying may go on later."""
COPY_AGAIN_SECONDS = 60.0
COPY_UNTIL = 2 * 3600.0
COPY_NOTE = "Some images could not be copied yet: the provider's URLs may expire."
QUESTION_FAILED = "The last question to"
FORGOTTEN_AFTER = 3
"""How often in a row a provider must say that it does not know a task before it is believed."""
MAX_BACKOFF_SECONDS = 10.0
CALLED_BACK_FACTOR = 6
"""How many times rarer a task is asked for whose provider was told to call back: a net for calls that get lost."""


OnSchedule = Callable[[str, float, str], None]
"""Told a task's id, when it is to be advanced (seconds since the epoch), and its provider's name."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the operator wants it. Times in seconds.

    `poll` is (first, interval) in place of every provider's own. `prices` replaces providers' prices in USD per order.
    `auto` names the providers that `auto` tries; `may_leave` says whether it may hand out pictures that have no URL.
    `paths_allowed`: clients share this machine's files: `image` may be a path, and an image's URL a ``file:`` one.
    """

    auto: tuple[str, ...]
    may_leave: bool = False
    adopt: bool = True
    paths_allowed: bool = True
    caps: DailyLimits = field(default_factory=DailyLimits)
    prices: Mapping[str, float] = field(default_factory=dict)
    poll: tuple[float, float] | None = None
    task_timeout: float = 1800.0
    keep_images_days: float = 30.0
    keep_images_bytes: int = 5 * 10**9


@dataclass(slots=True)
class _Heard:
    """What a provider last said of an open task's order, as it stands in the store.

    `asked_at` is when it said so, `until` when the task's time is up. `lapses` is the store's count when it was heard:
    if it has risen since, another process may have taken the task over.
    """

    provider: Provider
    remote_id: str
    step: StepName
    update: TaskUpdate
    asked_at: float
    until: float
    lapses: int


class TaskLifecycle:
    """Places orders and advances tasks, over one store.

    `on_schedule` is told of every task that is to be advanced, `on_change` the id of every task that was written.
    `callback_for` names, for a provider and a task's id, where the provider is to call back.
    """

    def __init__(
        self,
        *,
        store: Store,
        pictures: ImageLibrary,
        providers: Mapping[str, Provider],
        options: ServiceOptions,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._providers = providers
        self._options = options
        self._clock = clock
        self._jitter = jitter
        self._tasks: anyio.abc.TaskGroup | None = None
        self._placing: dict[str, anyio.Event] = {}
        self._refusals: dict[str, OutpaintError] = {}
        self._webhooks: dict[str, Webhook] = {}
        self._pictures_at_hand: dict[str, InputImage] = {}
        self._failures: dict[str, int] = {}
        self._callbacks: dict[str, Webhook] = {}
        self._calls_back: set[str] = set()
        self._heard: dict[str, _Heard] = {}
        self.callback_for: Callable[[str, str], Webhook] | None = None
        self.on_schedule: OnSchedule = lambda task_id, due_at, provider: None
        self.on_change: Callable[[str], None] = lambda task_id: None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While orders can be placed. On the way out, those that are being sent get their answers first."""
        async with anyio.create_task_group() as self._tasks:
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
                    for placing in list(self._placing.values()):
                        await placing.wait()
                self._tasks.cancel_scope.cancel()

    def place(self, record: Record, understood: Understood) -> None:
        """Send a task's first order, in a task of its own. Does nothing while that is going on already."""
        task_id = record.task.id
        if task_id in self._placing:
            return
        if self._tasks is None:
            raise RuntimeError("Orders are placed only inside running()")
        self._refusals.pop(task_id, None)
        # What must not be on disk: a webhook, and a picture's whole URL.
        if understood.request.webhook is not None:
            self._webhooks[task_id] = understood.request.webhook
        if isinstance(understood.source, InputImage):
            self._pictures_at_hand[task_id] = understood.source
        self._placing[task_id] = anyio.Event()
        self._tasks.start_soon(self._place, record)

    def place_when_free(self, record: Record, understood: Understood) -> None:
        """Send a task's first order if the process that was about to send it turns out to be gone."""
        if self._tasks is None:
            raise RuntimeError("Orders are placed only inside running()")
        self._tasks.start_soon(self._await_turn, record.task.id, understood)

    async def _await_turn(self, task_id: str, understood: Understood) -> None:
        until = self._clock.now() + LEASE_SECONDS + 2
        while self._clock.now() < until:
            await self._clock.sleep(0.5)
            record = await self._store.get(task_id)
            if record is None or record.task.status.is_final or record.orders[0].state is not OrderState.INTENDED:
                return
            if await self._store.own(task_id, now=self._clock.now()):
                self.place(record, understood)
                return

    async def placed(self, task_id: str, seconds: float) -> None:
        """Wait until a task's first order is answered, for at most `seconds`.

        Raises:
            OutpaintError: the provider refused the order.
        """
        placing = self._placing.get(task_id)
        if placing is not None:
            with anyio.move_on_after(seconds):
                await placing.wait()
            if (refusal := self._refusals.get(task_id)) is not None:
                raise refusal

    async def _place(self, record: Record) -> None:
        """Send a task's first order, and hand the task to the follower."""
        task_id = record.task.id
        try:
            due_at = await self._send(record, 0)
            if due_at is not None:
                self.on_schedule(task_id, due_at, record.task.provider)
        except OutpaintError as error:
            self._refusals[task_id] = error
        finally:
            self._placing.pop(task_id).set()
            if self._tasks is not None and task_id in self._refusals:
                self._tasks.start_soon(self._forget_refusal, task_id)

    async def _forget_refusal(self, task_id: str) -> None:
        await self._clock.sleep(60)
        self._refusals.pop(task_id, None)

    async def _send(self, record: Record, position: int, *, again: bool = False) -> float | None:
        """Send one order and write down what came of it.

        Args:
            record: the task.
            position: which of its orders.
            again: the order was sent before and its answer lost; only for providers where repeating is safe.

        Returns:
            When the task is to be advanced next.

        Raises:
            OutpaintError: a refusal of the first order, after it was written down.
        """
        task_id = record.task.id
        provider = self._providers[record.task.provider]
        row = record.orders[position]
        webhook = self._webhooks.get(task_id) if row.name is StepName.OUTPAINT else None
        if row.name is StepName.OUTPAINT and webhook is None and record.plan.get("webhook"):
            record = noted(record, "The webhook was lost when the server restarted: this order went without it.")
        order = order_from_plan(record.plan, key=f"{task_id}-{position}", step=row.name, webhook=webhook)
        if task_id in self._pictures_at_hand:
            order = replace(order, source=self._pictures_at_hand[task_id])
        elif isinstance(order.source, InputImage) and order.source.url is not None:
            # Only the path of its URL is on disk. What is still at hand is our own copy.
            order = replace(order, source=replace(order.source, url=None))
        if position > 0:
            upscaled = record.orders[position - 1].remote_id or ""
            order = replace(order, source=Parent(upscaled, record.reference, is_grid=False))
        if row.name is StepName.OUTPAINT and order.webhook is None:
            order = replace(order, webhook=self._own_webhook(record, order))
        if not again and not await self._store.mark_sent(task_id, position, now=self._clock.now()):
            return None
        try:
            update = await provider.start(order)
        except OrderUnconfirmedError as error:
            return await self._settle_unconfirmed(record, position, error)
        except OutpaintError as error:
            if again and (not isinstance(error, InvalidRequestError) or isinstance(order.source, InputImage)):
                # The question was refused, not the order (or the upload before it): that it may have been taken is as
                # true as before.
                return await self._settle_unconfirmed(record, position, OrderUnconfirmedError(error.message))
            await self._settle_refused(record, position, error)
            if position == 0:
                raise
            return None
        except Exception:
            # A fault of ours or of a plug-in: whether anything was sent cannot be known.
            logger.exception("placing the order %s-%d failed", task_id, position)
            lost = OrderUnconfirmedError(f"The order to {provider.title} broke off on this side.")
            return await self._settle_unconfirmed(record, position, lost)
        record = with_order(record, position, state=OrderState.ACCEPTED, remote_id=update.remote_id)
        record = updated(record, position, update, provider, self._now())
        if record.task.status is Status.SUCCEEDED:
            record = await self.kept(record)
        elif not record.task.status.is_final:
            record = replace(record, due_at=self._clock.now() + self._first_poll(record, row.name))
        await self._save(record, settling=True)
        return record.due_at

    async def _settle_refused(self, record: Record, position: int, error: OutpaintError) -> None:
        """The order was certainly not taken: it and those after it give their reservations back."""
        orders = tuple(
            replace(row, reserved=False, state=OrderState.REFUSED if row.position == position else row.state)
            if row.position >= position
            else row
            for row in record.orders
        )
        record = finished(replace(record, orders=orders), Status.FAILED, position, failure_of(error), self._now())
        await self._save(record, settling=True)

    async def _settle_unconfirmed(self, record: Record, position: int, error: OrderUnconfirmedError) -> float | None:
        """The order may have been taken: the task is unknown and keeps its reservation."""
        record = with_order(record, position, state=OrderState.UNCONFIRMED)
        failure = failure_of(error)
        due_at: float | None = None
        if self._may_ask_again(record) and not isinstance(error, KeyConflictError):
            due_at = self._clock.now() + self._backoff(record.task.id) * 6
        task = touched(
            record.task,
            self._now(),
            status=Status.UNKNOWN,
            failure=failure,
            steps=steps_with(record, position, Status.UNKNOWN),
        )
        await self._save(replace(record, task=task, due_at=due_at), settling=True)
        return due_at

    async def advance(self, task_id: str) -> float | None:
        """Do the next thing for a task: send a later step's order, ask how the order stands, give it up.

        Returns:
            When it is to be advanced next, in seconds since the epoch; None if there is nothing more to do here.
        """
        if task_id in self._placing:
            return None
        answer: TaskUpdate | OutpaintError | None = None
        if (heard := self._heard.get(task_id)) is not None:
            answer = await self._answer(heard.provider, heard.remote_id)
            now = self._clock.now()
            if answer == heard.update and now < heard.until and heard.lapses == self._store.lapses:
                # Nothing new: with thousands of open tasks, reading and writing them each time would be most of the
                # work. The store's due time grows old, which matters to nobody but a process that takes over.
                heard.asked_at = now
                return now + self._interval(task_id, heard.provider, heard.step) * self._scatter()
        record = await self._store.get(task_id)
        if record is None:
            return None
        if not record.mine and not await self._store.own(task_id, now=self._clock.now()):
            self._heard.pop(task_id, None)
            return None
        if record.task.status is Status.SUCCEEDED and record.due_at is not None:
            return await self._keep_the_rest(record)
        if record.task.status.is_final:
            return None
        if record.task.provider not in self._providers:
            logger.warning("task %s belongs to the provider %s, which is not installed", task_id, record.task.provider)
            return None
        position = position_of(record)
        row = record.orders[position]
        match row.state:
            case OrderState.INTENDED if position == 0:
                return await self._release_unsent(record)
            case OrderState.INTENDED:
                return await self._send(record, position)
            case OrderState.SENT | OrderState.UNCONFIRMED if self._may_ask_again(record):
                return await self._ask_again(record, position)
            case OrderState.SENT:
                # The process that sent it is gone, and with it the answer.
                lost = OrderUnconfirmedError("The server stopped before the provider's answer to the order arrived.")
                return await self._settle_unconfirmed(record, position, lost)
            case OrderState.UNCONFIRMED if record.due_at is not None:
                lost = OrderUnconfirmedError("The order was not found in the time in which its key is remembered.")
                return await self._settle_unconfirmed(record, position, lost)
            case OrderState.ACCEPTED:
                if answer is None or heard is None or heard.remote_id != row.remote_id:
                    answer = await self._answer(self._providers[record.task.provider], row.remote_id or "")
                return await self._take_answer(record, position, answer)
            case _:
                return None

    def _may_ask_again(self, record: Record) -> bool:
        """Whether an order whose answer was lost can be asked for again without placing it twice."""
        provider = self._providers[record.task.provider]
        age = self._clock.now() - record.task.created_at.timestamp()
        return provider.idempotent and (age < KEY_VALID_SECONDS or not provider.costs_money)

    async def _ask_again(self, record: Record, position: int) -> float | None:
        """Ask for an order again whose answer was lost, under the same key, where that cannot place it twice."""
        self._failures[record.task.id] = self._failures.get(record.task.id, 0) + 1
        try:
            return await self._send(record, position, again=True)
        except OutpaintError:
            return None

    async def _release_unsent(self, record: Record) -> float | None:
        """An order that was never sent waits for the same call for a while, then is given up."""
        due_at = record.task.created_at.timestamp() + UNSENT_SECONDS
        if self._clock.now() < due_at:
            return due_at
        record = replace(record, orders=tuple(replace(row, reserved=False) for row in record.orders))
        record = noted(record, "The order was never sent: the server stopped before. Nothing was paid.")
        await self._save(finished(record, Status.CANCELLED, 0, None, self._now()))
        return None

    async def _answer(self, provider: Provider, remote_id: str) -> TaskUpdate | OutpaintError:
        """How the provider says that an order stands, or why it does not say so."""
        try:
            return await provider.poll(remote_id)
        except OutpaintError as error:
            return error
        except Exception:
            logger.exception("asking for %s failed", remote_id)
            return UnexpectedResponseError(f"The answer of {provider.title} could not be read.")

    async def _take_answer(self, record: Record, position: int, answer: TaskUpdate | OutpaintError) -> float | None:
        """Write down what the provider says of an order."""
        task_id = record.task.id
        provider = self._providers[record.task.provider]
        if isinstance(answer, OutpaintError):
            return await self._not_answered(record, position, answer)
        self._failures.pop(task_id, None)
        before = record = without_note(record, QUESTION_FAILED)
        lapses = self._store.lapses
        row = record.orders[position]
        known = replace(hiding(answer, self._secrets_of(task_id)), remote_id=row.remote_id)
        record = updated(record, position, known, provider, self._now())
        if record.task.status is Status.SUCCEEDED:
            record = await self.kept(record)
        if not record.task.status.is_final:
            record = self._rescheduled(record, provider, position)
        settled = record.orders != before.orders or record.task.status.is_final
        await self._save(record, durable=settled)
        if position == position_of(record) and not record.task.status.ends_a_wait:
            until = record.task.created_at.timestamp() + self._options.task_timeout
            self._heard[task_id] = _Heard(
                provider, row.remote_id or "", row.name, answer, self._clock.now(), until, lapses
            )
        return record.due_at

    async def _not_answered(self, record: Record, position: int, error: OutpaintError) -> float | None:
        """A question without an answer changes nothing, but it is noted, and asked again later."""
        task_id = record.task.id
        provider = self._providers[record.task.provider]
        count = self._failures[task_id] = self._failures.get(task_id, 0) + 1
        record = noted(record, f"{QUESTION_FAILED} {provider.title} failed: {error.message}", replacing=QUESTION_FAILED)
        if isinstance(error, UnknownTaskError) and count >= FORGOTTEN_AFTER:
            failure = Failure(
                code=UnknownTaskError.code, message=f"{provider.title} does not know the task.", retryable=False
            )
            record = replace(record, task=touched(record.task, self._now(), status=Status.UNKNOWN, failure=failure))
        record = self._rescheduled(record, provider, position)
        if record.task.status is not Status.UNKNOWN:
            wait = max(self._backoff(task_id), error.retry_after or 0)
            # Whatever a vendor names, a task's time is up when it is up.
            out_of_time = record.task.created_at.timestamp() + self._options.task_timeout
            record = replace(record, due_at=min(self._clock.now() + wait, out_of_time))
        await self._save(record, durable=False)
        return record.due_at

    def _rescheduled(self, record: Record, provider: Provider, position: int) -> Record:
        """The record with its next due time; out of time it becomes unknown and is asked for rarely."""
        now = self._clock.now()
        age = now - record.task.created_at.timestamp()
        if record.orders[position_of(record)].state is OrderState.INTENDED:
            # A step is done, late or not: the next one is ordered.
            return replace(record, due_at=now)
        if age < self._options.task_timeout and record.task.status is not Status.UNKNOWN:
            interval = self._interval(record.task.id, provider, record.orders[position].name)
            return replace(record, due_at=now + interval * self._scatter())
        task = record.task
        if task.status is not Status.UNKNOWN:
            minutes = self._options.task_timeout / 60
            failure = Failure(
                code=TimedOutError.code,
                message=f"The task was not finished after {minutes:g} minutes.",
                retryable=False,
            )
            task = touched(
                task,
                self._now(),
                status=Status.UNKNOWN,
                failure=failure,
                steps=steps_with(record, position, Status.UNKNOWN),
            )
        return replace(record, task=task, due_at=now + LATE_POLL_SECONDS if age < LATE_POLL_UNTIL else None)

    def _poll_times(self, provider: Provider, step: StepName) -> tuple[float, float]:
        if self._options.poll is not None:
            return self._options.poll
        return UPSCALE_POLL if step is StepName.UPSCALE else (provider.first_poll, provider.poll_interval)

    def _first_poll(self, record: Record, step: StepName) -> float:
        """Seconds from an order to the first question."""
        provider = self._providers[record.task.provider]
        first = self._poll_times(provider, step)[0]
        if record.task.id in self._calls_back:
            return max(first, self._interval(record.task.id, provider, step))
        return first

    def _interval(self, task_id: str, provider: Provider, step: StepName) -> float:
        """Seconds between questions."""
        interval = self._poll_times(provider, step)[1]
        return interval * CALLED_BACK_FACTOR if task_id in self._calls_back else interval

    def _scatter(self) -> float:
        """A factor just below 1, so that tasks that were ordered together are not asked for together for ever, and what
        is done is heard of within the provider's interval.
        """
        return 0.95 + 0.05 * self._jitter()

    def _own_webhook(self, record: Record, order: Order) -> Webhook | None:
        """Where the provider is to tell us that the order is done; None where it cannot, or tells the client."""
        if self.callback_for is None or record.plan.get("webhook"):
            return None
        provider = self._providers[record.task.provider]
        kind = SourceKind.IMAGE if isinstance(order.source, InputImage) else SourceKind.TASK
        webhook = self.callback_for(provider.name, record.task.id)
        if not provider.takes_callback(webhook.url, kind):
            return None
        self._callbacks[record.task.id] = webhook
        self._calls_back.add(record.task.id)
        return webhook

    def _secrets_of(self, task_id: str) -> tuple[str, ...]:
        """What a vendor was told with a task's order and must not be shown when the vendor repeats it."""
        webhooks = (self._webhooks.get(task_id), self._callbacks.get(task_id))
        return tuple(secret for webhook in webhooks if webhook is not None for secret in webhook.secrets)

    def wanted(self, record: Record) -> None:
        """Somebody asks for a task: where that is rare (it is unknown, or a call back is awaited), it is asked for now.

        Never sooner after the last question than the provider's own interval.
        """
        task, now = record.task, self._clock.now()
        provider = self._providers.get(task.provider)
        if provider is None:
            return
        if task.status is Status.UNKNOWN and record.due_at is not None:
            asked_at = task.updated_at.timestamp()
        elif (heard := self._heard.get(task.id)) is not None:
            asked_at = heard.asked_at
        else:
            return
        step = task.steps[position_of(record)].name
        self.on_schedule(task.id, max(now, asked_at + self._poll_times(provider, step)[1]), task.provider)

    def called_back(self, task: Task) -> None:
        """The provider called: what it said is asked for now, and from then on as if it never called."""
        self._calls_back.discard(task.id)
        self.on_schedule(task.id, self._clock.now(), task.provider)

    def _backoff(self, task_id: str) -> float:
        exponent = min(self._failures.get(task_id, 1), 8)
        return min(MAX_BACKOFF_SECONDS, 0.5 * 2.0**exponent) * (0.5 + 0.5 * self._jitter())

    async def kept(self, record: Record) -> Record:
        """The record with its images copied, as far as that works within KEEP_SECONDS."""
        found: dict[int, KeptImage] = {}

        async def keep(image: Image) -> None:
            try:
                found[image.index] = await self.copy_of(record.task.provider, image.url)
            except OutpaintError as error:
                logger.info("image %d of %s could not be kept: %s", image.index, record.task.id, error.code)

        with anyio.move_on_after(KEEP_SECONDS):
            async with anyio.create_task_group() as copying:
                for image in record.task.images:
                    if image.index not in record.kept:
                        copying.start_soon(keep, image)
        record = with_kept(record, found)
        missing = len(record.task.images) - len(record.kept)
        if missing:
            due_at = self._clock.now() + COPY_AGAIN_SECONDS
            return replace(noted(record, COPY_NOTE, replacing=COPY_NOTE), due_at=due_at)
        task = record.task.model_copy(update={"notes": tuple(one for one in record.task.notes if one != COPY_NOTE)})
        return replace(record, task=task, due_at=None)

    async def copy_of(self, provider: str, url: str) -> KeptImage:
        """Our own checked copy of a provider's image.

        Raises:
            OutpaintError: there is no picture at `url` (any more), or it must not be opened.
        """
        found = self._providers.get(provider)
        if found is not None and not found.leaves_machine:
            # Drawn here: a file: URL. No other provider's answer may name a file of this machine.
            return await self._pictures.adopt(path_of(url))
        return await self._pictures.keep(url)

    async def _keep_the_rest(self, record: Record) -> float | None:
        """Try again to copy the images of a task that succeeded, until it is two hours old."""
        record = await self.kept(record)
        if self._clock.now() - record.task.created_at.timestamp() > COPY_UNTIL:
            record = replace(record, due_at=None)
        await self._save(record, durable=False)
        return record.due_at

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    async def _save(self, record: Record, *, durable: bool = True, settling: bool = False) -> None:
        task_id = record.task.id
        self._heard.pop(task_id, None)
        while True:
            try:
                await self._store.save(record, durable=durable, force=settling)
                break
            except ConfigurationError as error:
                if not settling:
                    raise
                # The answer to an order is nowhere else: keep it and try until the disk takes it.
                logger.error(
                    "the answer to the order %s (%s) cannot be stored: %s", task_id, record.task.remote_id, error
                )
                await self._clock.sleep(1)
        if record.task.status.is_final:
            self._webhooks.pop(task_id, None)
            self._pictures_at_hand.pop(task_id, None)
            self._failures.pop(task_id, None)
            self._callbacks.pop(task_id, None)
            self._calls_back.discard(task_id)
        self.on_change(task_id)
