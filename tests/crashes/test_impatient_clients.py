"""Clients that do not wait for the answer: the order they placed is paid once, and theirs when they come back."""

import contextlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from outpaint_mcp.sandbox import Fault, seed_id

from ..transports.processes import Vendors, an_order, called, open_vendors, stdio_server, until, variables

SLOW_SECONDS = 3.0
"""How long the vendor takes to answer an order that it has taken."""
IMPATIENT_SECONDS = 1.0


@pytest.fixture
async def vendors() -> AsyncIterator[Vendors]:
    async with open_vendors() as opened:
        yield opened


async def comes_back(client: Client, vendors: Vendors, order: dict[str, Any]) -> None:
    """Make the same call again: it must be one order, whose task is finished."""
    task = await called(client, "outpaint", **order, wait_seconds=0)
    assert task["status"] in ("queued", "running"), task["failure"]
    assert len(vendors.orders(order["prompt"])) == 1
    assert task["remote_id"] in (None, vendors.orders(order["prompt"])[0].id)
    vendors.finish()
    done = await called(client, "get_task", task_id=task["id"], wait_seconds=45)
    again = await called(client, "outpaint", **order, wait_seconds=0)
    assert (done["status"], done["id"], again["id"]) == ("succeeded", task["id"], task["id"])
    assert done["remote_id"] == vendors.orders(order["prompt"])[0].id
    assert len(vendors.orders(order["prompt"])) == 1


async def test_a_call_that_is_cancelled_while_the_order_is_under_way(tmp_path: Path, vendors: Vendors) -> None:
    order = an_order()
    vendors.fault("submit", "slow", seconds=SLOW_SECONDS, accepted=True)
    async with stdio_server(variables(tmp_path, vendors)) as client:
        with anyio.move_on_after(IMPATIENT_SECONDS) as patience:
            await client.call_tool("outpaint", order)
        assert patience.cancelled_caught
        await comes_back(client, vendors, order)


async def test_a_client_that_times_out_while_the_order_is_under_way(tmp_path: Path, vendors: Vendors) -> None:
    order = an_order()
    vendors.fault("submit", "slow", seconds=SLOW_SECONDS, accepted=True)
    async with stdio_server(variables(tmp_path, vendors)) as client:
        with pytest.raises(MCPError, match=r"(?i)time"):
            await client.call_tool("outpaint", order, read_timeout_seconds=IMPATIENT_SECONDS)
        await comes_back(client, vendors, order)


class Host:
    """A host of the older protocol, in bare lines, that can break off as no library would."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self._lines = 0

    async def send(self, method: str, *, ask: bool = True, **params: Any) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if ask:
            self._lines += 1
            message["id"] = self._lines
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps(message).encode() + b"\n")

    async def order(self, order: Mapping[str, Any]) -> None:
        """Shake hands, call, and wait for nothing."""
        client = {"name": "test", "version": "1"}
        await self.send("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        await self.send("notifications/initialized", ask=False)
        await self.send("tools/call", name="outpaint", arguments=dict(order))

    async def hang_up(self) -> None:
        """End as a killed host does: nobody reads and nobody writes any more."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            await stream.aclose()


@contextlib.asynccontextmanager
async def host(environment: Mapping[str, str]) -> AsyncIterator[Host]:
    command = [sys.executable, "-m", "outpaint_mcp"]
    process = await anyio.open_process(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield Host(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def test_a_client_that_disconnects_while_the_order_is_under_way(tmp_path: Path, vendors: Vendors) -> None:
    order = an_order()
    environment = variables(tmp_path, vendors)
    async with stdio_server(environment) as client:
        # The task to extend is known by then: the next request is the order.
        await called(client, "get_task", task_id=order["task_id"], provider="legnext")
    vendors.fault("submit", "slow", seconds=SLOW_SECONDS, accepted=True)
    async with host(environment) as gone:
        await gone.order(order)
        await vendors.taken(order["prompt"])
        await gone.hang_up()
        # The server stays until it has written the answer down.
        with anyio.fail_after(30):
            await gone.process.wait()
    async with stdio_server(environment) as client:
        await comes_back(client, vendors, order)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
async def test_a_host_that_is_killed_with_its_server_while_the_order_is_under_way(
    tmp_path: Path, vendors: Vendors
) -> None:
    # A vendor that keeps a key for each order: it can be asked what became of this one.
    order = {"task_id": seed_id("apiframe", grid=False), "provider": "apiframe", "zoom": 1.5}
    environment = variables(tmp_path, vendors, OUTPAINT_DATA_DIR=str(tmp_path / uuid.uuid4().hex))
    slow = Fault(vendor="apiframe", on="submit", fault="slow", seconds=SLOW_SECONDS, accepted=True)
    vendors.sandbox.faults.add(slow)

    def count() -> int:
        return vendors.sandbox.order_count("apiframe", "outpaint")

    async with host(environment) as gone:
        await gone.order(order)
        await until(lambda: count() == 1)
        gone.process.send_signal(signal.SIGKILL)
        await gone.process.wait()
    vendors.finish()
    async with stdio_server(environment) as client:
        task = await called(client, "outpaint", **order, wait_seconds=0)

        async def done() -> bool:
            found = await called(client, "get_task", task_id=task["id"], wait_seconds=20)
            return bool(found["status"] == "succeeded")

        await until(done, 60)
        again = await called(client, "outpaint", **order, wait_seconds=0)
    assert again["id"] == task["id"]
    assert count() == 1
