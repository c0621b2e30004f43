// How fast bytes arrive, measured on requests that are made anyway.
import type { Fetch } from "./wasm-surface.js";

/** Shorter than this, a measurement says more about the browser than about the line. */
const LEAST_MS = 20;
const LEAST_BYTES = 128 << 10;
/** So much is read ahead of the engine, so that the line is measured and not the engine. */
const AHEAD_BYTES = 1 << 20;

/** Counts what arrives between the first piece of each answer and its last. */
export class LineRate {
  #bytes = 0;
  #ms = 0;
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Bytes a second; null where too little arrived, or too fast to tell. */
  get bytesPerSecond(): number | null {
    return this.#ms >= LEAST_MS && this.#bytes >= LEAST_BYTES ? (this.#bytes / this.#ms) * 1000 : null;
  }

  /** `fetch`, measured. */
  over(fetch: Fetch): Fetch {
    return async (url, init) => {
      const response = await fetch(url, init);
      const { body } = response;
      if (!body) return response;
      const counted = body.pipeThrough(this.#counter(), init.signal ? { signal: init.signal } : {});
      // A new Response would have lost its address and its type.
      return Object.defineProperty(response, "body", { value: counted });
    };
  }

  #counter(): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
    let last: number | undefined;
    const ahead = new ByteLengthQueuingStrategy({ highWaterMark: AHEAD_BYTES });
    return new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>(
      {
        transform: (chunk, controller) => {
          const now = this.#now();
          if (last !== undefined) {
            this.#bytes += chunk.byteLength;
            this.#ms += now - last;
          }
          last = now;
          controller.enqueue(chunk);
        },
      },
      undefined,
      ahead,
    );
  }
}
