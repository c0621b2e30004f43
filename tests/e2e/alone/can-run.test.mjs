// `canRun`: whether a model fits and how fast it would be, by its header alone. Estimates are held against what is measured
// right after them; what does not fit is told at once.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, PATIENCE, SITE } from "../harness.mjs";
import { madeUpHeader, madeUpModel } from "../made-up-model.mjs";
import { packageServer } from "../package-server.mjs";

const MIB = 2 ** 20;
/** What an estimate may differ by. */
const FACTOR = 1.5;
const ROUNDS = 3;
/** Bytes a second of the test's line: slow enough to be measured on a mebibyte. */
const LINE = 32e6;
const DEFAULT_MODEL = new URL("../../../target/site/models/SmolLM2-135M-Instruct.Q4_1.gguf", import.meta.url);
const HUGE = { width: 8192, ffn: 28672, layers: 80, heads: 64, kvHeads: 8, type: "Q4_0" };

/** Of different shapes: many narrow layers with a large vocabulary; few wide ones, more than the probe takes; a small head. */
const MODELS = {
  "default.gguf": () => readFileSync(DEFAULT_MODEL),
  "wide.gguf": () => madeUpModel({ width: 1024, ffn: 2816, layers: 8, heads: 8, kvHeads: 8, type: "Q8_0", tokens: 16000 }),
  "deep.gguf": () => madeUpModel({ width: 512, ffn: 1536, layers: 32, heads: 8, kvHeads: 2, type: "Q4_0", contextLength: 131072 }),
};

const files = new Map();
/** What each answer sent, and was asked. */
let sent = [];
let server, browser, page;

