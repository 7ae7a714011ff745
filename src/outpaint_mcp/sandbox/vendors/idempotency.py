"""Orders under an `Idempotency-Key`: the same request again gives the first one's task instead of a second order."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from outpaint_mcp.sandbox.tasks import Task, TaskTable
from outpaint_mcp.sandbox.vendors.bodies import RejectedError

KEY_LIFETIME_SECONDS = 24 * 3600.0
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class _FirstUse:
    at: float
    request: bytes
    task_id: str


class IdempotencyKeys:
    """The keys that orders came with, the newest `limit` of them, each valid for 24 hours by `clock`."""

    def __init__(self, tasks: TaskTable, clock: Callable[[], float], limit: int) -> None:
        self._tasks = tasks
        self._clock = clock
        self._limit = limit
        self._lock = anyio.Lock()
        self._used: OrderedDict[str, _FirstUse] = OrderedDict()

    async def order_once(
        self, key: str, path: str, body: bytes, place_order: Callable[[], Awaitable[Task]]
    ) -> tuple[Task, bool]:
        """The task of the order under `key`, and whether it was ordered now. A rejected order does not use `key` up.

        Raises:
            RejectedError: the key is empty or too long, was used with another path or body, or the order is rejected.
        """
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise RejectedError(400, "Idempotency-Key must have 1 to 255 characters")
        # Placing an order can wait (an image is fetched), and a second one under the same key must not slip in.
        async with self._lock:
            now = self._clock()
            request = hashlib.sha256(path.encode() + b"\n" + _canonical(body)).digest()
            first = self._used.get(key)
            if first is not None and now - first.at < KEY_LIFETIME_SECONDS:
                if first.request != request:
                    raise RejectedError(409, "Idempotency-Key was already used with a different request body")
                task = self._tasks.get(first.task_id)
                if task is not None:
                    return task, False
            task = await place_order()
            self._used.pop(key, None)
            self._used[key] = _FirstUse(now, request, task.id)
            while len(self._used) > self._limit:
                self._used.popitem(last=False)
            return task, True


def _canonical(raw: bytes) -> bytes:
    """The body without what does not change its meaning: two spellings of one JSON value are one body."""
    try:
        return json.dumps(json.loads(raw), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return raw
