import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { rememberedKernels, rememberKernels } from "../src/remembered-kernels.js";
import { askForSubgroups } from "../src/subgroups.js";
import type { WasmLoadOptions } from "../src/wasm-surface.js";
import { DEVICE } from "./fake-engine.js";
import { load, rejects } from "./harness.js";

const scope = globalThis as { localStorage?: unknown };
let items: Map<string, string>;

beforeEach(() => {
  items = new Map();
  const storage = { getItem: (key: string) => items.get(key) ?? null, setItem: (key: string, text: string) => void items.set(key, text) };
  Object.defineProperty(scope, "localStorage", { value: storage, configurable: true, writable: true });
});

afterEach(() => {
  delete scope.localStorage;
});

const GPU = { ...DEVICE, kind: "webgpu" as const, kernels: "lanes8+pairs1/memory", kernelsKey: "an adapter 32 576x576Q4_1" };

test("what one load chose reaches the next; pinned kernels reach the engine and are not remembered", async () => {
  const seen: WasmLoadOptions[] = [];
  const engine = { load: async (_s: unknown, _p: unknown, _a: unknown, given: WasmLoadOptions) => (seen.push(given), { device: GPU }) };
  await load(engine as never, { kernels: "lanes4+pairs1/rows" });
  assert.equal(seen[0]?.kernels, "lanes4+pairs1/rows");
  assert.equal(items.size, 0);
  await load(engine as never);
  assert.equal(seen[1]?.rememberedKernels, undefined);
  await load(engine as never);
  assert.deepEqual(seen[2]?.rememberedKernels, { [GPU.kernelsKey]: GPU.kernels });
  assert.match((await rejects(load({}, { kernels: 7 } as never), "invalid-option")).message, /kernels/);
});

test("storage that is full, forbidden or written by somebody else stops nothing", () => {
  for (const text of ["", "nonsense", "null", "[1]", '{"a":1}', JSON.stringify({ a: "x".repeat(5000) })]) {
    items.set("emberglass-kernels", text);
    assert.equal(rememberedKernels(), undefined, text);
  }
  for (let i = 0; i < 40; i++) rememberKernels({ ...GPU, kernelsKey: `adapter ${i}` });
  const kept = Object.keys(rememberedKernels() ?? {});
  assert.equal(kept.length, 16);
  assert.equal(kept.at(-1), "adapter 39");
  Object.defineProperty(scope, "localStorage", { get: () => { throw new Error("forbidden"); }, configurable: true });
  assert.equal(rememberedKernels(), undefined);
  rememberKernels(GPU);
});

test("subgroups are asked for where the adapter has them, beside what is asked for anyway", async () => {
  const asked: unknown[] = [];
  class GPUAdapter {
    constructor(readonly features: Set<string>) {}
    async requestDevice(wishes?: { requiredFeatures?: Iterable<string> }) {
      asked.push([this.features.size, [...(wishes?.requiredFeatures ?? [])]]);
    }
  }
  askForSubgroups({ GPUAdapter });
  await new GPUAdapter(new Set()).requestDevice({ requiredFeatures: ["shader-f16"] });
  await new GPUAdapter(new Set(["subgroups"])).requestDevice();
  await new GPUAdapter(new Set(["subgroups", "x"])).requestDevice({ requiredFeatures: ["shader-f16"] });
  assert.deepEqual(asked, [[0, ["shader-f16"]], [1, ["subgroups"]], [2, ["shader-f16", "subgroups"]]]);
  askForSubgroups({});
});
