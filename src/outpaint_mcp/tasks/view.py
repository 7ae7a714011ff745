"""How a task is shown to its client: links, and what to do next. Pure."""

from outpaint_mcp.domain.errors import OrderUnconfirmedError, ProviderUnavailableError
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.task import Image, Status, Task


def next_step(task: Task, *, asked_again: bool) -> str:
    """What the client should do now, in one sentence or two.

    Args:
        task: as it stands.
        asked_again: whether an order whose answer was lost is asked for again.
    """
    match task.status:
        case Status.QUEUED | Status.RUNNING:
            return f"Not finished. Call get_task with task_id={task.id} and wait_seconds=25; do not order again."
        case Status.SUCCEEDED if task.images and task.images[0].url.startswith("outpaint:"):
            return f"Done. Read the image's resource to show it. To extend it further: outpaint with task_id={task.id}."
        case Status.SUCCEEDED if len(task.images) > 1:
            return f"Done. Show the user the URLs. Extend one further: outpaint with task_id={task.id} and image_index."
        case Status.SUCCEEDED:
            return f"Done. Show the user the image URL. To extend it further: outpaint with task_id={task.id}."
        case Status.FAILED if task.failure is not None and task.failure.retryable:
            return "It failed; the same order may succeed if it is placed again."
        case Status.FAILED if task.failure is not None and task.failure.code == ProviderUnavailableError.code:
            return "It failed at the provider; the failure says all that is known. The same order may fail again."
        case Status.FAILED:
            return "It failed; change the order as the failure says before ordering again."
        case Status.CANCELLED:
            return "It was cancelled; it may be ordered again."
        case _ if task.failure is not None and task.failure.code == OrderUnconfirmedError.code:
            if asked_again:
                return (
                    f"The order is being asked for again under the same key, which cannot pay twice. "
                    f"Call get_task with task_id={task.id} in a minute."
                )
            return (
                f"Whether {task.provider} took the order is not known. Have the user look at the task list or the "
                f"balance on its site; if the task is there, get_task with its id and provider={task.provider} "
                "takes it in. outpaint with repeat=true orders again and may pay twice."
            )
        case _:
            return f"It may still finish. Call get_task with task_id={task.id} later; ordering again may pay twice."


def with_links(task: Task, paths: bool = True) -> Task:
    """The task with the address of each image among our resources, which without `paths` stands for a file's too."""

    def linked(image: Image) -> Image:
        uri = f"outpaint://tasks/{task.id}/images/{image.index}"
        url = uri if image.url.startswith("file:") and not paths else image.url
        return image.model_copy(update={"resource_uri": uri, "url": url})

    return task.model_copy(update={"images": tuple(linked(image) for image in task.images)})


def view(record: Record, notes: tuple[str, ...] = (), *, paths: bool = True) -> Task:
    """The task as its client sees it: with links, `notes` added, and what to do next."""
    task = with_links(record.task, paths)
    next_ = next_step(task, asked_again=record.due_at is not None)
    return task.model_copy(update={"notes": (*task.notes, *notes), "next": next_})
