// The engine's helpers: nested workers that compute their share of the rows over shared memory. While
// they work, the engine's worker blocks too and hears nothing, so each helper has a line to the page.
import { toWire, type WireError } from "./errors.js";
import type { SimdLevel } from "./simd.js";

/** The engine that runs; helpers start from the same compiled module. */
export interface HelperEngine {
  level: SimdLevel;
  module: WebAssembly.Module;
}

/** To a helper, once. */
export interface ToHelper extends HelperEngine {
  /** Where work is handed out, and results are handed in. */
  shared: SharedArrayBuffer;
  /** Which helper this is, from 0. */
  index: number;
  /** To the page: takes one {@link WireError} if the helper stops on a fault. */
  lifeline: MessagePort;
}

/** From a helper, once. */
export type FromHelper = { kind: "ready" } | { kind: "failed"; error: WireError };

/** The part of `Worker` that is used. */
export interface HelperLike {
  postMessage(message: ToHelper, transfer: Transferable[]): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** What a team needs of the worker it is made in. */
export interface TeamHost {
  spawnHelper(): HelperLike;
  /** Hands the page its end of a helper's lifeline. */
  sendLifeline(port: MessagePort): void;
}

/** The helpers of one model. */
export class HelperTeam {
  readonly #host: TeamHost;
  readonly #helpers: HelperLike[] = [];

  constructor(host: TeamHost) {
    this.#host = host;
  }

  /**
   * Starts `count` helpers over new shared memory and resolves once all wait for work. If one cannot
   * start, it rejects and none is left.
   */
  async start(count: number, sharedBytes: number, engine: HelperEngine): Promise<SharedArrayBuffer> {
    try {
      const shared = new SharedArrayBuffer(sharedBytes);
      await Promise.all(Array.from({ length: count }, (_, index) => this.#startOne({ ...engine, shared, index })));
      return shared;
    } catch (thrown) {
      this.end();
      throw new Error(toWire(thrown).message, { cause: thrown });
    }
  }

  /** Ends them, whatever they do. */
  end(): void {
    for (const helper of this.#helpers.splice(0)) helper.terminate();
  }

  #startOne(order: Omit<ToHelper, "lifeline">): Promise<void> {
    const helper = this.#host.spawnHelper();
    this.#helpers.push(helper);
    const { port1, port2 } = new MessageChannel();
    this.#host.sendLifeline(port1);
    return new Promise((resolve, reject) => {
      helper.addEventListener("message", ({ data }: { data: FromHelper }) => {
        if (data.kind === "ready") resolve();
        else reject(data.error);
      });
      helper.addEventListener("error", (event: Partial<ErrorEvent>) => {
        // Unless it is taken here, it becomes an error of this worker, which would end the model.
        (event as Event).preventDefault?.();
        reject(new Error(event.message || "the helper's script could not be loaded"));
      });
      helper.addEventListener("messageerror", () => reject(new Error("a message of the helper could not be read")));
      helper.postMessage({ ...order, lifeline: port2 }, [port2]);
    });
  }
}
