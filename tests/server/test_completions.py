"""What is offered while a prompt's arguments or a resource's address are filled in."""

import contextlib
import types
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference

from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService

from ..serving import ERAS, connected, picture, settings_for

pytestmark = pytest.mark.usefixtures("decoded_here")

TASK = ResourceTemplateReference(type="ref/resource", uri="outpaint://tasks/{id}")
IMAGE = ResourceTemplateReference(type="ref/resource", uri="outpaint://tasks/{id}/images/{index}")


def prompt(name: str) -> PromptReference:
    return PromptReference(type="ref/prompt", name=name)


async def offered(client: Client, ref: Any, name: str, typed: str, **given: str) -> list[str]:
    result = await client.complete(ref, {"name": name, "value": typed}, given or None)
    assert result.completion.has_more is False
    return result.completion.values


@pytest.mark.parametrize("era", ERAS)
async def test_tasks_are_offered_newest_first(tmp_path: Path, era: str) -> None:
    settings = settings_for(tmp_path)
    async with connected(settings, era=era) as client:
        assert client.server_capabilities.completions is not None
        done: list[str] = []
        for zoom in (1.25, 1.5):
            arguments = {"image": str(picture(tmp_path)), "zoom": zoom, "provider_options": {"variants": 2}}
            done.insert(0, (await client.call_tool("outpaint", arguments)).structured_content["id"])
        assert await offered(client, TASK, "id", "") == done
        assert await offered(client, TASK, "id", done[0][:-1]) == done[:1]
        assert await offered(client, TASK, "id", "op-%") == []
        assert await offered(client, TASK, "id", "x" * 10_000) == []
        assert await offered(client, prompt("zoom_out"), "image", "op-") == done
        assert await offered(client, prompt("zoom_out"), "image", "https://") == []
        assert await offered(client, IMAGE, "index", "", id=done[0]) == ["1", "2"]
        assert await offered(client, IMAGE, "index", "", id="op-unknown") == []
        assert await offered(client, IMAGE, "index", "") == []


async def test_only_a_finished_task_is_offered_as_an_image(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        arguments = {"image": str(picture(tmp_path, width=1200, height=900)), "zoom": 2, "wait_seconds": 0}
        task = (await client.call_tool("outpaint", arguments)).structured_content
        assert await offered(client, TASK, "id", "op-") == [task["id"]]
        if (await client.call_tool("get_task", {"task_id": task["id"]})).structured_content["status"] != "succeeded":
            assert await offered(client, prompt("zoom_out"), "image", "op-") == []
        await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 45})
        assert await offered(client, prompt("zoom_out"), "image", "op-") == [task["id"]]


async def test_ready_providers_come_first_and_usual_values_by_what_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTRIX_API_KEY", "key-for-completions")
    async with connected(settings_for(tmp_path)) as client:
        names = await offered(client, prompt("widescreen"), "provider", "")
        assert names[0] == "auto"
        assert set(names[1:3]) == {"vtrix", "local"}
        assert {"legnext", "fal", "openai"} <= set(names[3:])
        assert await offered(client, prompt("widescreen"), "provider", "VT") == ["vtrix"]
        assert await offered(client, prompt("widescreen"), "aspect_ratio", "16") == ["16:9"]
        assert await offered(client, prompt("zoom_out"), "zoom", "1.2") == ["1.25"]
        assert await offered(client, prompt("add_space"), "sides", "Left, t") == ["Left, top"]
        assert await offered(client, prompt("add_space"), "sides", "left,l") == []
        assert await offered(client, prompt("add_space"), "prompt", "") == []


@pytest.mark.parametrize("era", ERAS)
async def test_what_there_is_not_is_refused_with_what_there_is(tmp_path: Path, era: str) -> None:
    template = ResourceTemplateReference(type="ref/resource", uri="outpaint://pictures/{id}")
    async with connected(settings_for(tmp_path), era=era) as client:
        for ref, name, told in (
            (prompt("zoom_in"), "zoom", "zoom_out"),
            (prompt("zoom_out"), "sides", "The arguments are image, zoom, provider, prompt."),
            (template, "id", "outpaint://tasks/{id}"),
        ):
            with pytest.raises(MCPError) as refused:
                await client.complete(ref, {"name": name, "value": ""})
            assert refused.value.error.code == INVALID_PARAMS
            assert told in refused.value.error.message


async def test_of_many_tasks_as_many_are_offered_as_an_answer_may_hold() -> None:
    async def task_ids(prefix: str, *, limit: int, **_: Any) -> list[str]:
        return [f"{prefix}{number}" for number in range(limit)]

    service: Any = types.SimpleNamespace(task_ids=task_ids)
    async with Client(build_server(LazyService(lambda: contextlib.nullcontext(service)))) as client:
        result = await client.complete(TASK, {"name": "id", "value": "op-"})
    assert len(result.completion.values) == 100, "the protocol's limit"
    assert result.completion.has_more is True
