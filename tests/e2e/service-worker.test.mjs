// A page's own service worker that keeps models in the Cache API: what was loaded once loads again when the servers are gone,
// from this origin and from another one.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";
import { faultyLine } from "./unreliable-server.mjs";

/** As a developer would write it. `cache.put` refuses a part of a file (status 206). */
const SERVICE_WORKER = `
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => {
    if (!event.request.url.endsWith(".gguf")) return;
    event.respondWith(answer(event.request));
  });
  async function answer(request) {
    const cache = await caches.open("models");
    const stored = await cache.match(request.url);
    if (stored) return stored;
    const response = await fetch(request);
    await cache.put(request.url, response.clone());
    return response;
  }
`;

let here, there, elsewhere, server, browser, page;
/** Once set, no model comes from anywhere. */
let gone = false;

before(async () => {
  const refuse = (request) => gone && request.url.startsWith("/line/") && request.socket.destroy() !== undefined;
  there = faultyLine(tinyModel());
  elsewhere = http.createServer((request, response) => {
    response.setHeader("access-control-allow-origin", "*");
    if (!refuse(request)) there.answer(request, response);
  });
  await new Promise((resolve) => elsewhere.listen(0, "localhost", resolve));
  here = faultyLine(tinyModel());
  const answer = (request, response) => {
    if (request.url === "/package/sw.js") {
      response.writeHead(200, { "content-type": "text/javascript" }).end(SERVICE_WORKER);
      return true;
    }
    return refuse(request) || here.answer(request, response);
  };
  server = await packageServer(SITE, { answer });
  browser = await launch();
  ({ page } = await openPage(browser, { site: server.site, path: "/package/", serviceWorkers: "allow" }));
  await page.evaluate(async () => {
    const controlled = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve));
    await navigator.serviceWorker.register("/package/sw.js");
    await controlled;
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
  elsewhere?.closeAllConnections();
  elsewhere?.close();
});

async function answers(url, options = {}) {
  return page.evaluate(async ({ url, options }) => {
    const model = await emberglass.loadTextModel(url, { device: "cpu", threads: 1, contextLength: 64, retryTimeoutMs: 0, ...options });
    const { text } = await model.generate("a", { temperature: 0, maxTokens: 8 }).result;
    await model.dispose();
    return text;
  }, { url, options });
}

test("a service worker stores what the engine asks for, and answers without a server", { timeout: PATIENCE }, async () => {
  const kinds = ["right", "gzip", "chunked"];
  const addresses = ["", `http://localhost:${elsewhere.address().port}`].flatMap((origin) => kinds.map((kind) => `${origin}/line/${kind}/m.gguf`));
  const first = [];
  for (const address of addresses) {
    here.log.length = 0;
    there.log.length = 0;
    first.push(await answers(address));
    assert.deepEqual([...here.log, ...there.log], ["whole"], address);
  }
  assert.ok(first[0].length > 0);
  assert.equal(new Set(first).size, 1, "all are the same file");
  gone = true;
  await assert.rejects(answers("/line/right/other.gguf"), "the server is gone");
  // From the service worker, and from the package's own storage.
  for (const address of addresses) {
    for (const storage of ["none", "auto"]) assert.equal(await answers(address, { storage }), first[0], `${address}, storage ${storage}`);
  }
});
