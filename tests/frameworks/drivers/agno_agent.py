# /// script
# dependencies = ["agno[mcp]==3.1.10"]
# ///
"""Agno: an agent with its MCP tools, and a model that follows the script."""

import json
import shlex
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agno.agent import Agent
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.tools.mcp import MCPTools
from script import Script, Server, next_call, run, text_of


class ScriptedModel(Model):
    def __init__(self, script: Script, tools_seen: Any) -> None:
        super().__init__(id="scripted")
        self.script = script
        self.tools_seen = tools_seen

    async def ainvoke(self, messages: list[Message], tools: Any = None, **options: Any) -> ModelResponse:
        self.tools_seen([tool["function"]["name"] for tool in tools])
        last = messages[-1]
        call = next_call(self.script, text_of(last.content) if last.role == "tool" else None)
        if call is None:
            return ModelResponse(role="assistant", content="done")
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        return ModelResponse(role="assistant", tool_calls=[{"id": "call", "type": "function", "function": function}])

    def invoke(self, *args: Any, **options: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *args: Any, **options: Any) -> Iterator[ModelResponse]:
        raise NotImplementedError

    def ainvoke_stream(self, *args: Any, **options: Any) -> AsyncIterator[ModelResponse]:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **options: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    command = shlex.join([server.command, *server.args])
    async with MCPTools(command, env=server.env) as tools:
        # :connect
        agent = Agent(model=ScriptedModel(script, tools_seen), tools=[tools], telemetry=False)
        await agent.arun("Make my picture wider.")


run(drive)
