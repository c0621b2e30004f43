import assert from "node:assert/strict";
import { test } from "node:test";
import { type HelperScope, type RunHelper, serveHelper } from "../src/helper-host.js";
import type { HelperLike, ToHelper } from "../src/helper-team.js";
import { openTextModel } from "../src/load.js";
import { DEVICE, FakeWorker, type Generate, type Script } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

/** A helper thread without a thread, over the real helper-host. The SharedArrayBuffer stays shared, as between threads. */
class FakeHelper implements HelperLike {
  terminated = false;
  closed = false;
  order: ToHelper | undefined;
  readonly #page = new Map<string, (event: any) => void>();
  readonly #own = new Map<string, (event: any) => void>();

  constructor(run: RunHelper, start: () => Promise<void> = async () => {}) {
    const scope: HelperScope = {
      postMessage: (message) => this.#deliver(this.#page, "message", { data: structuredClone(message) }),
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

  postMessage(message: ToHelper): void {
    this.order = structuredClone(message);
    this.#deliver(this.#own, "message", { data: this.order });
  }

  addEventListener(type: string, listener: (event: any) => void): void {
    this.#page.set(type, listener);
  }

  terminate(): void {
    this.terminated = true;
  }

  crash(message?: string): boolean {
    let prevented = false;
    this.#page.get("error")?.({ message, preventDefault: () => (prevented = true) });
    return prevented;
  }

  #deliver(listeners: Map<string, (event: any) => void>, type: string, event: object): void {
    setImmediate(() => {
      if (!this.terminated) listeners.get(type)?.(event);
    });
  }
}

/** An engine on the CPU that takes as many threads as it may: three, so two helpers. */
const THREADED: Script = {
  cores: { cores: 4, canShare: true },
  load: async (_source, _progress, _signal, { threads, spawnHelpers }) => {
    try {
      await spawnHelpers(threads - 1, 4096);
      return { device: { ...DEVICE, threads }, helperHeapBytes: 1 << 21 };
    } catch (thrown) {
      return { device: { ...DEVICE, reason: `One thread: ${(thrown as Error).message}.` } };
    }
  },
};

/** Loads with helpers that `make` makes. */
async function loadWith(make: (index: number) => FakeHelper, script: Script = {}) {
  const helpers: FakeHelper[] = [];
  const spawnHelper = () => {
    const helper = make(helpers.length);
    helpers.push(helper);
    return helper;
  };
  return { helpers, loading: load({ ...THREADED, ...script }, {}, spawnHelper) };
}

/** A helper that is told to leave at once. */
const leaves: RunHelper = () => {};

test("helpers get level, module, index and the same memory, and are ready before the engine goes on", async () => {
  let shared: SharedArrayBuffer | undefined;
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves), {
    load: async (_source, _progress, _signal, { spawnHelpers }) => {
      shared = await spawnHelpers(2, 4096);
    },
  });
  const { model } = await loading;
  assert.equal(shared?.byteLength, 4096);
  assert.deepEqual(helpers.map(({ order }) => [order?.level, order?.index]), [["relaxed", 0], ["relaxed", 1]]);
  assert.ok(helpers.every(({ order }) => order?.module instanceof WebAssembly.Module));
  new Int32Array(shared!)[7] = 42;
  for (const { order } of helpers) assert.equal(new Int32Array(order!.shared)[7], 42);
  await model.dispose();
});

test("each helper runs with its index; the memory of all counts", async () => {
  const ran: [number, number][] = [];
  const { helpers, loading } = await loadWith(() => new FakeHelper((memory, index) => void ran.push([memory.byteLength, index])));
  const { model } = await loading;
  await settle();
  assert.deepEqual(ran, [[4096, 0], [4096, 1]]);
  assert.equal(model.info.device.threads, 3);
  assert.equal(model.info.device.reason, "It was asked for. Threads by default: 3, one less than the 4 cores and at most 8.");
  assert.equal(model.info.wasmHeapBytes, (1 << 20) + (1 << 21));
  // Told to leave, a helper closes itself.
  assert.ok(helpers.every(({ closed }) => closed));
  await model.dispose();
});

/**
 * Chromium leaks workers when a worker is ended while a worker of its own is ending. So the page itself starts the
 * helpers: the engine's worker has none, and all are ended from the page.
 */
