"""What this process holds in memory of a task that is under way; after a restart it does without."""

from dataclasses import dataclass

import anyio

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import InputImage, StepName
from outpaint_mcp.domain.request import Webhook
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers.base import Provider


@dataclass(slots=True)
class LastPoll:
    """What a provider last said of an open task's order, as it stands in the store.

    `polled_at` is in seconds since the epoch; `until`, when the task's time is up, on the monotonic clock. `lapses` is
    the store's count when it was said: if it has risen since, another process may have taken the task over.
    """

    provider: Provider
    remote_id: str
    reference: str | None
    step: StepName
    update: TaskUpdate
    polled_at: float
    until: float
    lapses: int


@dataclass(slots=True)
class InFlight:
    """One task that is under way.

    `placing` is set when the first order is answered; None once it is. `refusal` is why it was refused, for the calls
    that wait for it. `webhook` is the client's and `image` the input image with its whole URL, neither of which may be
    on disk. `callback` is our own webhook, and `awaits_callback` says that polls may be rare because of it. `failures`
    counts the polls in a row that got no answer. `since` is when it was ordered, on the monotonic clock.
    """

    placing: anyio.Event | None = None
    refusal: OutpaintError | None = None
    webhook: Webhook | None = None
    image: InputImage | None = None
    callback: Webhook | None = None
    awaits_callback: bool = False
    failures: int = 0
    since: float | None = None
    last_poll: LastPoll | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a vendor was told with the order and must not be shown when the vendor repeats it."""
        webhooks = (self.webhook, self.callback)
        return tuple(secret for webhook in webhooks if webhook is not None for secret in webhook.secrets)
