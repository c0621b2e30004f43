// Stands in for the generated file of the same name; see ../../README.md.
export default function init(input?: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<unknown>;

export class WasmImageModel {
  private constructor();
  static load(source: any, options: any, onProgress: Function, signal: AbortSignal): Promise<WasmImageModel>;
  info(): any;
  decode(latents: Float32Array, request: any, onEvent: Function, signal: AbortSignal): Promise<any>;
  attachCanvas(number: number, canvas: OffscreenCanvas): void;
  encode(rgba: Uint8Array, request: any, onEvent: Function, signal: AbortSignal): Promise<any>;
  sample(seed: number, spread: number): any;
  free(): void;
}

export class WasmTextModel {
  private constructor();
  static load(source: any, options: any, onProgress: Function, signal: AbortSignal): Promise<WasmTextModel>;
  static inspect(source: any, options: any, signal: AbortSignal): Promise<any>;
  static canRun(source: any, options: any, signal: AbortSignal): Promise<any>;
  info(): any;
  generate(request: any, onPiece: Function, signal: AbortSignal): Promise<any>;
  tokenize(text: string, special: boolean, signal: AbortSignal): Promise<Uint32Array>;
  detokenize(ids: Uint32Array): string;
  free(): void;
}

export function measureGpu(): Promise<any>;

export function downloadFiles(source: any, options: any, onProgress: Function, signal: AbortSignal): Promise<void>;
