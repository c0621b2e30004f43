// How the engine starts where its files do not arrive, or may not: by the copy inside the package, or with an error that
// names the address and the remedy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
let browser, server;
/** By path: what the server answers in place of the file. Cleared before each test. */
const answers = new Map();

before(async () => {
  browser = await launch();
  server = await packageServer(SITE, {
    answer(request, response) {
      const answer = answers.get(new URL(request.url, SITE).pathname);
      if (!answer) return false;
      response.writeHead(answer.status ?? 200, answer.headers ?? {}).end(answer.body ?? "");
      return true;
    },
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const WORKER = "/package/dist/emberglass-worker.js";
const RELAXED = "/package/dist/emberglass-relaxed.wasm";
const HTML = { headers: { "content-type": "text/html", ...ISOLATION }, body: "<!doctype html><title>The page for unknown addresses</title>" };

/** Loads the tiny model in a page under a policy, and says what came of it and what was said on the console. */
async function loaded({ options = {}, policy, times = 1 } = {}) {
  const page = `<!doctype html><link rel="icon" href="data:,">${policy ? `<meta http-equiv="Content-Security-Policy" content="${policy}">` : ""}`;
  answers.set("/package/start.html", { headers: { "content-type": "text/html", ...ISOLATION }, body: page });
  const context = await browser.newContext();
  try {
    const tab = await context.newPage();
    const notes = [];
    tab.on("console", (message) => message.type() === "info" && notes.push(message.text()));
    await tab.goto(`${server.site}/package/start.html`);
    const outcomes = [];
    for (let i = 0; i < times; i++) {
      outcomes.push(
        await tab.evaluate(async (options) => {
          const { loadTextModel } = await import("/package/dist/index.js");
          try {
            const model = await loadTextModel("/package/tiny.gguf", { device: "cpu", threads: 2, contextLength: 64, ...options });
            const { text } = await model.generate("a", { maxTokens: 4, temperature: 0 }).result;
            await model.dispose();
            return { text, threads: model.info.device.threads };
          } catch ({ name, code, message }) {
            return { name, code, message };
          }
        }, options),
      );
    }
    return { ...outcomes.at(-1), outcomes, notes };
  } finally {
    await context.close();
    answers.clear();
  }
}

function failsWith(outcome, code, ...parts) {
  assert.equal(outcome.code, code, JSON.stringify(outcome));
  for (const part of parts) assert.ok(outcome.message.includes(part), `${part} is not in: ${outcome.message}`);
}

test("with all files in place nothing is said", { timeout: PATIENCE }, async () => {
  const { text, threads, notes } = await loaded();
  assert.ok(text);
  assert.equal(threads, 2);
  assert.deepEqual(notes, []);
});

test("a script that is not there: the copy inside the package runs, helper threads too, and the page says so once", { timeout: PATIENCE }, async () => {
  for (const [answer, cause] of [[{ status: 404, headers: ISOLATION }, "status 404"], [HTML, "text/html"], [{ headers: { "content-type": "text/javascript" }, body: "" }, "Cross-Origin-Embedder-Policy"]]) {
    answers.set(WORKER, answer);
    const { outcomes, notes } = await loaded({ times: 2 });
    assert.deepEqual(outcomes.map(({ text, threads }) => [text?.length > 0, threads]), [[true, 2], [true, 2]], JSON.stringify(outcomes));
    assert.equal(notes.length, 1, notes.join("\n"));
    for (const part of [`${server.site}${WORKER}`, cause, "The copy inside the package", "workerUrl"]) assert.ok(notes[0].includes(part), notes[0]);
  }
});

test("wasm that is not there: the copy inside the package runs", { timeout: PATIENCE }, async () => {
  answers.set(RELAXED, HTML);
  const { text, notes } = await loaded();
  assert.ok(text);
  assert.equal(notes.length, 1);
  assert.match(notes[0], /emberglass-relaxed\.wasm: the server sends an HTML page/);
});

test("addresses that were given are taken at their word", { timeout: PATIENCE }, async () => {
  const wasmUrl = { simd128: "/package/dist/emberglass-simd128.wasm", relaxed: "/package/dist/emberglass-relaxed.wasm" };
  assert.ok((await loaded({ options: { workerUrl: "dist/emberglass-worker.js", wasmUrl } })).text);
  failsWith(await loaded({ options: { workerUrl: "/package/gone.js?token=secret" } }), "worker-failed", `${server.site}/package/gone.js:`, "404", "workerUrl");
  failsWith(await loaded({ options: { wasmUrl: { ...wasmUrl, relaxed: "/package/gone.wasm" } } }), "worker-failed", `${server.site}/package/gone.wasm`, "404", "wasmUrl");
});

const POLICY = "default-src 'none'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; connect-src 'self';";

test("a policy with what the engine needs is enough: no blob:", { timeout: PATIENCE }, async () => {
  const { text, notes } = await loaded({ policy: `${POLICY} worker-src 'self'` });
  assert.ok(text);
  assert.deepEqual(notes, []);
});

test("a policy that forbids workers is named, with what it lacks", { timeout: PATIENCE }, async () => {
  const forbidden = await loaded({ policy: `${POLICY} worker-src 'none'` });
  failsWith(forbidden, "worker-failed", "Content-Security-Policy", "add 'self' to its worker-src", "add blob: to its worker-src");
  answers.set(WORKER, { status: 404 });
  failsWith(await loaded({ policy: `${POLICY} worker-src 'self'` }), "worker-failed", "status 404", "add blob: to its worker-src");
});

test("a service worker cannot run a model, and is told so", { timeout: PATIENCE }, async () => {
  answers.set("/package/dist/service.js", {
    headers: { "content-type": "text/javascript" },
    body: `import { loadTextModel, supported } from "./index.js";
      self.onmessage = async ({ source }) => source.postMessage([await supported(), await loadTextModel("/x.gguf").catch(({ code, message }) => ({ code, message }))]);`,
  });
  answers.set("/package/dist/", { headers: { "content-type": "text/html" }, body: "<!doctype html>" });
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(`${server.site}/package/dist/`);
    const [support, error] = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.register("service.js", { type: "module" });
      const { active } = await navigator.serviceWorker.ready;
      return new Promise((resolve) => {
        navigator.serviceWorker.onmessage = ({ data }) => resolve(data);
        (active ?? registration.active).postMessage(null);
      });
    });
    assert.deepEqual([support.simd, support.code], [false, "no-worker"]);
    failsWith(error, "no-worker", "service worker");
  } finally {
    await context.close();
    answers.clear();
  }
});
