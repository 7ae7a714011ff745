"""Our own webhooks: where a provider calls back when an order is done, and whether a callback is genuine.

A callback is a hint to poll: nothing in it is believed but which order it is about. Every task's URL ends in a token of
its own, which only this server and the vendor can have made.
"""

import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import Webhook
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.storage.store import Store

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0
"""How soon after a callback another one about the same task counts: a flood of callbacks is no flood of polls."""
REMEMBERED: Final = 10_000


class Callbacks:
    """Mints callback URLs and judges what comes there.

    Args:
        public_url: where vendors reach this server; None asks nobody to call back.
        seconds: a monotonic clock.
    """

    def __init__(self, public_url: str | None, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._public_url = None if public_url is None else public_url.rstrip("/")
        self._seconds = seconds
        self._counted: OrderedDict[str, float] = OrderedDict()

    def webhook_for(self, provider: Provider, task_id: str, order: Order) -> Webhook | None:
        """Where the provider is to call when the order is done; None where it cannot."""
        token = provider.callback_token(task_id)
        if self._public_url is None or not token:
            return None
        # The token is named as the secret too, so that no message of the vendor's brings it to light.
        webhook = Webhook(f"{self._public_url}/webhooks/{provider.name}/{token}", secret=token)
        return webhook if provider.takes_callback(webhook.url, order.source.kind) else None

    def may_be_genuine(self, provider: Provider, token: str) -> bool:
        """Whether a token has the form of the provider's: what can be said of it before its task is known."""
        return bool(provider.callback_token("")) and re.fullmatch(provider.callback_pattern, token) is not None

    def is_genuine(self, provider: Provider, task_id: str, token: str) -> bool:
        """Whether a callback about a task came to the URL that was minted for it."""
        expected = provider.callback_token(task_id)
        return bool(expected) and hmac.compare_digest(expected.encode(), token.encode())

    async def record_of(
        self, provider: Provider, token: str, headers: Mapping[str, str], body: bytes, store: Store
    ) -> Record | None:
        """The task that a callback to this URL is about; None if it is not genuine."""
        if not self.may_be_genuine(provider, token):
            return None
        try:
            record = await store.find_remote(provider.name, await provider.called_back(headers, body, token))
        except OutpaintError as error:
            logger.info("a callback of %s was not taken: %s", provider.name, error.code)
            return None
        return record if record is not None and self.is_genuine(provider, record.task.id, token) else None

    def counts(self, task_id: str) -> bool:
        """Whether a genuine callback is to be acted on: not so soon after another about the same task."""
        now = self._seconds()
        if now - self._counted.get(task_id, float("-inf")) < AGAIN_SECONDS:
            return False
        self._counted[task_id] = now
        self._counted.move_to_end(task_id)
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        return True
