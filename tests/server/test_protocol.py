"""What the server promises to clients, what it answers where there is nothing, and what it does not let out."""

import contextlib
import types
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent

from outpaint_mcp import __version__
from outpaint_mcp.bootstrap import create_server
from outpaint_mcp.domain.errors import InternalError
from outpaint_mcp.domain.front import Front
from outpaint_mcp.server.app import INSTRUCTIONS, build_server
from outpaint_mcp.server.lazy_service import LazyService

from ..serving import ERAS, connected, settings_for

SECRET = "sk-secret"


@pytest.mark.parametrize("era", ERAS)
async def test_only_what_there_is_is_promised(tmp_path: Path, era: str) -> None:
    async with connected(settings_for(tmp_path), era=era) as client:
        assert client.server_capabilities.model_dump(exclude_none=True) == {
            "completions": {},
            # The older protocol has no place for them; there it is the tools that name the view.
            **(
                {}
                if era == "legacy"
                else {"extensions": {f"io.modelcontextprotocol/{name}": {} for name in ("tasks", "ui")}}
            ),
            # The lists never change.
            "prompts": {"list_changed": False},
            "resources": {"subscribe": True, "list_changed": False},
            "tools": {"list_changed": False},
        }
        assert client.instructions == INSTRUCTIONS
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("outpaint-mcp", __version__)


async def test_lists_may_be_cached_and_tasks_may_not(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        tools = await client.list_tools()
        templates = await client.list_resource_templates()
        resources = await client.list_resources()
        prompts = await client.list_prompts()
        tasks = await client.read_resource("outpaint://tasks")
    hints = [(found.ttl_ms, found.cache_scope) for found in (tools, prompts, templates, resources, tasks)]
    assert hints == [(3_600_000, "public")] * 3 + [(300_000, "public"), (0, "private")]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("front", [Front.STDIO, Front.HTTP])
async def test_a_path_is_offered_only_where_files_are_shared(tmp_path: Path, era: str, front: Front) -> None:
    async with Client(create_server(settings_for(tmp_path), front=front), mode=era) as client:
        (outpaint, *_) = (await client.list_tools()).tools
        offered = outpaint.input_schema["properties"]["image"]["description"]
        shared = front is Front.STDIO
        assert ("file path" in offered) is shared
        assert ("the user's file" in (client.instructions or "")) is shared
        assert "http(s) URL" in offered
        assert "data: URI" in offered


def broken_server() -> Any:
    """A server whose service fails at everything, with a secret in what it says."""

    async def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"connecting with {SECRET}")

    service: Any = types.SimpleNamespace(get_task=fail, recent=fail)
    return build_server(LazyService(lambda: contextlib.nullcontext(service)))


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
@pytest.mark.parametrize("era", ERAS)
async def test_an_unexpected_failure_is_logged_and_its_text_is_not_sent(
    era: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(broken_server(), mode=era) as client:
        result = await client.call_tool("get_task", {"task_id": "op-1"})
        with pytest.raises(MCPError) as read:
            await client.read_resource("outpaint://tasks")
        errors = [str(read.value.error)]
        if era == "legacy":
            with pytest.raises(MCPError) as subscribed:
                await client.subscribe_resource("outpaint://tasks/op-1")
            errors.append(str(subscribed.value.error))
    assert result.is_error
    assert [block.text for block in result.content if isinstance(block, TextContent)] == [
        str(InternalError("The tool get_task failed."))
    ]
    assert not [error for error in errors if SECRET in error]
    logged = [record for record in caplog.records if record.exc_info and SECRET in str(record.exc_info[1])]
    assert len(logged) == 1 + len(errors)
