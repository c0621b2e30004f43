// Helper threads in a browser: instances of the engine's module on its memory, which compute with it, die, or do not start.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

let browser, server;

before(async () => {
  browser = await launch();
  // Large enough that its products are cut into chunks.
  const model = tinyModel({ ffn: 8192 });
  server = await packageServer(SITE, {
    answer(request, response) {
      if (request.url !== "/package/wide.gguf") return false;
      response.writeHead(200, { "content-type": "application/octet-stream" }).end(model);
      return true;
    },
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Runs in the page. The `most` workers that may be made are the engine's and helpers'; the first helper dies at piece `death`. */
async function answer({ threads, most, death }) {
  const { Worker } = window;
  const made = [];
  window.Worker = class extends Worker {
    constructor(...given) {
      if (made.length >= most) throw new Error("refused by the test");
      super(...given);
      made.push(this);
    }
  };
  try {
    const model = await window.emberglass.loadTextModel("wide.gguf", { device: "cpu", threads, contextLength: 256 });
    const { device } = model.info;
    let [text, pieces] = ["", 0];
    for await (const piece of model.generate("a b c d e", { maxTokens: 160, temperature: 0 })) {
      text += piece;
      // As browsers report it when a worker runs out of memory.
      if (++pieces === death) made[1].dispatchEvent(new ErrorEvent("error", { message: "killed by the test", cancelable: true }));
    }
    await model.dispose();
    return { text, pieces, threads: device.threads, reason: device.reason };
  } finally {
    window.Worker = Worker;
  }
}

async function inPage(use) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const warnings = [];
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await page.goto(`${server.site}/package/`);
    await page.waitForFunction(() => window.emberglass);
    await use((options) => page.evaluate(answer, { most: 99, death: -1, ...options }), warnings);
  } finally {
    await context.close();
  }
}

test("the answer is the same, whoever computes it", { timeout: PATIENCE }, () =>
  inPage(async (ask, warnings) => {
    const alone = await ask({ threads: 1 });
    assert.equal(alone.pieces, 160);
    for (const threads of [2, 3, 6]) {
      const together = await ask({ threads });
      assert.equal(together.threads, threads);
      assert.equal(together.text, alone.text);
    }
    assert.deepEqual(warnings, []);
  }));

test("a helper that dies amid an answer: the answer goes on, and the page says so", { timeout: PATIENCE }, () =>
  inPage(async (ask, warnings) => {
    const alone = await ask({ threads: 1 });
    for (const threads of [2, 3]) {
      const left = await ask({ threads, death: 20 });
      assert.equal(left.text, alone.text);
    }
    const told = "emberglass: a helper thread stopped (killed by the test); the other threads do its work from now on";
    assert.deepEqual(warnings, [told, told]);
  }));

test("helpers that cannot be started: the others compute, and the reason is told", { timeout: PATIENCE }, () =>
  inPage(async (ask) => {
    const some = await ask({ threads: 4, most: 3 });
    assert.equal(some.threads, 3);
    assert.match(some.reason, /1 of 3 helper workers could not start \(.*refused by the test.*\)\./);
    const none = await ask({ threads: 4, most: 1 });
    assert.equal(none.threads, 1);
    assert.match(none.reason, /One thread only: the helper workers could not start \(.*refused by the test.*\)\./);
    assert.equal(none.text, some.text);
  }));
