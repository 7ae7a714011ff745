"""How the operator wants tasks handled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from outpaint_mcp.domain.daily_limits import DailyLimits


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the operator wants it. Times in seconds.

    `poll` is (first, interval) in place of every provider's own. `prices` replaces providers' prices in USD per order.
    `max_in_flight` is how many tasks of a provider may run there at a time, over all processes; the others may have any
    number.
    `auto` names the providers that `auto` tries; `may_leave` says whether it may hand out images that have no URL.
    `import_tasks` says whether a provider's own id that is not known here is fetched and imported.
    `paths_allowed`: clients share this machine's files: `image` may be a path, and an image's URL a ``file:`` one.
    `confirm_above_usd`: above which price of an order, in USD, the user is asked first; None is never.
    `keep_tasks_days` is how long final tasks are kept, in days; 0 is for ever.
    `public_url` is where vendors can call back.
    `workers` says that workers poll, draw, copy and clean up; `max_waiting` how many drawings of one client may be open
    then, any number if None.
    """

    auto: tuple[str, ...]
    may_leave: bool = False
    import_tasks: bool = True
    paths_allowed: bool = True
    confirm_above_usd: float | None = None
    daily_limits: DailyLimits = field(default_factory=DailyLimits)
    prices: Mapping[str, float] = field(default_factory=dict)
    max_in_flight: Mapping[str, int] = field(default_factory=dict)
    poll: tuple[float, float] | None = None
    task_timeout: float = 1800.0
    keep_images_days: float = 30.0
    keep_tasks_days: float = 365.0
    keep_images_bytes: int = 5 * 10**9
    public_url: str | None = None
    workers: bool = False
    max_waiting: int | None = None
