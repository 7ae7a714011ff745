"""Claims orders in a process of its own. Arguments: the store's file or URL, this process's name, what to claim.

``same N``: N orders that every process claims too; prints how many it may send. ``caps N ORDERS``: N orders of its own
in parallel under a cap of so many orders; prints how many were let through.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import anyio

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError
from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.record import Record, StepRecord
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.storage.postgres.seal import Seal
from outpaint_mcp.storage.postgres.store import PostgresStore
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.storage.store import Store

SEAL_KEY = "c2VhbHMgbm90aGluZyBidXQgd2hhdCB0ZXN0cyBzZWE="
NOW = 1_800_000_000.0


def record(identity: str, *, owner: str) -> Record:
    at = datetime.fromtimestamp(NOW, UTC)
    task = Task(
        id=f"op-{owner}-{identity}",
        provider="counting",
        status=Status.QUEUED,
        created_at=at,
        updated_at=at,
    )
    return Record(task, "local", identity, None, (StepRecord(0, StepName.OUTPAINT, usd=0.1),), due_at=NOW + 600)


def open_store(place: str, owner: str) -> Store:
    """The store in a file, or in the database of a URL."""
    if "://" in place:
        return PostgresStore(place, owner, Seal(SEAL_KEY))
    return SqliteStore(Path(place), owner)


async def main(place: str, owner: str, what: str, count: int, cap: int | None) -> None:
    store = open_store(place, owner)
    sent = 0

    async def claim(number: int) -> None:
        nonlocal sent
        name = f"{number}" if what == "same" else f"{owner}-{number}"
        made = record(name, owner=owner)
        try:
            found, may_send = await store.claim(
                made, now=NOW, repeat=False, limits=DailyLimits(orders=cap), count_orders=True
            )
        except BudgetExceededError:
            return
        if what == "same":
            may_send = may_send and await store.mark_sent(found.task.id, 0, now=NOW)
        sent += may_send

    async with anyio.create_task_group() as claims:
        for number in range(count):
            claims.start_soon(claim, number)
    sys.stdout.write(f"{sent}\n")


if __name__ == "__main__":
    place, owner, what, count, *cap = sys.argv[1:]
    anyio.run(main, place, owner, what, int(count), int(cap[0]) if cap else None)
