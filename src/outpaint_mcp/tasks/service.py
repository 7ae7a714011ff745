"""The use cases: outpaint, get_task, list_providers, the images, callbacks. Knows neither MCP nor HTTP."""

import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.errors import InvalidRequestError, ProviderUnavailableError, UnknownTaskError
from outpaint_mcp.domain.events import TaskEvents
from outpaint_mcp.domain.provider_info import ProviderInfo
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import AUTO, OutpaintRequest
from outpaint_mcp.domain.task import OnProgress, Status, Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.small_copy import SmallCopy
from outpaint_mcp.providers.base import Provider, look_at
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.background import Background
from outpaint_mcp.tasks.callbacks import Callbacks
from outpaint_mcp.tasks.due_tasks import DueTasks
from outpaint_mcp.tasks.figures import Figures, figures
from outpaint_mcp.tasks.finding import TaskFinder, is_ours
from outpaint_mcp.tasks.image_copies import ImageCopies
from outpaint_mcp.tasks.image_links import ImageLinks
from outpaint_mcp.tasks.jobs import Jobs
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.lifecycle import TaskLifecycle
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.order_taker import Ask, OrderTaker
from outpaint_mcp.tasks.poll_times import Following, PollTimes
from outpaint_mcp.tasks.resolver import Resolver
from outpaint_mcp.tasks.sending import OrderSender
from outpaint_mcp.tasks.source_finder import SourceFinder
from outpaint_mcp.tasks.tidying import tidy
from outpaint_mcp.tasks.view import percent, view
from outpaint_mcp.tasks.waiting import PROGRESS_SECONDS, Progress, Waits

__all__ = ["LOCAL_CLIENT", "OnProgress", "ProviderInfo", "Service", "ServiceOptions"]

LOCAL_CLIENT: Final = "local"
"""The client on stdio and on the command line."""

WRITING_SECONDS: Final = 0.4
"""How long writing the order down may take though the call's time is up: without it the client has no id."""
LEAST_SECONDS: Final = 3.0
"""How long a call may always take to read the source and place the order: who does not wait hears of a refusal too."""
LAST_ANSWER_SECONDS: Final = 3.0
"""How long a call still waits for the provider's answer to its order when the server stops."""


