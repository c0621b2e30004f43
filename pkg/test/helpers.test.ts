// Helper threads: who starts them, what they are told, and what happens when one fails.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type HelperScope, serveHelper } from "../src/helper-host.js";
import type { HelperOrder, HelperPlace } from "../src/helper-instance.js";
import type { HelperLike, ToHelper } from "../src/helper-team.js";
import { openTextModel } from "../src/load.js";
import { DEVICE, FakeWorker, type Generate, MEMORY, type Script } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

type Run = () => void;

/** A helper that is told to leave at once. */
const leaves: Run = () => {};
/** One that goes on. A real one blocks; this one only says nothing more. */
const works: Run = () => {};
const neverStarts = () => new Promise<void>(() => {});

/** A helper thread without a thread, over the real helper-host. The memory stays shared, as between threads. */
class FakeHelper implements HelperLike {
  terminated = false;
  closed = false;
  /** What the page sent. */
  heard: ToHelper | undefined;
  /** What came through the port. */
  order: HelperOrder | undefined;
  readonly #page = new Map<string, (event: any) => void>();
  readonly #own = new Map<string, (event: any) => void>();

  constructor(run: Run, start: () => Promise<void> = async () => {}) {
    const scope: HelperScope = {
      postMessage: (message) => {
        if (message.kind !== "left" || run !== works) this.#deliver(this.#page, "message", { data: structuredClone(message) });
      },
      addEventListener: (type: string, listener: any) => void this.#own.set(type, listener),
      close: () => {
        this.closed = true;
      },
    };
    serveHelper(scope, async (order) => {
      this.order = order;
      await start();
      return run;
    });
  }

