// The message contract between the page and the worker: verb, id, args -> result | error | event.
// Both sides are typed from the one table below, so neither can drift from the other.
import type { WireError } from "./errors.js";
import type { DecodeStats, ImageDecoderInfo, Latents, Precision } from "./image-types.js";
import type { HelperSeat } from "./helper-instance.js";
import type { ToHelper } from "./helper-team.js";
import type { SimdLevel } from "./simd.js";
import type { GpuRates } from "./measure.js";
import type {
  CanRun,
  ChatMessage,
  DeviceChoice,
  GenerateResult,
  KeepingProgress,
  KvType,
  LoadPhase,
  ModelHeader,
  ModelInfo,
  NetworkOptions,
  SamplingDefault,
  SamplingOptions,
  StorageUsage,
  StoredModel,
  VerifyResult,
} from "./types.js";

/** What the page was given as a model: for each file its addresses, which are absolute; files; or what the worker has to find. */
export type WireSource = { addresses: string[][] } | { blobs: Blob[]; names: string[] } | { hub: HubModel } | { stored: string };

/** A model on a hub: a file and its other parts, or the file of a quantization, or else the one of the default quantization. */
export interface HubModel {
  /** Names all that makes it another model, the revision too: `hf:owner/repo@revision:Q4_K_M`. */
  name: string;
  /** `owner/repo`. */
  repository: string;
  revision: string;
  path?: string;
  /** In capital letters. */
  quantization?: string;
  /** Addresses without a slash at the end, in the order to try. */
  hubs: string[];
  accessToken?: string;
}

/** How to check and keep the files. */
export interface FileRequest {
  storage?: "auto" | "none";
  sha256?: string[];
}

/** Where a build of the engine is: at an address, or here, compressed with gzip. */
export type WasmPlace = string | Blob;

/** What one generation needs: messages for the chat template, or a plain prompt. */
export interface GenerateRequest extends SamplingOptions {
  messages?: ChatMessage[];
  prompt?: string;
}

/** What to load, and on what. */
export interface LoadRequest {
  source: WireSource;
  files: FileRequest;
  network: NetworkOptions;
  contextLength?: number;
  kvCache?: KvType;
  device?: DeviceChoice;
  threads?: number;
  activationBits?: 8 | 16;
  draftTokens?: number;
  kernels?: string;
  sampling?: Pick<SamplingOptions, SamplingDefault>;
  /** Of earlier loads, by {@link DeviceInfo.kernelsKey}. */
  rememberedKernels?: Record<string, string>;
}

/** What of a file's header shall be read. */
export type InspectRequest = Pick<LoadRequest, "source" | "files" | "network" | "contextLength" | "kvCache">;

/** What to keep. */
export type DownloadRequest = Pick<LoadRequest, "source" | "files" | "network">;

/** What to load, if it fits. */
export type CanRunRequest = Omit<LoadRequest, "sampling">;

/** Loading as the engine reports it; rates are worked out on the page. */
export interface RawProgress {
  phase: LoadPhase;
  loadedBytes: number;
  totalBytes: number;
  waiting?: string;
}

/** How far a file is kept or checked. */
export type RawKeeping = Pick<KeepingProgress, "phase" | "loadedBytes" | "totalBytes">;

/** Files to keep: `names` are those of `blobs`, `name` the model's. */
export interface ImportRequest {
  name: string;
  names: string[];
  blobs: Blob[];
}

/** An image model to load; `model` is the number under which the page will speak of it. */
export interface ImageLoadRequest {
  model: number;
  source: WireSource;
  files: FileRequest;
  network: NetworkOptions;
  device?: DeviceChoice;
  threads?: number;
  precision?: Precision;
}

/** (height, width, 4) bytes. */
export interface WirePicture {
  width: number;
  height: number;
  data: Uint8Array;
}

export interface DecodeRequest {
  model: number;
  latents: Latents;
  scaled: boolean;
  preview: boolean;
  memoryBytes?: number;
  /** The number of an attached canvas that shows the picture; it does not come back then. */
  canvas?: number;
}

