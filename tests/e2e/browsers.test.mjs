// Browsers that lack something: the page still works, as long as there is any SIMD at all.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, PATIENCE, PLAIN_SITE, prefaceWorkers, SITE, WEBGPU } from "./harness.mjs";

const FRANCE = "What is the capital of France?";
// Browsers hide navigator.gpu from pages that came over plain http from elsewhere, and share no memory there.
const INSECURE = "emberglass.test";

test("no relaxed SIMD: the other build runs, and only that is fetched", { timeout: PATIENCE }, () =>
  visit({}, async (chat) => {
    await withoutRelaxedSimd(chat.page);
    // What the page had looked up before is not meant.
    await chat.page.reload();
    await chat.page.waitForLoadState("load");
    chat.requests.length = 0;
    await chat.load();
    assert.match(await chat.status(), /CPU · SIMD · /);
    await answers(chat);
    assert.equal(new Set(chat.requests.filter((url) => url.endsWith(".wasm"))).size, 1);
  }));

test("no WebGPU at all, and no shared memory: one thread, and the note says what would help", { timeout: PATIENCE }, () =>
  visit({ flags: [...WEBGPU, `--host-resolver-rules=MAP ${INSECURE} 127.0.0.1`], site: SITE.replace("localhost", INSECURE) }, async (chat) => {
    await chat.set({ threads: 4 });
    await chat.load();
    assert.match(await chat.status(), /CPU · relaxed SIMD · 1 thread /);
    const note = await chat.why();
    assert.match(note, /no WebGPU/);
    assert.match(note, /over https/);
    assert.match(note, /4 threads were asked for/);
    await answers(chat);
  }));

test("a plain static host: one thread, without complaint", { timeout: PATIENCE }, () =>
  visit({ site: PLAIN_SITE }, async (chat) => {
    assert.equal(await chat.page.evaluate(() => crossOriginIsolated), false);
    await chat.load();
    assert.match(await chat.status(), /CPU · relaxed SIMD · 1 thread /);
    await answers(chat);
  }));

/** A software adapter takes long to compile them. */
const skip = process.env.EMBERGLASS_EXHAUSTIVE ? false : "only with --exhaustive";
test("no asynchronous pipelines: they are made one after the other", { timeout: PATIENCE, skip }, () =>
  visit({ flags: WEBGPU, path: "/?device=webgpu" }, async (chat) => {
    await prefaceWorkers(chat.page, () => {
      const { prototype } = GPUDevice;
      const { createComputePipeline } = prototype;
      self.made = 0;
      delete prototype.createComputePipelineAsync;
      prototype.createComputePipeline = function (descriptor) {
        self.made += 1;
        return createComputePipeline.call(this, descriptor);
      };
    });
    // That its kernels compute what the CPU does is part of loading.
    await chat.load();
    assert.match(await chat.status(), /WebGPU · /);
    assert.ok((await chat.page.workers()[0].evaluate(() => self.made)) >= 10);
  }));

// What a browser never answers has a limit of half a minute or more, which passes at once here.
test("a request for an adapter that is never answered: the CPU computes, and the note says why", { timeout: PATIENCE }, () =>
  visit({}, async (chat) => {
    await prefaceWorkers(chat.page, () => {
      Object.defineProperty(navigator, "gpu", { value: { requestAdapter: () => self.neverAnswered() } });
    });
    await chat.load();
    assert.match(await chat.status(), /CPU · /);
    assert.match(await chat.why(), /did not answer the request for a graphics adapter within 30 seconds/);
  }));

test("a request for a device that is never answered: the CPU computes, and the note says why", { timeout: PATIENCE }, () =>
  visit({ flags: WEBGPU }, async (chat) => {
    await prefaceWorkers(chat.page, () => {
      GPUAdapter.prototype.requestDevice = () => self.neverAnswered();
    });
    await chat.load();
    assert.match(await chat.status(), /CPU · /);
    assert.match(await chat.why(), /did not answer the request for a device within 30 seconds/);
  }));

test("kernels that are never compiled: loading fails by name", { timeout: PATIENCE }, () =>
  visit({ flags: WEBGPU, path: "/?device=webgpu" }, async (chat) => {
    await prefaceWorkers(chat.page, () => {
      // The limit of a pipeline passes at once, and no other.
      const { setTimeout } = self;
      self.setTimeout = (then, ms) => setTimeout(then, ms > 100_000 && ms <= 120_000 ? 0 : ms);
      GPUDevice.prototype.createComputePipelineAsync = () => new Promise(() => {});
    });
    await chat.get("load-button").click();
    assert.equal(await chat.errorCode(), "device-lost");
    assert.match(await chat.get("error").textContent(), /did not compile the kernel \S+ within 120 seconds/);
  }));

test("no SIMD: the page says so, and what to do", { timeout: PATIENCE }, () =>
  // Wasm's SIMD takes SSE 4.1. Other processors have no such switch.
  visit({ flags: ["--js-flags=--no-enable-sse4-1"] }, async (chat) => {
    await chat.get("unusable").waitFor();
    const text = await chat.get("unusable").innerText();
    assert.match(text, /no-simd/);
    assert.match(text, /What you can do/);
    assert.equal(await chat.get("load-button").count(), 0);
    assert.equal(await chat.get("composer").isVisible(), false);
    await chat.screenshot("no-simd");
  }));

async function visit({ flags, site, path }, see) {
  const browser = await launch(flags);
  try {
    const chat = await openPage(browser, { ...(site ? { site } : {}), ...(path ? { path } : {}) });
    await see(chat);
    // What Chromium says of the headers for shared memory on a page that is not secure.
    const expected = /Cross-Origin-Opener-Policy header has been ignored/;
    assert.deepEqual(chat.complaints.filter((text) => !expected.test(text)), []);
    chat.assertNoStrangers();
  } finally {
    await browser.close();
  }
}

async function answers(chat) {
  await chat.set({ temperature: 0, maxTokens: 24 });
  assert.match(await chat.ask(FRANCE), /Paris/);
}

/**
 * Chromium has no switch for relaxed SIMD any more, so its worker is told that such modules are not
 * valid. wasm-opt has made sure that the build it then takes has no such instruction.
 */
async function withoutRelaxedSimd(page) {
  const refuse = () => {
    const { validate } = WebAssembly;
    // 0xfd, then an opcode from 0x100 to 0x113 as LEB128.
    const isRelaxed = (bytes) => bytes.some((byte, i) => byte === 0xfd && bytes[i + 1] >= 0x80 && bytes[i + 1] <= 0x93 && bytes[i + 2] === 0x02);
    WebAssembly.validate = (bytes) => !isRelaxed(bytes) && validate(bytes);
  };
  await prefaceWorkers(page, refuse);
}
