// The page's half of the protocol: numbers the requests, matches the answers, and makes sure that
// no caller waits for a worker that has died.
import { abortError, EmberglassError, fromWire, toWire } from "./errors.js";
import { type HelperLike, HelperTeam } from "./helper-team.js";
import type { FromWorker, ToWorker, Verb, Verbs, WasmPlace } from "./protocol.js";
import type { SimdLevel } from "./simd.js";

/** How long the worker's script may take until it runs. */
const START_LIMIT_MS = 60_000;

/** The part of `Worker` that is used; tests put their own in its place. */
export interface WorkerLike {
  postMessage(message: ToWorker, transfer?: Transferable[]): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** Says where a build of the engine is. `failed` says why the last answer was of no use; rejects when there is no other. */
export type FindWasm = (level: SimdLevel, failed: string | undefined) => Promise<WasmPlace>;

interface Pending {
  resolve(value: unknown): void;
  reject(error: EmberglassError): void;
  onEvent: ((value: unknown) => void) | undefined;
}

interface CallOptions<V extends Verb> {
  signal?: AbortSignal | undefined;
  onEvent?: (event: Verbs[V]["event"]) => void;
  /** What the worker has from then on, and the page no longer. */
  transfer?: Transferable[];
}

/** One worker, the requests under way in it, and its helper threads. */
export class EngineClient {
  readonly #worker: WorkerLike;
  readonly #findWasm: FindWasm;
  readonly #pending = new Map<number, Pending>();
  readonly #helpers: HelperTeam;
  #nextId = 1;
  #starting: ReturnType<typeof setTimeout> | undefined;
  #failure: EmberglassError | undefined;

  /** @throws {@link EmberglassError} `worker-failed` when the worker cannot be made. */
  constructor(spawn: () => WorkerLike, spawnHelper: () => HelperLike = noHelpers, findWasm: FindWasm = noWasm) {
    this.#findWasm = findWasm;
    try {
      this.#worker = spawn();
    } catch (cause) {
      throw new EmberglassError("worker-failed", `the worker could not be started: ${String(cause)}`, { cause });
    }
    this.#helpers = new HelperTeam(spawnHelper, (dead) => {
      if (!this.#failure) this.#worker.postMessage({ verb: "lost", dead });
    });
    this.#starting = setTimeout(() => {
      const message = `the worker did not start within ${START_LIMIT_MS / 1000} seconds: its script did not arrive`;
      this.close(new EmberglassError("worker-failed", message));
    }, START_LIMIT_MS);
    this.#worker.addEventListener("message", (event: { data: FromWorker }) => this.#receive(event.data));
    this.#worker.addEventListener("error", (event: ErrorEvent) => this.close(crash(event)));
    this.#worker.addEventListener("messageerror", () => {
      this.close(new EmberglassError("worker-failed", "a message of the worker could not be read"));
    });
  }

  /** Why this client takes no more requests; undefined while it does. */
  get failure(): EmberglassError | undefined {
    return this.#failure;
  }

  /** Sends one request. An abort is passed on to the worker, whose answer then settles the promise. */
  call<V extends Verb>(
    verb: V,
    args: Verbs[V]["args"],
    { signal, onEvent, transfer = [] }: CallOptions<V> = {},
  ): Promise<Verbs[V]["result"]> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (signal?.aborted) return Promise.reject(abortError(signal));
    const id = this.#nextId++;
    const abort = () => this.#worker.postMessage({ verb: "abort", id });
    return new Promise<Verbs[V]["result"]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onEvent } as Pending);
      signal?.addEventListener("abort", abort, { once: true });
      try {
        this.#worker.postMessage({ verb, id, args } as ToWorker, transfer);
      } catch (cause) {
        // DataCloneError: an option holds something, such as a function, that cannot be sent.
        this.#pending.delete(id);
        reject(new EmberglassError("invalid-option", `a value cannot be sent to the worker: ${String(cause)}`, { cause }));
      }
    }).finally(() => signal?.removeEventListener("abort", abort));
  }

  /** Ends the worker and its helpers; every request under way, and every later one, rejects with `reason`. */
  close(reason: EmberglassError): void {
    if (this.#failure) return;
    this.#failure = reason;
    clearTimeout(this.#starting);
    this.#helpers.end();
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
  }

  async #startHelpers({ seats }: FromWorker & { kind: "helpers" }): Promise<void> {
    const failed = await this.#helpers.start(seats);
    if (!this.#failure) this.#worker.postMessage({ verb: "helpers", failed });
  }

  async #sendWasm({ level, failed }: FromWorker & { kind: "wasm" }): Promise<void> {
    let answer: ToWorker;
    try {
      answer = { verb: "wasm", place: await this.#findWasm(level, failed) };
    } catch (thrown) {
      answer = { verb: "wasm", error: toWire(thrown) };
    }
    if (!this.#failure) this.#worker.postMessage(answer);
  }

  #receive(message: FromWorker): void {
    if (this.#failure) return;
    if (message.kind === "fatal") {
      this.close(fromWire(message.error));
      return;
    }
    if (message.kind === "started") {
      clearTimeout(this.#starting);
      return;
    }
    if (message.kind === "helpers") {
      void this.#startHelpers(message);
      return;
    }
    if (message.kind === "wasm") {
      void this.#sendWasm(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    switch (message.kind) {
      case "event":
        pending.onEvent?.(message.value);
        return;
      case "result":
        this.#pending.delete(message.id);
        pending.resolve(message.value);
        return;
      case "error":
        this.#pending.delete(message.id);
        pending.reject(fromWire(message.error));
        return;
      default:
        message satisfies never;
    }
  }
}

function noHelpers(): never {
  throw new Error("this worker has no helpers");
}

function noWasm(): never {
  throw new Error("this worker has no wasm");
}

function crash(event: Partial<ErrorEvent>): EmberglassError {
  if (event.error instanceof EmberglassError) return event.error;
  const message = event.message ?? "";
  // Across threads only the text of a trap survives, and browsers name its class in it.
  if (message.includes("RuntimeError")) {
    return new EmberglassError("wasm-trap", `the engine stopped on an internal fault (${message}): load the model again to go on`);
  }
  return new EmberglassError("worker-failed", `the worker failed: ${message || "its script could not be loaded"}`);
}
