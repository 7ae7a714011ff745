# /// script
# dependencies = ["google-adk==2.13.0", "mcp>=1.24"]
# ///
"""Google's Agent Development Kit: an agent with an MCP toolset, and a model that follows the script."""

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from google.genai import types
from mcp import StdioServerParameters
from script import Script, Server, run, text_of


class ScriptedModel(BaseLlm):
    script: Any
    tools_seen: Any

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.tools_seen(sorted(llm_request.tools_dict))
        last = llm_request.contents[-1].parts[-1]
        try:
            name, arguments = (
                self.script.send(text_of(last.function_response.response))
                if last.function_response
                else next(self.script)
            )
            part = types.Part(function_call=types.FunctionCall(name=name, args=arguments))
        except StopIteration:
            part = types.Part(text="done")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    # connect:
    parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env)
    toolset = McpToolset(connection_params=StdioConnectionParams(server_params=parameters))
    # :connect
    agent = LlmAgent(
        name="outpainter", model=ScriptedModel(model="scripted", script=script, tools_seen=tools_seen), tools=[toolset]
    )
    runner = InMemoryRunner(agent=agent, app_name="outpainter")
    session = await runner.session_service.create_session(app_name="outpainter", user_id="user")
    message = types.Content(role="user", parts=[types.Part(text="Make my picture wider.")])
    try:
        async for _ in runner.run_async(user_id="user", session_id=session.id, new_message=message):
            pass
    finally:
        await toolset.close()


run(drive)
