"""When a task is polled: the provider's own times, rarer while a callback is awaited, backed off after failures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.task import Task
from outpaint_mcp.providers.base import Provider

UPSCALE_POLL: Final = (2.0, 2.0)
MAX_BACKOFF_SECONDS: Final = 10.0
AWAITING_CALLBACK_FACTOR: Final = 6
"""How many times rarer a task is polled whose provider was told to call back: a net for callbacks that get lost."""


class PollTimes:
    """How long to wait, in seconds.

    Args:
        fixed: (first, interval) in place of every provider's own.
        jitter: a random number from 0 to 1.
    """

    def __init__(self, fixed: tuple[float, float] | None, jitter: Callable[[], float]) -> None:
        self._fixed = fixed
        self._jitter = jitter

    def first(self, provider: Provider, step: StepName, *, awaits_callback: bool) -> float:
        """From an order to the first poll."""
        first, interval = self._of(provider, step)
        return max(first, interval * AWAITING_CALLBACK_FACTOR) if awaits_callback else first

    def interval(self, provider: Provider, step: StepName, *, awaits_callback: bool = False) -> float:
        """Between polls, at the most."""
        interval = self._of(provider, step)[1]
        return interval * AWAITING_CALLBACK_FACTOR if awaits_callback else interval

    def scattered(self, seconds: float) -> float:
        """A little less than `seconds`, so that tasks that were ordered together are not polled together for ever, and
        what is done is known within the provider's interval.
        """
        return seconds * (0.95 + 0.05 * self._jitter())

    def backoff(self, failures: int) -> float:
        """After so many failures in a row."""
        return min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** min(failures, 8)) * (0.5 + 0.5 * self._jitter())

    def _of(self, provider: Provider, step: StepName) -> tuple[float, float]:
        if self._fixed is not None:
            return self._fixed
        return UPSCALE_POLL if step is StepName.UPSCALE else (provider.first_poll, provider.poll_interval)


@dataclass(frozen=True, slots=True)
class Following:
    """What a client is told that follows a task by itself.

    `keep_days` is how long final tasks are kept, in days; 0 is for ever.
    """

    providers: Mapping[str, Provider]
    times: PollTimes
    keep_days: float

    @property
    def keep_seconds(self) -> float | None:
        """How long a task can be asked for at least, in seconds; None is for ever."""
        return 86_400 * self.keep_days or None

    def poll_seconds(self, task: Task) -> float:
        """After how long a task may stand differently, in seconds; 0 where its provider is gone."""
        provider = self.providers.get(task.provider)
        step = task.steps[-1].name if task.steps else StepName.OUTPAINT
        return 0.0 if provider is None else self.times.interval(provider, step)
