"""Reads an HTTP answer of a vendor: its status, its Retry-After, its body as JSON, an image or a web page."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import httpx2

from outpaint_mcp.domain.retry_after import read_retry_after
from outpaint_mcp.domain.web_page import is_web_page, title_of
from outpaint_mcp.providers.calls import Endpoint

_CHALLENGE_HEADERS: Final = {"cf-mitigated": "challenge", "x-amzn-waf-action": ""}
"""Cloudflare's and AWS WAF's, by their documentation (2026-11); an empty value stands for any."""
_CHALLENGE_PAGE: Final = re.compile(rb"_cf_chl_opt|cf[-_]chl[-_]|cf-browser-verification|jschl[-_]vc")
"""What only Cloudflare's challenge pages hold. Its script `challenge-platform` is no sign: other pages have it too."""
_CHALLENGE_TITLE: Final = re.compile(
    r"just a moment|attention required! \| cloudflare|access denied \| .* used cloudflare", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class WebPage:
    """A web page in place of an answer, such as a proxy's or a server's own error page.

    `is_challenge`: it came from what stands before the vendor's servers, to keep programs out, in place of passing the
    request on.
    """

    title: str
    is_challenge: bool


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that came. `retry_after` is in seconds.

    `body` is the JSON, or an image's bytes, or None where neither can be read; `problem` then says why, and `page` is
    what came instead, if that is a web page.
    """

    status: int
    retry_after: float | None
    body: Any = field(repr=False)
    problem: str = ""
    page: WebPage | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def read_answer(response: httpx2.Response, endpoint: Endpoint, now: float) -> HttpAnswer:
    """Read the body of a response whose head has come.

    Args:
        response: opened with ``stream=True``.
        endpoint: whose answer it is.
        now: Unix time in seconds, for a `Retry-After` that is a date.

    Raises:
        httpx2.HTTPError: the connection broke before the body of a success was complete.
    """
    retry_after = read_retry_after(response.headers.get("retry-after"), now)
    body: Any = None
    problem = ""
    data = b""
    mime_type = response.headers.get("content-type", "").strip().lower()
    try:
        data = await _read_capped(response, endpoint.max_answer_bytes)
        body = data if endpoint.answers_with_images and mime_type.startswith("image/") else _parse_json(data)
    except ValueError as error:
        problem = str(error)
    except httpx2.HTTPError:
        if response.is_success:
            raise
        # The status has come, and it says enough.
        problem = "its body was broken off"
    page: WebPage | None = None
    if problem and (is_web_page(data) or mime_type.startswith(("text/html", "application/xhtml"))):
        page, problem = WebPage(title_of(data), _is_challenge(response, data)), "it is a web page"
    return HttpAnswer(response.status_code, retry_after, body, problem, page)


def _is_challenge(response: httpx2.Response, page: bytes) -> bool:
    for name, value in _CHALLENGE_HEADERS.items():
        if (found := response.headers.get(name)) is not None and found.lower().startswith(value):
            return True
    if _CHALLENGE_PAGE.search(page) is not None:
        return True
    from_cloudflare = "cloudflare" in response.headers.get("server", "").lower() or b"loudflare" in page
    return from_cloudflare and _CHALLENGE_TITLE.match(title_of(page)) is not None


async def _read_capped(response: httpx2.Response, max_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            raise ValueError(f"it is longer than {max_bytes:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _parse_json(data: bytes) -> Any:
    """
    Raises:
        ValueError: it is no JSON that can be stored: no text, too deep, NaN, or half a character in a string.
    """
    try:
        body = json.loads(data, parse_constant=_no_constant)
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            # A lone surrogate can be read, but neither stored nor shown.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON" if data.strip() else "it is empty") from None
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
