import assert from "node:assert/strict";
import { test } from "node:test";
import { type HelperScope, type RunHelper, serveHelper } from "../src/helper-host.js";
import type { HelperLike, ToHelper } from "../src/helper-team.js";
import { openTextModel } from "../src/load.js";
import { DEVICE, FakeWorker, type Generate, type Script } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

/** A nested worker without a thread, over the real helper-host. The SharedArrayBuffer stays shared, as between threads. */
class FakeHelper implements HelperLike {
  terminated = false;
  closed = false;
  order: ToHelper | undefined;
  readonly #engine = new Map<string, (event: any) => void>();
  readonly #own = new Map<string, (event: any) => void>();

  constructor(run: RunHelper, start: () => Promise<void> = async () => {}) {
    const scope: HelperScope = {
      postMessage: (message) => this.#deliver(this.#engine, "message", { data: structuredClone(message) }),
      addEventListener: (type: string, listener: any) => void this.#own.set(type, listener),
      close: () => {
        this.closed = true;
      },
    };
    serveHelper(scope, async (level, module) => {
      assert.equal(level, "relaxed");
      assert.ok(module instanceof WebAssembly.Module);
      await start();
      return run;
    });
  }

  postMessage(message: ToHelper, transfer: Transferable[]): void {
    this.order = structuredClone(message, { transfer });
    this.#deliver(this.#own, "message", { data: this.order });
  }

  addEventListener(type: string, listener: (event: any) => void): void {
    this.#engine.set(type, listener);
  }

  terminate(): void {
    this.terminated = true;
  }

  crash(): boolean {
    let prevented = false;
    this.#engine.get("error")?.({ preventDefault: () => (prevented = true) });
    return prevented;
  }

  #deliver(listeners: Map<string, (event: any) => void>, type: string, event: object): void {
    setImmediate(() => {
      if (!this.terminated) listeners.get(type)?.(event);
    });
  }
}

/** An engine on the CPU that takes as many threads as it may. */
function threaded(helpers: FakeHelper[], make: (index: number) => FakeHelper, extra: Script = {}): Script {
  return {
    cores: { cores: 3, canShare: true },
    spawnHelper: () => {
      const helper = make(helpers.length);
      helpers.push(helper);
      return helper;
    },
    load: async (_source, _progress, _signal, { threads, spawnHelpers }) => {
      try {
        await spawnHelpers(threads - 1, 4096);
        return { device: { ...DEVICE, threads }, helperHeapBytes: 1 << 21 };
      } catch (thrown) {
        return { device: { ...DEVICE, reason: `One thread: ${(thrown as Error).message}.` } };
      }
    },
    ...extra,
  };
}

/** What the engine tells a helper by. */
const quit: RunHelper = () => {};

test("helpers get level, module, index and the same memory, and are ready before the engine goes on", async () => {
  const helpers: FakeHelper[] = [];
  let shared: SharedArrayBuffer | undefined;
  const script = threaded(helpers, () => new FakeHelper(quit), {
    load: async (_source, _progress, _signal, { spawnHelpers }) => {
      shared = await spawnHelpers(2, 4096);
      assert.equal(helpers.every(({ order }) => order !== undefined), true);
    },
  });
  const { model } = await load(script);
  assert.equal(shared?.byteLength, 4096);
  assert.deepEqual(helpers.map(({ order }) => [order?.level, order?.index]), [["relaxed", 0], ["relaxed", 1]]);
  assert.ok(helpers.every(({ order }) => order?.module instanceof WebAssembly.Module));
  new Int32Array(shared!)[7] = 42;
  for (const { order } of helpers) assert.equal(new Int32Array(order!.shared)[7], 42);
  await model.dispose();
});

test("each helper runs with its index; the memory of all counts", async () => {
  const helpers: FakeHelper[] = [];
  const ran: [number, number][] = [];
  const { model } = await load(threaded(helpers, () => new FakeHelper((memory, index) => void ran.push([memory.byteLength, index]))));
  await settle();
  assert.deepEqual(ran, [[4096, 0], [4096, 1]]);
  assert.equal(model.info.device.threads, 3);
  assert.equal(model.info.device.reason, "It was asked for.");
  assert.equal(model.info.wasmHeapBytes, (1 << 20) + (1 << 21));
  // Told to quit, a helper closes itself.
  assert.ok(helpers.every(({ closed }) => closed));
  await model.dispose();
});

test("dispose ends the helpers", async () => {
  const helpers: FakeHelper[] = [];
  const { model, worker } = await load(threaded(helpers, () => new FakeHelper(quit)));
  assert.equal(helpers.length, 2);
  await model.dispose();
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.equal(worker.freed, true);
});

test("a load that fails later ends the helpers", async () => {
  const helpers: FakeHelper[] = [];
  const script = threaded(helpers, () => new FakeHelper(quit), {
    load: async (_source, _progress, _signal, { spawnHelpers }) => {
      await spawnHelpers(2, 64);
      throw { code: "network", message: "x" };
    },
  });
  await rejects(load(script), "network");
  assert.equal(helpers.length, 2);
  assert.ok(helpers.every(({ terminated }) => terminated));
});

test("a helper whose engine does not start: none is left, one thread runs, and the reason says why", async () => {
  const helpers: FakeHelper[] = [];
  const fails = () => Promise.reject(new Error("out of memory"));
  const make = (index: number) => (index === 1 ? new FakeHelper(quit, fails) : new FakeHelper(quit));
  const { model } = await load(threaded(helpers, make));
  assert.equal(model.info.device.threads, 1);
  assert.match(model.info.device.reason, /^One thread: out of memory\.$/);
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.equal((await model.generate("hi").result).text, "<hi>");
  await model.dispose();
});

test("a helper's missing script is no error of the worker itself", async () => {
  const helpers: FakeHelper[] = [];
  const make = () => {
    const helper = new FakeHelper(quit, () => new Promise(() => {}));
    setImmediate(() => assert.equal(helper.crash(), true));
    return helper;
  };
  const { model } = await load(threaded(helpers, make));
  assert.match(model.info.device.reason, /script could not be loaded/);
  await model.dispose();
});

test("workers that cannot nest: one thread", async () => {
  const script = threaded([], () => {
    throw new Error("Worker is not defined");
  });
  const { model } = await load(script);
  assert.match(model.info.device.reason, /Worker is not defined/);
  assert.equal(model.info.device.threads, 1);
});

test("a helper that dies fails the request under way, though the engine's worker cannot say so", async () => {
  const helpers: FakeHelper[] = [];
  const traps: RunHelper = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  const make = (index: number) => new FakeHelper(index === 0 ? quit : traps);
  // The engine, which waits for its helper, says nothing of its own.
  const generate: Generate = () => new Promise(() => {});
  const worker = new FakeWorker(threaded(helpers, make, { generate }));
  const failed = openTextModel("https://e.test/m", {}, () => worker).then((model) => model.generate("hi").result);
  const error = await rejects(failed, "worker-failed");
  assert.match(error.message, /helper thread stopped.*unreachable/);
  assert.equal(worker.terminated, true);
});
