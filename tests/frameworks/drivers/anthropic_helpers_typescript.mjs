// packages: {"@anthropic-ai/sdk": "1.14.0", "@modelcontextprotocol/sdk": "1.32.2"}
// Anthropic's helpers for MCP in TypeScript: the tool runner, with an API that answers as the script says.

import Anthropic from "@anthropic-ai/sdk";
import { mcpTools } from "@anthropic-ai/sdk/helpers/beta/mcp";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { nextCall, run, textOf } from "./script.mjs";

await run(async (server, script, toolsSeen) => {
  const messagesApi = async (_url, { body }) => {
    const { model, tools, messages } = JSON.parse(body);
    if (tools) toolsSeen(tools.map((tool) => tool.name)); // Only a thread's first request names them.
    const last = messages.at(-1).content.at(-1);
    const call = nextCall(script, last.type === "tool_result" ? textOf(last.content) : undefined);
    return Response.json({
      id: "msg_1",
      type: "message",
      role: "assistant",
      model,
      content: [
        call
          ? { type: "tool_use", id: "toolu_1", name: call.name, input: call.arguments }
          : { type: "text", text: "done" },
      ],
      stop_reason: call ? "tool_use" : "end_turn",
      stop_sequence: null,
      usage: { input_tokens: 1, output_tokens: 1 },
    });
  };
  // connect:
  const client = new Client({ name: "outpainter", version: "1.0.0" });
  await client.connect(new StdioClientTransport(server));
  // :connect
  await new Anthropic({ apiKey: "none", fetch: messagesApi }).beta.messages.toolRunner({
    model: "scripted",
    max_tokens: 1000,
    tools: mcpTools((await client.listTools()).tools, client),
    messages: [{ role: "user", content: "Make my picture wider." }],
  });
  await client.close();
});
