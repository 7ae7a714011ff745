"""What one client may order in a day, and whether one more order fits. Pure arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from outpaint_mcp.domain.errors import BudgetExceededError


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """The most that one client may order in a UTC day; None is no limit. Also what was used of it."""

    usd: float | None = None
    orders: int | None = None

    def left(self, used: "DailyLimits") -> "DailyLimits":
        """What may still be ordered; None where there is no limit."""
        return DailyLimits(
            None if self.usd is None else max(0.0, self.usd - (used.usd or 0)),
            None if self.orders is None else max(0, self.orders - (used.orders or 0)),
        )

    def check(self, prices: Sequence[float | None], *, used: "DailyLimits", provider: str) -> None:
        """Whether one more task fits.

        Args:
            prices: in USD, of each of the task's orders; None where it is not known.
            used: what was ordered or is reserved today.
            provider: whose name the message gives.

        Raises:
            BudgetExceededError: a limit does not allow it.
        """
        count = used.orders or 0
        if self.orders is not None and count + len(prices) > self.orders:
            raise BudgetExceededError(
                f"This would exceed today's limit of {self.orders} orders (OUTPAINT_MAX_ORDERS_PER_DAY); "
                f"{count} are used."
            )
        if self.usd is None:
            return
        known = [price for price in prices if price is not None]
        if len(known) < len(prices):
            raise BudgetExceededError(
                f"A daily limit in USD is set, and the price of {provider} in USD is not known.",
                f"Have the operator set {provider.upper().replace('-', '_')}_USD_PER_ORDER, or use another provider.",
            )
        price, spent = sum(known), used.usd or 0.0
        # A thousandth of a cent forgives what adding decimal prices in binary leaves over.
        if spent + price > self.usd + 1e-5:
            # Infinite is what the store says of an amount that is no number.
            used_up = f"${spent:.4g}" if math.isfinite(spent) else "an amount that cannot be read"
            raise BudgetExceededError(
                f"This would exceed today's limit of ${self.usd:g} (OUTPAINT_MAX_USD_PER_DAY): "
                f"{used_up} is used and this order costs ${price:.4g}."
            )
