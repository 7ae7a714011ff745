"""The use cases: outpaint, get_task, list_providers, the images. Knows neither MCP nor HTTP."""

import contextlib
import random
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, ProviderUnavailableError, UnknownTaskError
from outpaint_mcp.domain.order import InputImage, StepName
from outpaint_mcp.domain.provider_info import ProviderInfo
from outpaint_mcp.domain.record import DailyLimits, OrderRow, OrderState, Record
from outpaint_mcp.domain.request import AUTO, OutpaintRequest, Webhook
from outpaint_mcp.domain.task import OnProgress, Status, Step, Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.storage.store import UNSENT_SECONDS, Store
from outpaint_mcp.tasks.lifecycle import OnSchedule, ServiceOptions, TaskLifecycle
from outpaint_mcp.tasks.resolver import Resolver, Understood
from outpaint_mcp.tasks.transitions import new_id, updated, with_kept
from outpaint_mcp.tasks.view import view

__all__ = ["LOCAL_CLIENT", "OnProgress", "ProviderInfo", "Service", "ServiceOptions"]

T = TypeVar("T")

LOCAL_CLIENT = "local"
"""The client on stdio and on the command line."""

PLACING_SECONDS = 20.0
"""How long a call waits at least for the provider's answer to its order, so that a refusal reaches the client."""
LAST_ANSWER_SECONDS = 3.0
"""How long a call still waits for the provider's answer to its order when the server stops."""
PROGRESS_SECONDS = 4.0
"""How often a waiting call reports progress at the least (SPEC: every 5 s)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What an operator watches: orders by (provider, state), tasks by (provider, status), calls being answered.

    `left` holds what each client who ordered today may still order.
    """

    orders: Mapping[tuple[str, str], int]
    tasks: Mapping[tuple[str, str], int]
    left: Mapping[str, DailyLimits]
    calls: int


