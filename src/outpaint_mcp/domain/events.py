"""What happens in the program, for whoever wants to know: changes of tasks, and requests to providers."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outpaint_mcp.domain.task import Status


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A task was written, here or by another process, or has to be advanced at a certain time.

    `due_at` is when it is to be advanced, in seconds since the epoch, if that was just decided here. `is_over` says
    that no process will advance it any more.
    """

    task_id: str
    client: str
    status: Status
    due_at: float | None = None
    is_over: bool = False


class TaskEvents:
    """The stream of what becomes of tasks: one for the program, passed to whoever publishes or listens.

    Listeners are called at once, in the order in which they subscribed; they must return quickly and not raise.
    `watched` are the ids of the tasks of which somebody wants to hear also what other processes make of them, with how
    many do.
    """

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[TaskEvent], None]] = {}
        self.watched: Counter[str] = Counter()

    @contextlib.contextmanager
    def watching(self, *ids: str) -> Iterator[None]:
        """A block during which these tasks are watched."""
        self.watched.update(ids)
        try:
            yield
        finally:
            self.unwatch(*ids)

    def unwatch(self, *ids: str) -> None:
        """Undo what `watched.update(ids)` did."""
        self.watched.subtract(ids)
        for task_id in ids:
            if self.watched[task_id] <= 0:
                del self.watched[task_id]

    def subscribe(self, listener: Callable[[TaskEvent], None]) -> Callable[[], None]:
        """Have `listener` called with every event from now on; returns what ends that."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def publish(self, event: TaskEvent) -> None:
        for listener in tuple(self._listeners.values()):
            listener(event)


class Observer:
    """Told of requests and delays, for metrics; this one does nothing with it."""

    def asked(self, provider: str, kind: str, outcome: str, seconds: float) -> None:
        """A request to a provider has ended.

        Args:
            provider: its name.
            kind: ``order`` or ``read``.
            outcome: the HTTP status, or the kind of failure where there was none.
            seconds: how long it took.
        """

    def advanced_late(self, seconds: float) -> None:
        """A task was advanced so many seconds after it was due."""
