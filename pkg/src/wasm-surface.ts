// What the worker needs of the wasm-bindgen module. `worker.ts` assigns the generated module to
// this type, so a change on the Rust side that does not fit fails the TypeScript build.
import type { GenerateRequest, RawProgress, WireSource } from "./protocol.js";
import type { GenerateResult, ModelInfo } from "./types.js";

export interface WasmTextModel {
  info(): Omit<ModelInfo, "wasmHeapBytes">;
  /** Resolves with `finishReason: "aborted"` when the signal fires. */
  generate(request: GenerateRequest, onPiece: (text: string) => void, signal: AbortSignal): Promise<GenerateResult>;
  tokenize(text: string, special: boolean): Uint32Array;
  detokenize(ids: Uint32Array): string;
  free(): void;
}

export interface WasmTextModelClass {
  load(
    source: WireSource,
    options: { contextLength?: number },
    onProgress: (progress: RawProgress) => void,
    signal: AbortSignal,
  ): Promise<WasmTextModel>;
}

/** A started engine. */
export interface Engine {
  memory: { readonly buffer: { readonly byteLength: number } };
  TextModel: WasmTextModelClass;
}
