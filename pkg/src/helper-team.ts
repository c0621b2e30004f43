// The page's side of the helper threads: workers that compute on the memory of the engine's worker. The page starts them,
// hears when one dies, tells the engine so, and ends them.
import { toWire, type WireError } from "./errors.js";
import type { HelperPlace } from "./helper-instance.js";
import { within } from "./within.js";

/** How long a helper may take until it waits for work. */
const START_LIMIT_MS = 30_000;

/** The engine that runs; helpers are further instances of its module on its memory. */
export interface HelperEngine {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** To a helper, once. */
export interface ToHelper extends HelperEngine {
  verb: "help";
  place: HelperPlace;
  /** Which helper this is, from 0. */
  index: number;
}

/**
 * From a helper: that its script runs; that it waits for work; that it has left, as it was told to; or, instead of one of the
 * last two, that it has stopped on a fault.
 */
export type FromHelper = { kind: "started" } | { kind: "ready" } | { kind: "left" } | { kind: "failed"; error: WireError };

/** The part of `Worker` that is used. */
export interface HelperLike {
  postMessage(message: ToHelper): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** The helpers of the models of one worker. */
export class HelperTeam {
  readonly #spawn: () => HelperLike;
  /** Each with what makes its start fail. */
  readonly #helpers = new Map<HelperLike, (error: WireError) => void>();

  constructor(spawn: () => HelperLike) {
    this.#spawn = spawn;
  }

  /**
   * Starts a helper for each place. Resolves once all that can be started wait for work, with a reason for each that cannot:
   * the engine knows by its place and goes on without it.
   */
  async start(engine: HelperEngine, places: readonly HelperPlace[]): Promise<string[]> {
    const starts = places.map((place, index) => this.#startOne({ verb: "help", ...engine, place, index }));
    const outcomes = await Promise.allSettled(starts);
    return outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [toWire(outcome.reason).message] : []));
  }

  /** Ends them, whatever they do. A start under way is over. */
  end(): void {
    for (const [helper, fail] of this.#helpers) {
      this.#helpers.delete(helper);
      helper.terminate();
      fail({ code: "worker-failed", message: "the helpers were ended" });
    }
  }

  async #startOne(order: ToHelper): Promise<void> {
    let helper: HelperLike | undefined;
    try {
      helper = this.#spawn();
      await within(START_LIMIT_MS, this.#ready(helper, order), "a helper did not start");
    } catch (thrown) {
      this.#lose(helper, order);
      throw thrown;
    }
  }

  /** Resolves once it waits for work. Later it watches over it. */
  #ready(helper: HelperLike, order: ToHelper): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#helpers.set(helper, reject);
      let ready = false;
      const fail = (error: WireError) => {
        if (!ready) return reject(error);
        if (!this.#helpers.has(helper)) return;
        this.#lose(helper, order);
        console.warn(`emberglass: a helper thread stopped (${error.message}); the other threads do its work from now on`);
      };
      helper.addEventListener("message", ({ data }: { data: FromHelper }) => {
        if (data.kind === "failed") fail(data.error);
        if (data.kind === "left") this.#helpers.delete(helper);
        if (data.kind !== "ready") return;
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

  /** Makes sure that it is gone, and tells the engine, which may be waiting for it. */
  #lose(helper: HelperLike | undefined, { memory, place: { dead } }: ToHelper): void {
    if (helper) {
      this.#helpers.delete(helper);
      helper.terminate();
    }
    Atomics.store(new Int32Array(memory.buffer), dead / 4, 1);
  }
}
