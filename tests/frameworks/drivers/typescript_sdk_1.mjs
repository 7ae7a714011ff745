// packages: {"@modelcontextprotocol/sdk": "1.32.2"}
// The TypeScript SDK, 1.x, which most programs still use: its client, which has no agent either.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { nextCall, run, textOf } from "./script.mjs";

await run(async (server, script, toolsSeen) => {
  // connect:
  const client = new Client({ name: "outpainter", version: "1.0.0" });
  await client.connect(new StdioClientTransport(server));
  // :connect
  toolsSeen((await client.listTools()).tools.map((tool) => tool.name));
  let call = nextCall(script);
  while (call) call = nextCall(script, textOf((await client.callTool(call)).content));
  await client.close();
});
