# /// script
# dependencies = ["autogen-ext[mcp]==0.7.5", "mcp<2"]
# ///
"""AutoGen: the workbench through which its agents call tools; its text is what their models read."""

from typing import Any

from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams
from script import Script, Server, run


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    parameters = StdioServerParams(command=server.command, args=server.args, env=server.env)
    async with McpWorkbench(parameters) as workbench:
        # :connect
        tools_seen([tool["name"] for tool in await workbench.list_tools()])
        name, arguments = next(script)
        while True:
            result = await workbench.call_tool(name, arguments)
            try:
                name, arguments = script.send(result.to_text())
            except StopIteration:
                return


run(drive)
