# /// script
# dependencies = ["pydantic-ai-slim[mcp]==2.68.0"]
# ///
"""Pydantic AI: an agent with a toolset over MCP, and a function as its model."""

from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from script import Script, Server, next_call, run


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        tools_seen([tool.name for tool in info.function_tools])
        last = messages[-1].parts[-1]
        if isinstance(last, RetryPromptPart):
            answer = last.model_response()
        else:
            answer = last.model_response_str() if isinstance(last, ToolReturnPart) else None
        call = next_call(script, answer)
        return ModelResponse(parts=[ToolCallPart(*call) if call else TextPart("done")])

    # connect:
    toolset = MCPToolset(StdioTransport(command=server.command, args=server.args, env=server.env))
    # :connect
    await Agent(FunctionModel(model), toolsets=[toolset]).run("Make my picture wider.")


run(drive)
