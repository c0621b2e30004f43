import assert from "node:assert/strict";
import { test } from "node:test";
import { threadCount } from "../src/threads.js";
import { openTextModel } from "../src/load.js";
import type { LoadOptions } from "../src/types.js";
import type { WasmLoadOptions } from "../src/wasm-surface.js";
import { DEVICE } from "./fake-engine.js";
import { load, rejects } from "./harness.js";

/** Loads, and returns what reached the engine. */
async function reached(options: LoadOptions, cores = { cores: 4, canShare: true }): Promise<WasmLoadOptions> {
  let seen: WasmLoadOptions | undefined;
  await load({ cores, load: async (_source, _progress, _signal, given) => void (seen = given) }, options);
  assert.ok(seen);
  return seen;
}

test("device, threads, drafts, context length and the cache's type reach the engine; left out, they are not there at all", async () => {
  const options = { device: "cpu", threads: 3, draftTokens: 7, contextLength: 512, kvCache: "q8_0" } as const;
  const { spawnHelpers, mostMemoryBytes, network: _network, ...given } = await reached(options);
  assert.equal(typeof spawnHelpers, "function");
  assert.equal(mostMemoryBytes, 2 ** 32);
  assert.deepEqual(given, options);
  assert.equal((await reached({ draftTokens: 0 })).draftTokens, 0);
  const { spawnHelpers: _, network: __, mostMemoryBytes: ___, ...rest } = await reached({ device: undefined as never });
  assert.deepEqual(rest, { threads: 4, startThreads: 3 });
});

test("a thread count that is none is refused before a worker starts", async () => {
  for (const threads of [0, 1.5, 33, NaN, "2", null]) {
    const opening = openTextModel("https://e.test/m", { threads } as never, () => assert.fail("a worker"));
    assert.match((await rejects(opening, "invalid-option")).message, /^option threads = .* is not a whole number from 1 to 32$/);
  }
});

test("a model's defaults of sampling reach the engine; what is none is refused before a worker starts", async () => {
  assert.deepEqual((await reached({ sampling: { temperature: 0.2, topP: 0.9, topK: undefined as never } })).sampling, { temperature: 0.2, topP: 0.9 });
  assert.ok(!("sampling" in (await reached({ sampling: undefined as never }))));
  for (const [sampling, named] of [[{ top_p: 0.9 }, "top_p"], [{ seed: 1 }, "seed"], [{ temperature: "hot" }, "temperature"], [null, "sampling"], [0.2, "sampling"]] as const) {
    assert.match((await rejects(load({}, { sampling } as never), "invalid-option")).message, new RegExp(named));
  }
});

test("threads: up to one for each core, at most 8, one less at first, and one where memory cannot be shared", () => {
  const shared = (cores: number) => ({ cores, canShare: true });
  const byDefault = [0, 1, 2, 3, 8, 9, 32].map((cores) => threadCount(undefined, shared(cores)));
  assert.deepEqual(byDefault.map(({ threads }) => threads), [1, 1, 2, 3, 8, 8, 8]);
  assert.deepEqual(byDefault.map(({ startThreads }) => startThreads), [1, 1, 1, 2, 7, 8, 8]);
  assert.match(threadCount(undefined, shared(4)).note, /by default: up to 4, of 4 cores/);
  assert.deepEqual(threadCount(12, shared(2)), { threads: 12, note: "" });
  const alone = { cores: 32, canShare: false };
  assert.deepEqual(threadCount(undefined, alone), { threads: 1, note: "" });
  assert.deepEqual(threadCount(1, alone), { threads: 1, note: "" });
  assert.equal(threadCount(4, alone).threads, 1);
  assert.match(threadCount(4, alone).note, /4 threads.*not cross-origin isolated/);
});

test("asking for threads that cannot be: one runs, and the reason says so, on the CPU only", async () => {
  const cpu = await load({}, { threads: 4 });
  assert.match(cpu.model.info.device.reason, /^It was asked for\. 4 threads .*there is one\.$/);
  const gpu = await load({ load: async () => ({ device: { ...DEVICE, kind: "webgpu" } }) }, { threads: 4 });
  assert.equal(gpu.model.info.device.reason, "It was asked for.");
  assert.equal(gpu.model.info.device.kind, "webgpu");
});

test("the build follows what the browser has", async () => {
  for (const level of ["simd128", "relaxed"] as const) {
    let started: string | undefined;
    await load({ simdLevel: () => level, start: async (given) => void (started = given) });
    assert.equal(started, level);
  }
});

test("without SIMD nothing is loaded, and the message says what to do", async () => {
  let started = false;
  const script = { simdLevel: () => undefined, start: async () => void (started = true) };
  for (const device of ["auto", "webgpu", "cpu"] as const) {
    const error = await rejects(load(script, { device }), "no-simd");
    assert.match(error.message, /Chrome.*Firefox.*Safari/);
  }
  assert.equal(started, false);
});
