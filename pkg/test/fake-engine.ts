// A worker without a thread: the real worker-host and a scripted engine behind the real client. Messages
// are cloned and delivered later, as between threads, so nothing can pass that a real worker would lose.
import type { WorkerLike } from "../src/engine-client.js";
import type { FromWorker, GenerateRequest, RawProgress, ToWorker } from "../src/protocol.js";
import type { ImageDecoderInfo } from "../src/image-types.js";
import type { NetworkFault } from "../src/network-fault.js";
import type { SimdLevel } from "../src/simd.js";
import type { Cores } from "../src/threads.js";
import type { DeviceInfo, GenerateResult, ModelHeader } from "../src/types.js";
import type { EngineSource, Fetch, WasmCanRunReport, WasmImageModel, WasmImageModelClass, WasmInfo, WasmInspectOptions, WasmLoadOptions, WasmTextModel } from "../src/wasm-surface.js";
import { serve, type WorkerScope } from "../src/worker-host.js";

type WasmImageOptions = Parameters<WasmImageModelClass["load"]>[1];

export type Generate = (
  request: GenerateRequest,
  onPiece: (text: string) => void,
  signal: AbortSignal,
) => Promise<Partial<GenerateResult>>;

export interface Script {
  /** Returns what differs from {@link INFO}. */
  load?: (
    source: EngineSource,
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
    options: WasmLoadOptions,
  ) => Promise<Partial<WasmInfo> | void>;
  generate?: Generate;
  inspect?: (source: EngineSource, options: WasmInspectOptions) => Promise<Partial<ModelHeader>>;
  canRun?: (source: EngineSource, options: WasmLoadOptions) => Promise<WasmCanRunReport>;
  /** Default: rejects. */
  fetch?: Fetch;
  /** An image model's methods; what is left out rejects. */
  image?: Partial<WasmImageModel> & { load?: (options: WasmImageOptions, onProgress: (progress: RawProgress) => void) => Promise<void> };
  start?: (level: SimdLevel) => Promise<void>;
  /** undefined is a browser without SIMD. Default: relaxed. */
  simdLevel?: () => SimdLevel | undefined;
  /** Default: four cores that cannot share memory. */
  cores?: Cores;
  /** Why `fetch` rejected. */
  explain?: (url: string) => Promise<NetworkFault>;
}

export const DEVICE: DeviceInfo = {
  kind: "cpu",
  adapter: "fake",
  isFallbackAdapter: false,
  features: [],
  threads: 1,
  mostThreads: 1,
  choice: "asked",
  reason: "It was asked for.",
};
export const IMAGE_INFO: Omit<ImageDecoderInfo, "storage"> = {
  architecture: "TAESD",
  latentChannels: 1,
  scale: 8,
  decodes: true,
  encodes: true,
  precision: "f32",
  hasPrior: false,
  weightBytes: 10,
  gpuBytes: 0,
  device: DEVICE,
};
const HEADER = { architecture: "llama", name: "fake", hasChatTemplate: true } as ModelHeader;
const INFO = { ...HEADER, device: DEVICE } as WasmInfo;
/** A memory of a MiB. */
export const MEMORY = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
/** The smallest module there is. */
export const MODULE = new WebAssembly.Module(Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00));

export class FakeWorker implements WorkerLike {
  readonly received: ToWorker[] = [];
  /** To the page. */
  readonly sent: FromWorker[] = [];
  readonly requests: GenerateRequest[] = [];
  terminated = false;
  freed = false;
  freedImages = 0;
  /** Most generations that were ever under way at once in the engine. */
  mostAtOnce = 0;
  #atOnce = 0;
  readonly #page = new Map<string, (event: any) => void>();
  readonly #scope = new Map<string, (event: any) => void>();

  constructor(script: Script = {}) {
    const scope: WorkerScope = {
      postMessage: (message: FromWorker, transfer: Transferable[] = []) => {
        const data = structuredClone(message, { transfer });
        this.sent.push(data);
        this.#deliver(this.#page, "message", { data });
      },
      addEventListener: (type: string, listener: any) => void this.#scope.set(type, listener),
    };
    serve(scope, {
      simdLevel: script.simdLevel ?? (() => "relaxed"),
      cores: () => script.cores ?? { cores: 4, canShare: false },
      fetch: script.fetch ?? (() => Promise.reject(new Error("not scripted"))),
      openStore: () => Promise.resolve(undefined),
      explain: script.explain ?? (() => Promise.reject(new Error("not scripted"))),
      start: async (level) => {
        await script.start?.(level);
        return {
          memory: MEMORY,
          mostMemoryBytes: 2 ** 32,
          module: MODULE,
          measureGpu: () => Promise.reject(new Error("not scripted")),
          downloadFiles: () => Promise.reject(new Error("not scripted")),
          ImageModel: {
            load: async (_source, options, onProgress) => {
              await script.image?.load?.(options, onProgress);
              return this.#imageModel(script.image ?? {});
            },
          },
          TextModel: {
            canRun: async (source, options) => (await script.canRun?.(source, options)) ?? Promise.reject(new Error("not scripted")),
            inspect: async (source, options) => ({ ...HEADER, ...(await script.inspect?.(source, options)) }),
            load: async (source, options, onProgress, signal) => {
              const info = await script.load?.(source, onProgress, signal, options);
              return this.#model(script.generate ?? echo, { ...INFO, ...info });
            },
          },
        };
      },
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

  #imageModel(methods: Partial<WasmImageModel>): WasmImageModel {
    const missing = () => Promise.reject(new Error("not scripted"));
    return {
      info: () => IMAGE_INFO,
      attachCanvas: () => {},
      decode: missing,
      encode: missing,
      sample: (seed, spread) => ({ channels: 1, height: 1, width: 2, data: Float32Array.of(seed, spread) }),
      ...methods,
      free: () => void this.freedImages++,
    };
  }

  #model(generate: Generate, info: WasmInfo): WasmTextModel {
    return {
      info: () => info,
      generate: async (request, onPiece, signal) => {
        this.requests.push(request);
        this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#atOnce);
        try {
          return result(await generate(request, onPiece, signal));
        } finally {
          this.#atOnce--;
        }
      },
      tokenize: async (text) => Uint32Array.from(text, (c) => c.charCodeAt(0)),
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
