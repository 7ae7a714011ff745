"""Whether an order was taken: what each failure says about money. Pure tables, and nothing else decides it.

An order is sent once. After a failure it may have been taken (`Taken.MAYBE`: the task is `unknown` and keeps its
reservation) or it certainly was not (`Taken.NO`: an error, and the reservation is released). Where nobody can know, the
answer is "maybe".
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

import httpx2

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
)


class Taken(Enum):
    """What a failure says about an order: certainly not taken, or nobody can know."""

    NO = "no"
    MAYBE = "maybe"


TAKEN_AFTER: Final[Mapping[type[Exception], tuple[Taken, str]]] = {
    # ConnectError is a failed look-up, a refused connection or a failed TLS handshake: no byte of the order went out.
    httpx2.ConnectError: (Taken.NO, "cannot be reached"),
    httpx2.ConnectTimeout: (Taken.NO, "did not accept a connection in time"),
    httpx2.PoolTimeout: (Taken.NO, "has too many requests of ours open already"),
    httpx2.ProxyError: (Taken.NO, "cannot be reached through the proxy"),
    httpx2.UnsupportedProtocol: (Taken.NO, "has a base URL that is neither http nor https"),
    httpx2.InvalidURL: (Taken.NO, "has a base URL that cannot be read"),
    httpx2.WriteTimeout: (Taken.MAYBE, "did not take the request in time"),
    httpx2.ReadTimeout: (Taken.MAYBE, "did not answer in time"),
    TimeoutError: (Taken.MAYBE, "did not answer in time"),
    httpx2.WriteError: (Taken.MAYBE, "broke the connection off while the request was sent"),
    httpx2.ReadError: (Taken.MAYBE, "broke the connection off before it had answered"),
    httpx2.ProtocolError: (Taken.MAYBE, "broke the connection off or did not answer in HTTP"),
    httpx2.HTTPError: (Taken.MAYBE, "gave an answer that cannot be read"),
}
"""What each failure of the network says about an order, the first that matches."""
MAYBE_STATUSES: Final = frozenset({408, *range(500, 600)})
"""A server that gave up on a request may have acted on it before; but see `taken_by_status`."""
_OF_THE_BODY: Final = frozenset({400, 404, 413, 422})
_BEFORE_THE_KEY: Final = (AuthenticationError, InsufficientCreditsError, ProviderUnavailableError, RateLimitedError)


def proves_refusal(status: int | None, error: OutpaintError) -> bool:
    """Whether a refusal that comes under the same key after a lost answer says that the first request was refused too.

    Only a refusal of the body itself does: a limit on the rate or the balance may be looked at before the key is.
    """
    return status in _OF_THE_BODY and not isinstance(error, _BEFORE_THE_KEY)


def taken_by_status(status: int, *, has_retry_after: bool, has_own_key: bool, is_challenge: bool = False) -> Taken:
    """What an answer that is not a success says about the order."""
    # A challenge to browsers stands in place of passing the request on, whatever its status.
    if is_challenge or (status == 503 and has_retry_after):
        return Taken.NO
    # A conflict about our own key means that the key was seen before: there is an order behind it.
    return Taken.MAYBE if status in MAYBE_STATUSES or (status == 409 and has_own_key) else Taken.NO
