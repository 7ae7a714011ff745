"""Told what happens to requests and tasks, for whoever counts it. Knows nothing of how that is done."""


class Observer:
    """Hears of what happens; this one does nothing with it."""

    def asked(self, provider: str, kind: str, outcome: str, seconds: float) -> None:
        """A request to a provider has ended.

        Args:
            provider: its name.
            kind: ``order`` or ``read``.
            outcome: the HTTP status, or the kind of failure where there was none.
            seconds: how long it took.
        """

    def advanced_late(self, seconds: float) -> None:
        """A task was advanced so many seconds after it was due."""
