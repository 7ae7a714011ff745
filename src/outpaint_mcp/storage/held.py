"""What a process is at work on, of the open tasks that it has claimed."""


class HeldTasks:
    """The tasks of one process: whoever wants to claim one that is held here waits for whoever holds it.

    That changes in the turn of the transaction that claims a task or lets it go, so that nobody else comes between.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        # What was asked for in vain: id, when, and when it is due again.
        self._asked: dict[str, tuple[str, float, float]] = {}

    def nothing_new(self, task_id: str, *, asked_at: float, due_at: float) -> None:
        self._asked[task_id] = (task_id, asked_at, due_at)

    def is_held(self, task_id: str) -> bool:
        return task_id in self._held

    def let_go(self, task_id: str) -> None:
        self._held.discard(task_id)
        self._asked.pop(task_id, None)

    def _written_down(self, asked: dict[str, tuple[str, float, float]]) -> None:
        """Let go of what was asked for in vain, unless it was asked for again meanwhile."""
        for task_id, one in asked.items():
            if self._asked.get(task_id) is one:
                self.let_go(task_id)
