// Models that are disposed, fail to load or are cancelled leave no worker and no memory behind. Chromium runs without a debugger, which
// would change how its workers end, and the system says which threads it has.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FLAGS, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const CYCLES = 24;
const LOADS = 20;
/** Some twelve megabytes. */
const LARGE = tinyModel({ ffn: 8192 });

/** Runs in the page. Every cycle ends a model in another way, some while its helper threads start or compute. */
async function cycles(count) {
  const { loadTextModel, loadImageDecoder } = window.emberglass;
  const options = { device: "cpu", threads: 2, contextLength: 64 };
  const threads = [];
  for (let i = 0; i < count; i++) {
    if (i % 4 === 3) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 20 * i);
      await loadTextModel("tiny.gguf", { ...options, signal: controller.signal }).then((model) => model.dispose(), () => {});
      continue;
    }
    const model = await loadTextModel("tiny.gguf", options);
    threads.push(model.info.device.threads);
    if (i % 4 === 1) model.generate("a", { maxTokens: 40 }).result.catch(() => {});
    if (i % 8 === 2) await (await loadImageDecoder("/emoji/emoji-vae.safetensors", { device: "cpu" })).dispose();
    await model.dispose();
  }
  return threads;
}

/** Runs in the page. So many models with helper threads, one after the other; `tell` is called after each. */
async function loads(count, tell) {
  for (let i = 0; i < count; i++) {
    const model = await window.emberglass.loadTextModel("large.gguf", { device: "cpu", threads: 2, contextLength: 64 });
    await model.generate("a", { maxTokens: 4 }).result;
    await model.dispose();
    await tell(`${model.info.device.threads}`);
  }
  return "end";
}

const skip = process.platform === "linux" ? false : "threads and memory are counted in /proc";

test("no worker is left behind", { timeout: PATIENCE, skip }, async () => {
  await inChromium(`(${cycles})(${CYCLES}).then(String, String).then(tell) && tell("begun")`, async ({ pid, told }) => {
    await eventually(() => told.length === 2, "the page does not come to its end");
    assert.match(told[1], /^2(,2)+$/, "all models had a helper thread");
    const most = workers(pid);
    await eventually(() => workers(pid) === 0, `${workers(pid)} workers are left behind`, 20_000);
    console.log(`${CYCLES} cycles; ${most} workers at the end of the last, none later`);
  });
});

test("no byte is left behind", { timeout: PATIENCE, skip }, async () => {
  await inChromium(`(${loads})(${LOADS}, tell).catch(String).then(tell)`, async ({ pid, told }) => {
    await eventually(() => told.length >= 2 || told.at(-1)?.length > 1, "no model is loaded");
    const first = resident(pid);
    await eventually(() => told.length > LOADS || told.at(-1)?.length > 1, "the page does not come to its end");
    assert.deepEqual(told, [...Array(LOADS).fill("2"), "end"]);
    await eventually(() => workers(pid) === 0, `${workers(pid)} workers are left behind`, 20_000);
    // Of each model that is left there would be its weights.
    const limit = first + (LOADS / 2) * LARGE.length;
    await eventually(() => resident(pid) < limit, `${resident(pid)} bytes are resident, ${first} were after the second model`, 20_000);
    console.log(`${LOADS} loads of ${LARGE.length} bytes; ${first} bytes resident after the second, ${resident(pid)} in the end`);
  });
});

/** A Chromium without a debugger, on a page that runs the script; what it tells is added to `told`. */
async function inChromium(code, watch) {
  const told = [];
  const script = `<script type="module">
    import * as emberglass from "./dist/index.js";
    window.emberglass = emberglass;
    const tell = (text) => fetch("/told/" + encodeURIComponent(text));
    ${code};
  </script>`;
  const answer = (request, response) => {
    const text = /^\/told\/(.*)/.exec(request.url)?.[1];
    const page = request.url === "/package/leak.html";
    const model = request.url === "/package/large.gguf";
    if (text !== undefined) told.push(decodeURIComponent(text));
    if (!page && !model && text === undefined) return false;
    const isolation = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
    response.writeHead(200, { "content-type": model ? "application/octet-stream" : "text/html", ...isolation });
    response.end(page ? `<!doctype html>${script}` : model ? LARGE : "");
    return true;
  };
  const server = await packageServer(SITE, { answer });
  const profile = mkdtempSync(join(tmpdir(), "emberglass-leak-"));
  const flags = [...FLAGS, "--headless=new", "--disable-gpu", `--user-data-dir=${profile}`, `${server.site}/package/leak.html`];
  const browser = spawn(process.env.CHROMIUM ?? "/usr/bin/chromium", flags, { stdio: "ignore", detached: true });
  try {
    await watch({ pid: browser.pid, told });
  } finally {
    process.kill(-browser.pid);
    await new Promise((resolve) => browser.on("exit", resolve));
    await server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

/** Threads of workers in all processes that descend from `root`. */
function workers(root) {
  return family(root).flatMap(threadNames).filter((name) => name.startsWith("DedicatedWorker")).length;
}

/** Bytes of memory that the processes of pages below `root` have. */
function resident(root) {
  const pages = family(root).filter((process) => read(`/proc/${process}/cmdline`).includes("--type=renderer"));
  const kilobytes = pages.map((process) => Number(/^VmRSS:\s*(\d+) kB/m.exec(read(`/proc/${process}/status`))?.[1] ?? 0));
  return 1024 * kilobytes.reduce((sum, one) => sum + one, 0);
}

function family(root) {
  const parents = new Map();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const stat = read(`/proc/${entry}/stat`);
    parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const family = [root];
  for (let i = 0; i < family.length; i++) for (const [child, parent] of parents) if (parent === family[i]) family.push(child);
  return family;
}

function threadNames(process) {
  try {
    return readdirSync(`/proc/${process}/task`).map((thread) => read(`/proc/${process}/task/${thread}/comm`));
  } catch {
    return [];
  }
}

/** Empty for what ended meanwhile. */
function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

async function eventually(condition, otherwise, patience = PATIENCE / 2) {
  const end = Date.now() + patience;
  while (!condition()) {
    if (Date.now() > end) assert.fail(otherwise);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
