import assert from "node:assert/strict";
import { test } from "node:test";
import { answerOf, type Surroundings } from "../src/can-run.js";
import { openCanRun, openModelHeader } from "../src/load.js";
import type { ModelHeader } from "../src/types.js";
import type { WasmCanRunReport } from "../src/wasm-surface.js";
import { DEVICE, FakeWorker } from "./fake-engine.js";
import { rejects } from "./harness.js";

const HEADER = { name: "fake", kvBytes: 3_000_000_000, contextLength: 131_072, kvCache: "f16" } as ModelHeader;
const REPORT: WasmCanRunReport = {
  header: HEADER,
  device: DEVICE,
  fileBytes: 1_000_000,
  deviceBytes: 2_000_000,
  contextBytesPerToken: 22_888,
  smallestKvBytes: 1_687_500_000,
  cpuFits: true,
  times: { tokenMs: 20, firstTokenMs: 400, fillMs: 300, prepareMs: 200 },
};
const AROUND: Surroundings = { startMs: 100, storedBytes: 0, isLocal: false, bytesPerSecond: 1_000_000 };

/** The message of a refusal. */
function refused(refusal: WasmCanRunReport["refusal"] & {}, more: Partial<WasmCanRunReport> = {}): string {
  const { times: _, ...report } = REPORT;
  const answer = answerOf({ ...report, ...more, refusal }, AROUND);
  assert.equal(answer.fits, false);
  assert.deepEqual(answer.estimate, { tokensPerSecond: null, firstTokenMs: null, loadSeconds: null });
  assert.deepEqual(answer.reasons.map(({ code }) => code), [refusal.code]);
  return answer.reasons[0]!.message;
}

test("what fits has estimates and no reasons", () => {
  const { fits, reasons, estimate, downloadBytes, deviceBytes } = answerOf(REPORT, AROUND);
  assert.deepEqual({ fits, reasons, downloadBytes, deviceBytes }, { fits: true, reasons: [], downloadBytes: 1_000_000, deviceBytes: 2_000_000 });
  assert.deepEqual(estimate, { tokensPerSecond: 50, firstTokenMs: 400, loadSeconds: 1.3 });
});

test("what is stored is not downloaded, and what is packed while it arrives counts once", () => {
  const half = answerOf(REPORT, { ...AROUND, storedBytes: 900_000 });
  assert.deepEqual([half.downloadBytes, half.storedBytes, half.estimate.loadSeconds], [100_000, 900_000, 0.6]);
  const local = answerOf(REPORT, { ...AROUND, isLocal: true, bytesPerSecond: null });
  assert.deepEqual([local.downloadBytes, local.estimate.loadSeconds], [0, 0.6]);
});

test("a line of unknown rate leaves the time of a load open, and a clock that stood still each estimate", () => {
  assert.equal(answerOf(REPORT, { ...AROUND, bytesPerSecond: null }).estimate.loadSeconds, null);
  const still = { ...REPORT, times: { tokenMs: 0, firstTokenMs: 0, fillMs: 0, prepareMs: 0 } };
  const { estimate } = answerOf(still, { ...AROUND, startMs: 0, isLocal: true });
  assert.deepEqual(estimate, { tokensPerSecond: null, firstTokenMs: null, loadSeconds: null });
});

test("a refusal says how much is needed and allowed, what the cache takes of it, and what helps", () => {
  const context = refused({ code: "address-space", needed: 5_000_000_000, allowed: 4_294_967_296 });
  assert.equal(
    context,
    "The model takes 5 GB of WebAssembly memory, which has at most 4.29 GB. Of it the cache for a context of 131072 tokens takes 3 GB (f16). " +
      'What helps: kvCache: "q8_0" (1.31 GB less), or a contextLength of at most 100096, or a GPU (device: "auto").',
  );
  const weights = refused({ code: "address-space", needed: 30_000_000_000, allowed: 4_294_967_296 }, { device: { ...DEVICE, choice: "no-webgpu" } });
  assert.match(weights, /takes 30 GB/);
  assert.match(weights, /What helps: a file of the model with fewer bits a weight \(such as Q4_K_M\), or a smaller model\.$/);
});

test("a GPU's refusal names its adapter, the part that is too large, and the CPU if that has room", () => {
  const device = { ...DEVICE, kind: "webgpu" as const, adapter: "Some GPU" };
  const cache = refused({ code: "device-limit", what: "blk.0.cache", needed: 200_000_000, allowed: 134_217_728 }, { device });
  assert.match(cache, /^blk\.0\.cache takes 200 MB, and a buffer of the GPU \(Some GPU\) has at most 134 MB\./);
  assert.match(cache, /kvCache: "q8_0".*contextLength of at most 87808, or device: "cpu"\.$/);
  const all = refused({ code: "out-of-memory", needed: 5_000_000_000 }, { device, cpuFits: false });
  assert.match(all, /the GPU \(Some GPU\) did not give so much.*takes 3 GB \(f16\).*What helps: kvCache: "q8_0" \(1\.31 GB less\), or a shorter contextLength\.$/);
});

test("the question is asked in a worker that ends afterwards, with the load's options", async () => {
  const asked: object[] = [];
  const worker = new FakeWorker({
    canRun: async (source, { network: _, spawnHelpers: __, mostMemoryBytes: ___, ...options }) => {
      asked.push(source, options);
      return REPORT;
    },
    cores: { cores: 4, canShare: true },
  });
  const answer = await openCanRun("https://e.test/m", { contextLength: 100, kvCache: "q8_0", device: "cpu", draftTokens: 3 }, () => worker);
  assert.equal(answer.fits, true);
  // The line's rate is not known: the engine here asked for nothing.
  assert.equal(answer.estimate.loadSeconds, null);
  const options = { contextLength: 100, kvCache: "q8_0", device: "cpu", draftTokens: 3, threads: 4, startThreads: 3 };
  assert.deepEqual(asked, [{ urls: ["https://e.test/m"] }, options]);
  assert.equal(worker.terminated, true);
});

test("a file that a load would refuse is its error, and the worker ends", async () => {
  const worker = new FakeWorker({ canRun: () => Promise.reject({ code: "not-gguf", message: "x", detail: "zip" }) });
  assert.equal((await rejects(openCanRun("https://e.test/m", {}, () => worker), "not-gguf")).detail, "zip");
  assert.equal(worker.terminated, true);
  await rejects(openCanRun("https://e.test/m", { sampling: {} } as never, () => worker), "invalid-option");
});

test("the engine reads headers in pieces, for both questions", async () => {
  const heard: (string | null)[] = [];
  const worker = () =>
    new FakeWorker({
      canRun: async (_source, { network }) => {
        await network.fetch("https://e.test/m", { headers: { range: "bytes=1048576-" } });
        return REPORT;
      },
      inspect: async (_source, { network }) => {
        await network.fetch("https://e.test/m", {});
        return {};
      },
      fetch: async (_url, init) => {
        heard.push(new Headers(init.headers).get("range"));
        return new Response("x");
      },
    });
  await openCanRun("https://e.test/m", {}, worker);
  await openModelHeader("https://e.test/m", {}, worker);
  assert.deepEqual(heard, ["bytes=1048576-2097151", "bytes=0-1048575"]);
});
