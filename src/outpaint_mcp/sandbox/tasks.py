"""The tasks of all vendors: what was ordered, and where each one stands at a moment of the clock.

A task's state is never stored, it is computed from the clock, so nothing has to run for a task to move on. Knows
neither HTTP nor any vendor's words: a vendor gives a task a walk of unfinished states and names what comes after.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from outpaint_mcp.sandbox.pictures import Picture, Sheet

Kind = Literal["outpaint", "upscale", "imagine"]
"""What was ordered; an outpaint of one's own picture is an `outpaint` too."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a task ends that was told to fail; None leaves the vendor's usual code or words."""

    code: int | str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a task's vendor is to push, as the order said."""

    url: str
    secret: str = ""
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a task stands: `step` counts the unfinished states from 0, `progress` is 0.0 to 1.0."""

    step: int
    progress: float
    final: bool
    succeeded: bool


@dataclass(slots=True)
class Job:
    """One order that a vendor accepted. `marks` are the Unix times at which its unfinished states end, in order."""

    vendor: str
    id: str
    kind: Kind
    body: dict[str, Any]
    created_at: float
    marks: tuple[float, ...]
    pictures: tuple[Picture, ...]
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
        return len(self.pictures) == 4

    @property
    def finished_at(self) -> float:
        if self.cancelled_at is not None:
            return self.cancelled_at
        return self.marks[-1] if self.marks else self.created_at

    @property
    def sheet(self) -> Picture:
        """The four images in one, or the single image itself."""
        return Sheet.of(self.pictures) if self.is_grid else self.pictures[0]

    def stage(self, at: float) -> Stage:
        """Where the task stands at Unix time `at`."""
        if self.cancelled_at is not None and at >= self.cancelled_at:
            return Stage(len(self.marks), 0.0, final=True, succeeded=False)
        if at >= self.finished_at:
            return Stage(len(self.marks), 1.0, final=True, succeeded=self.failure is None)
        step = sum(at >= mark for mark in self.marks)
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
        due = [amount for at, amount in self._refunds if at <= now]
        if due:
            self._refunds = [refund for refund in self._refunds if refund[0] > now]
            self.balance += sum(due)
        return self.balance

    def charge(self, amount: float) -> None:
        self.balance -= amount

    def refund(self, amount: float, at: float) -> None:
        self._refunds.append((at, amount))


class TaskBook:
    """The tasks of one vendor, the newest `limit` of them besides the seeded ones."""

    def __init__(self, limit: int, orders: "OrderLog") -> None:
        self._limit = limit
        self._orders = orders
        self._seeds: dict[str, Job] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._by_remote_id: dict[str, Job] = {}

    def seed(self, job: Job) -> None:
        self._seeds[job.id] = job
        if job.remote_id:
            self._by_remote_id[job.remote_id] = job

    def add(self, job: Job, path: str) -> None:
        """Takes an order's task in and counts the order."""
        self._jobs[job.id] = job
        if job.remote_id:
            self._by_remote_id[job.remote_id] = job
        while len(self._jobs) > self._limit:
            _, oldest = self._jobs.popitem(last=False)
            self._by_remote_id.pop(oldest.remote_id, None)
        self._orders.add(Order(job.vendor, job.id, job.kind, path, job.body, job.created_at))

    def get(self, job_id: str) -> Job | None:
        return self._seeds.get(job_id) or self._jobs.get(job_id)

    def by_remote_id(self, remote_id: str) -> Job | None:
        return self._by_remote_id.get(remote_id)

    def ordered(self) -> Iterator[Job]:
        """The tasks that were ordered, oldest first."""
        return iter(self._jobs.values())


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
