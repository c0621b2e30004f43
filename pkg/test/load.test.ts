import assert from "node:assert/strict";
import { test } from "node:test";
import type { WorkerLike } from "../src/engine-client.js";
import { openImageDecoder, openModelHeader, openTextModel } from "../src/load.js";
import { progressMeter } from "../src/progress.js";
import type { LoadProgress } from "../src/types.js";
import { FakeWorker, type Script } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

const never = () => new Promise<never>(() => {});

test("loading resolves with the model's info and reports the wasm heap", async () => {
  const { model } = await load();
  assert.equal(model.info.name, "fake");
  assert.equal(model.info.wasmHeapBytes, 1 << 20);
});

test("an engine error arrives as the class, with code and message", async () => {
  const failing = load({
    load: async () => {
      throw { code: "not-gguf", message: "m.gguf is not a GGUF file" };
    },
  });
  const error = await rejects(failing, "not-gguf");
  assert.equal(error.message, "m.gguf is not a GGUF file");
  assert.equal(error.name, "EmberglassError");
});

test("what tells errors of one code apart arrives with them", async () => {
  const failing = load({ load: () => Promise.reject({ code: "network", message: "x", detail: "offline", url: "https://e.test/m" }) });
  const { detail, url } = await rejects(failing, "network");
  assert.deepEqual({ detail, url }, { detail: "offline", url: "https://e.test/m" });
});

test("a header is read in a worker that ends afterwards, also when it is refused", async () => {
  const worker = new FakeWorker({ inspect: async (_source, { contextLength }) => ({ contextLength: contextLength ?? 7 }) });
  const phases: string[] = [];
  const header = await openModelHeader("https://e.test/m", { contextLength: 9, onProgress: ({ phase }) => phases.push(phase) }, () => worker);
  assert.deepEqual([header.name, header.contextLength, phases], ["fake", 9, ["starting", "header"]]);
  assert.equal(worker.terminated, true);

  const refusing = new FakeWorker({ inspect: () => Promise.reject({ code: "not-gguf", message: "x", detail: "zip" }) });
  const error = await rejects(openModelHeader("https://e.test/m", {}, () => refusing), "not-gguf");
  assert.equal(error.detail, "zip");
  assert.equal(refusing.terminated, true);

  const stuck = new FakeWorker({ inspect: never });
  const controller = new AbortController();
  const reading = openModelHeader("https://e.test/m", { signal: controller.signal }, () => stuck);
  setTimeout(() => controller.abort(), 20);
  await rejects(reading, "aborted");
  assert.equal(stuck.terminated, true);
});

test("a failed load ends the worker", async () => {
  const worker = new FakeWorker({ load: () => Promise.reject({ code: "network", message: "x" }) });
  await rejects(openTextModel("https://e.test/m", {}, () => worker), "network");
  await settle();
  assert.equal(worker.terminated, true);
});

test("wasm that does not start is worker-failed", async () => {
  const error = await rejects(load({ start: () => Promise.reject(new Error("404")) }), "worker-failed");
  assert.match(error.message, /404/);
});

test("a worker that cannot be made is worker-failed", async () => {
  const loading = openTextModel("https://e.test/m", {}, () => {
    throw new Error("blocked");
  });
  await rejects(loading, "worker-failed");
});

test("a missing worker script is worker-failed", async () => {
  const worker = new FakeWorker({ load: never });
  const loading = openTextModel("https://e.test/m", {}, () => worker);
  worker.crash();
  await rejects(loading, "worker-failed");
});

test("aborting while loading rejects at once, tells the engine, and ends a worker that does not answer", async () => {
  let stopped = false;
  const worker = new FakeWorker({
    load: async (_source, _progress, signal) => {
      signal.addEventListener("abort", () => (stopped = true));
      await never();
    },
  });
  const controller = new AbortController();
  const loading = openTextModel("https://e.test/m", { signal: controller.signal }, () => worker);
  await settle();
  controller.abort();
  const error = await rejects(loading, "aborted");
  assert.equal(error.name, "AbortError");
  await settle();
  assert.equal(stopped, true);
  assert.equal(worker.terminated, false);
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(worker.terminated, true);
});

