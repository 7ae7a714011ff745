"""Refuses a request over HTTP outside of MCP, in the words of our errors."""

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response

from outpaint_mcp.domain.errors import OutpaintError


def refusal(status: int, error: OutpaintError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that holds an error as text."""
    return PlainTextResponse(f"{error}\n", status, headers)
