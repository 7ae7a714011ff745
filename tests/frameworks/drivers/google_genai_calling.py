# /// script
# dependencies = ["google-genai==3.6.1", "mcp>=2.3"]
# ///
"""Google's Gen AI SDK: automatic function calling over a session, with an API that answers as the script says."""

import json
from typing import Any

import httpx2
from google import genai
from google.genai import types
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from script import Script, Server, run, text_of


def gemini_api(script: Script, tools_seen: Any) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        declared = [function for tool in body["tools"] for function in tool["functionDeclarations"]]
        tools_seen([function["name"] for function in declared])
        last = body["contents"][-1]["parts"][-1]
        try:
            response = last.get("functionResponse")
            name, arguments = script.send(text_of(response["response"])) if response else next(script)
            part = {"functionCall": {"name": name, "args": arguments}}
        except StopIteration:
            part = {"text": "done"}
        return httpx2.Response(
            200, json={"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]}
        )

    return httpx2.MockTransport(answer)


async def drive(server: Server, script: Script, tools_seen: Any) -> None:
    options = types.HttpOptions(httpx_async_client=httpx2.AsyncClient(transport=gemini_api(script, tools_seen)))
    client = genai.Client(api_key="none", http_options=options)
    # connect:
    parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env)
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        # :connect
        await client.aio.models.generate_content(
            model="scripted",
            contents="Make my picture wider.",
            config={"tools": [session]},  # A GenerateContentConfig is copied deeply, which a session is not made for.
        )


run(drive)
