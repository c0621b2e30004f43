// The page's side of the helper threads: workers that compute on the memory of the engine's worker. The page starts them,
// hears when one dies, tells the engine so, and ends them. It never gets that memory itself: a page keeps what it was sent
// until its own garbage is collected, which the size of a shared memory does not hasten.
import { toWire, type WireError } from "./errors.js";
import type { HelperSeat } from "./helper-instance.js";
import { within } from "./within.js";

/** How long a helper may take until it waits for work. */
const START_LIMIT_MS = 30_000;

/** To a helper, once. */
export interface ToHelper {
  verb: "help";
  /** Through which the engine's worker has sent a `HelperOrder`. */
  port: MessagePort;
}

/**
 * From a helper: that its script runs; that it waits for work; that it has left, as it was told to; or, instead of one of the
 * last two, that it has stopped on a fault. After `ready` it has then marked its place as dead.
 */
export type FromHelper = { kind: "started" } | { kind: "ready" } | { kind: "left" } | { kind: "failed"; error: WireError };

/** The part of `Worker` that is used. */
export interface HelperLike {
  postMessage(message: ToHelper, transfer: Transferable[]): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** The helpers of the models of one worker. */
export class HelperTeam {
  readonly #spawn: () => HelperLike;
  readonly #tellLost: (dead: number) => void;
  /** Each with what makes its start fail. */
  readonly #helpers = new Map<HelperLike, (error: WireError) => void>();

  /** `tellLost` tells the engine's worker that nobody will come to a place any more. */
  constructor(spawn: () => HelperLike, tellLost: (dead: number) => void) {
    this.#spawn = spawn;
    this.#tellLost = tellLost;
  }

  /**
   * Starts a helper for each seat. Resolves once all that can be started wait for work, with a reason for each that cannot:
   * the engine has been told of it and goes on without it.
   */
  async start(seats: readonly HelperSeat[]): Promise<string[]> {
    const outcomes = await Promise.allSettled(seats.map((seat) => this.#startOne(seat)));
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

  async #startOne(seat: HelperSeat): Promise<void> {
    let helper: HelperLike | undefined;
    try {
      helper = this.#spawn();
      await within(START_LIMIT_MS, this.#ready(helper, seat), "a helper did not start");
    } catch (thrown) {
      if (helper) this.#end(helper);
      this.#tellLost(seat.dead);
      throw thrown;
    }
  }

  /** Resolves once it waits for work. Later it watches over it. */
  #ready(helper: HelperLike, { port, dead }: HelperSeat): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#helpers.set(helper, reject);
      let ready = false;
      const fail = (error: WireError, isMarked = false) => {
        if (!ready) return reject(error);
        if (!this.#helpers.has(helper)) return;
        this.#end(helper);
        // The engine may have freed a place that is marked already.
        if (!isMarked) this.#tellLost(dead);
        console.warn(`emberglass: a helper thread stopped (${error.message}); the other threads do its work from now on`);
      };
      helper.addEventListener("message", ({ data }: { data: FromHelper }) => {
        if (data.kind === "failed") fail(data.error, true);
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
      helper.postMessage({ verb: "help", port }, [port]);
    });
  }

  /** Makes sure that it is gone. */
  #end(helper: HelperLike): void {
    this.#helpers.delete(helper);
    helper.terminate();
  }
}
