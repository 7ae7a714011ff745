"""What is stored of a task: the task as it is shown, and what only the program needs of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from outpaint_mcp.domain.clock import Uptime
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.request import Webhook
from outpaint_mcp.domain.task import Cost, Status, StoredImage, Task

CLAIM_SECONDS: Final = 10.0
"""How long a task stays with a process that is at work on it and no longer says so; then another may take it over."""
LATEST_SECONDS: Final = 600.0
"""How far ahead a task is due at most."""
REUSE_SECONDS: Final = 600.0
"""How long after its success a task still answers for the same order."""
UNSENT_SECONDS: Final = 600.0
"""How long an order that was intended but never sent waits for the same call before it is released."""


class OrderState(StrEnum):
    """How far the order of one step came.

    ``intended``: on disk, nothing sent. ``sent``: the request is about to leave or has left, no answer is known.
    ``accepted`` and ``refused``: the provider's answer. ``unconfirmed``: the answer is lost, it may have been taken.
    """

    INTENDED = "intended"
    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"


class JobKind(StrEnum):
    """What a worker does of a task: having it drawn by an engine that holds the order, or copying its images."""

    DRAW = "draw"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do of a task next; what has the higher `priority` is done first."""

    kind: JobKind
    priority: int = 0


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a task: how far its order came, and its status as it is shown.

    `usd` is the price reserved for it, None where it is unknown; `reserved` says whether it counts. `cost` is what the
    provider says it took.
    """

    position: int
    name: StepName
    state: OrderState = OrderState.INTENDED
    status: Status = Status.QUEUED
    remote_id: str | None = None
    usd: float | None = None
    reserved: bool = False
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """What a provider last said of an open task's order, as it stands in the store, and how to ask it again.

    `digest` stands for the answer, `asked_at` is when it was asked, in seconds since the epoch, and `until` when the
    task's time is up.
    """

    remote_id: str
    reference: str | None
    step: StepName
    digest: str
    asked_at: float
    until: Uptime


@dataclass(frozen=True, slots=True)
class DueTask:
    """An open task whose time has come, claimed for this process; `due_at` is when it came."""

    task_id: str
    provider: str
    due_at: float
    last_answer: LastAnswer | None = None
    calls_back: bool = False


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a task's orders are sent with and may be stored nowhere in clear.

    `webhook` is the client's, `image_url` the input image's whole URL. A store that one machine has leaves them out:
    they are in the memory of the process that took the order then.
    """

    webhook: Webhook | None = field(default=None, repr=False)
    image_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    """A task and what only the program needs of it.

    `task.steps` is empty here: it is built from `steps` when the task is shown. `order` and its `identity` are None for
    a task that was imported: nobody ordered it here. `reference`, `is_grid`, `zooms` describe the result as a parent.
    `due_at` is when the task is to be advanced next, in seconds since the epoch; None when there is nothing to do.
    `copies` are the cached copies of its images, by index. `ordered_at` is when it was ordered, on the clock that
    nobody sets; None of what was imported, and of older tasks. `secrets` are None where there are none, or none are
    kept.

    Of an open task's polls, whichever process made them: `last_answer` is the last one that said something new, and
    None if the next is to be written down whatever it says; `failures` counts those in a row that got no answer;
    `calls_back` says that they may be rare, since the provider was told to call back. `waits` says that the first order
    waits for a place at the provider (`Store.take_place`), and `stays` that the process which sent the order alone can
    ask for it. `job` is what a worker is to do next; it is written with the task, and not read back.
    """

    task: Task
    client: str
    identity: str | None
    order: Order | None
    steps: tuple[StepRecord, ...]
    reference: str | None = None
    is_grid: bool | None = None
    zooms: bool | None = None
    due_at: float | None = None
    copies: Mapping[int, StoredImage] = field(default_factory=dict)
    ordered_at: Uptime | None = None
    last_answer: LastAnswer | None = None
    failures: int = 0
    calls_back: bool = False
    waits: bool = False
    stays: bool = False
    job: Job | None = None
    secrets: Secrets | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands in the store: orders by (provider, state), tasks by (provider, status).

    `used` holds what each client has ordered or reserved on the day asked for, `due` when each provider's next task is
    due, in seconds since the epoch, and `waiting` how many of its orders wait for a place. `jobs` are those of workers,
    by (kind, status), and `stalled` how many of them are a worker's that no longer says that it is alive.
    """

    orders: Mapping[tuple[str, str], int]
    tasks: Mapping[tuple[str, str], int]
    used: Mapping[str, DailyLimits]
    due: Mapping[str, float] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    stalled: int = 0
