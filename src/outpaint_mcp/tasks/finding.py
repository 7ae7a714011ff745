"""Finds tasks by our ids and the providers' own; a task that was made elsewhere is imported."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from outpaint_mcp.domain.errors import InvalidRequestError, UnknownTaskError
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import OrderState, Record, StepRecord
from outpaint_mcp.domain.references import TaskReference
from outpaint_mcp.domain.request import AUTO
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.transitions import new_id, updated


def is_ours(task_id: str) -> bool:
    """Whether an id, or our own address of a task, is of this server and not a provider's."""
    return task_id.startswith("op-") or TaskReference.of(task_id) is not None


class TaskFinder:
    """Finds a client's tasks.

    Args:
        ledger: where tasks are written down.
        providers: by name.
        import_tasks: whether a provider's own id that is not known here is fetched and imported.
    """

    def __init__(self, *, ledger: Ledger, providers: Mapping[str, Provider], import_tasks: bool) -> None:
        self._ledger = ledger
        self._providers = providers
        self._import_tasks = import_tasks

    async def find(self, task_id: str, provider: str, client: str) -> Record:
        """A task by our id, or by its provider's own; the latter is imported if it is not in the store yet.

        Raises:
            UnknownTaskError: there is none, or it is another client's.
            InvalidRequestError: there is no such provider.
            OutpaintError: a provider's own id could not be looked up.
        """
        if provider != AUTO and provider not in self._providers:
            raise InvalidRequestError(f"There is no provider {provider[:60]!r}.", f"Use {', '.join(self._providers)}.")
        if (reference := TaskReference.of(task_id)) is not None:
            task_id = reference.task_id
        if is_ours(task_id):
            record = await self._ledger.store.get(task_id)
            if record is None or record.client != client:
                raise UnknownTaskError(f"There is no task {task_id[:80]!r}.")
            return record
        if provider == AUTO:
            raise UnknownTaskError(
                f"{task_id[:80]!r} is not one of this server's ids (op-...).",
                "If it is a provider's own id, name the provider; an image is given as image.",
            )
        known = await self._ledger.store.find_remote(provider, task_id, client, last=True)
        if known is not None:
            return known
        other = await self._ledger.store.find_remote(provider, task_id)
        # The first step of a task of the client's own is imported as a task by itself: its image has been paid too.
        mine = other is not None and other.client == client
        if not mine and (other is not None or not self._import_tasks):
            raise UnknownTaskError(f"There is no task {task_id[:80]!r} of {provider}.")
        return await self._import(self._providers[provider], task_id, client)

    async def _import(self, provider: Provider, remote_id: str, client: str) -> Record:
        update = await provider.poll(remote_id)
        now = self._ledger.clock.now()
        at = datetime.fromtimestamp(now, UTC)
        task = Task(
            id=new_id(),
            provider=provider.name,
            remote_id=remote_id,
            status=Status.QUEUED,
            request={"provider": provider.name, "task_id": remote_id},
            notes=("This task was made elsewhere and imported by its provider's own id.",),
            created_at=at,
            updated_at=at,
        )
        step = StepRecord(0, StepName.OUTPAINT, OrderState.ACCEPTED, remote_id=remote_id)
        record = Record(task, client, None, None, (step,), due_at=now)
        record = updated(record, 0, replace(update, remote_id=remote_id), provider, at)
        if record.task.status is Status.SUCCEEDED:
            # Whoever waits for the import need not wait for the images: they are copied next.
            record = replace(record, due_at=now)
        record = await self._ledger.store.import_task(record, now=now)
        self._ledger.publish(record, record.due_at)
        return record
