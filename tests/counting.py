"""A provider that counts what it is asked, and a service over it whose clock the test moves."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import anyio

from outpaint_mcp.domain.clock import Uptime
from outpaint_mcp.domain.errors import OutpaintError, UnknownTaskError
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.record import DueTask
from outpaint_mcp.domain.request import Feature, SourceKind
from outpaint_mcp.domain.task import Cost, ResultImage, Status, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.declarations import Argument, Operation, Zoom
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.callbacks import Callbacks
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.service import Service

from .decoding import LibraryInThisProcess

START = 1_800_000_000.0
GRID, SINGLE = "grid-1", "single-1"


class MovedClock:
    """A clock that the test moves. It wakes sleepers in their turn, and advances the tasks of a service.

    `ahead` is by how much somebody has set it ahead, in seconds; below 0 it was set back.
    """

    def __init__(self, now: float = START) -> None:
        self._now = now
        self.ahead = 0.0
        self.boot = "boot-1"
        self._sleepers: list[tuple[float, anyio.Event]] = []
        self._service: Service | None = None

    def now(self) -> float:
        return self._now + self.ahead

    def monotonic(self) -> float:
        return self._now

    def uptime(self) -> Uptime:
        return Uptime(self.boot, self._now)

    async def sleep(self, seconds: float) -> None:
        sleeper = (self._now + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    async def until_asleep(self, count: int = 1) -> None:
        """Until so many wait for this clock."""
        with anyio.fail_after(10):
            while len(self._sleepers) < count:
                await anyio.wait_all_tasks_blocked()

    async def follow(self, service: Service) -> None:
        """Be what the scheduler is to a service: advance what is due."""
        self._service = service

    def leave(self, service: Service) -> None:
        """No longer advance a service that has ended."""
        if self._service is service:
            self._service = None

    async def move(self, seconds: float) -> None:
        until = self._now + seconds
        while True:
            due = await take_due(self._service) if self._service is not None else Taken([], None)
            for one in due.tasks:
                assert self._service is not None
                await self._service.due_tasks.advance(one)
            if due.tasks:
                continue
            times = [at for at, event in self._sleepers if not event.is_set()]
            if due.next_at is not None:
                times.append(due.next_at - self.ahead)
            now = min(times, default=until + 1)
            if now > until:
                break
            self._now = max(self._now, now)
            woken = [event for at, event in self._sleepers if at <= self._now and not event.is_set()]
            for event in woken:
                event.set()
            if woken:
                await anyio.wait_all_tasks_blocked()
        self._now = until


class Taken(NamedTuple):
    """The tasks of a service that were due, and when the next one is."""

    tasks: list[DueTask]
    next_at: float | None

    @property
    def ids(self) -> list[str]:
        return [one.task_id for one in self.tasks]


async def take_due(service: Service) -> Taken:
    """Take all that is due."""
    return Taken(*await service.due_tasks.take(lambda provider: 1000))


class CountingProvider(Provider):
    """A vendor in memory. It outlives the services that use it, as a vendor does.

    `on_start` and `on_poll` may raise in place of an answer, before or after the order was taken.
    """

    name = "counting"
    title = "Counting"
    docs_url = "https://example.com/docs"
    price = "$0.10 per outpaint, $0.05 per upscale"
    image_lifetime = "unknown"
    sources: ClassVar[tuple[SourceForm, ...]] = (SourceForm.GRID, SourceForm.UPSCALED)
    operations: ClassVar = {
        SourceKind.TASK: Operation(
            zoom=Zoom(1.1, 2.0),
            arguments={
                Feature.PROMPT: Argument("any"),
                Feature.IMAGE_INDEX: Argument("1 to 4"),
                Feature.SPEED: Argument("any"),
                Feature.WEBHOOK_URL: Argument("any"),
                Feature.WEBHOOK_SECRET: Argument("any"),
                Feature.PROVIDER_OPTIONS: Argument("any"),
                Feature.ASPECT_RATIO: Argument("any"),
            },
        )
    }
    first_poll = 10.0
    poll_interval = 5.0
    usual_seconds = 60.0
    usd = {StepName.OUTPAINT: 0.10, StepName.UPSCALE: 0.05}  # noqa: RUF012

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.polls: list[str] = []
        self.taken: dict[str, TaskUpdate] = {
            GRID: TaskUpdate(Status.SUCCEEDED, GRID, images=_images(4), is_grid=True),
            SINGLE: TaskUpdate(Status.SUCCEEDED, SINGLE, images=_images(1), is_grid=False),
            "single-2": TaskUpdate(Status.SUCCEEDED, "single-2", images=_images(1), is_grid=False),
        }
        self.before_start: Callable[[Order], None] = lambda order: None
        self.after_start: Callable[[Order], None] = lambda order: None
        self.on_poll: Callable[[str], None] = lambda remote_id: None

    async def start(self, order: Order) -> TaskUpdate:
        await anyio.lowlevel.checkpoint()
        self.before_start(order)
        known = next((f"r-{at}" for at, one in enumerate(self.orders) if one.key == order.key), None)
        if known is None or not self.idempotent:
            self.orders.append(order)
            known = f"r-{len(self.orders) - 1}"
            self.taken[known] = TaskUpdate(Status.QUEUED, known)
        await anyio.lowlevel.checkpoint()
        self.after_start(order)
        return self.taken[known]

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        await anyio.lowlevel.checkpoint()
        self.polls.append(remote_id)
        self.on_poll(remote_id)
        if remote_id not in self.taken:
            raise UnknownTaskError("Counting does not know it.")
        return self.taken[remote_id]

    def set(self, remote_id: str, status: Status, **changes: Any) -> None:
        self.taken[remote_id] = TaskUpdate(status, remote_id, **changes)

    def finish(self, remote_id: str, *, images: int = 1) -> None:
        self.set(
            remote_id, Status.SUCCEEDED, images=_images(images), is_grid=images > 1, cost=Cost(amount=8, unit="points")
        )


class UpscalingProvider(CountingProvider):
    """One that extends upscaled images only."""

    sources: ClassVar[tuple[SourceForm, ...]] = (SourceForm.UPSCALED,)


class IdempotentProvider(CountingProvider):
    idempotent: ClassVar[bool] = True


def _images(count: int) -> tuple[ResultImage, ...]:
    # Nothing listens there: the copying of images fails, which must hurt nothing.
    return tuple(ResultImage(f"http://127.0.0.1:9/{at}.png", "image/png", 64, 64) for at in range(count))


def raising(error: Exception, *, times: int = 1) -> Callable[[object], None]:
    """Raises `error` the first `times` times."""
    left = [times]

    def act(_: object) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise error

    return act


def service_over(
    folder: Path,
    *providers: Provider,
    clock: MovedClock,
    owner: str = "one",
    store: Store | None = None,
    jitter: Callable[[], float] = lambda: 0.5,
    callbacks: Callbacks | None = None,
    images: ImageLibrary | None = None,
    **options: Any,
) -> Service:
    return Service(
        store=store or SqliteStore(folder / "store.db", owner),
        images=images or LibraryInThisProcess(folder, roots=(folder,), allow_private=True),
        providers={one.name: one for one in providers},
        options=ServiceOptions(auto=tuple(one.name for one in providers), **options),
        clock=clock,
        jitter=jitter,
        callbacks=callbacks,
    )


@contextlib.asynccontextmanager
async def running(service: Service, clock: MovedClock) -> AsyncIterator[Service]:
    async with service.running():
        await clock.follow(service)
        try:
            yield service
        finally:
            clock.leave(service)


def refusal(error: type[OutpaintError]) -> OutpaintError:
    return error("The vendor says no.")
