"""What an answer of a provider does to a task's record. Pure functions: nothing is asked, no clock is read."""

import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from outpaint_mcp.domain.clock import Uptime
from outpaint_mcp.domain.errors import OutpaintError, ProviderUnavailableError, RateLimitedError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import UNSENT_SECONDS, Record, Secrets, StepRecord
from outpaint_mcp.domain.redaction import hide
from outpaint_mcp.domain.task import Cost, Failure, Image, ResultImage, Status, StoredImage, Task, TaskUpdate
from outpaint_mcp.images.files import name_in
from outpaint_mcp.providers.base import Provider

MAX_COST: Final = 100_000
"""More than any order costs, in USD or in a vendor's units."""
MAX_NOTES: Final = 20
UNCHECKED_NOTE: Final = "Some images could not be checked here, and are kept as the provider gave them."


def new_id() -> str:
    """An id for a task: 22 letters and digits, of 131 random bits. Older ids have dashes and underscores too."""
    return "op-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(22))


def new_record(
    order: Order, notes: tuple[str, ...], client: str, prices: Sequence[float | None], now: datetime, uptime: Uptime
) -> Record:
    """The record of an order that is intended, its task queued.

    Args:
        order: what is ordered.
        notes: what the client should know of how it was understood.
        client: whose order it is.
        prices: of each of its steps, in USD; None where a price is not known.
        now: when it is ordered.
        uptime: the same on the clock that nobody sets.
    """
    task = Task(
        id=new_id(),
        provider=order.provider,
        status=Status.QUEUED,
        request=order.shown(),
        notes=notes,
        created_at=now,
        updated_at=now,
    )
    steps = tuple(
        StepRecord(position, name, usd=usd)
        for position, (name, usd) in enumerate(zip(order.steps, prices, strict=True))
    )
    kept = Secrets(order.webhook, order.source.url if isinstance(order.source, InputImage) else None)
    return Record(
        task,
        client,
        order.identity(client),
        order,
        steps,
        due_at=now.timestamp() + UNSENT_SECONDS,
        ordered_at=uptime,
        secrets=None if kept == Secrets() else kept,
    )


def failure_of(error: OutpaintError) -> Failure:
    """The failure that a task ends with over an error."""
    return Failure(
        code=error.code,
        message=error.message,
        provider_code=error.provider_code,
        retryable=isinstance(error, ProviderUnavailableError | RateLimitedError),
    )


def position_of(record: Record) -> int:
    """The step that the task is at: the first that has not succeeded."""
    for step in record.steps:
        if step.status is not Status.SUCCEEDED:
            return step.position
    return len(record.steps) - 1


def with_task(record: Record, now: datetime, **changes: Any) -> Record:
    """The record with its task changed, and updated now."""
    return replace(record, task=record.task.model_copy(update={**changes, "updated_at": now}))


def with_step(record: Record, position: int, **changes: Any) -> Record:
    """The record with one of its steps changed."""
    steps = tuple(replace(step, **changes) if step.position == position else step for step in record.steps)
    return replace(record, steps=steps)


def with_note(record: Record, note: str, *, replacing: str | None = None) -> Record:
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


def redacted(update: TaskUpdate, secrets: Iterable[str]) -> TaskUpdate:
    """The answer without secrets of the order's, which a vendor's words may repeat."""
    failure = update.failure
    if failure is not None:
        failure = failure.model_copy(update={"message": hide(failure.message, secrets)})
    return replace(update, failure=failure, notes=tuple(hide(note, secrets) for note in update.notes))


def updated(record: Record, position: int, update: TaskUpdate, provider: Provider, now: datetime) -> Record:
    """The record after a provider's answer about one of its steps."""
    last = position == len(record.steps) - 1
    for note in update.notes:
        # A vendor may say something new at every poll.
        if len(record.task.notes) < MAX_NOTES:
            record = with_note(record, note)
    if update.cost is not None:
        record = _costing(record, position, update.cost, provider, now, is_final=update.status.is_final)
    if update.status is Status.FAILED or update.status is Status.CANCELLED:
        failure = update.failure
        if failure is None and update.status is Status.FAILED:
            failure = Failure(code="provider_unavailable", message="The provider gave no reason.", retryable=True)
        return _released(finished(record, update.status, position, failure, now), position, update, provider)
    task = record.task
    remote_id = update.remote_id or record.steps[position].remote_id
    record = with_step(record, position, status=update.status, remote_id=remote_id)
    changes: dict[str, Any] = {}
    if update.status is not Status.UNKNOWN and task.failure is not None:
        changes["failure"] = None
    if not last:
        changes["status"] = Status.RUNNING
        if update.status is Status.SUCCEEDED:
            record = replace(record, reference=update.reference, zooms=update.zooms, due_at=now.timestamp())
        return with_task(record, now, **changes)
    changes |= {"status": update.status, "remote_id": update.remote_id or task.remote_id}
    if update.progress is not None:
        changes["progress"] = max(task.progress or 0, update.progress)
    if update.images:
        changes["images"] = tuple(
            _image(image.index or place, image, task.images) for place, image in enumerate(update.images, start=1)
        )
    if update.grid is not None:
        changes["grid"] = _image(0, update.grid, ())
    if update.confidence is not None:
        changes["confidence"] = update.confidence
    if update.expires_at is not None:
        changes["expires_at"] = update.expires_at
    reference = update.reference or record.reference
    record = replace(record, reference=reference, is_grid=update.is_grid, zooms=update.zooms)
    if update.status is Status.SUCCEEDED:
        changes |= {"progress": 100, "finished_at": now}
        record = replace(record, due_at=None)
    record = with_task(record, now, **changes)
    if record.order is not None and provider.finishing(record.order) is not None:
        # What is stored is not yet what is kept.
        return record
    places = enumerate(update.images, start=1)
    stored = {one.index or place: one.stored for place, one in places if one.stored is not None}
    return with_copies(record, stored) if stored else record


