// What may befall threads: a helper that dies in the middle of an answer, shared memory that is refused. The answer goes on, with
// the same text, or ends with a code; what was said stays, and the next load works. Memory that ends too soon is an error with a code.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const WORKER = "**/package/dist/emberglass-worker.js";
const TOKENS = 1500;
/** Some seconds for an answer, of which a helper has its share. */
const SLOW = tinyModel({ contextLength: 2048, ffn: 4096 });

let browser, server, expected;

before(async () => {
  browser = await launch();
  server = await packageServer(SITE, {
    answer(request, response) {
      if (request.url !== "/package/slow.gguf") return false;
      response.writeHead(200, { "content-type": "application/octet-stream" }).end(SLOW);
      return true;
    },
  });
  const alone = await open();
  const answer = await alone.evaluate(async () => {
    const model = await load({ threads: 1 });
    return model.generate("a", GREEDY).result;
  });
  assert.equal(answer.generatedTokens, TOKENS);
  expected = answer.text;
  await alone.context().close();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A page with the package. `page` runs in it first, `worker` in each of its workers. */
async function open({ page: first = () => {}, worker = () => {} } = {}) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.addInitScript(first);
  await page.route(WORKER, async (route) => {
    const reply = await route.fetch();
    await route.fulfill({ response: reply, body: `(${worker})();\n${await reply.text()}` });
  });
  await page.goto(`${server.site}/package/`);
  await page.waitForFunction(() => window.emberglass, undefined, { polling: 100 });
  await page.evaluate((tokens) => {
    window.GREEDY = { temperature: 0, maxTokens: tokens };
    window.load = (options) => emberglass.loadTextModel("slow.gguf", { device: "cpu", contextLength: 2048, ...options });
    /** Begins an answer, and resolves in the middle of it. */
    window.begin = async (options) => {
      window.model = await load(options);
      window.generation = model.generate("a", GREEDY);
      window.outcome = generation.result.then(
        ({ text, generatedTokens }) => ({ text, generatedTokens }),
        ({ name, code, message }) => ({ name, code, message, text: generation.text }),
      );
      while (generation.text.length < 20) await new Promise((resolve) => setTimeout(resolve, 1));
    };
  }, TOKENS);
  return page;
}

/** What came of the answer: all of its text, or a code and the beginning of it. And the next load answers in full. */
async function outcome(page) {
  const { code, name, message, text, generatedTokens } = await page.evaluate(() => window.outcome);
  if (code === undefined) {
    assert.equal(text, expected);
    assert.equal(generatedTokens, TOKENS);
  } else {
    assert.equal(name, "EmberglassError", message);
    assert.equal(code, "worker-failed", message);
    assert.ok(text.length >= 20 && expected.startsWith(text), "what was said is the beginning of the answer, and stays");
  }
  const again = await page.evaluate(async () => {
    await model.dispose();
    const next = await load({ threads: 2 });
    const { text } = await next.generate("a", GREEDY).result;
    await next.dispose();
    return text;
  });
  assert.equal(again, expected);
  return code;
}

/** Runs in the page: keeps its workers, the engine's first, and gives helpers a word of shared memory. */
function keepWorkers() {
  window.workers = [];
  window.doom = new Int32Array(new SharedArrayBuffer(4));
  const Original = Worker;
  window.Worker = class extends Original {
    constructor(...args) {
      super(...args);
      window.workers.push(this);
    }
    postMessage(message, ...more) {
      super.postMessage(message?.verb === "help" ? { ...message, doom: window.doom } : message, ...more);
    }
  };
}

/** Runs in a worker: a helper throws instead of waiting for work once the page has set that word. */
function dieWhenTold() {
  const { wait } = Atomics;
  let doom;
  addEventListener("message", ({ data }) => (doom ??= data?.doom));
  Atomics.wait = (...args) => {
    if (doom && Atomics.load(doom, 0) === 1) throw new Error("made to die");
    return wait.apply(Atomics, args);
  };
}

test("a helper that vanishes without a word in the middle of an answer", { timeout: PATIENCE }, async () => {
  const page = await open({ page: keepWorkers });
  const { threads, said } = await page.evaluate(async () => {
    await begin({ threads: 2 });
    workers[1].terminate();
    return { threads: model.info.device.threads, said: generation.text.length };
  });
  assert.equal(threads, 2);
  console.log(`after ${said} of ${expected.length} characters: ${(await outcome(page)) ?? "the whole answer"}`);
  await page.context().close();
});

test("a helper that vanishes while a long prompt is read", { timeout: PATIENCE }, async () => {
  const page = await open({ page: keepWorkers });
  const read = (threads, vanishes) =>
    page.evaluate(
      async ([threads, vanishes]) => {
        workers.length = 0;
        window.model = await load({ threads });
        const reading = model.generate("abcdefgh".repeat(240), { ...GREEDY, maxTokens: 4 }).result;
        // In the midst of its work, more likely than not.
        if (vanishes) setTimeout(() => workers[1].terminate(), 30);
        try {
          const { text, promptTokens } = await reading;
          return { text, promptTokens };
        } catch ({ name, code, message }) {
          return { name, code, message };
        } finally {
          await model.dispose();
        }
      },
      [threads, vanishes],
    );
  const alone = await read(1, false);
  assert.ok(alone.promptTokens > 1900, `${alone.promptTokens} tokens`);
  const { text, code, message } = await read(2, true);
  if (code === undefined) assert.equal(text, alone.text);
  else assert.equal(code, "worker-failed", message);
  console.log(`ends with ${code ?? "the whole answer"}`);
  assert.equal((await read(2, false)).text, alone.text, "and the next load works");
  await page.context().close();
});

test("a helper that stops on a fault in the middle of an answer", { timeout: PATIENCE }, async () => {
  const page = await open({ page: keepWorkers, worker: dieWhenTold });
  await page.evaluate(async () => {
    await begin({ threads: 2 });
    Atomics.store(doom, 0, 1);
    await outcome;
    Atomics.store(doom, 0, 0);
  });
  console.log(`ends with ${(await outcome(page)) ?? "the whole answer"}`);
  await page.context().close();
});

test("a page without SharedArrayBuffer has one thread, and says why", { timeout: PATIENCE }, async () => {
  const withhold = () => delete globalThis.SharedArrayBuffer;
  const page = await open({ page: withhold, worker: withhold });
  const { threads, reason } = await page.evaluate(async () => {
    await begin({ threads: 2 });
    return model.info.device;
  });
  assert.equal(threads, 1);
  assert.match(reason, /2 threads were asked for, but the page has no shared memory/);
  const { text } = await page.evaluate(() => window.outcome);
  assert.equal(text, expected);
  await page.context().close();
});

/** Runs in a worker: the browser reserves less than the engine asks for first. */
function refuseLargeMemory() {
  const { Memory } = WebAssembly;
  WebAssembly.Memory = function (descriptor) {
    if (descriptor.maximum > 16_384) throw new RangeError("made to refuse so much");
    return new Memory(descriptor);
  };
}

/** Runs in a worker: memory ends soon after what it starts with, whatever was asked for. */
function endMemorySoon() {
  const { Memory } = WebAssembly;
  WebAssembly.Memory = function (descriptor) {
    return new Memory({ ...descriptor, maximum: descriptor.initial + 64 });
  };
}

test("a browser that reserves less memory than is asked for gives threads all the same", { timeout: PATIENCE }, async () => {
  const page = await open({ worker: refuseLargeMemory });
  await page.evaluate(() => begin({ threads: 2 }));
  assert.equal(await page.evaluate(() => model.info.device.threads), 2);
  assert.equal(await outcome(page), undefined, "the whole answer");
  await page.context().close();
});

test("memory that cannot grow is an error of its own, and the next load works", { timeout: PATIENCE }, async () => {
  const page = await open({ worker: endMemorySoon });
  const code = await page.evaluate(() => load({ threads: 2 }).then(() => "loaded", ({ code }) => code));
  assert.equal(code, "out-of-memory");
  await page.unroute(WORKER);
  const text = await page.evaluate(async () => {
    const model = await load({ threads: 2 });
    const { text } = await model.generate("a", GREEDY).result;
    await model.dispose();
    return text;
  });
  assert.equal(text, expected);
  await page.context().close();
});
