"""A queue for something scarce: clients take turns at it, however many jobs each has waiting.

anyio's `CapacityLimiter` serves whoever came first, and knows no clients.
"""

from collections import Counter, deque
from types import TracebackType
from typing import Self

import anyio

from outpaint_mcp.domain.errors import RateLimitedError


class FairQueue:
    """Lets at most `limit` jobs run at the same time. The next one is of the client that has the fewest running.

    Args:
        limit: how many jobs run at the same time.
        share: how many of these may be one client's; the rest is for the others, who then wait for no long job.
            By default all of them.
        max_waiting: how many jobs of one client may wait; by default any number.
        what: what waits, as a refusal calls it.
    """

    def __init__(
        self, limit: int, *, share: int | None = None, max_waiting: int | None = None, what: str = "jobs"
    ) -> None:
        self._free = limit
        self._share = limit if share is None else share
        self._max_waiting = max_waiting
        self._what = what
        # In the order of their turns: whose job has just begun is the last one.
        self._waiting: dict[str, deque[Place]] = {}
        self._running: Counter[str] = Counter()

    def join(self, client: str, *, bounded: bool = True) -> "Place":
        """A place in the queue for a job of `client`; ``async with`` it waits for the job's turn and runs the job.

        Args:
            client: whose job it is.
            bounded: whether it may be refused.

        Raises:
            RateLimitedError: as many jobs of the client wait as may.
        """
        waiting = len(self._waiting.get(client, ()))
        if bounded and self._max_waiting is not None and waiting >= self._max_waiting:
            raise RateLimitedError(
                f"{waiting} {self._what} of yours are waiting already.",
                "Nothing was ordered. Call again when some of them are done.",
            )
        place = Place(self, client, is_only_one=not waiting and not self._running[client])
        self._waiting.setdefault(client, deque()).append(place)
        self._begin_next()
        return place

    def leave(self, place: "Place") -> None:
        """Give up a place, which must not have been left before."""
        if place.turn.is_set():
            self._running.subtract([place.client])
            self._running += Counter()  # forgets who has none
            self._free += 1
            self._begin_next()
            return
        places = self._waiting[place.client]
        places.remove(place)
        if not places:
            del self._waiting[place.client]

    def _begin_next(self) -> None:
        while self._free:
            ready = [client for client in self._waiting if self._running[client] < self._share]
            if not ready:
                return
            client = min(ready, key=self._running.__getitem__)
            places = self._waiting.pop(client)
            place = places.popleft()
            if places:
                self._waiting[client] = places
            self._running[client] += 1
            self._free -= 1
            place.turn.set()


class Place:
    """One job's place in a queue, from `FairQueue.join` until its block ends or `leave` is called.

    `turn` is set when the job may run. `is_only_one` says that the client had no other job when this one came.
    """

    def __init__(self, queue: FairQueue, client: str, *, is_only_one: bool) -> None:
        self._queue = queue
        self.client = client
        self.is_only_one = is_only_one
        self.turn = anyio.Event()
        self._left = False

    async def __aenter__(self) -> Self:
        try:
            await self.turn.wait()
        except BaseException:
            self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Let the next job run. Leaving again does nothing."""
        if not self._left:
            self._left = True
            self._queue.leave(self)
