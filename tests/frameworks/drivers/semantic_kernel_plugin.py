# /// script
# dependencies = ["semantic-kernel[mcp]==1.45.0"]
# ///
"""Semantic Kernel: a plug-in of the kernel; a function's result in the chat history is what the model reads."""

from typing import Any

from script import Script, Server, run
from semantic_kernel import Kernel
from semantic_kernel.connectors.mcp import MCPStdioPlugin
from semantic_kernel.contents import ChatHistory, FunctionCallContent


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    kernel = Kernel()
    async with MCPStdioPlugin(name="outpaint", command=server.command, args=server.args, env=server.env) as plugin:
        functions = kernel.add_plugin(plugin).functions
        # :connect
        tools_seen(list(functions))  # The server's prompts are functions, too.
        history = ChatHistory()
        name, arguments = next(script)
        while True:
            call = FunctionCallContent(plugin_name="outpaint", function_name=name, arguments=arguments)
            await kernel.invoke_function_call(call, history)
            try:
                name, arguments = script.send(str(history.messages[-1].items[-1].result))
            except StopIteration:
                return


run(drive)
