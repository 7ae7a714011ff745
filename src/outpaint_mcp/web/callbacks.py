"""Takes vendors' callbacks in. A callback is a hint to look: nothing in it is believed but which order it is about.

Every order's callback address ends in a token of its own, which only this server and the vendor can have made.
"""

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from outpaint_mcp.domain.errors import OutpaintError, UnknownTaskError
from outpaint_mcp.domain.request import Webhook
from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""The largest callback that is read: some hold the whole task."""
AGAIN_SECONDS = 1.0
"""How soon after a callback another one about the same task is heeded: a flood leads to no flood of questions."""
REMEMBERED = 10_000


class Callbacks:
    """Makes callback addresses, and heeds what comes there.

    Args:
        public_url: where vendors reach this server; what is behind it ends at ``/webhooks``.
        service: whose orders.
        seconds: a clock that only runs forward.
    """

    def __init__(self, public_url: str, service: Service, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._public_url = public_url.rstrip("/")
        self._service = service
        self._seconds = seconds
        self._heeded: OrderedDict[str, float] = OrderedDict()

    def callback_for(self, provider: str, task_id: str) -> Webhook:
        """Where the provider is to call when the task's order is done."""
        token = self._service.callback_token(provider, task_id)
        # The token is named as the secret too, so that no message of the vendor's brings it to light.
        return Webhook(f"{self._public_url}/webhooks/{provider}/{token}", secret=token)

    async def receive(self, provider: str, token: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Heed a call, if it is genuine; returns whether it is. Of the same one again only the first counts.

        Args:
            provider: from the address.
            token: from the address.
            headers: of the call, in lower case.
            body: of the call, as it came.
        """

        try:
            task_id = await self._service.task_called_about(provider, headers, body)
            genuine = self._service.callback_token(provider, task_id)
            if not genuine or not hmac.compare_digest(genuine.encode(), token.encode()):
                raise UnknownTaskError("The callback's token is not this task's.")
        except OutpaintError as error:
            logger.info("a callback of %r was not heeded: %s", provider[:40], error.code)
            return False
        if self._is_new(task_id):
            await self._service.called_back(task_id)
        return True

    def _is_new(self, task_id: str) -> bool:
        now = self._seconds()
        if now - self._heeded.get(task_id, float("-inf")) < AGAIN_SECONDS:
            return False
        self._heeded[task_id] = now
        self._heeded.move_to_end(task_id)
        if len(self._heeded) > REMEMBERED:
            self._heeded.popitem(last=False)
        return True
