# /// script
# dependencies = ["fastmcp==4.2.3"]
# ///
"""FastMCP's client, which has no agent: its text content is what a program hands to a model."""

from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from script import Script, Server, next_call, run


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    async with Client(StdioTransport(command=server.command, args=server.args, env=server.env)) as client:
        # :connect
        tools_seen([tool.name for tool in await client.list_tools()])
        answer = None
        while call := next_call(script, answer):
            result = await client.call_tool(*call, raise_on_error=False)
            answer = "\n".join(block.text for block in result.content if block.type == "text")


run(drive)
