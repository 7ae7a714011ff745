"""Rows of the store to records and back: the same for every database."""

import contextlib
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from outpaint_mcp.domain.clock import Uptime
from outpaint_mcp.domain.errors import ConfigurationError, InvalidRequestError
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.order import InputImage, Order, StepName
from outpaint_mcp.domain.record import LastAnswer, OrderState, Record, Secrets, StepRecord
from outpaint_mcp.domain.task import Cost, Status, StoredImage, Task

logger = logging.getLogger(__name__)

DUE_COLUMNS: Final = "answer, remote_id, due.reference, step, asked_at, due.boot, until, calls_back"
"""Of `due`, what `last_answer_of` and `DueTask` are read from."""
TASK_COLUMNS: Final = (
    "task, caller, order_hash, plan, tasks.reference, is_grid, tasks.provider, tasks.boot, uptime, zooms,"
    f" due.due_at, failures, {DUE_COLUMNS}, waits_since"
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


class Skipped:
    """The rows that were skipped since they cannot be read; each is logged once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def note(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            logger.warning("%s", what)


def record_of(
    row: tuple[Any, ...],
    steps: Sequence[Sequence[Any]],
    copies: Sequence[Sequence[Any]],
    *,
    secrets: Secrets | None = None,
) -> Record:
    """The record that rows hold.

    Args:
        row: of the task, as `TASK_COLUMNS`.
        steps: of its steps, as `STEP_COLUMNS`, in order.
        copies: index, SHA-256 and MIME type of the cached copies.
        secrets: what the task's orders are sent with, if the store keeps it.

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
        secrets=secrets,
        **_following_of(row[10:]),
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


def last_answer_of(row: tuple[Any, ...]) -> LastAnswer | None:
    """What `DUE_COLUMNS` hold of the last answer; None if it is not known, or cannot be read."""
    digest, remote_id, reference, step, asked_at, boot, until = row[:7]
    texts = (digest, remote_id, step, boot)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(at, float) for at in (asked_at, until)):
        return None
    if not isinstance(reference, str | None) or step not in tuple(StepName):
        return None
    return LastAnswer(remote_id, reference, StepName(step), digest, asked_at, Uptime(boot, until))


def _following_of(row: tuple[Any, ...]) -> Mapping[str, Any]:
    """The fields of a `Record` that are read from `due_at`, `failures`, `DUE_COLUMNS` and `waits_since`."""
    due_at, failures = row[:2]
    return {
        "due_at": None if due_at is None else time_of(due_at, 0.0),
        "failures": failures if isinstance(failures, int) else 0,
        "last_answer": last_answer_of(row[2:9]),
        "calls_back": bool(row[9]),
        "waits": row[10] is not None,
    }


def time_of(at: Any, now: float) -> float:
    """A stored time; one that cannot be read has come."""
    return float(at) if isinstance(at, int | float) else now


def events_of(rows: Iterable[Sequence[Any]], skipped: Skipped) -> list[TaskEvent]:
    """How tasks stand: of each its id, client, status, and whether there is nothing more to do."""
    found = []
    for task_id, client, word, is_over in rows:
        try:
            found.append(TaskEvent(task_id, client, Status(word), is_over=bool(is_over)))
        except ValueError:
            skipped.note(f"The status of the task {task_id} cannot be read.")
    return found


def sources_of(rows: Iterable[Sequence[Any]], skipped: Skipped) -> set[str]:
    """The hashes of the images that tasks are made from: of each its id and its stored order."""
    found = set()
    for task_id, plan in rows:
        try:
            found.add(json.loads(plan).get("source", {}).get("sha256"))
        except UNREADABLE:
            skipped.note(f"The order of the task {task_id} cannot be read.")
    return {sha256 for sha256 in found if isinstance(sha256, str)}


def images_of(rows: Iterable[Sequence[Any]], *, repeat: bool) -> list[InputImage]:
    """The images that a URL has given.

    Args:
        rows: of its tasks: id, stored order, provider, whether it is open, and whether it has succeeded too long ago to
            answer for the order made again.
        repeat: whether one that has succeeded does not answer at all.

    Raises:
        ConfigurationError: an order that answers cannot be read: it may be the same.
    """
    found: dict[str, InputImage] = {}
    for task_id, plan, provider, is_open, is_over in rows:
        try:
            source = Order.from_stored(json.loads(plan), provider=provider).source
        except UNREADABLE as error:
            if is_open or not (repeat or is_over):
                raise unreadable(task_id) from error
            continue
        if isinstance(source, InputImage):
            found.setdefault(source.sha256, source)
    return list(found.values())


def identities_of(record: Record, images: Collection[InputImage]) -> set[str]:
    """The identities of a record's order: of its own image, and of every other one that its URL has given."""
    found = set() if record.identity is None else {record.identity}
    if record.order is not None:
        for image in images:
            # An image of another shape that cannot be extended so was never ordered so.
            with contextlib.suppress(InvalidRequestError):
                found.add(record.order.of_image(image).identity(record.client))
    return found
