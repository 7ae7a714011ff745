"""Clients with the tasks extension get a handle of an order that is not finished, and follow it by themselves."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import NAME_BEARING_METHODS
from mcp_types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    Request,
    RequestParams,
    SubscriptionFilter,
)

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.sandbox import environment
from outpaint_mcp.server.app import RATE_LIMITED, build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.task_extension import METHODS
from outpaint_mcp.settings import Settings, read_settings

from ..serving import picture, server_for, settings_for
from ..tasks_client import TASKS, Answer, TasksClient, ask, handle_of
from ..transports.processes import Vendors, an_order, open_vendors, text_of, until

pytestmark = pytest.mark.usefixtures("decoded_here")

LASTING = ("taskId", "createdAt", "ttlMs", "pollIntervalMs")


@contextlib.asynccontextmanager
async def at_vendors(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> AsyncIterator[tuple[Vendors, Any]]:
    """The sandbox, and the settings of a server that orders there."""
    async with open_vendors() as vendors:
        for name, value in {**environment(vendors.base_url), "OUTPAINT_POLL_SECONDS": "0.05,0.05", **more}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OUTPAINT_DATA_DIR", str(folder / "data"))
        yield vendors, read_settings()


def with_tasks(settings: Settings, mode: str = "auto") -> Client:
    return Client(server_for(settings), mode=mode, extensions=[TasksClient()])


async def followed(client: Client, task_id: str) -> dict[str, Any]:
    """The task when there is nothing to wait for any more."""
    found: dict[str, Any] = {}

    async def is_over() -> bool:
        found.update(await ask(client, "tasks/get", task_id))
        return bool(found["status"] != "working")

    await until(is_over)
    return found


class ListenParams(RequestParams):
    notifications: dict[str, list[str]]


async def test_requests_are_counted_like_any_others(tmp_path: Path) -> None:
    limits = RateLimits(requests_per_minute=3)
    server = build_server(LazyService(lambda: open_service(settings_for(tmp_path))), limits=limits)
    async with Client(server, extensions=[TasksClient()]) as client:
        codes = []
        for method in (*METHODS, "tasks/get"):
            with pytest.raises(MCPError) as refused:
                await ask(client, method, "op-nobodys")
            codes.append(refused.value.error.code)
        assert RATE_LIMITED in codes
        assert codes == sorted(codes, key=lambda code: code == RATE_LIMITED)


async def test_a_handle_is_stored_followed_across_a_restart_and_ends_with_the_tools_own_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_vendors(tmp_path, monkeypatch) as (vendors, settings):
        order = an_order()
        async with with_tasks(settings) as client:
            handle = await handle_of(client, "outpaint", **order)
            task_id = handle["taskId"]
            assert task_id.startswith("op-")
            assert handle["status"] == "working"
            assert (handle["ttlMs"], handle["pollIntervalMs"]) == (365 * 86_400_000, 1000)
            assert not {"result", "error", "content", "inputRequests"} & set(handle)
            now = await ask(client, "tasks/get", task_id)
            assert (now["resultType"], now["status"]) == ("complete", "working")
            assert {one: now[one] for one in LASTING} == {one: handle[one] for one in LASTING}
            again = await handle_of(client, "outpaint", **order)
            assert again["taskId"] == task_id, "the same order is the same task"
        vendors.finish()
        async with with_tasks(settings) as client:
            done = await followed(client, task_id)
            normal = await client.call_tool("get_task", {"task_id": task_id})
        assert done["status"] == "completed"
        result = CallToolResult.model_validate(done["result"])
        assert result.structured_content == normal.structured_content
        assert text_of(result) == text_of(normal)
        assert len(vendors.orders(order["prompt"])) == 1


async def test_a_host_that_follows_handles_sees_an_ordinary_result_and_a_refusal_at_once(tmp_path: Path) -> None:
    async with with_tasks(settings_for(tmp_path, keep_tasks_days=0)) as client:
        image = str(picture(tmp_path))
        result = await client.call_tool("outpaint", {"image": image, "zoom": 1.2})
        assert result.structured_content["status"] == "succeeded"
        refused = await client.session.call_tool("outpaint", {"image": image, "zoom": 9}, allow_claimed=True)
        assert isinstance(refused, CallToolResult)
        assert refused.is_error
        waited = await client.session.call_tool(
            "outpaint", {"image": image, "zoom": 1.3, "wait_seconds": 45}, allow_claimed=True
        )
        assert isinstance(waited, CallToolResult), "who says how long to wait and has the image needs no handle"
        kept = await ask(client, "tasks/get", result.structured_content["id"])
        assert kept["ttlMs"] is None, "for ever"


async def test_cancelling_and_updating_are_acknowledged_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_vendors(tmp_path, monkeypatch) as (vendors, settings), with_tasks(settings) as client:
        order = an_order()
        task_id = (await handle_of(client, "outpaint", **order))["taskId"]
        assert await ask(client, "tasks/cancel", task_id) == {"resultType": "complete"}
        answers = {"unasked": {"action": "accept"}}
        assert await ask(client, "tasks/update", task_id, input_responses=answers) == {"resultType": "complete"}
        now = await ask(client, "tasks/get", task_id)
        assert now["status"] == "working"
        assert "not taken back" in now["statusMessage"]
        vendors.finish()
        done = await followed(client, task_id)
        assert done["result"]["structuredContent"]["status"] == "succeeded"
        assert await ask(client, "tasks/cancel", task_id) == {"resultType": "complete"}
        assert not [one for one in vendors.sandbox.requests() if one.method == "DELETE"]


async def test_a_task_that_fails_at_the_vendor_is_completed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_vendors(tmp_path, monkeypatch) as (vendors, settings), with_tasks(settings) as client:
        vendors.fault("submit", "fail", message="the model broke")
        task_id = (await handle_of(client, "outpaint", **an_order()))["taskId"]
        vendors.finish()
        done = await followed(client, task_id)
        assert done["status"] == "completed"
        assert done["result"]["structuredContent"]["failure"]["message"]
        assert not done["result"].get("isError")


async def test_an_order_that_may_have_been_taken_ends_the_wait_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        at_vendors(tmp_path, monkeypatch, OUTPAINT_TASK_TIMEOUT="3") as (vendors, settings),
        with_tasks(settings) as client,
    ):
        late = (await handle_of(client, "outpaint", **an_order()))["taskId"]
        vendors.fault("submit", "drop", accepted=True)
        lost = await client.session.call_tool("outpaint", an_order(), allow_claimed=True)
        assert isinstance(lost, CallToolResult), "no handle: there is nothing to wait for"
        assert lost.structured_content["failure"]["code"] == "order_unconfirmed"
        kept = await ask(client, "tasks/get", lost.structured_content["id"])
        assert kept["status"] == "completed"
        assert "may pay twice" in kept["result"]["content"][0]["text"]
        timed_out = await followed(client, late)
        assert timed_out["status"] == "completed"
        assert timed_out["result"]["structuredContent"]["failure"]["code"] == "timed_out"


async def test_clients_of_the_older_protocol_get_results_whatever_they_declare(tmp_path: Path) -> None:
    async with Client(server_for(settings_for(tmp_path)), mode="legacy", extensions=[advertise(TASKS)]) as client:
        assert TASKS not in (client.server_capabilities.extensions or {})
        image = str(picture(tmp_path))
        result = await client.call_tool("outpaint", {"image": image, "zoom": 1.2, "wait_seconds": 0})
        assert result.structured_content["id"].startswith("op-")
        for method in METHODS:
            with pytest.raises(MCPError) as refused:
                await ask(client, method, result.structured_content["id"])
            assert refused.value.error.code == METHOD_NOT_FOUND


async def test_the_methods_are_for_clients_that_declare_the_extension_and_for_their_own_tasks(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with Client(server_for(settings)) as client:
        assert client.server_capabilities.extensions is not None
        assert TASKS in client.server_capabilities.extensions
        result = await client.call_tool("outpaint", {"image": str(picture(tmp_path)), "zoom": 1.2, "wait_seconds": 45})
        task_id = result.structured_content["id"]
        for method in METHODS:
            with pytest.raises(MCPError) as refused:
                await ask(client, method, task_id)
            assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
            assert refused.value.error.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        watched = ListenParams(notifications={"taskIds": [task_id]})
        listen = Request[ListenParams, str](method="subscriptions/listen", params=watched)
        with pytest.raises(MCPError) as refused:
            await client.session.send_request(listen, Answer)
        assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    async with with_tasks(settings) as client:
        for unknown in ("op-nobodys", f"outpaint://tasks/{task_id}", "made elsewhere", ""):
            for method in METHODS:
                with pytest.raises(MCPError) as refused:
                    await ask(client, method, unknown)
                assert refused.value.error.code == INVALID_PARAMS
                assert refused.value.error.message.startswith("[unknown_task] ")


def test_what_the_sdk_does_not_know_of_the_extension_yet() -> None:
    """When one of these fails the SDK has learned it, and our own part of it can go."""
    assert not set(METHODS) & set(NAME_BEARING_METHODS), "it would check the tasks' Mcp-Name header itself"
    assert "task_ids" not in SubscriptionFilter.model_fields, "it would let clients listen to tasks"
