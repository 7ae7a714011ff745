"""The same tests over every transport: what a client sees does not depend on how it reached the server."""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.server.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import BlobResourceContents, ResourceUpdatedNotification
from PIL import Image

from ..serving import picture
from .processes import Transport, Vendors, an_order, called, read, seed_id, text_of

SNAPSHOT = Path(__file__).parent.parent / "snapshots" / "tools.json"


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


async def test_the_tools_are_the_committed_snapshot(transport: Transport) -> None:
    tools = (await transport.client.list_tools()).tools
    told = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    shown = SNAPSHOT.read_text()
    assert told == json.loads(shown.replace(", file path or", " or") if transport.over_http else shown)


async def test_an_own_picture_is_drawn_here_and_its_bytes_come_through_its_resource(
    transport: Transport, tmp_path: Path
) -> None:
    source = picture(tmp_path)
    order = {"image": data_uri(source), "zoom": 1.5, "provider": "local", "wait_seconds": 45}
    task = await called(transport.client, "outpaint", **order)
    (image,) = task["images"]
    assert (task["status"], image["width"], image["height"]) == ("succeeded", 72, 48)
    (contents,) = (await transport.client.read_resource(image["resource_uri"])).contents
    assert isinstance(contents, BlobResourceContents)
    drawn = Image.open(io.BytesIO(base64.b64decode(contents.blob)))
    assert (drawn.size, contents.mime_type) == ((72, 48), "image/png")
    assert drawn.crop((12, 8, 60, 40)).tobytes() == Image.open(source).tobytes(), "the original pixels stay"


async def test_an_order_at_a_vendor_is_waited_for_to_its_end_with_rising_progress(
    transport: Transport, vendors: Vendors
) -> None:
    told: list[float] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        assert total == 100
        assert message
        told.append(progress)
        # The vendor's work goes on with every word about it.
        vendors.clock.advance(0.7)

    order = an_order()
    result = await transport.client.call_tool("outpaint", {**order, "wait_seconds": 45}, progress_callback=listen)
    task = result.structured_content
    assert (task["status"], task["provider"], len(task["images"])) == ("succeeded", "legnext", 4)
    assert vendors.orders(order["prompt"])[0].body["imageNo"] == 1, "this vendor counts from 0"
    assert len(told) >= 3
    assert told == sorted(set(told))
    (first, *_) = task["images"]
    (contents,) = (await transport.client.read_resource(first["resource_uri"])).contents
    assert isinstance(contents, BlobResourceContents)


async def test_the_same_order_again_is_the_same_task_and_is_paid_once(transport: Transport, vendors: Vendors) -> None:
    order = an_order()
    first = await called(transport.client, "outpaint", **order, wait_seconds=0)
    while_open = await called(transport.client, "outpaint", **order, wait_seconds=0)
    vendors.finish()
    done = await called(transport.client, "get_task", task_id=first["id"], wait_seconds=45)
    afterwards = await called(transport.client, "outpaint", **order, wait_seconds=0)
    assert {one["id"] for one in (first, while_open, done, afterwards)} == {first["id"]}
    assert done["status"] == afterwards["status"] == "succeeded"
    assert len(vendors.orders(order["prompt"])) == 1


async def test_equal_orders_at_the_same_moment_from_several_clients_are_one(
    transport: Transport, vendors: Vendors
) -> None:
    order = an_order()
    ids: list[str] = []

    async def place(client: Client) -> None:
        ids.append((await called(client, "outpaint", **order, wait_seconds=0))["id"])

    async with transport.another() as other, anyio.create_task_group() as calls:
        for client in (transport.client, other, transport.client, other):
            calls.start_soon(place, client)
    assert len(ids) == 4
    assert len(set(ids)) == len(vendors.orders(order["prompt"])) == 1


@pytest.mark.parametrize(
    ("tool", "changes", "code"),
    [
        ("outpaint", {"task_id": None}, "invalid_request"),
        ("outpaint", {"zoom": 3}, "invalid_request"),
        ("outpaint", {"colour": "red"}, "invalid_request"),
        ("outpaint", {"image_index": None}, "invalid_request"),
        ("outpaint", {"aspect_ratio": "16:9"}, "unsupported_feature"),
        ("outpaint", {"task_id": "5eed0005-0000-4000-8000-000000000099"}, "unknown_task"),
        ("get_task", {"task_id": "op-unknown"}, "unknown_task"),
        ("get_task", {"task_id": "op-unknown", "wait_seconds": 30}, "unknown_task"),
        ("get_task", {}, "invalid_request"),
    ],
)
async def test_a_refusal_begins_with_its_code_and_nothing_is_ordered(
    transport: Transport, vendors: Vendors, tool: str, changes: dict[str, Any], code: str
) -> None:
    order = an_order() if tool == "outpaint" else {}
    arguments = {name: value for name, value in (order | changes).items() if value is not None}
    result = await transport.client.call_tool(tool, arguments)
    assert result.is_error
    assert text_of(result).startswith(f"[{code}] ")
    assert tool != "outpaint" or not vendors.orders(order["prompt"])


