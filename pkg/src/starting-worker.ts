// A worker whose script may be found in more than one way. To its owner it is one worker.

/** The part of `Worker` that is used; tests and a worker in this thread put their own in its place. */
export interface RawWorker {
  postMessage(message: any, transfer?: Transferable[]): void;
  terminate(): void;
  addEventListener(type: "message" | "error" | "messageerror", listener: (event: any) => void): void;
}

/** A way to start the script. */
export interface Way {
  /** Makes the worker. Its script may still fail to arrive. */
  make(): RawWorker | Promise<RawWorker>;
  /** Says why it did not start, for what `make` threw or the worker's `error` event. */
  why(failure: unknown): Promise<string>;
}

/** Called when the script runs, with why each way before did not; or with all of them when none is left. */
export interface StartOutcome {
  started(failures: readonly string[]): void;
  /** Returns the error that the owner gets. */
  failed(failures: readonly string[]): Error;
}

type EventType = "message" | "error" | "messageerror";

/** Tries one way after the other until a script says `started`. What is posted before then waits. */
export class StartingWorker implements RawWorker {
  readonly #listeners: [EventType, (event: any) => void][] = [];
  readonly #waiting: [message: unknown, transfer: Transferable[]][] = [];
  #worker: RawWorker | undefined;
  #started = false;
  #ended = false;

  constructor(ways: readonly Way[], outcome: StartOutcome) {
    void this.#start(ways, outcome);
  }

  addEventListener(type: EventType, listener: (event: any) => void): void {
    this.#listeners.push([type, listener]);
  }

  postMessage(message: unknown, transfer: Transferable[] = []): void {
    if (this.#started) this.#worker?.postMessage(message, transfer);
    else this.#waiting.push([message, transfer]);
  }

  terminate(): void {
    this.#ended = true;
    this.#worker?.terminate();
  }

  async #start(ways: readonly Way[], outcome: StartOutcome): Promise<void> {
    const failures: string[] = [];
    for (const way of ways) {
      try {
        await this.#try(way);
        if (this.#ended) return;
        outcome.started(failures);
        return;
      } catch (failure) {
        this.#worker?.terminate();
        failures.push(await way.why(failure));
      }
      if (this.#ended) return;
    }
    const error = outcome.failed(failures);
    this.#emit("error", { error, message: error.message });
  }

  /** Resolves when the script runs. */
  async #try(way: Way): Promise<void> {
    const worker = await way.make();
    this.#worker = worker;
    if (this.#ended) return worker.terminate();
    await new Promise<void>((resolve, reject) => {
      worker.addEventListener("message", (event: { data?: { kind?: unknown } }) => {
        if (!this.#started && event.data?.kind === "started") {
          // Before anything else is delivered, so that messages keep their order.
          this.#started = true;
          this.#postWaiting(worker);
          resolve();
        }
        if (this.#started) this.#emit("message", event);
      });
      worker.addEventListener("error", (event: Event) => {
        if (this.#started) return this.#emit("error", event);
        // Unless it is taken here, it becomes an error of the page.
        event.preventDefault?.();
        reject(event);
      });
      worker.addEventListener("messageerror", (event) => this.#emit("messageerror", event));
    });
  }

  #postWaiting(worker: RawWorker): void {
    try {
      for (const [message, transfer] of this.#waiting.splice(0)) worker.postMessage(message, transfer);
    } catch (error) {
      // What cannot be sent would never be answered.
      this.#emit("error", { error, message: String(error) });
    }
  }

  #emit(type: EventType, event: unknown): void {
    if (this.#ended) return;
    for (const [wanted, listener] of this.#listeners) if (wanted === type) listener(event);
  }
}
