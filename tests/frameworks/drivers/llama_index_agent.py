# /// script
# dependencies = ["llama-index-tools-mcp==0.6.0", "llama-index-core==0.14.25"]
# ///
"""LlamaIndex: a function agent with the tools of its MCP client, and its mock of a model that follows the script."""

from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from script import Script, Server, next_call, run, text_of


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    def model(messages: list[ChatMessage], tools: Any = None, **options: Any) -> ChatMessage:
        tools_seen([tool.metadata.name for tool in tools])
        answer = text_of(messages[-1].content) if messages[-1].role == "tool" else None
        call = next_call(script, answer)
        if call is None:
            return ChatMessage("done", role="assistant")
        return ChatMessage(
            role="assistant", blocks=[ToolCallBlock(tool_call_id="call", tool_name=call[0], tool_kwargs=call[1])]
        )

    # connect:
    client = BasicMCPClient(server.command, args=server.args, env=server.env)
    tools = await McpToolSpec(client).to_tool_list_async()
    # :connect
    agent = FunctionAgent(tools=tools, llm=MockFunctionCallingLLM(response_generator=model))
    await agent.run("Make my picture wider.")


run(drive)
