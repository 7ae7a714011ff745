"""The tasks, orders and accounts of the vendors: what was ordered, and what state a task is in at a given time.

A task's state is never stored but computed from the clock, so nothing has to run for a task to move on. Knows neither
HTTP nor any vendor's names for states: here the unfinished states of a task are numbered.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from outpaint_mcp.sandbox.image_specs import Grid, ImageSpec

Kind = Literal["outpaint", "upscale", "imagine"]
"""What was ordered; an outpaint of the client's own image is an `outpaint` too."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a task ends that a fault makes fail; None stands for the vendor's usual code or message."""

    code: int | str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a task's webhooks go, as the order said; `events` are those it asked for, where a vendor lets it choose."""

    url: str
    secret: str = ""
    events: tuple[str, ...] = ()

    @classmethod
    def to(cls, url: str, secret: str = "") -> Self | None:
        """A webhook to `url`; None where the order names no URL."""
        return cls(url, secret) if url else None


@dataclass(frozen=True, slots=True)
class Stage:
    """The state of a task: `step` counts the unfinished states from 0, `progress` is 0.0 to 1.0."""

    step: int
    progress: float
    final: bool
    succeeded: bool


@dataclass(slots=True)
class Task:
    """One order that a vendor accepted.

    `state_ends` are the Unix times at which its unfinished states end, in order; `charge` is in the vendor's unit;
    `origin` is the sandbox's address as the client wrote it.
    """

    vendor: str
    id: str
    kind: Kind
    body: dict[str, Any]
    created_at: float
    state_ends: tuple[float, ...]
    images: tuple[ImageSpec, ...]
    model: str = ""
    charge: float = 0.0
    origin: str = ""
    failure: Failure | None = None
    webhook: Webhook | None = None
    webhook_status: str | None = None
    remote_id: str = ""
    cancelled_at: float | None = None
    seeded: bool = False
    foreign: bool = False

    @property
    def is_grid(self) -> bool:
        return len(self.images) == 4

    @property
    def finished_at(self) -> float:
        if self.cancelled_at is not None:
            return self.cancelled_at
        return self.state_ends[-1] if self.state_ends else self.created_at

    def failure_message(self, usual: str) -> str:
        """The reason why the task failed: `usual` unless the fault named another."""
        return (self.failure.message if self.failure else None) or usual

    def failure_code(self, usual: int | str) -> int | str:
        """The code with which the task failed: `usual` unless the fault named another."""
        code = self.failure.code if self.failure else None
        return usual if code is None else code

    @property
    def grid_image(self) -> ImageSpec:
        """The four images in one, or the single image itself."""
        return Grid.of(self.images) if self.is_grid else self.images[0]

    def stage(self, at: float) -> Stage:
        """The state of the task at Unix time `at`."""
        if self.cancelled_at is not None and at >= self.cancelled_at:
            return Stage(len(self.state_ends), 0.0, final=True, succeeded=False)
        if at >= self.finished_at:
            return Stage(len(self.state_ends), 1.0, final=True, succeeded=self.failure is None)
        step = sum(at >= end for end in self.state_ends)
        span = self.finished_at - self.created_at
        return Stage(step, min(max((at - self.created_at) / span, 0.0), 1.0), final=False, succeeded=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What a vendor counts and charges for: one accepted order."""

    vendor: str
    id: str
    kind: Kind
    path: str
    body: dict[str, Any]
    at: float


@dataclass(slots=True)
class Account:
    """One vendor's account, in that vendor's unit. What failed tasks were charged comes back when they fail."""

    balance: float
    _refunds: list[tuple[float, float]] = field(default_factory=list)

    def available(self, now: float) -> float:
        """The balance at Unix time `now`, with the refunds that are due."""
        due = [amount for at, amount in self._refunds if at <= now]
        if due:
            self._refunds = [refund for refund in self._refunds if refund[0] > now]
            self.balance += sum(due)
        return self.balance

    def charge(self, amount: float) -> None:
        self.balance -= amount

    def refund(self, amount: float, at: float) -> None:
        """Gives `amount` back at Unix time `at`."""
        self._refunds.append((at, amount))


class TaskTable:
    """The tasks of one vendor: the seeded ones and the newest `limit` others."""

    def __init__(self, limit: int, orders: "OrderLog") -> None:
        self._limit = limit
        self._orders = orders
        self._seeds: dict[str, Task] = {}
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._by_remote_id: dict[str, Task] = {}

    def seed(self, task: Task) -> None:
        self._seeds[task.id] = task
        if task.remote_id:
            self._by_remote_id[task.remote_id] = task

    def add(self, task: Task, path: str) -> None:
        """Adds an order's task, and counts the order as placed at `path`."""
        self._tasks[task.id] = task
        if task.remote_id:
            self._by_remote_id[task.remote_id] = task
        while len(self._tasks) > self._limit:
            _, oldest = self._tasks.popitem(last=False)
            self._by_remote_id.pop(oldest.remote_id, None)
        self._orders.add(Order(task.vendor, task.id, task.kind, path, task.body, task.created_at))

    def remove(self, task_id: str) -> None:
        """Forgets a task that was ordered; the order still counts."""
        self._tasks.pop(task_id, None)

    def clear(self) -> None:
        """Forgets all tasks that were ordered."""
        self._tasks.clear()

    def get(self, task_id: str) -> Task | None:
        return self._seeds.get(task_id) or self._tasks.get(task_id)

    def by_remote_id(self, remote_id: str) -> Task | None:
        return self._by_remote_id.get(remote_id)

    def ordered(self) -> Iterator[Task]:
        """The tasks that were ordered, oldest first."""
        return iter(self._tasks.values())


class OrderLog:
    """Every accepted order: the counts are exact, the list holds the newest `limit`."""

    def __init__(self, limit: int) -> None:
        self.counts: Counter[tuple[str, Kind]] = Counter()
        self._orders: deque[Order] = deque(maxlen=limit)

    def add(self, order: Order) -> None:
        self.counts[order.vendor, order.kind] += 1
        self._orders.append(order)

    def list(self, vendor: str | None = None, kind: Kind | None = None) -> tuple[Order, ...]:
        return tuple(order for order in self._orders if vendor in (None, order.vendor) and kind in (None, order.kind))
