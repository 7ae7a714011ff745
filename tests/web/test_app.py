"""The HTTP application, called without a network."""

from pathlib import Path

import httpx2
import pytest
from mcp_types.version import LATEST_MODERN_VERSION

from outpaint_mcp.bootstrap import build_http_app

from ..serving import settings_for

META = {
    "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def call_get_task(client: httpx2.AsyncClient) -> httpx2.Response:
    """One `tools/call` of the modern protocol."""
    return await client.post(
        "/mcp",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "get_task", "arguments": {"task_id": "op-unknown"}, "_meta": META},
        },
        headers={
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": LATEST_MODERN_VERSION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "get_task",
        },
    )


async def test_a_modern_call_counts_once_towards_the_rate_limit(tmp_path: Path) -> None:
    app = build_http_app(settings_for(tmp_path, max_requests_per_minute=2), host="127.0.0.1", port=8000)
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi), base_url="http://127.0.0.1:8000")
    async with client, app.running():
        answers = [await call_get_task(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    codes = [code for answer in answers for code in ("unknown_task", "rate_limited") if f"[{code}]" in answer.text]
    assert codes == ["unknown_task", "unknown_task", "rate_limited"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "said"),
    [
        ("GET", "/", {}, 404, "[invalid_request] There is nothing at this path. MCP is served at /mcp."),
        ("POST", "/healthz", {}, 405, "[invalid_request] POST is not answered here. Use GET or HEAD."),
        ("GET", "/mcp", {"Host": "other.example"}, 421, "[configuration] "),
        ("GET", "/mcp", {"Origin": "https://other.example"}, 403, "[configuration] "),
    ],
)
async def test_a_request_that_leads_nowhere_is_told_where_to_go(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    app = build_http_app(settings_for(tmp_path), host="127.0.0.1", port=8000)
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi), base_url="http://127.0.0.1:8000")
    async with client, app.running():
        answer = await client.request(method, path, headers=headers)
    assert answer.status_code == status
    assert answer.text.startswith(said)
