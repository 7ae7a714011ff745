// Calls outpaint with the tasks extension's own client (@modelcontextprotocol/ext-tasks) and follows the task to its end.
// Arguments: the folder node_modules, the server's URL, the call's arguments as JSON. Prints JSON.
const [modules, url, given] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = await import(`${modules}/@modelcontextprotocol/client/dist/index.mjs`);
const { createTaskSessionFromClient, resultFromTaskOutcome } = await import(
  `${modules}/@modelcontextprotocol/ext-tasks/dist/client/index.js`
);

const clientInfo = { name: "follow-task", version: "1" };
const client = new Client(clientInfo, { versionNegotiation: { mode: "auto" } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

// The TypeScript SDK does not let a foreign result through, so the extension's client wants requests sent for it.
const answers = [];
async function rawDispatch(request) {
  const headers = {
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": request.method,
    "Mcp-Name": request.params.taskId ?? request.params.name,
  };
  const body = JSON.stringify({ jsonrpc: "2.0", id: answers.length + 1, ...request });
  const answer = await fetch(url, { method: "POST", headers, body });
  const text = await answer.text();
  const isStream = answer.headers.get("content-type").startsWith("text/event-stream");
  const { result, error } = JSON.parse(isStream ? text.split("\n").findLast((line) => line.startsWith("data:")).slice(5) : text);
  answers.push([request.method, result?.status ?? error?.code]);
  return error ? { kind: "error", error } : { kind: "result", result };
}

const session = createTaskSessionFromClient(client, {
  endpointId: "outpaint",
  rawDispatch,
  v2RequestFraming: { protocolVersion: "2026-07-28", clientInfo, clientCapabilities: {} },
});
const execution = await session.callTool("outpaint", JSON.parse(given));
const { outcome } = await execution.settle();
console.log(JSON.stringify({ answers, result: resultFromTaskOutcome(outcome) }));
await session.close();
await client.close();