def before_copying(record: Record, position: int, now: float) -> Record:
    """A record that has its result, as one whose images are still to be worked on, due at once."""
    record = with_step(record, position, status=Status.RUNNING)
    changes = {"status": Status.RUNNING, "finished_at": None}
    return replace(record, task=record.task.model_copy(update=changes), due_at=now)


def kept_answer(record: Record, position: int) -> TaskUpdate:
    """The answer that such a record came of."""
    images = tuple(
        ResultImage(image.url, image.mime_type, image.width, image.height, index=image.index)
        for image in record.task.images
    )
    remote_id = record.steps[position].remote_id
    return TaskUpdate(Status.SUCCEEDED, remote_id, images=images, reference=record.reference, is_grid=record.is_grid)


def finished(record: Record, status: Status, position: int, failure: Failure | None, now: datetime) -> Record:
    """The record with its task ended at one of its steps."""
    record = with_step(record, position, status=status)
    return replace(with_task(record, now, status=status, failure=failure, finished_at=now), due_at=None)


def _costing(record: Record, position: int, cost: Cost, provider: Provider, now: datetime, *, is_final: bool) -> Record:
    """The record after a step's cost was reported, as far as the report can be true.

    Until the step is final it counts towards the daily limits with its reservation or the report, whichever is more: a
    vendor may report nothing, or a part, until the end.
    """
    if not all(0 <= value <= MAX_COST for value in (cost.amount, cost.usd or 0)):
        return with_note(record, f"{provider.title} reports a cost that cannot be right; it is ignored.")
    reserved = record.steps[position].usd
    usd = reserved if cost.usd is None else cost.usd if is_final else max(reserved or 0.0, cost.usd)
    record = with_step(record, position, cost=cost, usd=usd)
    return with_task(record, now, cost=_total_cost(record.steps))


def _released(record: Record, position: int, update: TaskUpdate, provider: Provider) -> Record:
    """Give back what a failed step and those after it had reserved, as far as the provider does."""
    free = provider.refunds_failures or (update.cost is not None and update.cost.amount == 0)
    steps = tuple(
        replace(step, reserved=step.reserved and step.position <= position and not (free and step.position == position))
        for step in record.steps
    )
    return replace(record, steps=steps)


def _total_cost(steps: tuple[StepRecord, ...]) -> Cost | None:
    """What a task's steps cost together; the last one's alone where the units differ."""
    costs = [step.cost for step in steps if step.cost is not None]
    if not costs or len({cost.unit for cost in costs}) > 1:
        return costs[-1] if costs else None
    usd = [cost.usd for cost in costs if cost.usd is not None]
    return Cost(
        amount=round(sum(cost.amount for cost in costs), 6),
        unit=costs[0].unit,
        usd=round(sum(usd), 6) if len(usd) == len(costs) else None,
    )


def _image(index: int, image: ResultImage, before: tuple[Image, ...]) -> Image:
    """A provider's image; what our own copy told of it before stays."""
    known = next((one for one in before if one.index == index and one.url == image.url), None)
    return Image(
        index=index,
        url=image.url,
        mime_type=image.mime_type or (known.mime_type if known else None),
        width=image.width or (known.width if known else None),
        height=image.height or (known.height if known else None),
    )


def with_copies(record: Record, found: Mapping[int, StoredImage]) -> Record:
    """The record with cached copies of its images, and what these tell of type and size, and of themselves."""
    images = tuple(
        image.model_copy(
            update={
                "url": copy.url or image.url,
                "mime_type": copy.mime_type,
                "width": copy.width or image.width,
                "height": copy.height or image.height,
            }
        )
        if (copy := found.get(image.index)) is not None
        else image
        for image in record.task.images
    )
    if any(copy.unchecked for copy in found.values()):
        record = with_note(record, UNCHECKED_NOTE)
    for index, copy in sorted(found.items()):
        if copy.note:
            record = with_note(record, copy.note if len(images) == 1 else f"Image {index}: {copy.note}")
    changes: dict[str, Any] = {"images": images}
    if images and all(image.url.startswith("file:") or name_in(image.url) for image in images):
        # None is a provider's any more.
        changes["expires_at"] = None
    task = record.task.model_copy(update=changes)
    return replace(record, task=task, copies={**record.copies, **found})
