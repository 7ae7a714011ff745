"""What a vendor's rejection means: its message and code wherever vendors put them, and the error that they are."""

from collections.abc import Mapping
from typing import Any, Final

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    InvalidImageError,
    InvalidRequestError,
    OutpaintError,
    ProviderUnavailableError,
    RateLimitedError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.providers.calls import quoted

MAX_ITEMS: Final = 5
"""Of a list of problems, how many are told."""
ERRORS_BY_STATUS: Final[Mapping[int, type[OutpaintError]]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthenticationError,
    404: UnknownTaskError,
    409: InvalidRequestError,
    413: InvalidImageError,
    415: InvalidImageError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


def find_message(body: Any) -> str:
    """The sentence in a rejection, wherever vendors put it; empty where there is none."""
    if not isinstance(body, dict):
        return ""
    for listed in (body.get("detail"), body.get("errors")):
        if isinstance(listed, list) and (told := "; ".join(filter(None, map(_item_message, listed[:MAX_ITEMS])))):
            return told
    if exception := _exception(body):
        return _text(body, "detail") or ": ".join(filter(None, exception))
    if isinstance(body.get("error"), str) and body["error"].strip():
        return str(body["error"]).strip()
    for inner in _inside(body):
        found = find_message({**inner, "error": None, "status": None})
        if found:
            return found
    for key in ("error_message", "message", "raw_message", "detail", "description"):
        if text := _text(body, key):
            # Bria's message may be no more than the status in words.
            details = _text(body, "details")
            return f"{text}; {details}" if details else text
    return ""


def _exception(body: dict[str, Any]) -> tuple[str, str] | None:
    """The name of an exception and its words, as the engines of the web UIs' family tell them (November 2026)."""
    name, words = body.get("error"), body.get("errors")
    return (name.strip(), words.strip()) if isinstance(name, str) and isinstance(words, str) else None


def _text(body: dict[str, Any], key: str) -> str:
    text = body.get(key)
    return text.strip() if isinstance(text, str) else ""


def find_code(body: Any) -> str | None:
    """The vendor's own code in a rejection; None where there is none, or 0, which means none."""
    if not isinstance(body, dict):
        return None
    for inner in _inside(body):
        found = find_code({**inner, "error": None, "status": None})
        if found is not None:
            return found
    for key in ("error_code", "code", "error_type", *(("name",) if isinstance(body.get("errors"), list) else ())):
        code = body.get(key)
        if isinstance(code, int | str) and not isinstance(code, bool) and code not in (0, "", "0"):
            return str(code)
    if exception := _exception(body):
        # FastAPI's own carries a status and says nothing more.
        return None if exception[0] in ("", "HTTPException") else exception[0]
    match body.get("detail"):
        case [{"type": str(kind)}, *_]:
            return kind
    return None


def _item_message(item: Any) -> str:
    """One of a list of problems: text, or an object with the place of the field and what is wrong with it."""
    if not isinstance(item, dict):
        return item.strip() if isinstance(item, str) else ""
    message = item.get("msg", item.get("message"))
    if not isinstance(message, str):
        return ""
    loc = item.get("loc")
    where = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
    return f"{where}: {message.strip()}" if where else message.strip()


def _inside(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects in which some vendors wrap what they say."""
    return [inner for inner in (body.get("error"), body.get("status")) if isinstance(inner, dict)]


def error_by_status(title: str, status: int, body: Any) -> OutpaintError:
    """The error that a rejection means, going by its HTTP status alone."""
    if 300 <= status < 400:
        return UnexpectedResponseError(
            f"{title} answered with a redirect ({status}), which is not followed.",
            "Have the operator check this provider's base URL.",
        )
    fallback = ProviderUnavailableError if status >= 500 or status == 408 else UnexpectedResponseError
    kind = ERRORS_BY_STATUS.get(status, fallback)
    return _error(kind, f"{title} answered {status}", body)


def rejection(kind: type[OutpaintError], title: str, body: Any, advice: str | None = None) -> OutpaintError:
    """The error of class `kind` with what the vendor says in `body`."""
    return _error(kind, f"{title} refused", body, advice)


def _error(kind: type[OutpaintError], beginning: str, body: Any, advice: str | None = None) -> OutpaintError:
    message = find_message(body)
    sentence = f"{beginning}: {quoted(message)}." if message else f"{beginning}."
    return kind(sentence, advice, provider_code=find_code(body))
