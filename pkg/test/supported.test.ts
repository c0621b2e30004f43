import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { hasRelaxedSimd } from "../src/simd.js";
import { supported } from "../src/supported.js";

function withGlobals(t: TestContext, globals: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
}

/** Node.js has no web workers, and a browser has. */
function inBrowser(t: TestContext, globals: Record<string, unknown>): void {
  withGlobals(t, { Worker: class {}, ...globals });
}

const adapter = { gpu: { requestAdapter: async () => ({}) } };

test("no navigator.gpu: usable all the same", async (t) => {
  inBrowser(t, { navigator: {} });
  assert.deepEqual(await supported(), {
    simd: true,
    webgpu: false,
    relaxedSimd: hasRelaxedSimd(),
    threads: false,
    code: "no-webgpu",
    reason: "this browser has no WebGPU",
  });
});

test("no adapter", async (t) => {
  inBrowser(t, { navigator: { gpu: { requestAdapter: async () => null } } });
  const support = await supported();
  assert.equal(support.code, "no-adapter");
  assert.equal(support.simd, true);
});

test("an adapter request that throws is reported, not thrown", async (t) => {
  inBrowser(t, { navigator: { gpu: { requestAdapter: async () => Promise.reject(new Error("blocked by policy")) } } });
  const support = await supported();
  assert.equal(support.webgpu, false);
  assert.match(support.reason ?? "", /blocked by policy/);
});

test("an adapter request that is never answered does not hold up the page", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  inBrowser(t, { navigator: { gpu: { requestAdapter: () => new Promise(() => {}) } } });
  const asked = supported();
  t.mock.timers.tick(10_000);
  const support = await asked;
  assert.deepEqual([support.code, support.webgpu, support.simd], ["no-adapter", false, true]);
  assert.match(support.reason ?? "", /did not answer within 10 seconds/);
});

test("an adapter, on a page that may share memory", async (t) => {
  inBrowser(t, { navigator: adapter, crossOriginIsolated: true });
  const { webgpu, threads, ...rest } = await supported();
  assert.deepEqual([webgpu, threads], [true, true]);
  assert.equal("code" in rest || "reason" in rest, false);
});

test("no SIMD is what is said first: nothing else helps", async (t) => {
  inBrowser(t, { navigator: {} });
  t.mock.method(WebAssembly, "validate", () => false);
  const support = await supported();
  assert.equal(support.simd, false);
  assert.equal(support.relaxedSimd, false);
  assert.equal(support.code, "no-simd");
});

test("where there are no workers, nothing can be loaded, and importing the package is no error", async (t) => {
  const onServer = await supported();
  assert.deepEqual([onServer.simd, onServer.webgpu, onServer.code], [false, false, "no-worker"]);
  assert.match(onServer.reason ?? "", /Node\.js/);
  class ServiceWorkerGlobalScope {
    static [Symbol.hasInstance] = () => true;
  }
  withGlobals(t, { Worker: class {}, ServiceWorkerGlobalScope });
  const inService = await supported();
  assert.deepEqual([inService.simd, inService.code], [false, "no-worker"]);
  assert.match(inService.reason ?? "", /service worker/);
});
