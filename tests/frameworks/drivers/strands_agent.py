# /// script
# dependencies = ["strands-agents==1.62.0"]
# ///
"""Strands: an agent with its MCP client, and a model that follows the script."""

import json
from collections.abc import AsyncIterator
from typing import Any

from mcp import StdioServerParameters, stdio_client
from script import Script, Server, next_call, run, text_of
from strands import Agent
from strands.models import Model
from strands.tools.mcp import MCPClient


class ScriptedModel(Model):
    def __init__(self, script: Script, tools_seen: Any) -> None:
        self.script = script
        self.tools_seen = tools_seen

    async def stream(self, messages: Any, tool_specs: Any = None, *rest: Any, **options: Any) -> AsyncIterator[Any]:
        self.tools_seen([tool["name"] for tool in tool_specs])
        answered = messages[-1]["content"][-1].get("toolResult")
        call = next_call(self.script, text_of(answered["content"]) if answered else None)
        yield {"messageStart": {"role": "assistant"}}
        if call:
            yield {"contentBlockStart": {"start": {"toolUse": {"name": call[0], "toolUseId": str(id(call))}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(call[1])}}}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "done"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if call else "end_turn"}}

    def get_config(self) -> dict[str, Any]:
        return {}

    def update_config(self, **config: Any) -> None:
        raise NotImplementedError

    def structured_output(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env)
    client = MCPClient(lambda: stdio_client(parameters))
    # :connect
    agent = Agent(model=ScriptedModel(script, tools_seen), tools=[client], callback_handler=None)
    try:
        await agent.invoke_async("Make my picture wider.")
    finally:
        agent.cleanup()


run(drive)
