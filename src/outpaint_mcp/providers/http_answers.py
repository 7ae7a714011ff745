"""Reads an HTTP answer of a vendor: its status, its Retry-After, and its body as JSON or as an image's bytes."""

import json
import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx2

from outpaint_mcp.providers.calls import Endpoint


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that came. `retry_after` is in seconds.

    `body` is the JSON, or an image's bytes, or None where neither can be read; `problem` then says why.
    """

    status: int
    retry_after: float | None
    body: Any = field(repr=False)
    problem: str = ""

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
    try:
        data = await _read_capped(response, endpoint.max_answer_bytes)
        mime_type = response.headers.get("content-type", "").strip().lower()
        body = data if endpoint.answers_with_images and mime_type.startswith("image/") else _parse_json(data)
    except ValueError as error:
        problem = str(error)
    except httpx2.HTTPError:
        if response.is_success:
            raise
        # The status has come, and it says enough.
        problem = "its body was broken off"
    return HttpAnswer(response.status_code, retry_after, body, problem)


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


def read_retry_after(header: str | None, now: float) -> float | None:
    """Seconds from `now`; None where the header is missing or cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
