# /// script
# dependencies = ["mcp-haystack==2.1.1", "haystack-ai==3.4.1"]
# ///
"""Haystack: an agent with an MCP toolset, and its mock of a model that follows the script."""

import os
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack.components.agents import Agent
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, ToolCall
from haystack_integrations.tools.mcp import MCPToolset, StdioServerInfo
from script import Script, Server, next_call, run, text_of


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    def model(messages: list[ChatMessage], tools: Any) -> ChatMessage:
        tools_seen([tool.name for tool in tools])
        answered = messages[-1].tool_call_result
        call = next_call(script, text_of(answered.result) if answered else None)
        return ChatMessage.from_assistant(tool_calls=[ToolCall(*call)]) if call else ChatMessage.from_assistant("done")

    # connect:
    toolset = MCPToolset(StdioServerInfo(command=server.command, args=server.args, env=server.env))
    # :connect
    agent = Agent(chat_generator=MockChatGenerator(response_fn=model), tools=toolset)
    try:
        await agent.run_async([ChatMessage.from_user("Make my picture wider.")])
    finally:
        toolset.close()


run(drive)
