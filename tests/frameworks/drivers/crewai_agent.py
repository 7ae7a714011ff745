# /// script
# dependencies = ["crewai==1.15.30"]
# ///
"""CrewAI: a crew of one agent with a server over stdio, and a model that follows the script."""

import asyncio
import os
from typing import Any

os.environ.update(OTEL_SDK_DISABLED="true", CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false")

from crewai import Agent, BaseLLM, Crew, Task
from crewai.mcp import MCPServerStdio
from script import Script, Server, next_call, run, text_of


class ScriptedModel(BaseLLM):
    script: Any
    tools_seen: Any

    def call(self, messages: Any, tools: Any = None, *rest: Any, **options: Any) -> Any:
        # Each tool's name begins with its server's.
        names = {tool["function"]["name"].rpartition("outpaint_mcp_")[2]: tool["function"]["name"] for tool in tools}
        self.tools_seen(list(names))
        last = messages[-1]
        call = next_call(self.script, text_of(last["content"]) if last["role"] == "tool" else None)
        if call is None:
            return "done"
        return [{"id": "call", "function": {"name": names[call[0]], "arguments": call[1]}}]

    def supports_function_calling(self) -> bool:
        return True


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    agent = Agent(
        role="Painter",
        goal="Make pictures wider.",
        backstory="None.",
        llm=ScriptedModel(model="scripted", script=script, tools_seen=tools_seen),
        # connect:
        mcps=[MCPServerStdio(command=server.command, args=server.args, env=server.env)],
        # :connect
    )
    task = Task(description="Make my picture wider.", expected_output="Its URL.", agent=agent)
    await asyncio.to_thread(Crew(agents=[agent], tasks=[task]).kickoff)


run(drive)
