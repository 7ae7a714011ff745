"""What an operator watches of the service."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.tasks.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Figures:
    """What an operator watches: orders by (provider, state), tasks by (provider, status), calls being answered.

    `left` holds what each client who ordered today may still order, `overdue` for how many seconds the first due task
    of each provider has been due, and `waiting` how many of its orders wait for a place. `jobs` are those of workers,
    by (kind, status), of which `stalled` are a worker's that is gone. `claims_lost` counts the tasks that this process
    was at work on when another one took them over.
    """

    orders: Mapping[tuple[str, str], int]
    tasks: Mapping[tuple[str, str], int]
    left: Mapping[str, DailyLimits]
    calls: int
    overdue: Mapping[str, float]
    waiting: Mapping[str, int]
    jobs: Mapping[tuple[str, str], int]
    stalled: int
    claims_lost: int


async def figures(ledger: Ledger, limits: DailyLimits, calls: int, providers: Iterable[str]) -> Figures:
    """What there is now; none of the `providers` is left out of `overdue`, since what scales on it needs a number.

    Raises:
        ConfigurationError: the store cannot be read.
    """
    now = ledger.clock.now()
    counts = await ledger.store.counts(now)
    return Figures(
        orders=counts.orders,
        tasks=counts.tasks,
        left={client: limits.left(used) for client, used in counts.used.items()},
        calls=calls,
        overdue=dict.fromkeys(providers, 0.0) | {name: max(0.0, now - at) for name, at in counts.due.items()},
        waiting=counts.waiting,
        jobs=counts.jobs,
        stalled=counts.stalled,
        claims_lost=ledger.claims_lost,
    )
