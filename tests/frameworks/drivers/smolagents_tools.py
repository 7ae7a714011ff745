# /// script
# dependencies = ["smolagents[mcp]==1.26.0", "mcp<2"]
# ///
"""smolagents: its tools over MCP, with the check of arguments that its agents make before each call."""

from typing import Any

from mcp import StdioServerParameters
from script import Script, Server, run, text_of
from smolagents import MCPClient
from smolagents.tools import validate_tool_arguments


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env)
    with MCPClient(parameters) as tools:
        # :connect
        named = {tool.name: tool for tool in tools}
        tools_seen(list(named))
        name, arguments = next(script)
        while True:
            validate_tool_arguments(named[name], arguments)
            try:
                answer = text_of(named[name](**arguments))
            except ValueError as error:  # A refusal; the agent gives its model the text.
                answer = str(error)
            try:
                name, arguments = script.send(answer)
            except StopIteration:
                return


run(drive)
