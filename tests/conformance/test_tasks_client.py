"""The tasks extension's own client against the program as users run it."""

import json
from pathlib import Path

import anyio

from ..node_tools import NODE, NODE_MODULES, needs_node
from ..transports.processes import an_order, http_server, open_vendors, until, variables


@needs_node
async def test_the_extensions_own_client_follows_an_order_to_its_end(tmp_path: Path) -> None:
    order = an_order()
    script = Path(__file__).parent / "follow_task.mjs"
    async with open_vendors() as vendors, http_server(variables(tmp_path, vendors)) as server:
        printed = b""

        async def follow() -> None:
            nonlocal printed
            command = [str(NODE), str(script), str(NODE_MODULES), server.paths["/mcp"], json.dumps(order)]
            printed = (await anyio.run_process(command)).stdout

        with anyio.fail_after(60):
            async with anyio.create_task_group() as calls:
                calls.start_soon(follow)
                taken = await vendors.taken(order["prompt"])
                # The client has its handle by then.
                await until(lambda: vendors.polls(taken.id) > 5)
                vendors.finish()
        assert len(vendors.orders(order["prompt"])) == 1
    told = json.loads(printed)
    assert told["answers"][0] == ["tools/call", "working"]
    assert told["answers"][-1] == ["tasks/get", "completed"]
    assert told["result"]["structuredContent"]["status"] == "succeeded"
