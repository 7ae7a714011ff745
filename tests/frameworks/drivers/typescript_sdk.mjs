// packages: {"@modelcontextprotocol/client": "2.4.0"}
// The TypeScript SDK, 2.x: its client. It has no agent; an answer's content is what a program hands to its model.

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
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
