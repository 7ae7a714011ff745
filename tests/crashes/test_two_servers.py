"""Two servers on one data folder, and the same call in both at the same moment."""

from pathlib import Path
from typing import Any

import anyio
from mcp import Client

from ..transports.processes import an_order, called, open_vendors, stdio_server, variables

ORDERS = 100


async def test_the_same_order_in_two_servers_at_the_same_moment_is_one_order_and_one_task(tmp_path: Path) -> None:
    async with open_vendors() as vendors:
        # Nothing is finished here: polls of all that is open would be most of the work.
        environment = variables(tmp_path, vendors, OUTPAINT_POLL_SECONDS="60,60")
        async with stdio_server(environment) as one, stdio_server(environment) as other:
            for number in range(ORDERS):
                order = an_order(grid=number % 2 == 0)
                ids: list[str] = []

                async def place(client: Client, order: dict[str, Any] = order, ids: list[str] = ids) -> None:
                    ids.append((await called(client, "outpaint", **order, wait_seconds=0))["id"])

                # Neither server is always the first.
                clients = (one, other) if number % 4 < 2 else (other, one)
                async with anyio.create_task_group() as calls:
                    for client in clients:
                        calls.start_soon(place, client)
                assert len(ids) == 2
                assert len(set(ids)) == 1, f"order {number} has two tasks"
                assert len(vendors.orders(order["prompt"])) == 1, f"order {number} was ordered twice"
        assert vendors.sandbox.order_count("legnext", "outpaint") == ORDERS
