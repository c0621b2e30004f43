// What the worker needs of the wasm-bindgen module. `worker.ts` assigns the generated module to
// this type, so a change on the Rust side that does not fit fails the TypeScript build.
import type { HelperPlace } from "./helper-instance.js";
import type { GpuRates } from "./measure.js";
import type { ImageDecoderInfo, Latents, Precision } from "./image-types.js";
import type { DecodeEvent, DecodeReply, GenerateRequest, RawProgress, TileEvent } from "./protocol.js";
import type { NetworkFault } from "./network-fault.js";
import type { DeviceChoice, DeviceInfo, GenerateResult, KvType, ModelHeader, ModelInfo, NetworkOptions, SamplingDefault, SamplingOptions } from "./types.js";

/** What the engine says of itself; the size of its memory is seen from outside. */
export type WasmInfo = Omit<ModelInfo, "wasmHeapBytes" | "storage">;

/** How the engine waits for the network, and whom it tells and asks. */
export interface WasmNetworkOptions extends NetworkOptions {
  /** Called before each pause, with its reason. */
  onWait(reason: string): void;
  /** Finds out why `fetch` rejected before a server ever answered. */
  explain(url: string): Promise<NetworkFault>;
  fetch: Fetch;
}

/** The files of a model: addresses for `fetch`, or files. */
export type EngineSource = { urls: string[] } | { blobs: Blob[]; names: string[] };

/** `fetch`, or what answers from storage in its place. An error whose `fatal` is true is not retried. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface WasmLoadOptions {
  network: WasmNetworkOptions;
  contextLength?: number;
  kvCache?: KvType;
  device?: DeviceChoice;
  activationBits?: 8 | 16;
  draftTokens?: number;
  kernels?: string;
  sampling?: Pick<SamplingOptions, SamplingDefault>;
  rememberedKernels?: Record<string, string>;
  /** To which the engine's memory can grow. */
  mostMemoryBytes: number;
  /** How many may compute on the CPU, the engine's own worker included. */
  threads: number;
  /** How many compute a token at first; the best number is then found by timing. Without it all do. */
  startThreads?: number;
  /**
   * Called at most once, when the CPU was chosen and there is to be more than one thread. Resolves once helpers wait for work
   * at their places, with a reason for each that could not be started and is marked as dead. After a rejection the engine
   * goes on alone. It says why in `device.reason`.
   */
  spawnHelpers: (places: HelperPlace[]) => Promise<string[]>;
}

export interface WasmTextModel {
  info(): WasmInfo;
  /** Resolves with `finishReason: "aborted"` when the signal fires. */
  generate(request: GenerateRequest, onPiece: (text: string) => void, signal: AbortSignal): Promise<GenerateResult>;
  /** Rejects with `aborted` when the signal fires. */
  tokenize(text: string, special: boolean, signal: AbortSignal): Promise<Uint32Array>;
  detokenize(ids: Uint32Array): string;
  free(): void;
}

/** What reading a header needs of the options of a load. */
export type WasmInspectOptions = Pick<WasmLoadOptions, "network" | "contextLength" | "kvCache">;

/** What the engine finds out for `canRun`; can-run.ts makes the answer of it. */
export interface WasmCanRunReport {
  header: ModelHeader;
  device: DeviceInfo;
  /** Of all files. */
  fileBytes: number;
  deviceBytes: number;
  contextBytesPerToken: number;
  /** Of the KV cache, if it were q8_0. */
  smallestKvBytes: number;
  /** Whether the addresses of the CPU path reach all of the model. */
  cpuFits: boolean;
  /** Why it does not fit. `what` is too large; without it, all together is. */
  refusal?: { code: "address-space" | "out-of-memory" | "device-limit"; what?: string; needed: number; allowed?: number };
  /** In milliseconds. `fillMs` is allocating and packing the weights, `prepareMs` what else a load does. */
  times?: { tokenMs: number; firstTokenMs: number; fillMs: number; prepareMs: number };
}

export interface WasmTextModelClass {
  /** Rejects with what a load would refuse, except for memory. */
  canRun(source: EngineSource, options: WasmLoadOptions, signal: AbortSignal): Promise<WasmCanRunReport>;
  /** Rejects with what a load would refuse for the header's sake. */
  inspect(source: EngineSource, options: WasmInspectOptions, signal: AbortSignal): Promise<ModelHeader>;
  load(
    source: EngineSource,
    options: WasmLoadOptions,
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
  ): Promise<WasmTextModel>;
}

export interface WasmImageModel {
  info(): Omit<ImageDecoderInfo, "storage">;
  /** On the GPU only; a request names the canvas by its number. */
  attachCanvas(number: number, canvas: OffscreenCanvas): void;
  /** `data` is (channels, height, width). Rejects with `aborted` when the signal fires. */
  decode(
    data: Float32Array,
    request: {
      channels: number;
      height: number;
      width: number;
      scaled: boolean;
      preview: boolean;
      memoryBytes?: number;
      canvas?: number;
    },
    onEvent: (event: DecodeEvent) => void,
    signal: AbortSignal,
  ): Promise<DecodeReply>;
  encode(
    rgba: Uint8Array,
    request: { width: number; height: number; seed?: number; memoryBytes?: number },
    onEvent: (event: TileEvent) => void,
    signal: AbortSignal,
  ): Promise<Latents>;
  sample(seed: number, spread: number): Latents;
  free(): void;
}

export interface WasmImageModelClass {
  load(
    source: EngineSource,
    options: Pick<WasmLoadOptions, "network" | "threads" | "spawnHelpers" | "device"> & { precision?: Precision },
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
  ): Promise<WasmImageModel>;
}

/** A started engine. */
export interface Engine {
  memory: WebAssembly.Memory;
  /** To which the memory can grow. */
  mostMemoryBytes: number;
  /** Compiled; helpers start from the same. */
  module: WebAssembly.Module;
  TextModel: WasmTextModelClass;
  ImageModel: WasmImageModelClass;
  measureGpu(): Promise<GpuRates>;
  /** Reads the files to their end through `network.fetch`, which keeps them. */
  downloadFiles(
    source: EngineSource,
    options: { network: WasmNetworkOptions },
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
  ): Promise<void>;
}
