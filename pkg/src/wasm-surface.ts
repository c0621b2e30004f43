// What the worker needs of the wasm-bindgen module. `worker.ts` assigns the generated module to
// this type, so a change on the Rust side that does not fit fails the TypeScript build.
import type { GenerateRequest, RawProgress, WireSource } from "./protocol.js";
import type { DeviceChoice, GenerateResult, ModelInfo } from "./types.js";

/** What the engine says of itself; the size of its memory is seen from outside. */
export type WasmInfo = Omit<ModelInfo, "wasmHeapBytes"> & {
  /** Wasm memory of the helpers, which have instances of their own. */
  helperHeapBytes?: number;
};

export interface WasmLoadOptions {
  contextLength?: number;
  device?: DeviceChoice;
  activationBits?: 8 | 16;
  /** How many may compute on the CPU, the engine's own worker included. */
  threads: number;
  /**
   * Called at most once, when the CPU was chosen and there is to be more than one thread. Resolves with
   * memory that `count` helpers, in `run_cpu_helper` by then, share with the engine. After a rejection
   * the engine goes on alone and says why in `device.reason`.
   */
  spawnHelpers: (count: number, sharedBytes: number) => Promise<SharedArrayBuffer>;
}

export interface WasmTextModel {
  info(): WasmInfo;
  /** Resolves with `finishReason: "aborted"` when the signal fires. */
  generate(request: GenerateRequest, onPiece: (text: string) => void, signal: AbortSignal): Promise<GenerateResult>;
  tokenize(text: string, special: boolean): Uint32Array;
  detokenize(ids: Uint32Array): string;
  free(): void;
}

export interface WasmTextModelClass {
  load(
    source: WireSource,
    options: WasmLoadOptions,
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
  ): Promise<WasmTextModel>;
}

/** A started engine. */
export interface Engine {
  memory: { readonly buffer: { readonly byteLength: number } };
  /** Compiled; helpers start from the same. */
  module: WebAssembly.Module;
  TextModel: WasmTextModelClass;
}