class Service:
    """The use cases over one store, one set of providers and one folder of pictures.

    Args:
        providers: by name; the order is that of `list_providers`.

    `stopping` says that no more orders are taken.
    """

    def __init__(
        self,
        *,
        store: Store,
        pictures: ImageLibrary,
        providers: Mapping[str, Provider],
        options: ServiceOptions,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._providers = providers
        self._options = options
        self._clock = clock or SystemClock()
        self._orders = TaskLifecycle(
            store=store, pictures=pictures, providers=providers, options=options, clock=self._clock, jitter=jitter
        )
        self._orders.on_change = self.changed
        self.schedule: OnSchedule = lambda task_id, due_at, provider: None
        self._orders.on_schedule = lambda task_id, due_at, provider: self.schedule(task_id, due_at, provider)
        self._changed: weakref.WeakValueDictionary[str, _Change] = weakref.WeakValueDictionary()
        self._seen_change: int | None = None
        self.stopping = False
        self._calls = 0
        self._idle = anyio.Event()
        self._waits: dict[anyio.CancelScope, float] = {}
        self.on_change: Callable[[str], None] = lambda task_id: None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What the service needs while it serves. On the way out, orders that are being sent get their answer first."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._pictures)
            for provider in self._providers.values():
                await stack.enter_async_context(provider.running())
            stack.push_async_callback(self._close_store)
            await stack.enter_async_context(self._orders.running())
            yield

    async def _close_store(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._store.aclose()

    async def stop(self, seconds: float) -> None:
        """Take no more orders, and send everybody who waits home with the task as it stands.

        Returns when nobody waits any more, after `seconds` at the latest.
        """
        self.stopping = True
        for scope, grace in self._waits.items():
            scope.deadline = anyio.current_time() + grace
        with anyio.move_on_after(seconds):
            if self._calls:
                await self._idle.wait()

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls and self.stopping:
                self._idle.set()

    # The use cases

    async def outpaint(
        self,
        request: OutpaintRequest,
        *,
        client: str = LOCAL_CLIENT,
        wait_seconds: float = 0,
        on_progress: OnProgress | None = None,
    ) -> Task:
        """Order an outpaint and wait for it.

        Args:
            request: what is asked for.
            client: who asks; the same order is the same only for the same client.
            wait_seconds: how long to wait for the task to become final.
            on_progress: told percent and a message while waiting.

        Raises:
            OutpaintError: the order was refused, by us or by the provider; it was certainly not placed.
        """
        with self._call():
            return await self._outpaint(request, client, wait_seconds, on_progress)

    async def _outpaint(
        self, request: OutpaintRequest, client: str, wait_seconds: float, on_progress: OnProgress | None
    ) -> Task:
        began = self._clock.now()
        progress = _Progress(on_progress, self._clock)
        understood = await progress.during(self._resolver(client).understand(request), "reading the request")
        if self.stopping:
            raise ProviderUnavailableError("The server is stopping.", "Nothing was ordered. Call again in a minute.")
        record, may_send = await self._claim(understood, client)
        task_id = record.task.id
        if may_send:
            self._orders.place(record, understood)
        elif record.orders[0].state is OrderState.INTENDED and not record.task.status.is_final:
            self._orders.place_when_free(record, understood)
        else:
            self._orders.wanted(record)
        with self._until_stopped(grace=LAST_ANSWER_SECONDS):
            answered = self._orders.placed(task_id, max(wait_seconds, PLACING_SECONDS))
            await progress.during(answered, f"{record.task.provider}: placing the order")
        remaining = wait_seconds - (self._clock.now() - began)
        record = await self._wait(task_id, remaining, progress) or record
        notes: tuple[str, ...] = ()
        if not may_send:
            notes = (
                "This is the task of the same order, placed before: nothing new was ordered. "
                "repeat=true orders it anew, once this one is final.",
            )
        return self._view(record, notes)

    async def _claim(self, understood: Understood, client: str) -> tuple[Record, bool]:
        """The task that stands for an order, and whether its first order is ours to send."""

        async def claim() -> tuple[Record, bool]:
            return await self._store.claim(
                self._new_record(understood, client),
                now=self._clock.now(),
                repeat=understood.request.repeat,
                caps=self._options.caps,
                count_orders=understood.provider.costs_money,
            )

        record, may_send = await claim()
        if may_send and self._clock.now() - record.task.created_at.timestamp() >= UNSENT_SECONDS:
            # Intended long ago and never sent: it is released, and this is an order of today.
            await self._orders.advance(record.task.id)
            return await claim()
        return record, may_send

    async def get_task(
        self,
        task_id: str,
        *,
        provider: str | None = None,
        client: str = LOCAL_CLIENT,
        wait_seconds: float = 0,
        on_progress: OnProgress | None = None,
    ) -> Task:
        """The state of a task, after waiting for it to become final for at most `wait_seconds`.

        Raises:
            UnknownTaskError: there is none with this id, or it is another client's.
            InvalidRequestError: there is no such provider, or the task is not its.
            OutpaintError: a provider's own id could not be looked up.
        """
        with self._call():
            record = await self._find(task_id, provider or AUTO, client)
            if provider is not None and record.task.provider != provider:
                own = record.task.provider
                raise InvalidRequestError(
                    f"The task {record.task.id} is of {own}, not of {provider}.", f"Leave provider out, or give {own}."
                )
            self._orders.wanted(record)
            if wait_seconds > 0:
                progress = _Progress(on_progress, self._clock)
                record = await self._wait(record.task.id, wait_seconds, progress) or record
            return self._view(record)

    async def status_of(self, task_id: str) -> tuple[str, Status] | None:
        """Whose a task is and its status, for telling those who watch it; None if there is none."""
        record = await self._store.get(task_id)
        return None if record is None else (record.client, record.task.status)

    async def recent(self, *, client: str = LOCAL_CLIENT, limit: int = 20) -> list[Task]:
        """The client's newest tasks, newest first."""
        return [self._view(record) for record in await self._store.recent(client, limit)]

    def list_providers(self) -> list[ProviderInfo]:
        """Who can do what, in the order in which `auto` tries them."""
        return [
            ProviderInfo(
                name=one.name,
                title=one.title,
                configured=not one.needs,
                needs=one.needs,
                features={
                    kind.value: {feature.value: words for feature, words in one.limits(kind).items()}
                    for kind in one.features
                },
                zoom={kind.value: str(limits) for kind, limits in one.zoom.items()},
                source=one.sources,
                price=one.price,
                image_lifetime=one.image_lifetime,
                note=one.note,
                docs_url=one.docs_url,
            )
            for one in self._providers.values()
        ]

    async def image(self, task_id: str, index: int, *, client: str = LOCAL_CLIENT) -> tuple[bytes, str]:
        """The bytes and the MIME type of one image of a task, from our own copy or else fetched and kept.

        Raises:
            UnknownTaskError: there is no such task or image.
            InvalidImageError: the provider's URL gives no picture (any more).
        """
        record = await self._find(task_id, AUTO, client)
        wanted = next((image for image in record.task.images if image.index == index), None)
        if wanted is None:
            raise UnknownTaskError(f"The task {record.task.id} has no image {index}.", "See the task's images.")
        kept = record.kept.get(index)
        if kept is not None and (data := await self._pictures.load(kept.sha256, kept.mime_type)) is not None:
            return data, kept.mime_type
        fresh = await self._orders.copy_of(record.task.provider, wanted.url)
        if await self._store.own(record.task.id, now=self._clock.now()):
            record = await self._store.get(record.task.id) or record
            await self._store.save(with_kept(record, {index: fresh}), durable=False)
            self.changed(task_id)
        return await anyio.Path(fresh.path).read_bytes(), fresh.mime_type

    async def preview(self, task_id: str, *, client: str = LOCAL_CLIENT) -> bytes | None:
        """A small JPEG of a task's first image, if there is one on this machine."""
        record = await self._find(task_id, AUTO, client)
        kept = record.kept.get(1)
        if kept is None:
            return None
        try:
            return await self._pictures.preview(kept.sha256, kept.mime_type)
        except OutpaintError:
            return None

    async def figures(self) -> Figures:
        """How much there is of what, for the operator.

        Raises:
            ConfigurationError: the store cannot be read.
        """
        counts = await self._store.counts(self._clock.now())
        caps = self._options.caps
        left = {
            client: DailyLimits(
                None if caps.usd is None else max(0.0, caps.usd - (used.usd or 0)),
                None if caps.orders is None else max(0, caps.orders - (used.orders or 0)),
            )
            for client, used in counts.used.items()
        }
        return Figures(counts.orders, counts.tasks, left, self._calls)

    async def check(self) -> None:
        """Whether the store can be used.

        Raises:
            ConfigurationError: it cannot.
        """
        await self._store.last_change()

    # Callbacks

    def call_back_to(self, callback_for: Callable[[str, str], Webhook]) -> None:
        """Have providers call back when an order is done.

        Args:
            callback_for: where, given a provider's name and a task's id.
        """
        self._orders.callback_for = callback_for

    def callback_token(self, provider: str, task_id: str) -> str:
        """What marks a provider's callback about a task as genuine."""
        return self._providers[provider].callback_token(task_id)

    async def task_called_about(self, provider: str, headers: Mapping[str, str], body: bytes) -> str:
        """Our id of the task that a provider's callback is about.

        Args:
            provider: who is said to call.
            headers: of the call, in lower case.
            body: of the call, as it came.

        Raises:
            OutpaintError: it is about no task, or its signature is wrong.
        """
        found = self._providers.get(provider)
        if found is None:
            raise UnknownTaskError("There is no such provider.")
        record = await self._store.find_remote(provider, found.called_back(headers, body))
        if record is None:
            raise UnknownTaskError("There is no such task.")
        return record.task.id

    async def called_back(self, task_id: str) -> None:
        """A provider says that something became of a task: it is asked now, unless the task is final."""
        record = await self._store.get(task_id)
        if record is not None and not record.task.status.is_final:
            self._orders.called_back(record.task)

    # Understanding

    def _resolver(self, client: str) -> Resolver:
        async def find(task_id: str, provider: str) -> Record:
            return await self._find(task_id, provider, client)

        async def read(reference: str) -> InputImage:
            return await self._pictures.read(reference, paths_allowed=self._options.paths_allowed)

        return Resolver(
            self._providers,
            auto=self._options.auto,
            may_leave=self._options.may_leave,
            find_task=find,
            read_image=read,
            image_of=self._image_of,
            prices=self._options.prices,
        )

    async def _find(self, task_id: str, provider: str, client: str) -> Record:
        """A task by our id, or by its provider's own; the latter is adopted if it is not in the store yet."""
        if provider != AUTO and provider not in self._providers:
            raise InvalidRequestError(f"There is no provider {provider[:60]!r}.", f"Use {', '.join(self._providers)}.")
        if task_id.startswith("op-"):
            record = await self._store.get(task_id)
            if record is None or record.client != client:
                raise UnknownTaskError(f"There is no task {task_id[:80]!r}.")
            return record
        if provider == AUTO:
            raise UnknownTaskError(
                f"{task_id[:80]!r} is not one of this server's ids (op-...).",
                "If it is a provider's own id, name the provider.",
            )
        known = await self._store.find_remote(provider, task_id, client, last=True)
        if known is not None:
            return known
        other = await self._store.find_remote(provider, task_id)
        # The first step of a task of the client's own is taken in as a task by itself: its image has been paid too.
        mine = other is not None and other.client == client
        if not mine and (other is not None or not self._options.adopt):
            raise UnknownTaskError(f"There is no task {task_id[:80]!r} of {provider}.")
        return await self._adopt(self._providers[provider], task_id, client)

    async def _adopt(self, provider: Provider, remote_id: str, client: str) -> Record:
        """Take a task in that was made elsewhere."""
        update = await provider.poll(remote_id)
        now = self._clock.now()
        at = datetime.fromtimestamp(now, UTC)
        task = Task(
            id=new_id(),
            provider=provider.name,
            remote_id=remote_id,
            status=Status.QUEUED,
            request={"provider": provider.name, "task_id": remote_id},
            steps=(Step(name=StepName.OUTPAINT, remote_id=remote_id, status=Status.QUEUED),),
            notes=("This task was made elsewhere and taken in by its provider's own id.",),
            created_at=at,
            updated_at=at,
        )
        row = OrderRow(0, StepName.OUTPAINT, OrderState.ACCEPTED, remote_id)
        record = Record(task, client, None, {}, (row,), due_at=now)
        record = updated(record, 0, replace(update, remote_id=remote_id), provider, at)
        if record.task.status is Status.SUCCEEDED:
            record = await self._orders.kept(record)
        record = await self._store.adopt(record, now=now)
        if record.due_at is not None:
            self.schedule(record.task.id, record.due_at, provider.name)
        return record

    async def _image_of(self, record: Record, index: int) -> InputImage:
        """An image of a finished task as a picture of one's own, by its URL if that is public."""
        image = next((one for one in record.task.images if one.index == index), None)
        if image is None:
            raise InvalidRequestError(f"The task {record.task.id} has no image {index}.")
        kept = record.kept.get(index)
        here = kept is not None and await anyio.Path(self._pictures.path_of(kept.sha256, kept.mime_type)).exists()
        if kept is None or not here or image.width is None or image.height is None:
            fresh = await self._orders.copy_of(record.task.provider, image.url)
            sha256, mime_type, width, height = fresh.sha256, fresh.mime_type, fresh.width, fresh.height
        else:
            sha256, mime_type, width, height = kept.sha256, kept.mime_type, image.width, image.height
        path = anyio.Path(self._pictures.path_of(sha256, mime_type))
        url = image.url if image.url.startswith(("http://", "https://")) else None
        return InputImage(sha256, mime_type, width, height, str(path), url, (await path.stat()).st_size)

    def _new_record(self, understood: Understood, client: str) -> Record:
        now = self._clock.now()
        at = datetime.fromtimestamp(now, UTC)
        task = Task(
            id=new_id(),
            provider=understood.provider.name,
            status=Status.QUEUED,
            request=understood.echo(),
            steps=tuple(Step(name=name, status=Status.QUEUED) for name in understood.steps),
            notes=understood.notes,
            created_at=at,
            updated_at=at,
        )
        request = understood.request
        if isinstance(understood.source, InputImage):
            # Another provider's image costs what a picture of one's own does.
            request = replace(request, task_id=None, image=understood.source.path)
        usd = understood.provider.usd_for(request)
        orders = tuple(
            OrderRow(position, name, usd=self._options.prices.get(understood.provider.name, usd.get(name)))
            for position, name in enumerate(understood.steps)
        )
        return Record(
            task, client, understood.order_hash(client), understood.plan(), orders, due_at=now + UNSENT_SECONDS
        )

    async def renew(self) -> list[tuple[str, float, str]]:
        """Say that this process is alive; returns the open tasks taken over from others: id, due time, provider."""
        return await self._store.renew(now=self._clock.now())

    async def tidy(self) -> None:
        """Delete pictures that are older than the operator keeps them, and the oldest beyond the size cap."""
        await self._pictures.prune(
            older_than_days=self._options.keep_images_days,
            max_bytes=self._options.keep_images_bytes,
            keep=await self._store.open_sources(),
        )

    async def advance(self, task_id: str) -> float | None:
        """Do the next thing for a task; returns when the one after is due, in seconds since the epoch, or None."""
        return await self._orders.advance(task_id)

    # Waiting

    def changed(self, task_id: str) -> None:
        """Wake whoever waits for a task, and say that it changed."""
        if (change := self._changed.pop(task_id, None)) is not None:
            change.event.set()
        self.on_change(task_id)

    async def look_around(self) -> None:
        """Tell of every task that any process changed since the last time."""
        if self._seen_change is None:
            self._seen_change = await self._store.last_change()
            return
        self._seen_change, changed = await self._store.changes(self._seen_change)
        for task_id in changed:
            self.changed(task_id)

    async def _wait(self, task_id: str, seconds: float, progress: "_Progress") -> Record | None:
        """Wait until a task ends a wait, for at most `seconds`, reporting progress."""
        deadline = self._clock.now() + seconds
        while True:
            change = self._changed.setdefault(task_id, _Change())
            record = await self._store.get(task_id)
            remaining = deadline - self._clock.now()
            if record is None or record.task.status.ends_a_wait or remaining <= 0 or self.stopping:
                return record
            await progress.report(self._percent(record), f"{record.task.provider}: {record.task.status.value}")
            with self._until_stopped():
                await self._pause(change.event, min(remaining, PROGRESS_SECONDS))

    async def _pause(self, event: anyio.Event, seconds: float) -> None:
        """Until the event or for `seconds` by the service's clock."""
        async with anyio.create_task_group() as either:

            async def sleep() -> None:
                await self._clock.sleep(seconds)
                either.cancel_scope.cancel()

            either.start_soon(sleep)
            await event.wait()
            either.cancel_scope.cancel()

    @contextlib.contextmanager
    def _until_stopped(self, *, grace: float = 0.0) -> Iterator[None]:
        """A block that is left, whatever it waits for, `grace` seconds after the service began to stop."""
        with anyio.CancelScope() as scope:
            self._waits[scope] = grace
            if self.stopping:
                scope.deadline = anyio.current_time() + grace
            try:
                yield
            finally:
                del self._waits[scope]

    def _percent(self, record: Record) -> float:
        if record.task.progress is not None:
            return record.task.progress
        provider = self._providers.get(record.task.provider)
        usual = 60.0 if provider is None else provider.usual_seconds
        return min(95.0, 95 * (self._clock.now() - record.task.created_at.timestamp()) / usual)

    def _view(self, record: Record, notes: tuple[str, ...] = ()) -> Task:
        return view(record, notes, paths=self._options.paths_allowed)


class _Change:
    """The next change of a task; alive as long as somebody waits for it."""

    def __init__(self) -> None:
        self.event = anyio.Event()


class _Progress:
    """What one call tells of its progress: ever more, and at least every PROGRESS_SECONDS."""

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
        await self._on_progress(percent, message)

    async def during(self, work: Awaitable[T], message: str) -> T:
        """Wait for `work`, and say so meanwhile."""
        if self._on_progress is None:
            return await work
        outcome: list[T] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as both:
            both.start_soon(self._tell, message)
            try:
                outcome.append(await work)
            except Exception as error:
                # Carried out of the task group by hand, which would wrap it.
                failure = error
            both.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return outcome[0]

    async def _tell(self, message: str) -> None:
        while True:
            await self._clock.sleep(PROGRESS_SECONDS)
            await self.report(0, message)
