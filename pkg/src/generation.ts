// The stream behind the public `Generation`: pieces are kept, so a slow reader misses nothing and a
// reader that starts late begins at the first piece.
import type { GenerateResult, Generation } from "./types.js";

/** Runs `work` at once. `work` pushes pieces and settles with the result; `signal` tells it to stop. */
export class StreamedGeneration implements Generation {
  readonly result: Promise<GenerateResult>;
  readonly #pieces: string[] = [];
  readonly #stop = new AbortController();
  #ended = false;
  #wake: () => void = () => {};
  #change = this.#nextChange();

  constructor(
    work: (push: (piece: string) => void, signal: AbortSignal) => Promise<GenerateResult>,
    signals: readonly AbortSignal[],
  ) {
    const push = (piece: string) => {
      this.#pieces.push(piece);
      this.#notify();
    };
    const end = () => {
      this.#ended = true;
      this.#notify();
    };
    this.result = work(push, AbortSignal.any([this.#stop.signal, ...signals]));
    // Also marks a rejection as handled: who reads only the pieces meets it there instead.
    this.result.then(end, end);
  }

  get text(): string {
    return this.#pieces.join("");
  }

  abort(): void {
    this.#stop.abort();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    try {
      for (let next = 0; ; ) {
        while (next < this.#pieces.length) yield this.#pieces[next++] as string;
        if (this.#ended) break;
        await this.#change;
      }
      await this.result;
    } finally {
      // Reached by `break` and `return` too. After the end this does nothing.
      this.abort();
    }
  }

  /** See `TextModel`. */
  get [Symbol.toStringTag](): string {
    return "Generation";
  }

  #notify(): void {
    const wake = this.#wake;
    this.#change = this.#nextChange();
    wake();
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** The generation that `start` gives, or one that fails with what `start` throws: callers look for errors in one place. */
export function attempted(start: () => Generation): Generation {
  try {
    return start();
  } catch (error) {
    return new StreamedGeneration(() => Promise.reject(error), []);
  }
}
