"""How tasks and providers are told in plain text, to a model and on a terminal."""

from collections.abc import Sequence

from pydantic import BaseModel

from outpaint_mcp.domain.provider_info import ProviderInfo
from outpaint_mcp.domain.task import Task


class ProviderList(BaseModel):
    """What `list_providers` returns."""

    providers: list[ProviderInfo]


def state_text(task: Task) -> str:
    """Where a task stands, in a few words."""
    progress = "" if task.progress is None or task.status.is_final else f", {task.progress:g} %"
    return f"Task {task.id} ({task.provider}): {task.status.value}{progress}"


def task_text(task: Task) -> str:
    """Everything that a model needs to know of a task, for hosts that show it the text alone."""
    lines = [state_text(task)]
    for image in task.images:
        size = f" ({image.width}x{image.height})" if image.width and image.height else ""
        lines.append(f"Image {image.index}{size}: {image.url}")
        if image.copy_url not in (None, image.url):
            lines.append(f"  this server's copy, for a day: {image.copy_url}")
        if not image.url.startswith(("https://", "outpaint:")) and image.resource_uri:
            lines.append(f"  also as the resource {image.resource_uri}")
    if task.grid is not None:
        lines.append(f"Grid of all images: {task.grid.url}")
    if task.confidence:
        lines.append("Confidence: " + ", ".join(f"{side} {word}" for side, word in task.confidence.items()))
    if task.cost is not None and task.cost.amount:
        usd = f" (${task.cost.usd:g})" if task.cost.usd is not None and task.cost.unit != "USD" else ""
        lines.append(f"Cost: {task.cost.amount:g} {task.cost.unit}{usd}")
    if task.failure is not None:
        code = f", the provider's code {task.failure.provider_code}" if task.failure.provider_code else ""
        lines.append(f"Failure [{task.failure.code}{code}]: {task.failure.message}")
    if len(task.steps) > 1:
        lines.append("Steps: " + ", ".join(f"{step.name.value} {step.status.value}" for step in task.steps))
    if task.expires_at is not None and not task.status.is_final:
        lines.append(f"Expires: {task.expires_at.isoformat()}")
    elif task.expires_at is not None:
        lines.append(f"The image URLs expire at {task.expires_at.isoformat()}")
    lines += [f"Note: {note}" for note in task.notes]
    lines.append(f"Next: {task.next}")
    return "\n".join(lines)


def providers_text(providers: Sequence[ProviderInfo]) -> str:
    """The providers as a model reads them."""
    lines = []
    for one in providers:
        state = "ready" if one.configured else f"not configured, needs {', '.join(one.needs)}"
        lines.append(f"{one.name} ({one.title}): {state}. Price: {one.price}. Extends: {', '.join(one.source)}.")
        for kind, features in one.features.items():
            label = "a task's image" if kind == "task" else "your own image"
            lines.append(f"  {label}: " + "; ".join(f"{name} {words}" for name, words in features.items()))
        if one.note:
            lines.append(f"  {one.note}")
    return "\n".join(lines)
