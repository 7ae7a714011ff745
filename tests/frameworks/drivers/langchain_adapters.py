# /// script
# dependencies = ["langchain-mcp-adapters==0.3.2"]
# ///
"""LangChain's adapters: by default each call of a tool starts a server. The tool message is what the model reads."""

from typing import Any

from langchain_mcp_adapters.client import MultiServerMCPClient
from script import Script, Server, run, text_of


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    connection = {"transport": "stdio", "command": server.command, "args": server.args, "env": server.env}
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"outpaint": connection}).get_tools()}
    # :connect
    tools_seen(list(tools))
    name, arguments = next(script)
    while True:
        message = await tools[name].ainvoke({"type": "tool_call", "id": "call", "name": name, "args": arguments})
        for block in message.content:
            # The models' APIs take these, and images by http address or as data.
            address = block.get("url", "") if isinstance(block, dict) else ""
            if address and not address.startswith(("http", "data:")):
                raise ValueError(f"no model's API takes an image block with the address {address}")
        try:
            name, arguments = script.send(text_of(message.content))
        except StopIteration:
            return


run(drive)
