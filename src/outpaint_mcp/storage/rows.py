"""Rows of the store to records and back. Pure: the same for every database."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from outpaint_mcp.domain.clock import Uptime
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.record import OrderState, Record, StepRecord
from outpaint_mcp.domain.task import Cost, Status, StoredImage, Task
from outpaint_mcp.storage import due

TASK_COLUMNS: Final = (
    "task, caller, order_hash, plan, tasks.reference, is_grid, tasks.provider, tasks.boot, uptime, zooms,"
    f" due.due_at, failures, {due.COLUMNS}"
)
"""Of `tasks` and what `due` has of it."""
UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""What reading a row raises that does not hold what was written."""
STEP_COLUMNS: Final = "position, name, state, remote_id, usd, reserved, cost, status"


DAY_SECONDS: Final = 86_400


def day_of(now: float) -> str:
    """The UTC day that an order placed now counts to; `now` in seconds since the epoch."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def unreadable(task_id: str) -> ConfigurationError:
    """That a task's rows cannot be read. It stands all the same: that is no reason to place its order again."""
    return ConfigurationError(
        f"What is stored of the task {task_id} cannot be read.",
        "Nothing was ordered. Have the operator look at the store, and at the vendor's site.",
    )


def record_of(row: tuple[Any, ...], steps: Sequence[Sequence[Any]], copies: Sequence[Sequence[Any]]) -> Record:
    """The record that rows hold.

    Args:
        row: of the task, as `TASK_COLUMNS`.
        steps: of its steps, as `STEP_COLUMNS`, in order.
        copies: index, SHA-256 and MIME type of the cached copies.

    Raises:
        UNREADABLE: they do not hold what was written.
    """
    for text in (row[1], row[2], row[4], *(step[3] for step in steps)):
        if not isinstance(text, str | None):
            raise TypeError("a text is none")
    for position, *_, usd, reserved, _, _ in steps:
        if not isinstance(position, int) or reserved not in (0, 1) or not 0 <= (usd or 0) < math.inf:
            raise ValueError("an order's amount or place is none")
    task = Task.model_validate_json(row[0]).model_copy(update={"steps": ()})
    plan: Mapping[str, Any] = json.loads(row[3])
    sizes = {image.index: (image.width, image.height) for image in task.images}
    return Record(
        task=task,
        client=row[1],
        identity=row[2],
        order=Order.from_stored(plan, provider=row[6]) if plan else None,
        steps=tuple(
            StepRecord(
                position,
                StepName(name),
                OrderState(state),
                Status(status),
                remote_id,
                usd,
                bool(reserved),
                None if cost is None else Cost.model_validate_json(cost),
            )
            for position, name, state, remote_id, usd, reserved, cost, status in steps
        ),
        reference=row[4],
        is_grid=None if row[5] is None else bool(row[5]),
        zooms=None if row[9] is None else bool(row[9]),
        copies={
            index: StoredImage(sha256, mime_type, *sizes.get(index, (None, None)))
            for index, sha256, mime_type in copies
        },
        ordered_at=None if row[7] is None or row[8] is None else Uptime(str(row[7]), float(row[8])),
        **due.following_of(row[10:]),
    )


def task_json(record: Record) -> str:
    return record.task.model_dump_json()


def order_json(record: Record) -> str:
    return json.dumps({} if record.order is None else record.order.to_stored())


def finished_at(record: Record) -> float | None:
    """When the task became final, in seconds since the epoch."""
    return record.task.finished_at.timestamp() if record.task.finished_at else None


def new_step_row(record: Record, step: StepRecord, day: str) -> tuple[Any, ...]:
    """A step's row: task, position, name, provider, client, identity, day, and then as `step_values`."""
    task = record.task
    of_task = (task.provider, record.client, record.identity)
    return (task.id, step.position, step.name.value, *of_task, day, *step_values(step))


def step_values(step: StepRecord) -> tuple[Any, ...]:
    """What changes of a step: state, status, remote id, USD, whether it is reserved, cost."""
    cost = None if step.cost is None else step.cost.model_dump_json()
    return (step.state.value, step.status.value, step.remote_id, step.usd, step.reserved, cost)
