"""What this process holds in memory of a task that is under way; after a restart it does without."""

from dataclasses import dataclass

import anyio

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.request import Webhook


@dataclass(slots=True)
class InFlight:
    """One task that is under way.

    `placing` is set when the first order is answered; None once it is. `refusal` is why it was refused, for the calls
    that wait for it. `webhook` is the client's and `image` the input image with its whole URL, neither of which may be
    on disk. `callback` is our own webhook.
    """

    placing: anyio.Event | None = None
    refusal: OutpaintError | None = None
    webhook: Webhook | None = None
    image: InputImage | None = None
    callback: Webhook | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a vendor was told with the order and must not be shown when the vendor repeats it."""
        webhooks = (self.webhook, self.callback)
        return tuple(secret for webhook in webhooks if webhook is not None for secret in webhook.secrets)
