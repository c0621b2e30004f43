// How fast bytes arrive, measured on requests that are made anyway.
import type { Fetch } from "./wasm-surface.js";

/** Shorter than this, a measurement says more about the browser than about the line. */
const LEAST_MS = 15;
const LEAST_BYTES = 128 << 10;
/** So much of an answer is read before the engine gets it, and for so long: the engine would keep the line waiting. */
const AHEAD_BYTES = 1 << 20;
const AHEAD_MS = 1000;

type Chunk = Uint8Array<ArrayBuffer>;

/** Measures the begin of each answer, from its first piece on. */
export class LineRate {
  #bytes = 0;
  #ms = 0;
  readonly #now: () => number;
  readonly #aheadMs: number;

  /** @param stallTimeoutMs After which the engine gives up an answer. */
  constructor(stallTimeoutMs = Infinity, now: () => number = () => performance.now()) {
    this.#now = now;
    this.#aheadMs = Math.min(AHEAD_MS, stallTimeoutMs / 2);
  }

  /** Bytes a second; null where too little arrived, or too fast to tell. */
  get bytesPerSecond(): number | null {
    return this.#ms >= LEAST_MS && this.#bytes >= LEAST_BYTES ? (this.#bytes / this.#ms) * 1000 : null;
  }

  /** `fetch`, measured. */
  over(fetch: Fetch): Fetch {
    return async (url, init) => {
      const response = await fetch(url, init);
      const reader = response.body?.getReader();
      if (!reader) return response;
      const { chunks, next } = await this.#ahead(reader);
      let reading = next;
      const body = new ReadableStream<Chunk>({
        start: (controller) => chunks.forEach((chunk) => controller.enqueue(chunk)),
        async pull(controller) {
          const { done, value } = await reading;
          if (done) return controller.close();
          controller.enqueue(value);
          reading = reader.read();
          // The engine may never ask for it.
          reading.catch(() => {});
        },
        cancel: (reason) => reader.cancel(reason),
      });
      // A new Response would have lost its address and its type.
      return Object.defineProperty(response, "body", { value: body });
    };
  }

  /** What has arrived in time, and the piece that comes next. */
  async #ahead(reader: ReadableStreamDefaultReader<Chunk>): Promise<{ chunks: Chunk[]; next: Promise<ReadableStreamReadResult<Chunk>> }> {
    const chunks: Chunk[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), this.#aheadMs);
    });
    let [last, bytes] = [0, 0];
    for (;;) {
      const next = reader.read();
      next.catch(() => {});
      const result = bytes < AHEAD_BYTES ? await Promise.race([next, late]).catch(() => undefined) : undefined;
      if (!result || result.done) {
        clearTimeout(timer);
        return { chunks, next };
      }
      const now = this.#now();
      if (chunks.length > 0) {
        this.#bytes += result.value.byteLength;
        this.#ms += now - last;
      }
      last = now;
      bytes += result.value.byteLength;
      chunks.push(result.value);
    }
  }
}