/** What a decode gives: a picture, or only its size where a canvas shows it. */
export type DecodeReply = Omit<WirePicture, "data"> & { data?: Uint8Array; stats: DecodeStats };

export interface EncodeRequest {
  model: number;
  picture: WirePicture;
  seed?: number;
  memoryBytes?: number;
}

/** Tiles done, and how many there are. */
export interface TileEvent {
  done: number;
  total: number;
}

/** On the way of a decode: a coarse picture, or how many tiles are done. */
export type DecodeEvent = { preview: WirePicture } | TileEvent;

/** Every verb with its arguments, its result and the events it may send on the way. */
export interface Verbs {
  load: { args: LoadRequest; result: ModelInfo; event: RawProgress };
  /** Reads and checks a file's header, and no more. */
  inspect: { args: InspectRequest; result: ModelHeader; event: RawProgress };
  /** Whether a load would fit, and how fast it would be. */
  canRun: { args: CanRunRequest; result: CanRun; event: RawProgress };
  generate: { args: GenerateRequest; result: GenerateResult; event: string };
  tokenize: { args: { text: string; special: boolean }; result: Uint32Array; event: never };
  detokenize: { args: { ids: Uint32Array }; result: string; event: never };
  loadImage: { args: ImageLoadRequest; result: ImageDecoderInfo; event: RawProgress };
  imageInfo: { args: { model: number }; result: ImageDecoderInfo; event: never };
  decode: { args: DecodeRequest; result: DecodeReply; event: DecodeEvent };
  /** The page gives a canvas away, under a number. */
  attachCanvas: { args: { model: number; number: number; canvas: OffscreenCanvas }; result: null; event: never };
  encode: { args: EncodeRequest; result: Latents; event: TileEvent };
  sample: { args: { model: number; seed: number; spread: number }; result: Latents; event: never };
  listModels: { args: null; result: StoredModel[]; event: never };
  storageUsage: { args: null; result: StorageUsage; event: never };
  /** Whether there was such a model. */
  deleteModel: { args: { id: string }; result: boolean; event: never };
  /** Keeps a model without loading it. */
  download: { args: DownloadRequest; result: StoredModel; event: RawProgress };
  verifyModel: { args: { id: string }; result: VerifyResult; event: RawKeeping };
  importModel: { args: ImportRequest; result: StoredModel; event: RawKeeping };
  exportModel: { args: { id: string }; result: File[]; event: never };
  measureGpu: { args: null; result: GpuRates; event: never };
  /** Frees one image model; the worker and other models in it go on. */
  disposeImage: { args: { model: number }; result: null; event: never };
  /** Frees the memory, the GPU's too, and tells the helpers to leave. */
  dispose: { args: null; result: null; event: never };
}

export type Verb = keyof Verbs;

/** Page to worker. */
export type ToWorker =
  | { [V in Verb]: { verb: V; id: number; args: Verbs[V]["args"] } }[Verb]
  /** Has no reply of its own: the request it names settles. */
  | { verb: "abort"; id: number }
  /** The helpers that were asked for wait for work, except for those that could not be started, for these reasons. */
  | { verb: "helpers"; failed: string[] }
  /** The helper at the place with this word is gone, and has not said so there. */
  | { verb: "lost"; dead: number }
  /** Where the engine's wasm is. */
  | { verb: "wasm"; place: WasmPlace }
  | { verb: "wasm"; error: WireError }
  /** Makes the worker a helper thread. The engine's worker never gets this. */
  | ToHelper;

/** Worker to page. After `fatal` the worker answers nothing any more. */
export type FromWorker =
  | { kind: "result"; id: number; value: Verbs[Verb]["result"] }
  | { kind: "error"; id: number; error: WireError }
  | { kind: "event"; id: number; value: Verbs[Verb]["event"] }
  /** The worker's script runs. */
  | { kind: "started" }
  /** Asks the page for helper threads, one for each seat. */
  | { kind: "helpers"; seats: HelperSeat[] }
  /** Asks the page where the engine's wasm is. `failed` says why the last answer was of no use. */
  | { kind: "wasm"; level: SimdLevel; failed?: string | undefined }
  | { kind: "fatal"; error: WireError };
