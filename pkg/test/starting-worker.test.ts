import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { EngineFiles } from "../src/engine-files.js";
import { loadTextModel } from "../src/load.js";
import { type RawWorker, StartingWorker, type Way } from "../src/starting-worker.js";
import { rejects, settle } from "./harness.js";

/** A worker that does what the test says. */
class ScriptedWorker implements RawWorker {
  readonly received: unknown[] = [];
  terminated = false;
  readonly #listeners: [string, (event: any) => void][] = [];

  postMessage(message: unknown): void {
    this.received.push(message);
  }

  terminate(): void {
    this.terminated = true;
  }

  addEventListener(type: string, listener: (event: any) => void): void {
    this.#listeners.push([type, listener]);
  }

  emit(type: string, event: object): void {
    for (const [wanted, listener] of this.#listeners) if (wanted === type) listener(event);
  }
}

/** Starts by these workers, one after the other, and notes what happens. */
function start(workers: (ScriptedWorker | Error)[]) {
  const outcomes: unknown[] = [];
  const ways = workers.map((worker, index): Way => ({
    make: () => {
      if (worker instanceof Error) throw worker;
      return worker;
    },
    why: async (failure) => `${index}: ${(failure as Error).message}`,
  }));
  const starting = new StartingWorker(ways, {
    started: (failures) => void outcomes.push(["started", ...failures]),
    failed: (failures) => new Error(failures.join("; ")),
  });
  const seen: unknown[] = [];
  for (const type of ["message", "error"] as const) starting.addEventListener(type, (event) => seen.push([type, event.data ?? event.message]));
  return { starting, outcomes, seen };
}

test("a message that cannot be sent once the script runs is an error of the worker", async () => {
  const worker = new ScriptedWorker();
  worker.postMessage = () => {
    throw new Error("could not be cloned");
  };
  const { starting, seen } = start([worker]);
  starting.postMessage("a");
  await settle();
  worker.emit("message", { data: { kind: "started" } });
  await settle();
  assert.deepEqual(seen[0], ["error", "Error: could not be cloned"]);
});

test("what is posted before the script runs waits for it, in order", async () => {
  const worker = new ScriptedWorker();
  const { starting, outcomes, seen } = start([worker]);
  starting.postMessage("a");
  starting.postMessage("b");
  await settle();
  assert.deepEqual(worker.received, []);
  worker.emit("message", { data: { kind: "started" } });
  starting.postMessage("c");
  await settle();
  assert.deepEqual(worker.received, ["a", "b", "c"]);
  assert.deepEqual(outcomes, [["started"]]);
  worker.emit("error", { message: "later" });
  assert.deepEqual(seen, [["message", { kind: "started" }], ["error", "later"]]);
});

test("a script that does not run, or sends other messages, makes room for the next way", async () => {
  const [foreign, good] = [new ScriptedWorker(), new ScriptedWorker()];
  const { starting, outcomes, seen } = start([new Error("refused"), foreign, good]);
  starting.postMessage("a");
  await settle();
  foreign.emit("message", { data: "hello" });
  let prevented = false;
  foreign.emit("error", { message: "gone", preventDefault: () => (prevented = true) });
  await settle();
  assert.ok(prevented && foreign.terminated);
  good.emit("message", { data: { kind: "started" } });
  await settle();
  assert.deepEqual([foreign.received, good.received], [[], ["a"]]);
  assert.deepEqual(outcomes, [["started", "0: refused", "1: gone"]]);
  assert.deepEqual(seen, [["message", { kind: "started" }]]);
});

test("when no way is left, the error says why each failed", async () => {
  const { seen } = start([new Error("one"), new Error("two")]);
  await settle();
  assert.deepEqual(seen, [["error", "0: one; 1: two"]]);
});

test("a worker that was ended before its script ran starts no other", async () => {
  const [first, second] = [new ScriptedWorker(), new ScriptedWorker()];
  const { starting, outcomes } = start([first, second]);
  await settle();
  starting.terminate();
  first.emit("error", { message: "gone" });
  await settle();
  second.emit("message", { data: { kind: "started" } });
  await settle();
  assert.ok(first.terminated);
  assert.deepEqual(outcomes, []);
});

test("on a server the package is imported without harm, and loading is refused by name", async () => {
  assert.match((await rejects(loadTextModel("m.gguf"), "no-worker")).message, /Node\.js/);
});

function withWorker(t: TestContext): void {
  Object.assign(globalThis, { Worker: class {}, document: { baseURI: "https://e.test/app/" } });
  t.after(() => {
    Reflect.deleteProperty(globalThis, "Worker");
    Reflect.deleteProperty(globalThis, "document");
  });
}

test("addresses of the engine's files are checked, and are relative to the document", async (t) => {
  withWorker(t);
  const wasmUrl = { simd128: "a.wasm", relaxed: new URL("https://cdn.test/b.wasm") };
  const files = new EngineFiles({ workerUrl: undefined, wasmUrl });
  assert.equal(await files.findWasm("simd128", undefined), "https://e.test/app/a.wasm");
  assert.equal(await files.findWasm("relaxed", undefined), "https://cdn.test/b.wasm");
  const error = await rejects(files.findWasm("relaxed", "status 404 for b.wasm"), "worker-failed");
  assert.match(error.message, /status 404 for b\.wasm.*wasmUrl/);
  for (const [addresses, name] of [
    [{ workerUrl: 5 }, "workerUrl"],
    [{ workerUrl: "http://" }, "workerUrl"],
    [{ wasmUrl: null }, "wasmUrl"],
    [{ wasmUrl: "x.wasm" }, "wasmUrl"],
    [{ wasmUrl: { simd128: "a.wasm" } }, "wasmUrl.relaxed"],
  ] as const) {
    const error = await rejects(loadTextModel("m.gguf", addresses as object), "invalid-option");
    assert.ok(error.message.includes(name), error.message);
  }
});
