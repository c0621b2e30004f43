import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { supported } from "../src/supported.js";

function withNavigator(t: TestContext, navigator: object): void {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  });
}

test("no navigator.gpu", async (t) => {
  withNavigator(t, {});
  assert.deepEqual(await supported(), { webgpu: false, code: "no-webgpu", reason: "this browser has no WebGPU" });
});

test("no adapter", async (t) => {
  withNavigator(t, { gpu: { requestAdapter: async () => null } });
  assert.equal((await supported()).code, "no-adapter");
});

test("an adapter request that throws is reported, not thrown", async (t) => {
  withNavigator(t, { gpu: { requestAdapter: async () => Promise.reject(new Error("blocked by policy")) } });
  const support = await supported();
  assert.equal(support.webgpu, false);
  assert.match(support.reason ?? "", /blocked by policy/);
});

test("an adapter", async (t) => {
  withNavigator(t, { gpu: { requestAdapter: async () => ({}) } });
  assert.deepEqual(await supported(), { webgpu: true });
});
