# /// script
# dependencies = ["openai-agents==0.24.0"]
# ///
"""The OpenAI Agents SDK: an agent with a server over stdio, and a model that follows the script."""

import json
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from script import Script, Server, run, text_of


class ScriptedModel(Model):
    def __init__(self, script: Script, tools_seen: Any) -> None:
        self.script = script
        self.tools_seen = tools_seen

    async def get_response(self, system_instructions, input, model_settings, tools, *rest, **options) -> ModelResponse:  # noqa: A002
        self.tools_seen([tool.name for tool in tools])
        last = input[-1] if isinstance(input, list) else {}
        return ModelResponse(output=[self._answer_to(last)], usage=Usage(), response_id=None)

    def _answer_to(self, last: dict[str, Any]) -> ResponseFunctionToolCall | ResponseOutputMessage:
        try:
            name, arguments = (
                self.script.send(text_of(last["output"]))
                if last.get("type") == "function_call_output"
                else next(self.script)
            )
        except StopIteration:
            done = ResponseOutputText(text="done", type="output_text", annotations=[])
            return ResponseOutputMessage(
                id="message", content=[done], role="assistant", status="completed", type="message"
            )
        return ResponseFunctionToolCall(
            arguments=json.dumps(arguments), call_id=str(id(arguments)), name=name, type="function_call"
        )

    def stream_response(self, *args, **options):
        raise NotImplementedError


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    set_tracing_disabled(True)
    # connect:
    async with MCPServerStdio(params={"command": server.command, "args": server.args, "env": server.env}) as mcp:
        # :connect
        agent = Agent(name="outpainter", model=ScriptedModel(script, tools_seen), mcp_servers=[mcp])
        await Runner.run(agent, "Make my picture wider.")


run(drive)
