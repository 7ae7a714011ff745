# /// script
# dependencies = ["agent-framework-core==1.23.0", "mcp>=2.3,<3", "tenacity>=9.1.4,<9.2"]
# ///
"""Microsoft's Agent Framework: an agent with its tool over stdio, and a chat client that follows the script.

Of a result its model reads the structured part alone, and of a refusal nothing, unless the chat client is configured
with `include_detailed_errors`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent_framework import Agent, BaseChatClient, ChatResponse, Content, FunctionInvocationLayer, MCPStdioTool, Message
from script import Script, Server, next_call, run, text_of


class ScriptedClient(FunctionInvocationLayer, BaseChatClient):
    def __init__(self, script: Script, tools_seen: Any) -> None:
        super().__init__()
        self.script = script
        self.tools_seen = tools_seen

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **rest: Any
    ) -> ChatResponse:
        self.tools_seen([tool.name for tool in options["tools"]])
        last = messages[-1].contents[-1]
        call = next_call(self.script, text_of(last.result) if last.type == "function_result" else None)
        content = Content.from_function_call("call", call[0], arguments=call[1]) if call else Content.from_text("done")
        return ChatResponse(messages=[Message("assistant", [content])])


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    async with MCPStdioTool("outpaint", server.command, args=server.args, env=server.env) as outpaint:
        # :connect
        await Agent(ScriptedClient(script, tools_seen), tools=outpaint).run("Make my picture wider.")


run(drive)
