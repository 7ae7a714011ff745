"""What the vendors' answers are made of: JSON responses, times, and addresses on the sandbox itself."""

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from outpaint_mcp.sandbox.loopback import is_http_url


def answer_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """`body` as a JSON response with HTTP `status`."""
    return JSONResponse(body, status_code=status, headers=headers)


def iso(at: float | None) -> str:
    """Unix time `at` by RFC 3339 in UTC; for None Go's zero time, as these vendors send."""
    if at is None:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def origin_of(request: Request) -> str:
    """`http://host:port` as the client wrote it, so that image URLs lead back the same way."""
    host = request.headers.get("host") or request.url.netloc
    return f"{request.url.scheme}://{host}"


def with_bare_urls(value: Any) -> Any:
    """The JSON `value` with the first URL in place of every list of URLs."""
    if isinstance(value, dict):
        return {key: with_bare_urls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(inner, str) and is_http_url(inner) for inner in value):
            return value[0]
        return [with_bare_urls(inner) for inner in value]
    return value
