"""Images of which the vendor says that they cannot be zoomed out of: nothing is ordered for them."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from outpaint_mcp.sandbox import seed_id

from ..vendors.service_at_sandbox import service_at_sandbox
from .test_app import text_of
from .test_prompts import client_at, order

LISTING = ("legnext", "apimart")
"""The vendors whose answers list what can be done with an image, by their documentation."""


async def imported(client: Client, vendor: str) -> str:
    result = await client.call_tool("get_task", {"task_id": seed_id(vendor, grid=False), "provider": vendor})
    return str(result.structured_content["id"])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("vendor", LISTING)
async def test_a_zoom_that_the_vendor_does_not_list_is_refused_before_it_is_ordered(
    tmp_path: Path, vendor: str, known: bool
) -> None:
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        at.fault(vendor, "poll", "no_zoom", times=None)
        asked = order(vendor)
        if known:
            asked |= {"task_id": await imported(client, vendor), "provider": "auto"}
            at.sandbox.faults.clear()
        told = text_of(await client.call_tool("outpaint", asked))
        assert told.startswith("[unsupported_feature]"), told
        assert "lists no zoom" in told
        assert "Providers that can" in told
        assert ("URL as image" in told) is (vendor == "legnext")
        assert at.sandbox.order_count(vendor, "outpaint") == 0
        if known:
            # Another provider is handed the image.
            other = await client.call_tool("outpaint", {**asked, "provider": "vtrix", "prompt": "a lake"})
            assert not other.is_error, text_of(other)


@pytest.mark.parametrize("vendor", [*LISTING, "vtrix", "apiframe", "piapi"])
async def test_where_no_such_list_comes_the_order_is_placed(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        if vendor not in LISTING:
            at.fault(vendor, "poll", "no_zoom", times=None)
        result = await client.call_tool("outpaint", order(vendor))
        assert not result.is_error, text_of(result)


async def test_an_upscaled_image_without_a_zoom_ends_the_task_before_the_outpaint_is_ordered(tmp_path: Path) -> None:
    vendor = "apimart"
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        asked = {**order(vendor), "task_id": seed_id(vendor, grid=True), "image_index": 2}
        # The grid itself is looked at first.
        await client.call_tool("get_task", {"task_id": asked["task_id"], "provider": vendor})
        at.fault(vendor, "poll", "no_zoom", times=None)
        task: dict[str, Any] = (await client.call_tool("outpaint", asked)).structured_content
        with anyio.fail_after(20):
            while task["status"] in ("queued", "running"):
                found = await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 5})
                task = found.structured_content
        assert (task["status"], task["failure"]["code"]) == ("failed", "unsupported_feature")
        assert at.sandbox.order_count(vendor, "upscale") == 1
        assert at.sandbox.order_count(vendor, "outpaint") == 0
