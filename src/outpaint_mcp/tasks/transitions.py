"""What an answer does to a record, and how a record is shown. Pure functions: nothing is asked, no clock is read."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from outpaint_mcp.domain.errors import OutpaintError, ProviderUnavailableError, RateLimitedError
from outpaint_mcp.domain.record import KeptImage, OrderRow, Record
from outpaint_mcp.domain.redaction import hide
from outpaint_mcp.domain.task import Cost, Failure, Image, ResultImage, Status, Step, Task, TaskUpdate
from outpaint_mcp.images.library import KeptImage as Copy
from outpaint_mcp.providers.base import Provider


def touched(task: Task, now: datetime, **changes: Any) -> Task:
    return task.model_copy(update={**changes, "updated_at": now})


def hiding(update: TaskUpdate, secrets: Iterable[str]) -> TaskUpdate:
    """The answer without secrets of the order's, which a vendor's words may repeat."""
    failure = update.failure
    if failure is not None:
        failure = failure.model_copy(update={"message": hide(failure.message, secrets)})
    return replace(update, failure=failure, notes=tuple(hide(note, secrets) for note in update.notes))


def updated(record: Record, position: int, update: TaskUpdate, provider: Provider, now: datetime) -> Record:
    """The record after a provider's answer about one of its orders."""
    last = position == len(record.orders) - 1
    for note in update.notes:
        record = noted(record, note)
    if update.cost is not None:
        usd = record.orders[position].usd if update.cost.usd is None else update.cost.usd
        record = with_order(record, position, cost=update.cost, usd=usd)
        record = replace(record, task=touched(record.task, now, cost=_summed(record.orders)))
    if update.status is Status.FAILED or update.status is Status.CANCELLED:
        failure = update.failure
        if failure is None and update.status is Status.FAILED:
            failure = Failure(code="provider_unavailable", message="The provider gave no reason.", retryable=True)
        return released(finished(record, update.status, position, failure, now), position, update, provider)
    task = record.task
    changes: dict[str, Any] = {"steps": steps_with(record, position, update.status, update.remote_id)}
    if update.status is not Status.UNKNOWN and task.failure is not None:
        changes["failure"] = None
    if not last:
        changes["status"] = Status.RUNNING
        if update.status is Status.SUCCEEDED:
            record = replace(record, reference=update.reference, due_at=now.timestamp())
        return replace(record, task=touched(task, now, **changes))
    changes |= {"status": update.status, "remote_id": update.remote_id or task.remote_id}
    if update.progress is not None:
        changes["progress"] = max(task.progress or 0, update.progress)
    if update.images:
        changes["images"] = tuple(
            _image(index, image, task.images) for index, image in enumerate(update.images, start=1)
        )
    if update.grid is not None:
        changes["grid"] = _image(0, update.grid, ())
    if update.expires_at is not None:
        changes["expires_at"] = update.expires_at
    record = replace(record, reference=update.reference or record.reference, is_grid=update.is_grid)
    if update.status is Status.SUCCEEDED:
        changes |= {"progress": 100, "finished_at": now}
        record = replace(record, due_at=None)
    return replace(record, task=touched(task, now, **changes))


def finished(record: Record, status: Status, position: int, failure: Failure | None, now: datetime) -> Record:
    """The record with its task ended at one of its orders."""
    task = touched(
        record.task,
        now,
        status=status,
        failure=failure,
        steps=steps_with(record, position, status),
        finished_at=now,
    )
    return replace(record, task=task, due_at=None)


def released(record: Record, position: int, update: TaskUpdate, provider: Provider) -> Record:
    """Give back what a failed order and those after it had reserved, as far as the provider does."""
    free = provider.refunds_failures or (update.cost is not None and update.cost.amount == 0)
    orders = tuple(
        replace(row, reserved=row.reserved and row.position <= position and not (free and row.position == position))
        for row in record.orders
    )
    return replace(record, orders=orders)


def new_id() -> str:
    return "op-" + secrets.token_urlsafe(16)


def failure_of(error: OutpaintError) -> Failure:
    return Failure(
        code=error.code,
        message=error.message,
        provider_code=error.provider_code,
        retryable=isinstance(error, ProviderUnavailableError | RateLimitedError),
    )


def position_of(record: Record) -> int:
    """The order that the task is at: the first whose step has not succeeded."""
    for position, step in enumerate(record.task.steps):
        if step.status is not Status.SUCCEEDED:
            return position
    return len(record.orders) - 1


def steps_with(record: Record, position: int, status: Status, remote_id: str | None = None) -> tuple[Step, ...]:
    return tuple(
        step.model_copy(update={"status": status, "remote_id": remote_id or step.remote_id}) if at == position else step
        for at, step in enumerate(record.task.steps)
    )


def with_order(record: Record, position: int, **changes: Any) -> Record:
    orders = tuple(replace(row, **changes) if row.position == position else row for row in record.orders)
    return replace(record, orders=orders)


def noted(record: Record, note: str, *, replacing: str | None = None) -> Record:
    """The record with one more note, in place of one that begins with `replacing`; never the same note twice."""
    if replacing is not None:
        record = without_note(record, replacing)
    if note in record.task.notes:
        return record
    return replace(record, task=record.task.model_copy(update={"notes": (*record.task.notes, note)}))


def without_note(record: Record, beginning: str) -> Record:
    """The record without the notes that begin so."""
    notes = tuple(one for one in record.task.notes if not one.startswith(beginning))
    return replace(record, task=record.task.model_copy(update={"notes": notes}))


def _summed(orders: tuple[OrderRow, ...]) -> Cost | None:
    """What a task's orders cost together; the last one's alone where the units differ."""
    costs = [row.cost for row in orders if row.cost is not None]
    if not costs or len({cost.unit for cost in costs}) > 1:
        return costs[-1] if costs else None
    usd = [cost.usd for cost in costs if cost.usd is not None]
    return Cost(
        amount=round(sum(cost.amount for cost in costs), 6),
        unit=costs[0].unit,
        usd=round(sum(usd), 6) if len(usd) == len(costs) else None,
    )


def _image(index: int, image: ResultImage, before: tuple[Image, ...]) -> Image:
    """A provider's image; what our own copy told of it before is kept."""
    known = next((one for one in before if one.index == index and one.url == image.url), None)
    return Image(
        index=index,
        url=image.url,
        mime_type=image.mime_type or (known.mime_type if known else None),
        width=image.width or (known.width if known else None),
        height=image.height or (known.height if known else None),
    )


def with_kept(record: Record, found: Mapping[int, Copy]) -> Record:
    """The record with the copies of its images, and what they tell of type and size."""
    images = tuple(
        image.model_copy(
            update={
                "mime_type": found[image.index].mime_type,
                "width": found[image.index].width,
                "height": found[image.index].height,
            }
        )
        if image.index in found
        else image
        for image in record.task.images
    )
    kept = {**record.kept, **{index: KeptImage(one.sha256, one.mime_type) for index, one in found.items()}}
    return replace(record, task=record.task.model_copy(update={"images": images}), kept=kept)
