// A model computes one request at a time; the others wait here, in order.
import { abortError, type EmberglassError } from "./errors.js";

interface Waiting {
  start(): void;
  reject(error: EmberglassError): void;
}

export class SerialQueue {
  readonly #waiting: Waiting[] = [];
  #running: Promise<unknown> | undefined;
  #closed: EmberglassError | undefined;

  /** Runs `task` when its turn comes. A signal that fires before then takes it out of the queue. */
  run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(abortError(signal));
    return new Promise<T>((resolve, reject) => {
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        reject(abortError(signal));
      };
      const entry: Waiting = {
        start: () => {
          signal?.removeEventListener("abort", leave);
          this.#running = task()
            .then(resolve, reject)
            .finally(() => {
              this.#running = undefined;
              this.#next();
            });
        },
        reject: (error) => {
          signal?.removeEventListener("abort", leave);
          reject(error);
        },
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(entry);
      this.#next();
    });
  }

  /** Rejects all who wait and all who come; resolves when the one running has ended. */
  async close(reason: EmberglassError): Promise<void> {
    this.#closed = reason;
    for (const entry of this.#waiting.splice(0)) entry.reject(reason);
    await this.#running;
  }

  #next(): void {
    if (!this.#running) this.#waiting.shift()?.start();
  }
}