  postMessage(message: ToHelper, transfer: Transferable[]): void {
    this.heard = structuredClone(message, { transfer });
    this.#deliver(this.#own, "message", { data: this.heard });
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

const place = (index: number): HelperPlace => ({ control: 64, stackTop: 4096 * (index + 1), bell: 128 + 8 * index, dead: 132 + 8 * index });

/** Places that are marked as left by their helpers for good, by the words in the engine's memory. */
function dead(count: number): boolean[] {
  const words = new Int32Array(MEMORY.buffer);
  return Array.from({ length: count }, (_, index) => words[place(index).dead / 4] === 1);
}

/** An engine on the CPU that takes as many threads as it may: three, so two helpers. */
const THREADED: Script = {
  cores: { cores: 3, canShare: true },
  load: async (_source, _progress, _signal, { threads, spawnHelpers }) => {
    new Int32Array(MEMORY.buffer).fill(0);
    try {
      const failed = await spawnHelpers(Array.from({ length: threads - 1 }, (_, index) => place(index)));
      const reason = [DEVICE.reason, ...failed].join(" ");
      const there = threads - failed.length;
      return { device: { ...DEVICE, threads: there, mostThreads: there, reason } };
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

/** What the console is warned of. */
function warnings(t: TestContext): string[] {
  const told: string[] = [];
  t.mock.method(console, "warn", (text: string) => void told.push(text));
  return told;
}

/** What the page has told the engine's worker of helpers that are gone. */
const lost = ({ received }: FakeWorker) => received.flatMap((message) => (message.verb === "lost" ? [message.dead] : []));

test("helpers get the engine's module and memory, each its place, and wait for work before the engine goes on", async () => {
  const ran: number[] = [];
  const { helpers, loading } = await loadWith((index) => new FakeHelper(() => void ran.push(index)));
  const { model, worker } = await loading;
  assert.deepEqual(helpers.map(({ order }) => [order?.place, order?.index]), [[place(0), 0], [place(1), 1]]);
  new Int32Array(MEMORY.buffer)[7] = 42;
  for (const { order } of helpers) {
    assert.ok(order?.module instanceof WebAssembly.Module);
    assert.equal(new Int32Array(order.memory.buffer)[7], 42);
  }
  for (const { heard } of helpers) assert.deepEqual(heard, { verb: "help", port: heard?.port }, "no memory comes from the page");
  const seats = worker.sent.flatMap((message) => (message.kind === "helpers" ? message.seats : []));
  assert.deepEqual(seats, seats.map(({ port }, index) => ({ port, dead: place(index).dead })), "and none to the page");
  assert.equal(seats.length, 2);
  assert.deepEqual(ran, [0, 1]);
  assert.equal(model.info.device.threads, 3);
  assert.equal(model.info.device.reason, "It was asked for. Threads by default: up to 3, of 3 cores; how many compute a token is found by timing.");
  assert.equal(model.info.wasmHeapBytes, 1 << 20);
  await settle();
  assert.ok(helpers.every(({ closed }) => closed), "told to leave, a helper closes itself");
  assert.deepEqual(dead(2), [false, false]);
  await model.dispose();
});

/**
 * Chromium leaks workers when a worker is ended while a worker of its own is ending. So the page itself starts the
 * helpers: the engine's worker has none, and all are ended from the page.
 */
test("the page ends the helpers that have not left, and the engine's worker", async () => {
  const { helpers, loading } = await loadWith(() => new FakeHelper(works));
  const { model, worker } = await loading;
  await model.dispose();
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.equal(worker.freed, true);
  assert.equal(worker.terminated, true);
});

test("a load that fails while the helpers start ends them", async () => {
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves, neverStarts), {
    load: async (_source, _progress, _signal, { spawnHelpers }) => {
      spawnHelpers([place(0), place(1)]).catch(() => {});
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
    const helper = new FakeHelper(leaves, neverStarts);
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

test("a helper that does not start: the engine knows and goes on with the others", async () => {
  const fails = () => Promise.reject(new Error("out of memory"));
  const { helpers, loading } = await loadWith((index) => new FakeHelper(leaves, index === 1 ? fails : undefined));
  const { model } = await loading;
  assert.equal(model.info.device.threads, 2);
  assert.equal(model.info.device.reason, "It was asked for. out of memory");
  assert.deepEqual(helpers.map(({ terminated }) => terminated), [false, true]);
  assert.deepEqual(dead(2), [false, true]);
  assert.equal((await model.generate("hi").result).text, "<hi>");
  await model.dispose();
});

test("helpers that never report: one thread runs after a while", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves, neverStarts));
  await settle();
  t.mock.timers.tick(30_000);
  const { model } = await loading;
  assert.equal(model.info.device.threads, 1);
  assert.match(model.info.device.reason, /^It was asked for\.( a helper did not start within 30 seconds){2}$/);
  assert.ok(helpers.every(({ terminated }) => terminated));
  assert.deepEqual(dead(2), [true, true]);
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
    const helper = new FakeHelper(leaves, neverStarts);
    setImmediate(() => assert.equal(helper.crash(), true));
    return helper;
  });
  const { model } = await loading;
  assert.match(model.info.device.reason, /script could not be loaded/);
  assert.equal(model.info.device.threads, 1);
  await model.dispose();
});

test("where no helper can be made, one thread runs", async () => {
  const { loading } = await loadWith(() => {
    throw new Error("Worker is not defined");
  });
  const { model } = await loading;
  assert.match(model.info.device.reason, /Worker is not defined/);
  assert.equal(model.info.device.threads, 1);
  assert.deepEqual(dead(2), [true, true]);
  await model.dispose();
});

test("an order that does not arrive is a fault, which the page learns", () => {
  const told: unknown[] = [];
  let order: (event: { data: ToHelper }) => void = () => {};
  const scope = { postMessage: (message: unknown) => told.push(message), addEventListener: (type: string, listener: any) => type === "message" && (order = listener), close: () => {} };
  serveHelper(scope as unknown as HelperScope, () => Promise.reject(new Error("not asked for")));
  const port = {} as MessagePort;
  order({ data: { verb: "help", port } });
  port.onmessageerror?.({} as MessageEvent);
  assert.deepEqual(told, [{ kind: "failed", error: { code: "worker-failed", message: "the engine's memory did not arrive" } }]);
});

test("a helper that dies amid an answer is marked in the engine's memory, and the answer goes on", async (t) => {
  const told = warnings(t);
  const traps: Run = () => {
    throw new WebAssembly.RuntimeError("unreachable");
  };
  // The engine waits for its helper until the word in the memory says that it is gone.
  const generate: Generate = async () => {
    while (!dead(2)[1]) await new Promise((resolve) => setImmediate(resolve));
    return { text: "alone" };
  };
  for (const crash of [false, true]) {
    told.length = 0;
    const { helpers, loading } = await loadWith((index) => new FakeHelper(index === 0 || crash ? works : traps), { generate });
    const { model, worker } = await loading;
    const { result } = model.generate("hi");
    if (crash) helpers[1]!.crash("unreachable");
    assert.equal((await result).text, "alone");
    assert.deepEqual(helpers.map(({ terminated }) => terminated), [false, true]);
    assert.deepEqual(dead(2), [false, true]);
    assert.deepEqual(lost(worker), crash ? [place(1).dead] : [], "who has stopped on a fault has marked its place itself");
    assert.deepEqual(told, ["emberglass: a helper thread stopped (unreachable); the other threads do its work from now on"]);
    await model.dispose();
  }
});

test("a helper that has left as it was told to is not missed", async (t) => {
  const told = warnings(t);
  const { helpers, loading } = await loadWith(() => new FakeHelper(leaves));
  const { model } = await loading;
  await settle();
  helpers[0]!.crash("closed");
  assert.deepEqual(told, []);
  assert.deepEqual(dead(2), [false, false]);
  await model.dispose();
});
