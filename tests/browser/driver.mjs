// Runs JavaScript in Chromium for the tests: each line of standard input is {code, args}, the body of an async function of
// `page` (a new one if `page` names none yet), and is answered by one line, {result} or {error}. The page's origin serves
// the host page, the views with their content security policy, and passes /mcp on to the server under test.
import { createServer, request as forward } from "node:http";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [modules, executablePath, profile, hostScript] = process.argv.slice(2);
const load = async (name) => (await import(pathToFileURL(join(modules, name)).href)).default;
const { chromium } = await load("playwright-core/index.js");
const { build } = await load("esbuild/lib/main.js");
const axe = join(modules, "axe-core/axe.min.js");

const bundle = await build({
  entryPoints: [hostScript], bundle: true, write: false, format: "iife", nodePaths: [modules], logLevel: "silent",
  platform: "browser",
});
const script = bundle.outputFiles[0].text;
const page_html = `<!doctype html><html lang="en"><title>Host</title><style>body{margin:0}iframe{width:100%;border:0;display:block}</style>
<main id="chat"></main><script src="/host.js"></script></html>`;
const views = [];
let mcp = "";

/** The policy that the specification wants of a host: nothing but what the resource declares. */
function policy({ connectDomains = [], resourceDomains = [], frameDomains = [] } = {}) {
  const from = resourceDomains.join(" ");
  return [
    "default-src 'none'", `script-src 'unsafe-inline' ${from}`, `style-src 'unsafe-inline' ${from}`, `img-src data: ${from}`,
    `font-src data: ${from}`, `media-src data: ${from}`, `connect-src ${connectDomains.join(" ") || "'none'"}`,
    `frame-src ${frameDomains.join(" ") || "'none'"}`, "base-uri 'none'", "form-action 'none'", "object-src 'none'",
  ].join("; ");
}

const server = createServer((incoming, outgoing) => {
  const { url, method } = incoming;
  const send = (type, body, headers = {}) => outgoing.writeHead(200, { "content-type": type, ...headers }).end(body);
  if (url === "/mcp") {
    const { origin, host, ...headers } = incoming.headers;
    const there = forward(mcp, { method, headers: { ...headers, host: new URL(mcp).host } }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    there.on("error", () => outgoing.destroy());
    outgoing.on("close", () => there.destroy());
    incoming.pipe(there);
  } else if (url === "/views" && method === "POST") {
    const pieces = [];
    incoming.on("data", (piece) => pieces.push(piece));
    incoming.on("end", () => send("text/plain", `/views/${views.push(JSON.parse(Buffer.concat(pieces))) - 1}`));
  } else if (url.startsWith("/views/")) {
    const { html, csp } = views[Number(url.slice(7))];
    send("text/html; charset=utf-8", html, { "content-security-policy": policy(csp) });
  } else if (url === "/host.js") send("text/javascript", script);
  else if (url === "/") send("text/html; charset=utf-8", page_html);
  else outgoing.writeHead(404).end();
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const base = `http://127.0.0.1:${server.address().port}`;

const context = await chromium.launchPersistentContext(profile, {
  executablePath, headless: true, viewport: null,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"],
});
context.setDefaultTimeout(20000);
const AsyncFunction = (async () => {}).constructor;
let page = null;
const asked = [];

const helpers = {
  axe,
  asked,
  /** A new page of the host, for the server at this address; `script` runs first in every frame. */
  async fresh(address, width = 640, height = 900, script = "") {
    mcp = address;
    await page?.close();
    page = await context.newPage();
    await page.setViewportSize({ width, height });
    await page.addInitScript(script);
    asked.length = 0;
    page.on("request", (one) => { if (!one.url().startsWith(base) && !one.url().startsWith("data:")) asked.push(one.url()); });
    page.on("pageerror", (error) => asked.push(`script error: ${error.message}`));
    await page.goto(base);
    return page;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { code, args } = JSON.parse(line);
  let answer;
  try {
    const view = page?.frames().find((one) => one.url().startsWith(`${base}/views/`)) ?? null;
    answer = { result: (await new AsyncFunction("page", "view", "helpers", "args", code)(page, view, helpers, args)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack || error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
server.close();
process.exit(0);