before(async () => {
  const huge = madeUpHeader(HUGE);
  files.set("huge.gguf", { body: huge.head, bytes: huge.bytes });
  for (const [name, make] of Object.entries(MODELS)) {
    const body = make();
    files.set(name, { body, bytes: body.length });
  }
  server = await packageServer(SITE, { answer });
  browser = await launch();
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${server.site}/package/`);
  await page.waitForFunction(() => window.emberglass);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A line of {@link LINE} to the models; `whole` does not know ranges. Behind a header there may be nothing: zeros then. */
function answer(request, response) {
  const [, kind, name] = /^\/(ranges|whole)\/(.+)$/.exec(request.url) ?? [];
  const file = files.get(name);
  if (!file) return false;
  const range = /^bytes=(\d+)-(\d*)$/.exec((kind === "ranges" && request.headers.range) || "");
  const from = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]) + 1, file.bytes) : file.bytes;
  const isolated = { "cross-origin-resource-policy": "same-origin", "cache-control": "no-store", "content-length": end - from };
  if (range) response.writeHead(206, { ...isolated, "content-range": `bytes ${from}-${end - 1}/${file.bytes}` });
  else response.writeHead(200, isolated);
  const log = { range: request.headers.range, bytes: 0 };
  sent.push(log);
  const begun = performance.now();
  const more = () => {
    if (response.destroyed) return;
    const due = Math.min(end - from, ((performance.now() - begun) / 1000) * LINE + 1);
    if (due > log.bytes) {
      const [at, to] = [from + log.bytes, from + Math.floor(due)];
      const there = file.body.subarray(at, to);
      const piece = there.length === to - at ? there : Buffer.concat([there, Buffer.alloc(to - at - there.length)]);
      log.bytes = to - from;
      // Behind a full buffer the line waits, too.
      if (!response.write(piece) && log.bytes < end - from) return void response.once("drain", more);
    }
    if (log.bytes < end - from) setTimeout(more, 2);
    else response.end();
  };
  more();
  return true;
}

/** Asks in the page. */
function ask(name, options = {}, call = "canRun") {
  sent = [];
  return page.evaluate(
    async ([url, options, call]) => {
      const begun = performance.now();
      try {
        return { ...(await window.emberglass[call](url, { storage: "none", ...options })), askedMs: performance.now() - begun };
      } catch (error) {
        return { code: error.code, message: error.message };
      }
    },
    [`${server.site}/${name}`, options, call],
  );
}

/** Loads, and answers a prompt of 128 tokens. */
function run(name, options) {
  return page.evaluate(
    async ([url, options]) => {
      const begun = performance.now();
      const model = await window.emberglass.loadTextModel(url, { storage: "none", ...options });
      const loadSeconds = (performance.now() - begun) / 1000;
      const ids = await model.tokenize("the quick brown fox jumps over a lazy dog, and so on. ".repeat(20));
      const prompt = await model.detokenize(ids.slice(0, 128));
      // Ends of text, which a model of random weights may draw at any time.
      const logitBias = { 0: -1000, 2: -1000, 4: -1000 };
      const { stats, promptTokens, generatedTokens } = await model.generate(prompt, { maxTokens: 32, seed: 1, logitBias }).result;
      const { wasmHeapBytes } = model.info;
      await model.dispose();
      return { loadSeconds, firstTokenMs: stats.timeToFirstTokenMs, tokensPerSecond: stats.decodeTokensPerSecond, promptTokens, generatedTokens, wasmHeapBytes };
    },
    [`${server.site}/${name}`, options],
  );
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

/** Estimates and measurements in turn, so that what disturbs one disturbs the other. */
async function compare(name, options) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const told = await ask(name, options);
    assert.equal(told.fits, true, JSON.stringify(told));
    const real = await run(name, options);
    assert.ok(Math.abs(real.promptTokens - 128) <= 4 && real.generatedTokens >= 16, JSON.stringify(real));
    assert.ok(real.wasmHeapBytes >= told.deviceBytes, "the weights are in the wasm memory");
    rounds.push({ told: told.estimate, real });
  }
  const lines = ["tokensPerSecond", "firstTokenMs", "loadSeconds"].map((key) => {
    const [told, real] = [median(rounds.map(({ told }) => told[key])), median(rounds.map(({ real }) => real[key]))];
    return { key, told, real, factor: Math.max(told / real, real / told) };
  });
  console.log(name, lines.map(({ key, told, real, factor }) => `${key}: ${told?.toFixed(2)} for ${real.toFixed(2)} (×${factor.toFixed(2)})`).join(", "));
  return lines;
}

for (const name of Object.keys(MODELS)) {
  test(`estimates of ${name} are within a factor of ${FACTOR} of what is measured`, { timeout: PATIENCE }, async () => {
    const within = (lines) => lines.every(({ factor }) => factor <= FACTOR);
    let lines = await compare(`ranges/${name}`, { device: "cpu" });
    // Another program may have had the processor for one half of the rounds.
    if (!within(lines)) lines = await compare(`ranges/${name}`, { device: "cpu" });
    for (const { key, told, real, factor } of lines) {
      assert.ok(Number.isFinite(told) && told > 0, `${key}: ${told}`);
      assert.ok(factor <= FACTOR, `${key}: estimated ${told}, measured ${real}`);
    }
  });
}

test("the header is read by range, and no more of the file", { timeout: PATIENCE }, async () => {
  for (const [call, storage] of [["canRun", "none"], ["readModelHeader", "none"], ["canRun", "auto"], ["readModelHeader", "auto"]]) {
    const { bytes } = files.get("deep.gguf");
    const small = await ask("ranges/deep.gguf", { storage }, call);
    assert.equal(small.code, undefined, small.message);
    assert.deepEqual(sent.map(({ range }) => range), ["bytes=0-1048575"], call);
    assert.ok(sent[0].bytes <= MIB, call);
    if (call === "canRun") assert.deepEqual([small.downloadBytes, small.storedBytes], [bytes, 0]);

    // A vocabulary of more than a mebibyte takes a second piece.
    await ask("ranges/default.gguf", { storage }, call);
    const asked = sent.map(({ range }) => range);
    assert.deepEqual(asked, ["bytes=0-1048575", "bytes=1048576-2097151"], call);
    assert.ok(sent.every(({ bytes }) => bytes <= MIB));

    const whole = await ask("whole/deep.gguf", { storage }, call);
    assert.equal(whole.code, undefined, `a server without ranges: ${whole.message}`);
  }
});

test("threads are those of a load, and a page's own file has nothing to download", { timeout: PATIENCE }, async () => {
  const two = await ask("ranges/deep.gguf", { device: "cpu", threads: 2 });
  assert.deepEqual([two.device.threads, two.fits], [2, true]);
  const local = await page.evaluate(async (url) => {
    const blob = await (await fetch(url)).blob();
    const told = await window.emberglass.canRun(blob);
    const begun = performance.now();
    await (await window.emberglass.loadTextModel(blob)).dispose();
    return { ...told, reallySeconds: (performance.now() - begun) / 1000 };
  }, `${server.site}/ranges/deep.gguf`);
  assert.equal(local.downloadBytes, 0);
  console.log(`from a file: loadSeconds ${local.estimate.loadSeconds.toFixed(2)} for ${local.reallySeconds.toFixed(2)}`);
  assert.ok(local.estimate.loadSeconds > 0);
});

test("a model of 40 GB is refused by its header, at once, and nothing is filled", { timeout: PATIENCE }, async () => {
  const told = await ask("ranges/huge.gguf");
  assert.equal(told.fits, false);
  assert.equal(told.downloadBytes, files.get("huge.gguf").bytes);
  assert.ok(told.deviceBytes > 35e9, String(told.deviceBytes));
  assert.deepEqual(told.reasons.map(({ code }) => code), ["address-space"]);
  assert.match(told.reasons[0].message, /takes 3\d\.?\d? GB of WebAssembly memory, which has at most 4\.29 GB\..*What helps: a file of the model with fewer bits/);
  assert.deepEqual(told.estimate, { tokensPerSecond: null, firstTokenMs: null, loadSeconds: null });
  assert.deepEqual(sent.map(({ range }) => range), ["bytes=0-1048575"]);
  // Reading, starting the engine and answering, on a busy machine; filling such memory would take far longer.
  assert.ok(told.askedMs < 5000, `${told.askedMs} ms`);
});

test("a load of it is refused as well, at once, and what is loaded goes on", { timeout: PATIENCE }, async () => {
  sent = [];
  const seen = await page.evaluate(
    async ([small, huge]) => {
      const options = { storage: "none", device: "cpu", threads: 1 };
      const model = await window.emberglass.loadTextModel(small, options);
      const begun = performance.now();
      const refused = await window.emberglass.loadTextModel(huge, options).then(
        () => ({}),
        ({ code, message }) => ({ code, message }),
      );
      const refusedMs = performance.now() - begun;
      const { generatedTokens } = await model.generate("a b c", { maxTokens: 4, seed: 1 }).result;
      await model.dispose();
      return { ...refused, refusedMs, generatedTokens };
    },
    [`${server.site}/ranges/deep.gguf`, `${server.site}/ranges/huge.gguf`],
  );
  assert.equal(seen.code, "out-of-memory", seen.message);
  assert.match(seen.message, /takes 3\d\.\d GB of memory, of which there is at most 4\.29 GB\. Of it the cache for a context of 2048 tokens takes 671 MB \(f16\)\. What helps: a file of the model with fewer bits/);
  assert.ok(seen.refusedMs < 5000, `${seen.refusedMs} ms`);
  assert.ok(sent.at(-1).bytes < 32 * MIB, `${sent.at(-1).bytes} bytes of a file that cannot be loaded`);
  assert.ok(seen.generatedTokens > 0);
});

test("a context that is too long is refused with what it takes, and with a context that fits", { timeout: PATIENCE }, async () => {
  const f32 = { contextLength: 131072, kvCache: "f32", device: "cpu" };
  const told = await ask("ranges/deep.gguf", f32);
  assert.equal(told.fits, false);
  const [, most] = /the cache for a context of 131072 tokens takes 4\.29 GB \(f32\)\. What helps: kvCache: "q8_0" \(3\.09 GB less\), or a contextLength of at most (\d+),/.exec(told.reasons[0].message) ?? [];
  assert.ok(most, told.reasons[0].message);
  assert.equal(told.contextBytesPerToken, 32 * 2 * 2 * 64 * 4);
  for (const helped of [{ ...f32, contextLength: Number(most) }, { ...f32, kvCache: "q8_0" }]) {
    assert.equal((await ask("ranges/deep.gguf", helped)).fits, true, JSON.stringify(helped));
  }
});

test("what a load refuses for another reason is its error", { timeout: PATIENCE }, async () => {
  files.set("zip.gguf", { body: Buffer.from("PK\x03\x04".padEnd(5000)), bytes: 5000 });
  assert.equal((await ask("ranges/zip.gguf")).code, "not-gguf");
  assert.equal((await ask("ranges/deep.gguf", { contextLength: 131073 })).code, "invalid-option");
  const [asked, loaded] = [await ask("ranges/deep.gguf", { device: "webgpu" }), await ask("ranges/deep.gguf", { device: "webgpu" }, "loadTextModel")];
  assert.ok(asked.code, "this Chromium offers no adapter");
  assert.equal(asked.code, loaded.code);
  assert.equal((await ask("nowhere.gguf")).code, "http-status");
});