test("the page ends the helpers and the engine's worker, after the engine has told the helpers to leave", async () => {
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves));
  const { model, worker } = await loading;
  assert.equal(helpers.length, 2);
  await model.dispose();
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.equal(worker.freed, true);
  assert.equal(worker.terminated, true);
});

test("a load that fails after the helpers have started ends them", async () => {
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves), {
    load: async (_source, _progress, _signal, { spawnHelpers }) => {
      await spawnHelpers(2, 64);
      throw { code: "network", message: "x" };
    },
  });
  await rejects(loading, "network");
  await settle();
  assert.equal(helpers.length, 2);
  assert.ok(helpers.every(({ terminated }) => terminated));
});

test("an abort amid the helpers' start ends them", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const helpers: FakeHelper[] = [];
  const controller = new AbortController();
  const spawnHelper = () => {
    const helper = new FakeHelper(leaves, () => new Promise(() => {}));
    helpers.push(helper);
    return helper;
  };
  const loading = load(THREADED, { signal: controller.signal }, spawnHelper);
  await settle();
  assert.equal(helpers.length, 2);
  controller.abort();
  await rejects(loading, "aborted");
  t.mock.timers.tick(600);
  assert.ok(helpers.every(({ terminated }) => terminated));
});

test("a helper whose engine does not start: none is left, one thread runs, and the reason says why", async () => {
  const fails = () => Promise.reject(new Error("out of memory"));
  const { helpers, loading } = await loadWith((index) => new FakeHelper(leaves, index === 1 ? fails : undefined));
  const { model } = await loading;
  assert.equal(model.info.device.threads, 1);
  assert.match(model.info.device.reason, /^One thread: out of memory\.$/);
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.equal((await model.generate("hi").result).text, "<hi>");
  await model.dispose();
});

test("a helper that never reports: one thread runs after a while", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves, () => new Promise(() => {})));
  await settle();
  t.mock.timers.tick(30_000);
  const { model } = await loading;
  assert.match(model.info.device.reason, /^One thread: a helper did not start within 30 seconds\.$/);
  assert.ok(helpers.every(({ terminated }) => terminated));
  await model.dispose();
});

test("a page that never answers the request for helpers: one thread runs after a while", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const worker = new FakeWorker(THREADED);
  const { postMessage } = worker;
  worker.postMessage = (message) => {
    if (message.verb !== "helpers") postMessage.call(worker, message);
  };
  const loading = openTextModel("https://example.test/m.gguf", {}, () => worker, () => new FakeHelper(leaves));
  await settle();
  t.mock.timers.tick(40_000);
  const { info } = await loading;
  assert.match(info.device.reason, /^One thread: the page did not start them within 40 seconds\.$/);
});

test("a helper's missing script is no error of the page", async () => {
  const { loading } = await loadWith(() => {
    const helper = new FakeHelper(leaves, () => new Promise(() => {}));
    setImmediate(() => assert.equal(helper.crash(), true));
    return helper;
  });
  const { model } = await loading;
  assert.match(model.info.device.reason, /script could not be loaded/);
  await model.dispose();
});

test("where no helper can be made, one thread runs", async () => {
  const { loading } = await loadWith(() => {
    throw new Error("Worker is not defined");
  });
  const { model } = await loading;
  assert.match(model.info.device.reason, /Worker is not defined/);
  assert.equal(model.info.device.threads, 1);
});

test("a helper that dies fails the request under way, though the engine's worker cannot say so", async (t) => {
  // A real worker's limits end with it.
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const traps: RunHelper = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  // The engine, which waits for its helper, says nothing of its own.
  const generate: Generate = () => new Promise(() => {});
  for (const crash of [false, true]) {
    const { helpers, loading } = await loadWith((index) => new FakeHelper(index === 0 || crash ? leaves : traps), { generate });
    const failed = rejects(loading.then(({ model }) => model.generate("hi").result), "worker-failed");
    await settle();
    if (crash) helpers[1]!.crash("unreachable");
    assert.match((await failed).message, /^a helper thread stopped \(unreachable\): load the model again/);
    assert.ok(helpers.every(({ terminated }) => terminated));
  }
});