test("a worker whose script does not come is worker-failed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const silent: WorkerLike = { postMessage: () => {}, terminate: () => {}, addEventListener: () => {} };
  const loading = rejects(openTextModel("https://e.test/m", {}, () => silent), "worker-failed");
  await settle();
  t.mock.timers.tick(60_000);
  assert.match((await loading).message, /script did not arrive/);
  // One that runs may take longer.
  const slow = load({ load: never });
  await settle();
  t.mock.timers.tick(600_000);
  assert.equal(await Promise.race([slow, settle().then(() => "waits")]), "waits");
});

test("an engine whose files do not come is worker-failed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const loading = rejects(load({ start: never }), "worker-failed");
  await settle();
  t.mock.timers.tick(300_000);
  assert.match((await loading).message, /could not start: its files did not arrive/);
});

test("times of waiting reach the engine, and what is no time is refused", async () => {
  const seen: unknown[] = [];
  const script: Script = {
    load: async (_source, _progress, _signal, { network: { stallTimeoutMs, retryTimeoutMs } }) => void seen.push([stallTimeoutMs, retryTimeoutMs]),
    image: { load: async ({ network: { stallTimeoutMs, retryTimeoutMs } }) => void seen.push([stallTimeoutMs, retryTimeoutMs]) },
  };
  await load(script, { stallTimeoutMs: 1, retryTimeoutMs: 0 });
  await load(script);
  await openImageDecoder("https://e.test/v", { stallTimeoutMs: 2, retryTimeoutMs: 3 }, () => new FakeWorker(script));
  assert.deepEqual(seen, [[1, 0], [undefined, undefined], [2, 3]]);
  // The engine knows the ranges.
  for (const bad of ["1", null, 1n]) {
    const none = () => assert.fail("a worker");
    await rejects(openTextModel("https://e.test/m", { stallTimeoutMs: bad } as never, none), "invalid-option");
    await rejects(openImageDecoder("https://e.test/m", { retryTimeoutMs: bad } as never, none), "invalid-option");
  }
});

test("a pause is reported with the progress so far, until loading goes on", async () => {
  const reports: [number, string | undefined][] = [];
  const script: Script = {
    load: async (_source, report, _signal, { network }) => {
      report({ phase: "weights", loadedBytes: 10, totalBytes: 100 });
      network.onWait("this device is offline");
      report({ phase: "weights", loadedBytes: 20, totalBytes: 100 });
    },
  };
  const { worker } = await load(script, { onProgress: ({ loadedBytes, waiting }) => reports.push([loadedBytes, waiting]) });
  assert.deepEqual(reports, [[0, undefined], [10, undefined], [10, "this device is offline"], [20, undefined]]);
  assert.equal(worker.terminated, false);
});

test("a network error carries address and status", async () => {
  const report = { code: "http-status", message: "the server answered 404", url: "https://e.test/m", status: 404 };
  const error = await rejects(load({ load: () => Promise.reject(report) }), "http-status");
  assert.deepEqual([error.url, error.status], ["https://e.test/m", 404]);
});

test("a signal that has fired already starts no worker", async () => {
  const loading = openTextModel("https://e.test/m", { signal: AbortSignal.abort() }, () => {
    throw new Error("must not be made");
  });
  await rejects(loading, "aborted");
});

test("progress: phases pass at once, the rest is throttled, rate and time left are in seconds", () => {
  let now = 0;
  const reports: LoadProgress[] = [];
  const meter = progressMeter((report) => reports.push(report), () => now);
  meter({ phase: "header", loadedBytes: 0, totalBytes: 0 });
  meter({ phase: "weights", loadedBytes: 0, totalBytes: 1000 });
  for (now = 10; now <= 500; now += 10) meter({ phase: "weights", loadedBytes: now, totalBytes: 1000 });
  assert.deepEqual(reports.slice(0, 2).map((r) => [r.phase, r.secondsLeft]), [["header", null], ["weights", null]]);
  assert.equal(reports.length, 2 + 5);
  const last = reports.at(-1)!;
  assert.equal(last.loadedBytes, 500);
  assert.equal(Math.round(last.bytesPerSecond), 1000);
  assert.equal(last.secondsLeft, 0.5);
  meter({ phase: "weights", loadedBytes: 1000, totalBytes: 1000 });
  assert.equal(reports.at(-1)!.loadedBytes, 1000);
});
