# /// script
# dependencies = ["anthropic[mcp]==2.14.0"]
# ///
"""Anthropic's helpers for MCP: the tool runner over a session, with an API that answers as the script says."""

import json
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from anthropic.lib.tools.mcp import async_mcp_tool
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from script import Script, Server, run, text_of


def messages_api(script: Script, tools_seen: Any) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        if "tools" in body:
            tools_seen([tool["name"] for tool in body["tools"]])
        last = body["messages"][-1]["content"]
        try:
            name, arguments = script.send(text_of(last[-1]["content"])) if "tool_result" in str(last) else next(script)
            block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
        except StopIteration:
            block = {"type": "text", "text": "done"}
        return httpx2.Response(
            200,
            json={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": body["model"],
                "content": [block],
                "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        )

    return httpx2.MockTransport(answer)


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    http = httpx2.AsyncClient(transport=messages_api(script, tools_seen))
    client = AsyncAnthropic(api_key="none", http_client=http)
    # connect:
    parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env)
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = [async_mcp_tool(tool, session) for tool in (await session.list_tools()).tools]
        # :connect
        runner = client.beta.messages.tool_runner(
            model="scripted",
            max_tokens=1000,
            tools=tools,
            messages=[{"role": "user", "content": "Make my picture wider."}],
        )
        await runner.until_done()


run(drive)
