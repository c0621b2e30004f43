// A worker without a thread: the real worker-host and a scripted engine behind the real client. Messages
// are cloned and delivered later, as between threads, so nothing can pass that a real worker would lose.
import type { WorkerLike } from "../src/engine-client.js";
import type { FromWorker, GenerateRequest, RawProgress, ToWorker, WireSource } from "../src/protocol.js";
import type { GenerateResult, ModelInfo } from "../src/types.js";
import type { WasmTextModel } from "../src/wasm-surface.js";
import { serve, type WorkerScope } from "../src/worker-host.js";

export type Generate = (
  request: GenerateRequest,
  onPiece: (text: string) => void,
  signal: AbortSignal,
) => Promise<Partial<GenerateResult>>;

export interface Script {
  load?: (source: WireSource, onProgress: (progress: RawProgress) => void, signal: AbortSignal) => Promise<void>;
  generate?: Generate;
  start?: () => Promise<void>;
}

export class FakeWorker implements WorkerLike {
  readonly received: ToWorker[] = [];
  readonly requests: GenerateRequest[] = [];
  terminated = false;
  freed = false;
  /** Most generations that were ever under way at once in the engine. */
  mostAtOnce = 0;
  #atOnce = 0;
  readonly #page = new Map<string, (event: any) => void>();
  readonly #scope = new Map<string, (event: any) => void>();

  constructor(script: Script = {}) {
    const scope: WorkerScope = {
      postMessage: (message: FromWorker) => this.#deliver(this.#page, "message", { data: structuredClone(message) }),
      addEventListener: (type: string, listener: any) => void this.#scope.set(type, listener),
    };
    serve(scope, async () => {
      await script.start?.();
      return {
        memory: { buffer: { byteLength: 1 << 20 } },
        TextModel: {
          load: async (source, _options, onProgress, signal) => {
            await script.load?.(source, onProgress, signal);
            return this.#model(script.generate ?? echo);
          },
        },
      };
    });
  }

  addEventListener(type: string, listener: (event: any) => void): void {
    this.#page.set(type, listener);
  }

  postMessage(message: ToWorker): void {
    const data = structuredClone(message);
    this.received.push(data);
    this.#deliver(this.#scope, "message", { data });
  }

  terminate(): void {
    this.terminated = true;
  }

  /** An uncaught error inside the worker, as wasm's spawned futures cause it. */
  uncaught(error: unknown): void {
    this.#deliver(this.#scope, "error", { error });
  }

  /** The page's `error` event of a worker that dies or whose script is missing. */
  crash(message?: string): void {
    this.#deliver(this.#page, "error", { message });
  }

  #deliver(listeners: Map<string, (event: any) => void>, type: string, event: object): void {
    setImmediate(() => {
      if (!this.terminated) listeners.get(type)?.(event);
    });
  }

  #model(generate: Generate): WasmTextModel {
    return {
      info: () => ({ architecture: "llama", name: "fake" }) as ModelInfo,
      generate: async (request, onPiece, signal) => {
        this.requests.push(request);
        this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#atOnce);
        try {
          return result(await generate(request, onPiece, signal));
        } finally {
          this.#atOnce--;
        }
      },
      tokenize: (text) => Uint32Array.from(text, (c) => c.charCodeAt(0)),
      detokenize: (ids) => String.fromCharCode(...ids),
      free: () => {
        this.freed = true;
      },
    };
  }
}

/** Says back the last message in three pieces. */
const echo: Generate = async ({ messages, prompt }, onPiece) => {
  const pieces = ["<", messages?.at(-1)?.content ?? prompt ?? "", ">"];
  pieces.forEach(onPiece);
  return { text: pieces.join("") };
};

/** Emits the pieces, then waits to be stopped. */
export function untilAborted(...pieces: string[]): Generate {
  return async (_request, onPiece, signal) => {
    pieces.forEach(onPiece);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    return { text: pieces.join(""), finishReason: "aborted" };
  };
}

export function result(partial: Partial<GenerateResult>): GenerateResult {
  return {
    text: "",
    finishReason: "stop",
    promptTokens: 5,
    reusedTokens: 2,
    generatedTokens: 3,
    seed: 1,
    stats: {} as GenerateResult["stats"],
    ...partial,
  };
}
