"""What an operator watches of the service."""

from collections.abc import Mapping
from dataclasses import dataclass

from outpaint_mcp.domain.daily_limits import DailyLimits


@dataclass(frozen=True, slots=True)
class Figures:
    """What an operator watches: orders by (provider, state), tasks by (provider, status), calls being answered.

    `left` holds what each client who ordered today may still order, `overdue` for how many seconds the first due task
    of each provider has been due, and `waiting` how many of its orders wait for a place.
    """

    orders: Mapping[tuple[str, str], int]
    tasks: Mapping[tuple[str, str], int]
    left: Mapping[str, DailyLimits]
    calls: int
    overdue: Mapping[str, float]
    waiting: Mapping[str, int]
