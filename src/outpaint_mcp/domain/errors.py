"""The errors that a client can meet, one stable code each. Knows nothing of HTTP or MCP.

::

    OutpaintError
    ├── RefusedError                  we said no; nothing left this machine
    │   ├── ConfigurationError            configuration
    │   ├── UnsupportedFeatureError       unsupported_feature
    │   ├── InvalidRequestError           invalid_request
    │   ├── UnknownTaskError              unknown_task
    │   ├── NotReadyError                 not_ready
    │   ├── BudgetExceededError           budget_exceeded
    │   ├── ForbiddenUrlError             forbidden_url
    │   └── InvalidImageError             invalid_image
    │       └── UndecidedImageError           (the same code)
    ├── InternalError                 internal
    └── ProviderError                 the provider said no, or nothing that can be understood
        ├── AuthenticationError           authentication_failed
        ├── InsufficientCreditsError      insufficient_credits
        ├── ContentRejectedError          content_rejected
        ├── RateLimitedError              rate_limited
        ├── ProviderUnavailableError      provider_unavailable
        ├── UnexpectedResponseError       unexpected_response
        ├── OrderUnconfirmedError         order_unconfirmed
        │   └── KeyConflictError              (the same code)
        └── TimedOutError                 timed_out

A provider can refuse for the same reasons as we do (a bad parameter, an unknown task), so a `RefusedError`
class also serves for its answer. `str(error)` is what a model reads: ``[code] One sentence. What to do.``
"""

import copy
from typing import ClassVar, Self


class OutpaintError(Exception):
    """Base of all: a `message` of one sentence, and `advice` on what to do about it.

    `provider_code` is the provider's own code, if it gave one. `retry_after` is when to come back, in seconds, if it
    said so.
    """

    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    default_advice: ClassVar[str]

    def __init__(
        self,
        message: str,
        advice: str | None = None,
        *,
        provider_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        self.provider_code = provider_code
        self.retry_after = retry_after

    def again(self) -> Self:
        """A copy to be raised: an error that is kept would gather the frames of every call that raised it."""
        return copy.copy(self)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message} {self.advice}".rstrip()


class RefusedError(OutpaintError):
    """We refused: nothing was ordered and nothing was spent."""


class ConfigurationError(RefusedError):
    """A setting is missing or wrong, such as a provider's key."""

    code = "configuration"
    default_advice = "Change the server's settings; no argument of the call helps."


class UnsupportedFeatureError(RefusedError):
    """The provider cannot do what was asked, or nobody who is configured can."""

    code = "unsupported_feature"
    default_advice = "Leave the argument out, or name a provider that has the feature (list_providers shows them)."


class InvalidRequestError(RefusedError):
    """An argument is missing, unknown or not what it must be."""

    code = "invalid_request"
    default_advice = "Correct the arguments and call again."


class UnknownTaskError(RefusedError):
    """There is no such task, here or at the provider, or it is another client's."""

    code = "unknown_task"
    default_advice = "Check the id; for a provider's own id, name the provider too."


class NotReadyError(RefusedError):
    """The source is not finished, or takes longer to read than the call may wait."""

    code = "not_ready"
    default_advice = "Wait with get_task until the source has succeeded, then call again."


class BudgetExceededError(RefusedError):
    """The order would exceed a daily limit, or the user did not confirm it."""

    code = "budget_exceeded"
    default_advice = "Wait for the next UTC day, or have the operator raise the limit."


class ForbiddenUrlError(RefusedError):
    """A URL leads where this server must not go, such as to a private address."""

    code = "forbidden_url"
    default_advice = "Give a public http(s) URL, or a data: URI."


class InvalidImageError(RefusedError):
    """The image cannot be read, or is too large or too small."""

    code = "invalid_image"
    default_advice = "Give a whole JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP image."


class UndecidedImageError(InvalidImageError):
    """Decoding the image took more time or memory than there was, which says nothing of whether it is whole."""


class InternalError(OutpaintError):
    """This server failed, and it is not known at what."""

    code = "internal"
    default_advice = (
        "Make the same call again, its arguments unchanged: nothing is ordered twice. If it fails again, have the "
        "operator look at the server's log."
    )


class ProviderError(OutpaintError):
    """The provider refused, failed, or answered in a way that cannot be understood."""


class AuthenticationError(ProviderError):
    """The provider does not accept the API key."""

    code = "authentication_failed"
    default_advice = "The operator must check this provider's API key; or name another provider."


class InsufficientCreditsError(ProviderError):
    """The account with the provider has too little left, or has expired."""

    code = "insufficient_credits"
    default_advice = "Top up or renew the account with this provider, or name another provider."


class ContentRejectedError(ProviderError):
    """The provider's moderation rejects the prompt or the image."""

    code = "content_rejected"
    default_advice = "Change the prompt or the image; the same order will be rejected again."


class RateLimitedError(ProviderError):
    """The provider takes no more requests for now."""

    code = "rate_limited"
    retryable = True
    default_advice = "Wait a little, then call again."


class ProviderUnavailableError(ProviderError):
    """The provider cannot be reached, or fails."""

    code = "provider_unavailable"
    retryable = True
    default_advice = "Nothing was ordered. Try again later, or name another provider."


class UnexpectedResponseError(ProviderError):
    """The provider answered in a way that cannot be understood."""

    code = "unexpected_response"
    default_advice = "Try again later; if it stays, report it with the provider's name."


class OrderUnconfirmedError(ProviderError):
    """The order may or may not have been taken. It becomes a task of status ``unknown``, never a tool error."""

    code = "order_unconfirmed"
    default_advice = "Check with get_task; ordering again with repeat=true may pay twice."


class KeyConflictError(OrderUnconfirmedError):
    """The provider holds an order under our key whose body was another: asking again the same way cannot find it."""


class TimedOutError(ProviderError):
    """The task was not finished in time; it may still be."""

    code = "timed_out"
    default_advice = "Ask again with get_task; do not order again."