async def test_a_vendors_refusal_is_told_as_one(transport: Transport, vendors: Vendors) -> None:
    order = an_order()
    # The task to extend is known by now, so that what is refused is the order.
    await called(transport.client, "get_task", task_id=order["task_id"], provider="legnext")
    vendors.fault("submit", "status", status=402)
    result = await transport.client.call_tool("outpaint", order)
    assert result.is_error
    assert text_of(result).startswith("[insufficient_credits] ")


async def test_whoever_watches_a_task_hears_of_its_end(transport: Transport, vendors: Vendors) -> None:
    if transport.is_modern:
        await _listen(transport, vendors)
    else:
        await _subscribe(transport, vendors)


async def _listen(transport: Transport, vendors: Vendors) -> None:
    task = await called(transport.client, "outpaint", **an_order(), wait_seconds=0)
    uri = f"outpaint://tasks/{task['id']}"
    with anyio.fail_after(30):
        async with transport.client.listen(resource_subscriptions=[uri]) as events:
            vendors.finish()
            async for event in events:
                assert event == ResourceUpdated(uri)
                if json.loads(await read(transport.client, uri))["status"] == "succeeded":
                    return
    pytest.fail("the subscription ended before the task did")


async def _subscribe(transport: Transport, vendors: Vendors) -> None:
    into, heard = anyio.create_memory_object_stream[str](100)

    async def handle(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            into.send_nowait(message.params.uri)

    async with into, heard, transport.another(message_handler=handle) as client:
        task = await called(client, "outpaint", **an_order(), wait_seconds=0)
        uri = f"outpaint://tasks/{task['id']}"
        with pytest.warns(MCPDeprecationWarning, match="subscribe"):
            await client.subscribe_resource(uri)
        vendors.finish()
        with anyio.fail_after(30):
            async for told in heard:
                assert told == uri
                if json.loads(await read(client, uri))["status"] == "succeeded":
                    return
    pytest.fail("the subscription ended before the task did")


async def test_a_path_is_a_picture_on_this_machine_and_forbidden_to_callers_over_http(transport: Transport) -> None:
    source = picture(transport.folder, name="on-disk.png")
    missing = transport.folder / "nothing.png"
    order = {"zoom": 1.5, "provider": "local", "wait_seconds": 45}
    result = await transport.client.call_tool("outpaint", {"image": str(source), **order})
    as_url = await transport.client.call_tool("outpaint", {"image": source.as_uri(), **order})
    if not transport.over_http:
        assert result.structured_content["status"] == "succeeded"
        assert as_url.structured_content["id"] == result.structured_content["id"]
        return
    unfound = await transport.client.call_tool("outpaint", {"image": str(missing), **order})
    for refused in (result, as_url, unfound):
        assert refused.is_error
        assert text_of(refused).startswith("[forbidden_url] ")
    told = text_of(result).replace(str(source), "it")
    assert told == text_of(unfound).replace(str(missing), "it"), "nobody can find out which files there are"


async def test_callers_over_http_see_no_path_of_this_machine(
    transport: Transport, vendors: Vendors, tmp_path: Path
) -> None:
    order = {"image": data_uri(picture(tmp_path, width=40)), "zoom": 1.5, "provider": "local", "wait_seconds": 45}
    drawn = await transport.client.call_tool("outpaint", order)
    ordered = await called(transport.client, "outpaint", **an_order(), wait_seconds=0)
    vendors.finish()
    task_id = drawn.structured_content["id"]
    told = [
        drawn.model_dump_json(),
        (await transport.client.call_tool("get_task", {"task_id": task_id})).model_dump_json(),
        (
            await transport.client.call_tool("get_task", {"task_id": ordered["id"], "wait_seconds": 45})
        ).model_dump_json(),
        (await transport.client.call_tool("list_providers", {})).model_dump_json(),
        await read(transport.client, f"outpaint://tasks/{task_id}"),
        await read(transport.client, "outpaint://tasks"),
        await read(transport.client, "outpaint://providers"),
    ]
    paths = ("file:", str(transport.folder), str(Path.home()), sys.prefix)
    shown = [path for path in paths if any(path in one for one in told)]
    if transport.over_http:
        assert not shown
    else:
        assert {"file:", str(transport.folder)} <= set(shown), "here the owner of the files asks"


async def test_an_order_whose_client_goes_away_is_finished_and_found_by_the_same_call(
    transport: Transport, vendors: Vendors
) -> None:
    order = an_order()
    async with anyio.create_task_group() as calls:

        async def wait() -> None:
            async with transport.another() as client:
                await client.call_tool("outpaint", {**order, "wait_seconds": 45})
                pytest.fail("the call returned though its task was not final")

        calls.start_soon(wait)
        taken = await vendors.taken(order["prompt"])
        calls.cancel_scope.cancel()
    vendors.finish()
    async with transport.another() as client:
        task = await called(client, "outpaint", **order, wait_seconds=45)
    assert (task["status"], task["remote_id"]) == ("succeeded", taken.id)
    assert any("nothing new was ordered" in note for note in task["notes"])
    assert len(vendors.orders(order["prompt"])) == 1


async def test_a_task_made_elsewhere_is_looked_at_by_its_vendors_own_id(transport: Transport) -> None:
    task = await called(transport.client, "get_task", task_id=seed_id("legnext", grid=True), provider="legnext")
    assert (task["status"], len(task["images"])) == ("succeeded", 4)