class Service:
    """The use cases over one store, one set of providers and one folder of images.

    Args:
        store: where tasks are kept.
        images: the images of this machine.
        providers: by name; the order is that of `list_providers`.
        options: the operator's.
        events: where every change of a task is published.
        clock: when it is.
        jitter: a random number from 0 to 1.
        callbacks: our own webhooks; by default at the options' public URL.
        links: where the copies of images are given out over HTTP, if they are.
    """

    def __init__(
        self,
        *,
        store: Store,
        images: ImageLibrary,
        providers: Mapping[str, Provider],
        options: ServiceOptions,
        events: TaskEvents | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        callbacks: Callbacks | None = None,
        links: ImageLinks | None = None,
    ) -> None:
        self._store = store
        self._images = images
        self._providers = providers
        self._options = options
        self._links = links
        self._clock = clock or SystemClock()
        self._callbacks = callbacks or Callbacks(options.public_url)
        self.events = events or TaskEvents()
        self._ledger = Ledger(store, self.events, self._clock)
        self._waits = Waits(self.events, self._clock)
        times = PollTimes(options.poll, jitter)
        self.following = Following(providers, times, options.keep_tasks_days)
        self._copies = ImageCopies(images, providers, self._clock)
        jobs = Jobs(ledger=self._ledger, providers=providers, workers=options.workers, max_waiting=options.max_waiting)
        self._finder = TaskFinder(ledger=self._ledger, providers=providers, import_tasks=options.import_tasks)
        self._sender = OrderSender(
            ledger=self._ledger,
            images=images,
            copies=self._copies,
            providers=providers,
            callbacks=self._callbacks,
            times=times,
            jobs=jobs,
            max_in_flight=options.max_in_flight,
        )
        self._lifecycle = TaskLifecycle(
            ledger=self._ledger,
            sender=self._sender,
            copies=self._copies,
            providers=providers,
            times=times,
            jobs=jobs,
            task_timeout=options.task_timeout,
        )
        self._background = Background()
        resolver = Resolver(providers, auto=options.auto, may_leave=options.may_leave, prices=options.prices)
        self._orders = OrderTaker(
            ledger=self._ledger,
            sources=SourceFinder(
                ledger=self._ledger,
                tasks=self._finder,
                resolver=resolver,
                images=images,
                copies=self._copies,
                paths_allowed=options.paths_allowed,
                links=links,
            ),
            resolver=resolver,
            sender=self._sender,
            lifecycle=self._lifecycle,
            background=self._background,
            providers=providers,
            options=options,
        )
        self.due_tasks = DueTasks(
            ledger=self._ledger, lifecycle=self._lifecycle, providers=providers, events=self.events
        )

    @property
    def stopping(self) -> bool:
        """Whether no more orders are taken."""
        return self._waits.stopping

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What the service needs while it serves. On the way out, orders that are being sent get their answer first."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._images)
            for provider in self._providers.values():
                await stack.enter_async_context(provider.running())
            stack.push_async_callback(self._close_store)
            await stack.enter_async_context(self._sender.running())
            await stack.enter_async_context(self._background.running())
            yield

    async def _close_store(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._store.aclose()

    async def stop(self, seconds: float) -> None:
        """Take no more orders, and have everybody who waits return with the task as it stands.

        Returns when nobody waits any more, after `seconds` at the latest.
        """
        await self._waits.stop(seconds)

    # The use cases

    async def outpaint(
        self,
        request: OutpaintRequest,
        *,
        client: str = LOCAL_CLIENT,
        wait_seconds: float = 0,
        advised_wait: float | None = None,
        at_least: float = 0,
        on_progress: OnProgress | None = None,
        ask: Ask | None = None,
    ) -> Task:
        """Order an outpaint and wait for it.

        Args:
            request: what is asked for.
            client: who asks; the same order is the same only for the same client.
            wait_seconds: how long to wait for the task to become final. Whatever is slow, the call returns after this
                time or `LEAST_SECONDS`; the order goes on.
            advised_wait: the `wait_seconds` that the task advises to ask for it with.
            at_least: how long the call may take in any case until the provider has answered the order.
            on_progress: told percent and a message while waiting.
            ask: puts a question to the user; None where that is not possible.

        Raises:
            NotReadyError: the source was not read in that time; the same call again goes on with it.
            OutpaintError: the order was refused, by us or by the provider; it was certainly not placed.
        """
        with self._waits.call():
            began = self._clock.monotonic()
            progress = Progress(on_progress, self._clock)

            def left(least: float) -> float:
                return max(0.0, max(wait_seconds, least) - (self._clock.monotonic() - began))

            reading = self._orders.read(request, client, left(max(at_least, LEAST_SECONDS)))
            order, read, notes = await progress.during(reading, "reading the request")
            if ask is not None:
                await self._orders.confirm(order, client, ask, repeat=request.repeat)
            if self.stopping:
                raise ProviderUnavailableError(
                    "The server is stopping.", "Nothing was ordered. Call again in a minute."
                )
            writing = max(WRITING_SECONDS, left(max(at_least, LEAST_SECONDS)))
            record, may_send = await self._orders.take(order, (*read, *notes), client, writing, repeat=request.repeat)
            task_id = record.task.id
            with self._waits.until_stopped(grace=LAST_ANSWER_SECONDS):
                answered = self._sender.placed(task_id, left(max(at_least, LEAST_SECONDS)))
                await progress.during(answered, f"{record.task.provider}: placing the order")
            record = await self._wait(task_id, left(0), progress) or record
            if may_send:
                return self._view(record, wait_seconds=advised_wait)
            again = "repeat=true orders it anew" + (
                "." if record.task.status.ends_a_wait else ", once this one is final."
            )
            note = f"This is the task of the same order, placed before: nothing new was ordered. {again}"
            return self._view(record, *read, note, wait_seconds=advised_wait)

    async def get_task(
        self,
        task_id: str,
        *,
        provider: str | None = None,
        client: str = LOCAL_CLIENT,
        wait_seconds: float = 0,
        advised_wait: float | None = None,
        at_least: float = 0,
        on_progress: OnProgress | None = None,
    ) -> Task:
        """The state of a task, after waiting for it to become final for at most `wait_seconds`; see `outpaint`.

        Raises:
            NotReadyError: a provider's own id was not looked up in that time (or `LEAST_SECONDS`).
            UnknownTaskError: there is none with this id, or it is another client's.
            InvalidRequestError: there is no such provider, or the task is not its.
            OutpaintError: a provider's own id could not be looked up.
        """
        with self._waits.call():
            began = self._clock.monotonic()

            async def find() -> Record:
                return await self._finder.find(task_id, provider or AUTO, client)

            if is_ours(task_id):
                record = await find()
            else:
                record = await self._background.within(
                    max(wait_seconds, at_least, LEAST_SECONDS),
                    find,
                    client=client,
                    key=f"{provider} {task_id}",
                    what="Looking the id up",
                )
            if provider is not None and record.task.provider != provider:
                own = record.task.provider
                raise InvalidRequestError(
                    f"The task {record.task.id} is of {own}, not of {provider}.", f"Leave provider out, or give {own}."
                )
            await self._lifecycle.wanted(record)
            if wait_seconds > 0:
                progress = Progress(on_progress, self._clock)
                remaining = wait_seconds - (self._clock.monotonic() - began)
                record = await self._wait(record.task.id, remaining, progress) or record
            return self._view(record, wait_seconds=advised_wait)

    async def recent(self, *, client: str = LOCAL_CLIENT, limit: int = 20) -> list[Task]:
        """The client's newest tasks, newest first."""
        return [self._view(record) for record in await self._store.recent(client, limit)]

    async def task_ids(self, prefix: str, *, client: str, limit: int, status: Status | None = None) -> list[str]:
        """The ids of the client's tasks that begin with a prefix, newest first; of one status if it is given."""
        return await self._store.ids(client, prefix, limit, status)

    async def list_providers(self) -> list[ProviderInfo]:
        """Who can do what, in the order in which `auto` tries them. The operator's own engines are asked, briefly."""
        await look_at(self._providers.values())
        return [one.info() for one in self._providers.values()]

    async def image(
        self, task_id: str, index: int, *, client: str = LOCAL_CLIENT, small: SmallCopy | None = None
    ) -> tuple[bytes, str]:
        """The bytes and the MIME type of one image of a task, or of a small copy of it; fetched and cached if need be.

        Raises:
            UnknownTaskError: there is no such task or image.
            InvalidImageError: the provider's URL gives no image (any more).
        """
        record = await self._finder.find(task_id, AUTO, client)
        data, mime_type, fetched = await self._copies.bytes_of(record, index, small)
        if fetched is not record:
            await self._ledger.add_copies(record.task.id, {index: fetched.copies[index]})
        return data, mime_type

    async def linked_image(self, token: str, name: str) -> tuple[anyio.Path, str]:
        """The file and the MIME type of the image at an address of ours, whoever asks for it.

        Raises:
            UnknownTaskError, ExpiredLinkError: there is no such address (any more).
            OutpaintError: the image cannot be had just now.
        """
        if self._links is None:
            raise UnknownTaskError("This server gives out no images.", "Read the image's resource.")
        task_id, index = self._links.judged(token, name)
        return await self._copies.file_of(await self._store.get(task_id), index)

    async def preview(self, task_id: str, *, client: str = LOCAL_CLIENT) -> bytes | None:
        """A small JPEG of a task's first image, if there is one on this machine."""
        return await self._copies.preview_of(await self._finder.find(task_id, AUTO, client), client)

    # For the operator

    async def figures(self) -> Figures:
        """How much there is of what.

        Raises:
            ConfigurationError: the store cannot be read.
        """
        return await figures(self._ledger, self._options.daily_limits, self._waits.calls, self._providers)

    async def check(self) -> None:
        """Whether the store can be used.

        Raises:
            ConfigurationError: it cannot.
        """
        await self._store.check()

    # For vendors

    def may_call_back(self, provider: str, token: str) -> bool:
        """Whether a callback that comes to this URL can be genuine, as far as the URL tells."""
        found = self._providers.get(provider)
        return found is not None and self._callbacks.may_be_genuine(found, token)

    async def handle_callback(self, provider: str, token: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Poll the task that a callback is about, if the callback is genuine; returns whether it is.

        `provider` and `token` are from its URL; the names of `headers` are in lower case.
        """
        found = self._providers.get(provider)
        if found is None:
            return False
        record = await self._callbacks.record_of(found, token, headers, body, self._store)
        if record is None:
            return False
        if self._callbacks.counts(record.task.id) and not record.task.status.is_final:
            await self._lifecycle.called_back(record)
        return True

    # For the scheduler

    async def tidy(self, *, shared: bool | None = None) -> None:
        """Delete what is older than the operator keeps it; `shared`: what all machines have too, if no worker does."""
        shared, now = not self._options.workers if shared is None else shared, self._clock.now()
        await tidy(self._store, self._images, self._providers.values(), self._options, now=now, shared=shared)

    async def put_owed(self) -> None:
        """Give the bucket the images that it did not take before."""
        await self._images.put_owed()

    async def work(self, at_once: int) -> None:
        """Do what servers leave to workers, until it is cancelled: so many jobs at once.

        Raises:
            ConfigurationError: the store has no jobs.
        """
        await self._store.work(self._lifecycle.work, functools.partial(self.tidy, shared=True), at_once=at_once)

    async def _wait(self, task_id: str, seconds: float, progress: Progress) -> Record | None:
        """Wait until a task ends a wait, for at most `seconds`, reporting progress."""
        deadline = self._clock.monotonic() + seconds
        with self.events.watching(task_id):
            while True:
                change = self._waits.next_change(task_id)
                record = await self._store.get(task_id)
                remaining = deadline - self._clock.monotonic()
                if record is None or record.task.status.ends_a_wait or remaining <= 0 or self.stopping:
                    return record
                told = percent(record, self._providers.get(record.task.provider), self._clock.now())
                await progress.report(told, f"{record.task.provider}: {record.task.status.value}")
                await self._waits.until_changed(change, min(remaining, PROGRESS_SECONDS))

    def _view(self, record: Record, *notes: str, wait_seconds: float | None = None) -> Task:
        return view(
            record,
            notes,
            shown=self._images.shown if self._options.paths_allowed else None,
            provider=self._providers.get(record.task.provider),
            wait_seconds=wait_seconds,
            links=self._links,
        )
