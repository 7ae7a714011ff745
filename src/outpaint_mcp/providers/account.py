"""What a vendor says of an account when it is asked without an order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has left, in the vendor's `unit`; in USD where the unit's price is known."""

    amount: float
    unit: str
    usd: float | None = None

    def __str__(self) -> str:
        if self.unit == "USD":
            return f"${self.amount:,.2f}"
        usd = "" if self.usd is None else f" (${self.usd:,.2f})"
        return f"{self.amount:,.2f}".removesuffix(".00") + f" {self.unit}{usd}"
