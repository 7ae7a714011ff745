"""What one client may order in a day."""

import pytest

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import BudgetExceededError


@pytest.mark.parametrize(
    ("limits", "prices", "used", "told"),
    [
        (DailyLimits(orders=2), [None], DailyLimits(orders=2), "today's limit of 2 orders"),
        (DailyLimits(orders=2), [None, None], DailyLimits(orders=1), "1 are used"),
        (DailyLimits(usd=0.1), [0.06], DailyLimits(usd=0.05), "this order costs $0.06"),
        (DailyLimits(usd=0.1), [0.05, None], DailyLimits(), "ACME_USD_PER_ORDER"),
    ],
)
def test_an_order_beyond_a_limit_is_refused_and_told_why(
    limits: DailyLimits, prices: list[float | None], used: DailyLimits, told: str
) -> None:
    with pytest.raises(BudgetExceededError) as refused:
        limits.check(prices, used=used, provider="acme")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("limits", "prices", "used"),
    [
        (DailyLimits(), [None], DailyLimits(9e9, 10**9)),
        (DailyLimits(orders=2), [None, None], DailyLimits(orders=0)),
        # Three times a tenth is a little more than 0.3 in binary.
        (DailyLimits(usd=0.3), [0.1], DailyLimits(usd=0.1 + 0.1)),
        (DailyLimits(usd=0.1), [0.05, 0.05], DailyLimits()),
    ],
)
def test_an_order_within_the_limits_is_let_through(
    limits: DailyLimits, prices: list[float | None], used: DailyLimits
) -> None:
    limits.check(prices, used=used, provider="acme")


def test_what_is_left_is_never_below_nothing() -> None:
    assert DailyLimits(usd=1.0, orders=3).left(DailyLimits(1.25, 1)) == DailyLimits(0.0, 2)
    assert DailyLimits().left(DailyLimits(5, 5)) == DailyLimits()
