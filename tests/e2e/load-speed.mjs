// How long a load takes and how fast it is, from a file of the visitor's, from a server on this machine, and from storage. Not a test:
// `node load-speed.mjs [ROUNDS] [KINDS] [SHAPE]` after `cargo xtask demo --no-serve`, where KINDS are of `file,server,stored` and SHAPE is
// a key of SHAPES, or the path of a GGUF file. PORT, CHROMIUM and PROFILE (a folder for profiles of the worker) are of the environment.
import { createReadStream, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { loadavg, tmpdir } from "node:os";
import { extname, join } from "node:path";
import { launch } from "./browsers.mjs";
import { madeUpModel } from "./made-up-model.mjs";

const [rounds = "3", kinds = "file,server,stored", shape = "1b"] = process.argv.slice(2);
/** Of models that people use. */
const LLAMA_1B = { width: 2048, ffn: 8192, layers: 16, heads: 32, kvHeads: 8, tokens: 128256 };
const SHAPES = {
  "1b": { ...LLAMA_1B, type: "Q4_0" },
  "3b": { ...LLAMA_1B, width: 3072, layers: 28, heads: 24, type: "Q4_0" },
  "1b-q8": { ...LLAMA_1B, type: "Q8_0" },
  small: { width: 1024, ffn: 2816, layers: 8, heads: 8, kvHeads: 8, type: "Q4_0", tokens: 16000 },
};
const PACKAGE = new URL("../../pkg/", import.meta.url);
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".wasm": "application/wasm" };
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "cross-origin-resource-policy": "same-origin" };

const path = shape in SHAPES ? join(tmpdir(), `emberglass-load-${shape}.gguf`) : shape;
if (!existsSync(path)) writeFileSync(path, madeUpModel(SHAPES[shape]));
const { size } = statSync(path);
// The system keeps it in memory from now on.
for await (const _ of createReadStream(path)) continue;

const server = http.createServer(async (request, response) => {
  if (request.url === "/model.gguf") {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const [from, to] = [Number(first ?? 0), last ? Number(last) + 1 : size];
    const headers = { ...ISOLATION, "content-length": to - from, etag: '"1"', "cache-control": "no-store", "accept-ranges": "bytes" };
    response.writeHead(first ? 206 : 200, first ? { ...headers, "content-range": `bytes ${from}-${to - 1}/${size}` } : headers);
    createReadStream(path, { start: from, end: to - 1, highWaterMark: 1 << 20 }).pipe(response);
    return;
  }
  try {
    const name = request.url.slice("/package/".length);
    const file = name === "" ? new URL("package.html", import.meta.url) : new URL(name, PACKAGE);
    const body = await readFile(file);
    response.writeHead(200, { ...ISOLATION, "content-type": TYPES[extname(file.pathname)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404, ISOLATION).end();
  }
});
await new Promise((resolve) => server.listen(Number(process.env.PORT ?? 0), "localhost", resolve));
const site = `http://localhost:${server.address().port}`;

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

for (const kind of kinds.split(",")) {
  const browser = await launch(["--unlimited-storage"]);
  const context = await browser.newContext();
  const seen = [];
  // The first from storage stores.
  for (let round = kind === "stored" ? -1 : 0; round < Number(rounds); round++) {
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    await page.goto(`${site}/package/`);
    await page.waitForFunction(() => window.emberglass);
    const { seconds, storage, text } = await load(page, kind);
    if (round >= 0) seen.push(seconds);
    else console.log(`  stored in ${seconds.toFixed(2)} s: ${JSON.stringify(storage)} ${text}`);
    await page.close();
  }
  await browser.close();
  console.log(`${kind}: ${median(seen).toFixed(2)} s (${seen.map((s) => s.toFixed(2)).join(", ")}), ${(size / 1e6 / median(seen)).toFixed(0)} MB/s of ${(size / 1e6).toFixed(0)} MB; load ${loadavg()[0].toFixed(1)}`);
}
server.close();

async function load(page, kind) {
  if (kind === "file") {
    await page.evaluate(() => document.body.append(Object.assign(document.createElement("input"), { type: "file", id: "file" })));
    await page.setInputFiles("#file", path);
  }
  return page.evaluate(
    async ([kind, options]) => {
      const source = kind === "file" ? document.querySelector("#file").files[0] : new URL("/model.gguf", location.href).href;
      const begun = performance.now();
      const model = await window.emberglass.loadTextModel(source, options);
      const seconds = (performance.now() - begun) / 1000;
      const { text } = await model.generate("a b c", { maxTokens: 4, seed: 1, temperature: 0 }).result;
      const { storage } = model.info;
      await model.dispose();
      return { seconds, storage, text };
    },
    [kind, { device: "cpu", threads: 1, contextLength: 512, storage: kind === "stored" ? "auto" : "none" }],
  );
}
