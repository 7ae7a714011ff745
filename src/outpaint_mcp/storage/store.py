"""What a store of tasks does: the protocol that every database keeps.

It is the authority for the daily limits and for every order that is placed: an order (a row of ``orders``) goes through
the states of `OrderState`, and each change that money hangs on is durable before the next thing happens.

All times are in seconds since the epoch. Every method raises ConfigurationError if the store cannot be used.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.events import TaskEvent
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import Counts, DueTask, JobKind, Record
from outpaint_mcp.domain.task import Status


class Store(Protocol):
    """The tasks of all clients, shared by every process that opens the same one.

    `keeps_secrets` says whether it keeps what orders are sent with (`Secrets`), so that any process can send them, and
    `batch_seconds` for how long it is worth waiting, where many tasks are due, to take more of them at once.
    """

    keeps_secrets: bool
    batch_seconds: float

    async def aclose(self) -> None:
        """Leave every task of this process to the others, and let go of the database."""

    # Placing orders

    async def claim(
        self, record: Record, *, now: float, repeat: bool, limits: DailyLimits, count_orders: bool
    ) -> tuple[Record, bool]:
        """Write the intent down, unless the same order stands already. One transaction.

        Returns:
            The record that stands, and whether this process may send its first order: True for a new record, and for
            one that was never sent unless somebody is about to, here or elsewhere. It is claimed then.

        Raises:
            BudgetExceededError: a daily limit does not allow it. Nothing was written.
        """
        ...

    async def take_place(self, task_id: str, *, most: int, now: float) -> bool:
        """Take a place for a claimed task among those of its provider that run there, unless it has one.

        It is free again when the task is final. Whoever waits longest has it next, and is due then.

        Args:
            task_id: the task.
            most: how many places there are.
            now: when it is.

        Returns:
            False if none is free, or others wait longer; the task waits then.
        """
        ...

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        """Note that the order's request is about to leave; the claim counts from `now` on.

        Returns:
            False if it was sent before or the task is no longer this process's: then it must not be sent.
        """
        ...

    # Following tasks

    async def own(self, task_id: str, *, now: float) -> Record | None:
        """Claim one task, due or not.

        Returns:
            The task, with when it was due before it was claimed; None if there is none, or somebody else sees to it,
            here or in another process.
        """
        ...

    async def take_due(self, room: Callable[[str], int], *, now: float) -> tuple[list[DueTask], float | None]:
        """Claim the tasks that are due.

        Args:
            room: how many tasks of a provider may be taken.
            now: when it is.

        Returns:
            The tasks, and when to look again; None if nothing is open for which there was room.
        """
        ...

    def nothing_new(self, task_id: str, *, asked_at: float, due_at: float) -> None:
        """Note that a claimed task was asked for in vain, and when it is due again.

        The next `take_due` writes it down, together with what else there is by then.
        """

    async def hold(self, *, now: float) -> None:
        """Say that this process is still at work on what it has claimed."""

    def is_held(self, task_id: str) -> bool:
        """Whether this process is at work on a task that it has claimed."""
        ...

    def let_go(self, task_id: str) -> None:
        """No longer say that this process is at work on a task: it comes due by itself."""

    async def release(self, task_id: str, due_at: float | None) -> None:
        """Leave a claimed task to whoever comes first when it is due; None: there is nothing more to do for it."""

    async def wake(self, task_id: str, at: float, *, called_back: bool = False) -> None:
        """Have an open task advanced at a time if it is due later.

        `called_back`: the provider has called, and is not waited for any longer.
        """

    async def wake_all(self, *, now: float) -> None:
        """Have every open task advanced now, since the clock was set."""

    async def save(self, record: Record, *, durable: bool = True, force: bool = False, go_on: bool = False) -> bool:
        """Write a task that this process has claimed back, with its orders and images, and when it is due next.

        Args:
            record: the task as it is to stand. Its `job` is handed over in the same transaction.
            durable: whether to wait for the disk. What only another poll would tell again need not.
            force: write even if another process took the task over meanwhile, and take it back: that process knows
                of nothing to do. Only for the answer to an order, which nobody else has unless it has heard of it.
            go_on: this process goes on with it.

        Returns:
            False if the task is no longer this process's; then nothing was written.
        """
        ...

    async def import_task(self, record: Record, *, now: float) -> Record:
        """Keep a task that was made elsewhere; if the client has it already, the one that stands is returned."""
        ...

    async def prune(self, *, finished_before: float) -> None:
        """Delete the final tasks that nothing depends on any more.

        `finished_before`: no later than yesterday's end: today's count to the limits.
        """

    # Jobs of workers

    async def work(
        self, do: Callable[[str, JobKind], Awaitable[None]], tidy: Callable[[], Awaitable[None]], *, at_once: int
    ) -> None:
        """Do the jobs of tasks that are handed over, until it is cancelled; those that were begun are finished then.

        Args:
            do: does the job of a task.
            tidy: cleans up, every few hours, in one worker of all.
            at_once: how many at the same time.

        Raises:
            ConfigurationError: this store hands no jobs over.
        """
        ...

    async def open_tasks(self, client: str, provider: str) -> int:
        """How many tasks that a client has ordered are open at a provider."""
        ...

    # Looking

    async def heard(self, clock: Clock) -> Collection[str] | None:
        """Wait until other processes may have changed tasks.

        Returns:
            The tasks that they have changed; None if it may be any. The first call returns at once: what is changed
            after it is not missed.
        """
        ...

    async def stands(self, order: Order, client: str, *, now: float, repeat: bool) -> bool:
        """Whether a task answers for this order made again; `claim` then gives it."""
        ...

    async def images_of(self, url_hash: str, *, now: float, repeat: bool) -> list[InputImage]:
        """The images that a client's URL has given to its orders that may still stand, newest first.

        Raises:
            ConfigurationError: an order that answers for one of this URL made again cannot be read.
        """
        ...

    async def owner_of(self, client: str, sha256: str) -> tuple[str, int] | None:
        """The client's newest task with an image of this hash, and which image that is; it may take a while."""
        ...

    async def get(self, task_id: str) -> Record | None:
        """The record of a task; None if there is none."""
        ...

    async def find_remote(
        self, provider: str, remote_id: str, client: str | None = None, *, last: bool = False
    ) -> Record | None:
        """The newest task one of whose orders has this id at the provider.

        Args:
            provider: whose id it is.
            remote_id: the id.
            client: whose task; anybody's if None.
            last: only if it is the id of the task's last order, whose images are the task's.
        """
        ...

    async def recent(self, client: str, limit: int) -> list[Record]:
        """The client's newest tasks, newest first."""
        ...

    async def ids(self, client: str, prefix: str, limit: int, status: Status | None = None) -> list[str]:
        """The ids of the client's tasks that begin with a prefix, newest first; of one status if it is given."""
        ...

    async def events(self, ids: Collection[str]) -> list[TaskEvent]:
        """How these tasks stand, whoever wrote them."""
        ...

    async def check(self) -> None:
        """Raises ConfigurationError if the store cannot be used."""

    async def counts(self, now: float) -> Counts:
        """How much there is of what; `now` names the day."""
        ...

    async def open_sources(self) -> set[str]:
        """The hashes of the images that open tasks are made from."""
        ...
