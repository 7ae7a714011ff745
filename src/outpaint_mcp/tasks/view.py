"""How a task is shown to its client: links, and what to do next. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    OrderUnconfirmedError,
    ProviderUnavailableError,
)
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.task import Image, Place, Status, Step, Task
from outpaint_mcp.images.files import name_in
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.image_links import ImageLinks

_ABOUT_THE_ACCOUNT = (AuthenticationError.code, InsufficientCreditsError.code)
LIFETIME: Final = timedelta(hours=24)
"""How long a provider's URL is taken to live that does not say so: the shortest that any documents (Apiframe's)."""


def next_step(task: Task, provider: Provider | None, *, sent_again: bool, wait_seconds: float | None) -> str:
    """What the client should do now, in one sentence or two.

    Args:
        task: as it stands.
        provider: its provider, where that is installed.
        sent_again: whether an order whose answer was lost is sent again under its idempotency key.
        wait_seconds: how long a call may last that waits for it, where that is known.
    """
    match task.status:
        case Status.QUEUED | Status.RUNNING:
            wait = "" if wait_seconds is None else f" and wait_seconds={wait_seconds:g}"
            return f"Not finished. Call get_task with task_id={task.id}{wait}; do not order again."
        case Status.SUCCEEDED if not task.images:
            return f"Done, but none of its images can be opened here: see the notes, or the task at {task.provider}."
        case Status.SUCCEEDED if task.images[0].url.startswith("outpaint:"):
            return f"Done. Read the image's resource to show it. To extend it further: outpaint with task_id={task.id}."
        case Status.SUCCEEDED if len(task.images) > 1:
            return f"Done. Show the user the URLs. Extend one further: outpaint with task_id={task.id} and image_index."
        case Status.SUCCEEDED:
            return f"Done. Show the user the image URL. To extend it further: outpaint with task_id={task.id}."
        case Status.FAILED if task.failure is not None and task.failure.retryable:
            return "It failed; the same order may succeed if it is placed again."
        case Status.FAILED if task.failure is not None and task.failure.code == ProviderUnavailableError.code:
            return "It failed at the provider; the failure says all that is known. The same order may fail again."
        case Status.FAILED if task.failure is not None and task.failure.code in _ABOUT_THE_ACCOUNT:
            return (
                f"It failed over the account with {task.provider}, not over the order: have the operator look at it, "
                "or name another provider."
            )
        case Status.FAILED:
            return "It failed; change the order as the failure says before ordering again."
        case Status.CANCELLED:
            return "It was cancelled; it may be ordered again."
        case _ if task.failure is not None and task.failure.code == OrderUnconfirmedError.code:
            if sent_again and provider is not None and not provider.costs_money:
                return (
                    f"The order is looked up at {task.provider}, and sent again if it is not there: nothing is paid. "
                    f"Call get_task with task_id={task.id} in a minute."
                )
            if sent_again:
                return (
                    f"The order is being sent again under the same idempotency key, which cannot pay twice. "
                    f"Call get_task with task_id={task.id} in a minute."
                )
            if provider is not None and provider.synchronous:
                return (
                    f"Whether {task.provider} took the order is not known, and there is nothing to look up: its answer "
                    "was the image. Have the user look at the balance on its site. outpaint with repeat=true orders "
                    "again and may pay twice."
                )
            return (
                f"Whether {task.provider} took the order is not known. Have the user look at the task list or the "
                f"balance on its site; if the task is there, get_task with its id and provider={task.provider} "
                "imports it. outpaint with repeat=true orders again and may pay twice."
            )
        case _ if provider is not None and not provider.costs_money:
            return (
                f"It may still finish. Call get_task with task_id={task.id} later, or outpaint with repeat=true: "
                "nothing is paid there."
            )
        case _:
            return f"It may still finish. Call get_task with task_id={task.id} later; ordering again may pay twice."


def view(
    record: Record,
    notes: tuple[str, ...] = (),
    *,
    shown: Callable[[str], str] | None = None,
    provider: Provider | None = None,
    wait_seconds: float | None = None,
    links: ImageLinks | None = None,
) -> Task:
    """The task as its client sees it.

    Args:
        record: the task.
        notes: what is to be said besides the task's own notes.
        shown: what the URL of an image of ours is shown as to a client that shares this machine's files; without it, a
            file's URL is replaced by another too.
        provider: its provider, where that is installed.
        wait_seconds: how long a call of the client may last, where that is known.
        links: where the server's copies of images are given out, if they are; a URL that has died is replaced by its
            copy's.
    """

    died = links is not None and _have_died(record.task, links.now())

    def linked(image: Image) -> Image:
        uri = f"outpaint://tasks/{record.task.id}/images/{image.index}"
        copy = record.copies.get(image.index)
        own = None
        if links is not None and copy is not None:
            own = links.url(record.task.id, image.index, copy.mime_type)
        url = image.url
        if url.startswith("file:") or name_in(url) is not None:
            url = own or uri if shown is None else shown(url)
        elif own is not None and died:
            url = own
        return image.model_copy(update={"resource_uri": uri, "copy_url": own, "url": url})

    steps = tuple(Step(name=step.name, remote_id=step.remote_id, status=step.status) for step in record.steps)
    images = tuple(linked(image) for image in record.task.images)
    original = None if record.order is None else _place(record.order)
    said = tuple(dict.fromkeys((*record.task.notes, *notes)))
    task = record.task.model_copy(update={"images": images, "original": original, "steps": steps, "notes": said})
    if links is not None and images and all(image.url == image.copy_url for image in images):
        task = task.model_copy(update={"expires_at": links.expiry()})
    advice = next_step(task, provider, sent_again=record.due_at is not None, wait_seconds=wait_seconds)
    return task.model_copy(update={"next": advice})


def _place(order: Order) -> Place | None:
    """Where the original lies in the new image; None where that is not known.

    Of a task's image it is what was asked for: Midjourney grows evenly on all sides, and its "1.5x" was once measured
    as 1.33.
    """
    frame = order.frame
    if frame is not None:
        width, height = frame.canvas_width, frame.canvas_height
        return Place(x=frame.x / width, y=frame.y / height, width=frame.width / width, height=frame.height / height)
    if order.zoom is None or order.aspect_ratio is not None:
        return None
    size = 1 / order.zoom
    return Place(x=(1 - size) / 2, y=(1 - size) / 2, width=size, height=size)


def _have_died(task: Task, now: float) -> bool:
    """Whether the provider's URLs of a task's images are no longer to be relied on."""
    until = task.expires_at or (task.finished_at or task.updated_at) + LIFETIME
    return until <= datetime.fromtimestamp(now, UTC)


def percent(record: Record, provider: Provider | None, now: float) -> float:
    """How far a task has come: what its provider says, else the time that it has taken against the usual one."""
    if record.task.progress is not None:
        return record.task.progress
    usual = 60.0 if provider is None else provider.usual_seconds
    return min(95.0, 95 * (now - record.task.created_at.timestamp()) / usual)
