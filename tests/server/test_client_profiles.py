"""What a call comes to for clients that do not say how long it may last, and which of them get links."""

import contextlib
import time
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.extension import ClientExtension, advertise
from mcp_types import ImageContent, Implementation, ResourceLink, TextContent

from outpaint_mcp.domain.task import Task
from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.client_profiles import UNKNOWN, profile_of
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.tools import ResultShape
from outpaint_mcp.settings import read_settings

from ..serving import ERAS, connected, picture, server_for, settings_for

SLOW = 8.0
KNOWN = (
    "claude-ai",
    "claude-ai (via mcp-remote 0.1.37)",
    "Claude Code",
    "Visual Studio Code - Insiders",
    "cursor-vscode",
)
FRAMEWORKS = ("mcp", "fastmcp", "google-adk", "visual-agent", "", "claude", "my-inspector-of-images")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished task, and the data folder that it is in."""

    folder: Path
    task_id: str

    async def told(self, client: Client) -> Any:
        """The task as `get_task` tells it: as `outpaint` does, and nothing is decoded or drawn."""
        return await client.call_tool("get_task", {"task_id": self.task_id})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("drawn")

    async def draw() -> str:
        async with connected(settings_for(folder)) as client:
            result = await client.call_tool("outpaint", {"image": str(picture(folder)), "zoom": 1.2})
            id_: str = result.structured_content["id"]
            return id_

    return Drawn(folder, anyio.run(draw))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("setting", "name", "links"),
    [
        *[("auto", name, True) for name in (*KNOWN, "mcp-inspector")],
        *[("auto", name, False) for name in FRAMEWORKS],
        (True, "mcp", True),
        (False, "claude-ai", False),
    ],
)
async def test_links_go_to_clients_that_are_known_to_bear_them(
    drawn: Drawn, era: str, setting: Any, name: str, links: bool
) -> None:
    server = server_for(settings_for(drawn.folder), resource_links=setting)
    async with Client(server, mode=era, client_info=Implementation(name=name, version="1")) as client:
        result = await drawn.told(client)
    assert result.structured_content["images"][0]["resource_uri"], "the resource is always there"
    assert any(isinstance(block, ResourceLink) for block in result.content) is links


APPS = advertise("io.modelcontextprotocol/ui", {"mimeTypes": ["text/html;profile=mcp-app"]})
APPS_OF_ANOTHER_KIND = advertise("io.modelcontextprotocol/ui", {"mimeTypes": ["text/uri-list"]})


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "extensions", "setting", "shown"),
    [
        ("Visual Studio Code", [], "auto", True),
        ("Visual Studio Code", [APPS_OF_ANOTHER_KIND], "auto", True),
        ("Visual Studio Code", [APPS], "auto", False),
        ("mcp", [], "auto", False),
        ("mcp", [], True, True),
        ("claude-ai", [], False, False),
    ],
)
async def test_a_preview_goes_where_the_user_sees_it_and_has_no_view(
    drawn: Drawn, era: str, name: str, extensions: list[ClientExtension], setting: Any, shown: bool
) -> None:
    server = server_for(settings_for(drawn.folder), preview=setting)
    client_info = Implementation(name=name, version="1")
    async with Client(server, mode=era, client_info=client_info, extensions=extensions) as client:
        result = await drawn.told(client)
    assert any(isinstance(block, ImageContent) for block in result.content) is shown


def test_known_hosts_wait_as_long_as_they_bear_and_others_briefly() -> None:
    assert all(profile_of(name).wait_seconds >= 25 for name in KNOWN)
    assert all(profile_of(name) is UNKNOWN for name in (*FRAMEWORKS, None))
    assert UNKNOWN.wait_seconds < 4


@contextlib.asynccontextmanager
async def at_sandbox(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Sandbox, str, Client]]:
    sandbox = Sandbox(SandboxSettings(seconds_per_state=60, painter=PlainPainter()))
    try:
        async with serving(sandbox) as base_url:
            for name, value in environment(base_url).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("OUTPAINT_DATA_DIR", str(folder / "data"))
            async with connected(read_settings(), name="mcp") as client:
                yield sandbox, base_url, client
    finally:
        sandbox.close()


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def timed(client: Client, **arguments: Any) -> tuple[Any, float]:
    began = time.monotonic()
    result = await client.call_tool("outpaint", arguments)
    return result, time.monotonic() - began


async def test_whatever_is_slow_an_unknown_client_has_its_answer_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (sandbox, base_url, client):

        def slow(vendor: str, on: Any, **more: Any) -> None:
            sandbox.faults.add(Fault(vendor=vendor, on=on, fault="slow", seconds=SLOW, **more))

        async def order_not_answered() -> None:
            slow("legnext", "submit", accepted=True)
            arguments = {"task_id": seed_id("legnext", grid=True), "provider": "legnext", "image_index": 1, "zoom": 1.5}
            result, seconds = await timed(client, **arguments)
            task = result.structured_content
            assert seconds < 4.5
            assert task["status"] == "queued"
            assert task["next"] == (
                f"Not finished. Call get_task with task_id={task['id']} and wait_seconds=3.5; do not order again."
            )
            again, _ = await timed(client, **arguments, wait_seconds=2)
            assert again.structured_content["id"] == task["id"]
            assert "and wait_seconds=2;" in again.structured_content["next"]
            later = await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 1})
            assert later.structured_content["status"] == "queued", "the vendor's answer is still awaited"

        async def parent_not_imported() -> None:
            slow("vtrix", "poll")
            arguments = {"task_id": seed_id("vtrix", grid=False), "provider": "vtrix", "zoom": 1.5}
            result, seconds = await timed(client, **arguments, wait_seconds=1)
            assert seconds < 4.5
            assert text_of(result).startswith("[not_ready] ")
            with anyio.fail_after(20):
                while result.is_error:
                    assert text_of(result).startswith("[not_ready] ")
                    result, _ = await timed(client, **arguments, wait_seconds=1)
            assert result.structured_content["status"] in ("queued", "running"), "the same call went on with it"

        async def image_not_read() -> None:
            slow("apimart", "image")
            image = f"{base_url}/images/apimart/{seed_id('apimart', grid=False)}/0.png"
            result, seconds = await timed(client, image=image, provider="local", zoom=1.1)
            assert seconds < 4.5
            assert text_of(result).startswith("[not_ready] ")
            result, _ = await timed(client, image=image, provider="local", zoom=1.1, wait_seconds=20)
            assert result.structured_content["status"] == "succeeded"

        async with anyio.create_task_group() as calls:
            for one in (order_not_answered, parent_not_imported, image_not_read):
                calls.start_soon(one)
        assert sandbox.order_count("legnext", "outpaint") == 1
        assert sandbox.order_count("vtrix", "outpaint") == 1


async def test_a_slow_preview_and_a_slow_start_hold_up_no_answer(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        done = (await client.call_tool("outpaint", {"image": str(picture(tmp_path)), "zoom": 1.2})).structured_content

    async def get_task(*args: Any, **kwargs: Any) -> Task:
        return Task.model_validate(done)

    async def preview(*args: Any, **kwargs: Any) -> bytes:
        await anyio.sleep(60)
        return b""

    @contextlib.asynccontextmanager
    async def starting() -> AsyncIterator[Any]:
        await anyio.sleep(60)
        yield

    began = time.monotonic()
    service: Any = types.SimpleNamespace(get_task=get_task, preview=preview)
    slow = build_server(LazyService(lambda: contextlib.nullcontext(service)), lambda: ResultShape(preview=True))
    late = build_server(LazyService(starting))

    async def without_a_preview() -> None:
        async with Client(slow) as client:
            result = await client.call_tool("get_task", {"task_id": done["id"]})
            assert [type(block) for block in result.content] == [TextContent]

    async def not_ready() -> None:
        async with anyio.create_task_group() as calls, Client(late) as client:
            assert text_of(await client.call_tool("list_providers", {})).startswith("[not_ready] ")
            calls.cancel_scope.cancel()

    async with anyio.create_task_group() as calls:
        calls.start_soon(without_a_preview)
        calls.start_soon(not_ready)
    assert time.monotonic() - began < 30
