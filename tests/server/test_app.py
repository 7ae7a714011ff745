"""The server as an in-memory client sees it: its tools, its resources, and what it refuses."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from PIL import Image

from outpaint_mcp.domain import errors
from outpaint_mcp.providers.registry import BUILT_IN

from ..serving import ERAS, connected, picture, server_for, settings_for

pytestmark = pytest.mark.usefixtures("decoded_here")

SNAPSHOT = Path(__file__).parent.parent / "snapshots" / "tools.json"
CODES = {one.code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "code")}


def text_of(result: CallToolResult) -> str:
    (first, *_) = result.content
    assert isinstance(first, TextContent)
    return first.text


async def tools_of(client: Client) -> list[dict[str, Any]]:
    tools = (await client.list_tools()).tools
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]


async def test_the_tools_are_the_committed_snapshot(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        tools = await tools_of(client)
    if os.environ.get("OUTPAINT_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(tools, indent=2, sort_keys=True) + "\n")
    assert json.loads(SNAPSHOT.read_text()) == tools


@pytest.mark.parametrize("era", ERAS)
async def test_there_are_three_annotated_tools_with_flat_arguments_in_under_6_kb(tmp_path: Path, era: str) -> None:
    async with connected(settings_for(tmp_path), era=era) as client:
        tools = await tools_of(client)
    assert [tool["name"] for tool in tools] == ["outpaint", "get_task", "list_providers"]
    for tool in tools:
        assert tool.pop("outputSchema")["type"] == "object"
        assert tool["annotations"]
        schema = tool["inputSchema"]
        # google-genai reads further keywords as schemas; smolagents demands what is not nullable.
        assert schema.keys() <= {"type", "properties", "required"}
        for name, argument in schema.get("properties", {}).items():
            assert isinstance(argument["type"], str), "a flat type, no union"
            assert argument.get("nullable", False) is (name not in schema.get("required", []))
            assert "\n" not in argument["description"]
    assert len(json.dumps({"tools": tools}, separators=(",", ":"))) < 6 * 1024


@pytest.mark.parametrize("empty", ["null", "empty"])
async def test_what_is_sent_empty_is_not_given(tmp_path: Path, empty: str) -> None:
    # As models do where a library makes every argument required for them.
    nothing: dict[str, Any] = {"array": [], "object": {}} if empty == "empty" else {}
    async with connected(settings_for(tmp_path)) as client:
        outpaint, get_task, _ = await tools_of(client)
        blank = {
            tool["name"]: {
                name: nothing.get(argument["type"], "" if empty == "empty" else None)
                for name, argument in tool["inputSchema"]["properties"].items()
            }
            for tool in (outpaint, get_task)
        }
        result = await client.call_tool("outpaint", {**blank["outpaint"], "image": str(picture(tmp_path))})
        task = result.structured_content
        assert (task["status"], task["images"][0]["width"]) == ("succeeded", 96), "zoom 2, the default"
        again = await client.call_tool("get_task", {**blank["get_task"], "task_id": task["id"]})
        assert again.structured_content["id"] == task["id"]
        assert "missing" in text_of(await client.call_tool("get_task", blank["get_task"]))
        assert "exactly one of task_id and image" in text_of(await client.call_tool("outpaint", blank["outpaint"]))


async def test_nothing_in_a_list_or_as_json_is_not_given(tmp_path: Path) -> None:
    order: dict[str, Any] = {"image": str(picture(tmp_path))}
    nothing = (
        {"webhook_events": [""]},
        {"webhook_events": "[]"},
        {"provider_options": "null"},
        {"provider_options": "[]"},
    )
    async with connected(settings_for(tmp_path)) as client:
        task = (await client.call_tool("outpaint", order)).structured_content
        for one in nothing:
            result = await client.call_tool("outpaint", {**order, **one})
            assert not result.is_error, text_of(result)
            assert result.structured_content["id"] == task["id"], one


async def test_the_output_schema_is_compact_and_every_result_keeps_to_it(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        for tool in await tools_of(client):
            schema = tool["outputSchema"]
            told = json.dumps(schema)
            assert '"title": "' not in told
            assert '"default"' not in told
            assert len(told) < 3000
            for model in (schema, *schema.get("$defs", {}).values()):
                assert "description" not in model, "a docstring, which speaks of the code"
        # The SDK's client checks structured results against the schema.
        task = (await client.call_tool("outpaint", {"image": str(picture(tmp_path))})).structured_content
        assert task["failure"] is None


@pytest.mark.parametrize("era", ERAS)
async def test_an_own_picture_comes_back_in_all_three_forms_and_as_a_resource(tmp_path: Path, era: str) -> None:
    source = picture(tmp_path)
    async with connected(settings_for(tmp_path), era=era, resource_links=True) as client:
        result = await client.call_tool("outpaint", {"image": str(source), "zoom": 1.5})
        task = result.structured_content
        assert not result.is_error
        assert (task["status"], task["provider"]) == ("succeeded", "local")
        (image,) = task["images"]
        assert (image["width"], image["height"], image["mime_type"]) == (72, 48, "image/png")
        assert image["url"].startswith("file:")
        for told in (task["id"], image["url"], "succeeded"):
            assert told in text_of(result)
        (link,) = [block for block in result.content if isinstance(block, ResourceLink)]
        assert link.uri == image["resource_uri"] == f"outpaint://tasks/{task['id']}/images/1"

        (contents,) = (await client.read_resource(image["resource_uri"])).contents
        assert isinstance(contents, BlobResourceContents)
        drawn = Image.open(io.BytesIO(base64.b64decode(contents.blob)))
        assert (drawn.size, contents.mime_type) == ((72, 48), "image/png")
        assert drawn.crop((12, 8, 60, 40)).tobytes() == Image.open(source).tobytes(), "the original pixels stay"

        (told,) = (await client.read_resource(f"outpaint://tasks/{task['id']}")).contents
        assert isinstance(told, TextResourceContents)
        assert json.loads(told.text)["id"] == task["id"]
        (recent,) = (await client.read_resource("outpaint://tasks")).contents
        assert isinstance(recent, TextResourceContents)
        assert [one["id"] for one in json.loads(recent.text)] == [task["id"]]


async def test_a_jpeg_is_served_as_what_it_is(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        arguments = {"image": str(picture(tmp_path)), "zoom": 1.2, "provider_options": {"format": "jpeg"}}
        task = (await client.call_tool("outpaint", arguments)).structured_content
        (contents,) = (await client.read_resource(task["images"][0]["resource_uri"])).contents
    assert contents.mime_type == "image/jpeg"


async def test_links_can_be_left_out_and_a_preview_added(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path), resource_links=False, preview=True) as client:
        result = await client.call_tool("outpaint", {"image": str(picture(tmp_path, width=900, height=300))})
    assert [type(block) for block in result.content] == [TextContent, ImageContent]
    preview = result.content[1]
    assert isinstance(preview, ImageContent)
    data = base64.b64decode(preview.data)
    assert len(data) < 100_000
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    assert max(Image.open(io.BytesIO(data)).size) <= 512


async def test_the_same_order_again_is_the_first_task_also_after_a_restart(tmp_path: Path) -> None:
    order = {"image": str(picture(tmp_path)), "zoom": 1.5, "aspect_ratio": "32:18"}
    async with connected(settings_for(tmp_path)) as client:
        first = (await client.call_tool("outpaint", order)).structured_content
    async with connected(settings_for(tmp_path)) as client:
        again = (await client.call_tool("outpaint", {**order, "aspect_ratio": "16:9"})).structured_content
        anew = (await client.call_tool("outpaint", {**order, "repeat": True})).structured_content
    assert again["id"] == first["id"]
    assert any("nothing new was ordered" in note for note in again["notes"])
    assert anew["id"] != first["id"]


async def test_variants_are_several_images_and_one_of_them_can_be_extended(tmp_path: Path) -> None:
    order = {"image": str(picture(tmp_path)), "zoom": 1.25, "provider_options": {"variants": 2, "quality": "fast"}}
    async with connected(settings_for(tmp_path)) as client:
        grid = (await client.call_tool("outpaint", order)).structured_content
        assert [image["index"] for image in grid["images"]] == [1, 2]
        unclear = await client.call_tool("outpaint", {"task_id": grid["id"], "zoom": 1.5})
        assert unclear.is_error
        assert text_of(unclear).startswith("[invalid_request]")
        assert "image_index" in text_of(unclear)
        next_one = await client.call_tool("outpaint", {"task_id": grid["id"], "zoom": 1.5, "image_index": 2})
        (image,) = next_one.structured_content["images"]
    assert (image["width"], image["height"]) == (90, 60)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ({}, "invalid_request", "exactly one"),
        ({"task_id": "op-x", "image": "y"}, "invalid_request", "exactly one"),
        ({"task_id": "op-unknown"}, "unknown_task", "op-unknown"),
        ({"task_id": "remote-1"}, "unknown_task", "name the provider"),
        ({"image": "PICTURE", "zoom": 3}, "invalid_request", "zoom"),
        ({"image": "PICTURE", "zoom": 1}, "invalid_request", "not grow"),
        ({"image": "PICTURE", "colour": "red"}, "invalid_request", "colour"),
        ({"image": "PICTURE", "provider": "midjourney"}, "invalid_request", "local"),
        ({"image": "PICTURE", "provider": "local", "prompt": "a lake"}, "unsupported_feature", "apiframe"),
        ({"image": "PICTURE", "prompt": "a lake"}, "unsupported_feature", "Leave prompt out: then local can do it"),
        ({"image": "PICTURE", "prompt": "a lake"}, "unsupported_feature", "apiframe (needs APIFRAME_API_KEY)"),
        ({"image": "PICTURE", "provider": "apiframe", "zoom": 1.5}, "configuration", "APIFRAME_API_KEY"),
        ({"image": "PICTURE", "image_index": 1}, "invalid_request", "image_index"),
        ({"image": "PICTURE", "provider_options": {"seed": "x"}}, "invalid_request", "seed"),
        ({"image": "PICTURE", "provider_options": {"nothing": 1}}, "invalid_request", "nothing"),
        ({"image": "PICTURE", "webhook_secret": "s3cret"}, "invalid_request", "webhook_url"),
        ({"image": "/etc/passwd"}, "forbidden_url", "OUTPAINT_FILE_ROOTS"),
        ({"image": "data:image/png;base64,AAAA"}, "invalid_image", ""),
        ({"image": "http://169.254.169.254/latest"}, "forbidden_url", ""),
        ({"image": "TEXT"}, "invalid_image", ""),
        ({"image": "EMPTY"}, "invalid_image", ""),
    ],
)
async def test_a_refusal_is_a_tool_error_with_its_code_and_what_to_do(
    tmp_path: Path, arguments: dict[str, Any], code: str, told: str
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    names = {"PICTURE": picture(tmp_path), "TEXT": tmp_path / "text.png", "EMPTY": tmp_path / "empty.png"}
    arguments = {
        name: str(names.get(str(value), value)) if name == "image" else value for name, value in arguments.items()
    }
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", arguments)
        (recent,) = (await client.read_resource("outpaint://tasks")).contents
    assert result.is_error
    assert text_of(result).startswith(f"[{code}] ")
    assert told in text_of(result)
    assert isinstance(recent, TextResourceContents)
    assert json.loads(recent.text) == [], "nothing was ordered"


@pytest.mark.parametrize("before", [" ", "\u00a0", "\n"])
async def test_a_picture_given_as_data_is_neither_shown_nor_stored_though_a_space_stands_before_it(
    tmp_path: Path, before: str
) -> None:
    data = base64.b64encode(picture(tmp_path).read_bytes()).decode()
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": f"{before}data:image/png;base64,{data}"})
        (recent,) = (await client.read_resource("outpaint://tasks")).contents
        stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("store.db*"))
    assert result.structured_content is not None
    assert result.structured_content["request"]["image"].startswith("data:image/png;sha256=")
    assert isinstance(recent, TextResourceContents)
    assert data not in recent.text
    assert data.encode() not in stored


async def test_ids_and_providers_are_read_without_spaces_and_capitals(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        task = (await client.call_tool("outpaint", {"image": str(picture(tmp_path))})).structured_content
        for changes in ({}, {"provider": " Local\n"}, {"provider": "AUTO"}):
            found = await client.call_tool("get_task", {"task_id": f" {task['id']}\u00a0", **changes})
            assert found.structured_content["id"] == task["id"]
        again = await client.call_tool("outpaint", {"task_id": f" {task['id']} ", "zoom": 1.5})
        assert again.structured_content["request"]["task_id"] == task["id"]
        for tool in ("get_task", "outpaint"):
            empty = await client.call_tool(tool, {"task_id": " "})
            assert text_of(empty).startswith("[invalid_request] The task_id is empty.")


async def test_a_provider_that_is_not_the_tasks_is_refused_naming_the_one_that_is(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        task = (await client.call_tool("outpaint", {"image": str(picture(tmp_path))})).structured_content
        for provider, told in (("piapi", "is of local, not of piapi"), ("nobody", "no provider 'nobody'")):
            other = await client.call_tool("get_task", {"task_id": task["id"], "provider": provider})
            assert text_of(other).startswith("[invalid_request]")
            assert told in text_of(other)
        unknown = await client.call_tool("get_task", {"task_id": "op-none", "provider": "local"})
        assert text_of(unknown).startswith("[unknown_task]")


async def test_a_one_pixel_picture_gives_a_right_answer(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": str(picture(tmp_path, width=1, height=1))})
    (image,) = result.structured_content["images"]
    assert (image["width"], image["height"]) == (2, 2)


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_tool_and_an_unknown_resource_are_protocol_errors(tmp_path: Path, era: str) -> None:
    async with connected(settings_for(tmp_path), era=era) as client:
        with pytest.raises(MCPError) as tool:
            await client.call_tool("inpaint", {})
        with pytest.raises(MCPError) as task:
            await client.read_resource("outpaint://tasks/op-unknown")
        with pytest.raises(MCPError) as image:
            await client.read_resource("outpaint://tasks/op-unknown/images/..")
    assert [error.value.error.code for error in (tool, task, image)] == [-32602] * 3


async def test_list_providers_says_who_can_do_what_in_autos_order(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("list_providers", {})
        (resource,) = (await client.read_resource("outpaint://providers")).contents
    providers = result.structured_content["providers"]
    assert [one["name"] for one in providers] == list(BUILT_IN)
    assert [one["name"] for one in providers if one["configured"]] == ["local"]
    for one in providers:
        assert one["name"] in text_of(result)
        assert one["configured"] == (not one["needs"])
    assert isinstance(resource, TextResourceContents)
    assert json.loads(resource.text)["providers"] == providers


async def test_a_cancelled_call_leaves_the_server_working_and_its_task_going_on(tmp_path: Path) -> None:
    order = {"image": str(picture(tmp_path, width=300, height=200))}
    async with connected(settings_for(tmp_path)) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "outpaint", order)
            ids: list[str] = []
            with anyio.fail_after(20):
                while not ids:
                    (recent,) = (await client.read_resource("outpaint://tasks")).contents
                    assert isinstance(recent, TextResourceContents)
                    ids = [one["id"] for one in json.loads(recent.text)]
            calls.cancel_scope.cancel()
        task = (await client.call_tool("get_task", {"task_id": ids[0], "wait_seconds": 45})).structured_content
        assert task["status"] == "succeeded"
        again = (await client.call_tool("outpaint", order)).structured_content
        assert again["id"] == ids[0]


@pytest.mark.parametrize("era", ERAS)
async def test_a_waiting_call_reports_rising_progress(tmp_path: Path, era: str) -> None:
    told: list[float] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        assert total == 100
        told.append(progress)

    async with connected(settings_for(tmp_path), era=era) as client:
        order = {"image": str(picture(tmp_path, width=300, height=200))}
        await client.call_tool("outpaint", order, progress_callback=listen)
    assert told
    assert told == sorted(set(told))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def from_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit one argument's schema."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"])
        case "string":
            return st.text(min_size=1, max_size=60)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            return st.floats(schema["minimum"], schema["maximum"])
        case "array":
            return st.lists(from_schema(schema["items"]), min_size=1, max_size=3)
        case _:
            return st.dictionaries(st.text(max_size=10), JSON, max_size=3)


# The server's thread uses that module too, and is at work while values are drawn.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
def test_any_call_gives_a_result_or_an_error_with_a_code_and_the_server_lives(tmp_path: Path) -> None:
    schemas = {tool["name"]: tool["inputSchema"] for tool in json.loads(SNAPSHOT.read_text())}
    source = str(picture(tmp_path))
    server = server_for(settings_for(tmp_path))

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:

        @given(data=st.data())
        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def fuzz(data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(sorted(schemas)))
            properties = schemas[name].get("properties", {})
            chosen = data.draw(st.sets(st.sampled_from([*properties, "unknown"]), max_size=5))
            arguments = {
                one: data.draw(from_schema(properties[one]) | JSON if one in properties else JSON)
                for one in sorted(chosen)
            }
            if "image" in chosen and data.draw(st.booleans()):
                arguments["image"] = source
            if "wait_seconds" not in chosen or data.draw(st.booleans()):
                arguments["wait_seconds"] = 0
            result = portal.call(client.call_tool, name, arguments)
            if result.is_error:
                assert text_of(result).startswith(tuple(f"[{code}] " for code in CODES)), text_of(result)
            else:
                assert result.structured_content

        fuzz()
        assert not portal.call(client.call_tool, "list_providers", {}).is_error
