// A host for the view, as small as one can be: the reference AppBridge over a real MCP client, one view at a time.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const APPS = "io.modelcontextprotocol/ui";
const INFO = { name: "test-host", version: "1" };
let bridge;

/**
 * Connects, calls a tool as a model would, and shows its view. Everything that the view asks of the host is noted.
 * `changes` are made to the task before the view gets it; a `deaf` host lets the view call no tool and read nothing.
 */
window.open_view = async ({ mode, tool, args, context, capabilities, csp, changes, deaf = false }) => {
  const client = new Client(INFO, {
    capabilities: { extensions: { [APPS]: { mimeTypes: ["text/html;profile=mcp-app"] } } },
    versionNegotiation: { mode },
  });
  await client.connect(new StreamableHTTPClientTransport(new URL("/mcp", location.href)));
  const { tools } = await client.listTools();
  const uri = tools.find((one) => one.name === tool)._meta.ui.resourceUri;
  const { contents: [view] } = await client.readResource({ uri });
  const declared = view._meta.ui;

  window.seen = { calls: [], links: [], downloads: [], contexts: [], modes: [], heights: [] };
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.title = "view";
  addEventListener("message", ({ source, data }) => {
    if (source === frame.contentWindow && data.method === "tools/call") window.seen.calls.push(data.params);
  });
  bridge = new AppBridge(deaf ? null : client, INFO, capabilities, { hostContext: context });
  bridge.onopenlink = async ({ url }) => { window.seen.links.push(url); return {}; };
  bridge.ondownloadfile = async ({ contents }) => { window.seen.downloads.push(contents); return {}; };
  bridge.onupdatemodelcontext = async (params) => { window.seen.contexts.push(params); return {}; };
  bridge.onrequestdisplaymode = async ({ mode }) => { window.seen.modes.push(mode); return { mode }; };
  bridge.addEventListener("sizechange", ({ height }) => {
    window.seen.heights.push(height);
    frame.style.height = `${height}px`;
  });
  const initialized = new Promise((resolve) => bridge.addEventListener("initialized", resolve));
  // The document comes from another address, with the policy that a host makes of what the resource declares.
  const made = await fetch("/views", { method: "POST", body: JSON.stringify({ html: view.text, csp: csp || declared.csp }) });
  document.getElementById("chat").replaceChildren(frame);
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.src = await made.text();
  await initialized;
  await bridge.sendToolInput({ arguments: args });
  const result = await client.callTool({ name: tool, arguments: args });
  if (changes) result.structuredContent = { ...result.structuredContent, ...changes };
  await bridge.sendToolResult(result);
  return { era: client.getProtocolEra?.() ?? null, result };
};

window.send_result = (result) => bridge.sendToolResult(result);
window.set_context = (context) => bridge.setHostContext(context);
window.teardown = () => bridge.teardownResource({});
