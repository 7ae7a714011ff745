"""What is kept of tasks and orders: plain records, without a way to keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.task import Cost, Task


class OrderState(StrEnum):
    """How far one order came.

    ``intended``: on disk, nothing sent. ``sent``: the request is about to leave or has left, no answer is known.
    ``accepted`` and ``refused``: the provider's answer. ``unconfirmed``: the answer is lost, it may have been taken.
    """

    INTENDED = "intended"
    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One step's order.

    `usd` is the price reserved for it, None where it is unknown; `reserved` says whether it counts to the caps. `cost`
    is what the provider says it took.
    """

    position: int
    name: StepName
    state: OrderState = OrderState.INTENDED
    remote_id: str | None = None
    usd: float | None = None
    reserved: bool = False
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class KeptImage:
    """Which of our own copies holds an image of a task."""

    sha256: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class Record:
    """A task and what only the program needs of it.

    `plan` is the order as JSON, without anything secret. `reference` and `is_grid` describe the result as a parent.
    `due_at` is when the task is to be advanced next, in seconds since the epoch; None when there is nothing to do.
    `mine` says whether this process was the task's owner when it was read.
    """

    task: Task
    client: str
    order_hash: str | None
    plan: Mapping[str, Any]
    orders: tuple[OrderRow, ...]
    reference: str | None = None
    is_grid: bool | None = None
    due_at: float | None = None
    kept: Mapping[int, KeptImage] = field(default_factory=dict)
    mine: bool = False


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """The most that one client may order in a UTC day; None is no cap."""

    usd: float | None = None
    orders: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands in the store: orders by (provider, state), tasks by (provider, status).

    `used` holds what each client has ordered or reserved on the day asked for.
    """

    orders: Mapping[tuple[str, str], int]
    tasks: Mapping[tuple[str, str], int]
    used: Mapping[str, DailyLimits]
