// The page's side of the helper threads: workers that compute their share of the rows over memory that they share
// with the engine's worker. The page starts them, hears when one dies, and ends them.
import { EmberglassError, toWire, type WireError } from "./errors.js";
import type { SimdLevel } from "./simd.js";
import { within } from "./within.js";

/** How long a helper may take until it waits for work. */
const START_LIMIT_MS = 30_000;

/** The engine that runs; helpers start from the same compiled module. */
export interface HelperEngine {
  level: SimdLevel;
  module: WebAssembly.Module;
}

/** To a helper, once. */
export interface ToHelper extends HelperEngine {
  verb: "help";
  /** Where work is handed out, and results are handed in. */
  shared: SharedArrayBuffer;
  /** Which helper this is, from 0. */
  index: number;
}

/** From a helper: that its script runs; that it waits for work; later, or instead, that it has stopped on a fault. */
export type FromHelper = { kind: "started" } | { kind: "ready" } | { kind: "failed"; error: WireError };

/** The part of `Worker` that is used. */
export interface HelperLike {
  postMessage(message: ToHelper): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** The helpers of one model. */
export class HelperTeam {
  readonly #spawn: () => HelperLike;
  readonly #onFault: (error: EmberglassError) => void;
  /** Each with what makes its start fail. */
  readonly #helpers = new Map<HelperLike, (error: WireError) => void>();

  /** @param onFault Called when a helper dies that was ready before. */
  constructor(spawn: () => HelperLike, onFault: (error: EmberglassError) => void) {
    this.#spawn = spawn;
    this.#onFault = onFault;
  }

  /** Starts `count` helpers and resolves once all wait for work. If one cannot start, it rejects and none is left. */
  async start(count: number, engine: HelperEngine, shared: SharedArrayBuffer): Promise<void> {
    const helpers = Array.from({ length: count }, (_, index) => this.#startOne({ verb: "help", ...engine, shared, index }));
    try {
      await within(START_LIMIT_MS, Promise.all(helpers), "a helper did not start");
    } catch (thrown) {
      this.end();
      throw thrown;
    }
  }

  /** Ends them, whatever they do. A start under way rejects. */
  end(): void {
    for (const [helper, fail] of this.#helpers) {
      this.#helpers.delete(helper);
      helper.terminate();
      fail({ code: "worker-failed", message: "the helpers were ended" });
    }
  }

  async #startOne(order: ToHelper): Promise<void> {
    const helper = this.#spawn();
    let ready = false;
    await new Promise<void>((resolve, reject) => {
      this.#helpers.set(helper, reject);
      const fail = (error: WireError) => {
        if (!ready) reject(error);
        else if (this.#helpers.has(helper)) this.#onFault(stopped(error.message));
      };
      helper.addEventListener("message", ({ data }: { data: FromHelper }) => {
        if (data.kind === "failed") return fail(data.error);
        if (data.kind === "started") return;
        ready = true;
        resolve();
      });
      helper.addEventListener("error", (event: Partial<ErrorEvent>) => {
        // Unless it is taken here, it becomes an error of the page.
        (event as Event).preventDefault?.();
        fail({ code: "worker-failed", message: event.message || "the helper's script could not be loaded" });
      });
      helper.addEventListener("messageerror", () => fail({ code: "worker-failed", message: "a message of the helper could not be read" }));
      helper.postMessage(order);
    });
  }
}

function stopped(message: string): EmberglassError {
  return new EmberglassError("worker-failed", `a helper thread stopped (${message}): load the model again to go on`);
}

/** What {@link HelperTeam.start} rejected with, for the engine's worker. */
export function startFault(thrown: unknown): WireError {
  return { code: "worker-failed", message: toWire(thrown).message };
}
