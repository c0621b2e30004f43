declare global {
  // For `await using`. TypeScript has it in a library that not every project takes.
  interface SymbolConstructor {
    readonly asyncDispose: unique symbol;
  }
}

/** One message of a conversation. */
export interface ChatMessage {
  /** Who speaks. */
  role: "system" | "user" | "assistant";
  /** Plain text. Special-token text in it stays text: it cannot act as a control token. */
  content: string;
}

/**
 * What to compute on. `"auto"` takes the GPU where that is faster: a real one, if a short measurement on
 * the model's own shapes says so. A software adapter never is.
 */
export type DeviceChoice = "auto" | "webgpu" | "cpu";

/** What computes. */
export interface DeviceInfo {
  kind: "webgpu" | "cpu";
  /** The adapter's own description, which browsers may blur; empty on the CPU. */
  adapter: string;
  /** True when the "GPU" is software on the CPU: correct, but slow. */
  isFallbackAdapter: boolean;
  /**
   * Optional GPU features that are really used, `"subgroups"` and `"shader-f16"`; on the CPU `"simd128"` or
   * `"relaxed-simd"`, with `"8- and 16-bit activations"` or `"8-bit activations"` where they are rounded so, and
   * `"dot products of four bytes"` where the browser makes one instruction of those.
   */
  features: string[];
  /**
   * Threads that compute a token; 1 on the GPU. Where {@link LoadOptions.threads} does not say how many, the number is found
   * by timing while the model runs, and this is that after the latest answer.
   */
  threads: number;
  /** Threads that there are; all of them read a prompt. 1 on the GPU. */
  mostThreads: number;
  /**
   * On the GPU of a language model: which variants of the kernels its matrices take. {@link LoadOptions.kernels} pins
   * them.
   */
  kernels?: string | undefined;
  /** How they were found, as a sentence: measured while loading, remembered, asked for; and what was left out as wrong. */
  kernelsReason?: string | undefined;
  /** Names adapter and model shapes: under this the choice is remembered in `localStorage`. */
  kernelsKey?: string | undefined;
  /**
   * Why this device: the caller asked for it; there is no WebGPU; no adapter was offered; the only one is
   * software; there is a real one, which image networks take untimed; its numbers were wrong; it was lost
   * or did not answer while its kernels were tried; or both were measured.
   */
  choice: "asked" | "no-webgpu" | "no-adapter" | "software-adapter" | "adapter" | "wrong-numbers" | "device-lost" | "probe";
  /** The same as a sentence for people, with names and figures. */
  reason: string;
}

/** What the header of a model's file says, with the memory that a load would take for the context. */
export interface ModelHeader {
  /** `general.architecture` of the file, such as `"llama"`. */
  architecture: string;
  /** `general.name` of the file. */
  name: string;
  /** Number of weights. */
  parameters: number;
  /** Of these, the layers': each is multiplied once for every token of a prompt. */
  layerParameters: number;
  /** Bytes of all weights as stored. */
  weightBytes: number;
  /** Weight formats in the file, such as `["Q4_1", "F32"]`. */
  weightTypes: string[];
  /** Capacity of the KV cache, in tokens. */
  contextLength: number;
  /** What the KV cache holds. */
  kvCache: KvType;
  /** Bytes of the KV cache. A layer with a sliding window has room for its window and a batch of a prompt, not for the context. */
  kvBytes: number;
  /** Context the model was trained with, in tokens. */
  trainedContextLength: number;
  /** Number of transformer layers. */
  layers: number;
  /** Number of tokens in the vocabulary. */
  vocabularySize: number;
  /**
   * Whether the file has a chat template. A model without one is a base model: it continues a text
   * (`generate("Once upon a time")`), and `createChat` and messages are refused with `no-chat-template`.
   */
  hasChatTemplate: boolean;
}

/** What was loaded, and what it runs on. */
export interface ModelInfo extends ModelHeader {
  /** The device that computes, and why that one. */
  device: DeviceInfo;
  /** GPU memory held by weights, KV cache and scratch buffers, in bytes; 0 on the CPU. */
  gpuBytes: number;
  /** GPU dispatches for one decoded token; 0 on the CPU. */
  dispatchesPerToken: number;
  /**
   * Drafts that speculative decoding verifies at once, at most; 0 is off: see {@link LoadOptions.draftTokens}.
   */
  draftTokens: number;
  /** What a request gets that does not name a sampling option, and where that comes from. */
  sampling: { [Option in SamplingDefault]: { value: number; from: SamplingOrigin } };
  /** Recommendations of the file (`general.sampling.*`) that are not followed. Loading never fails because of them. */
  samplingNotApplied: { key: string; value: string; reason: string }[];
  /**
   * Where the file came from, and where it is kept.
   */
  storage: StorageReport;
  /**
   * Wasm memory after loading, in bytes, all threads together. It never shrinks, so it is the peak. On the
   * CPU the weights are in it.
   */
  wasmHeapBytes: number;
}

/** Sampling options that a model may have defaults of. */
export type SamplingDefault =
  | "temperature"
  | "topK"
  | "topP"
  | "minP"
  | "repetitionPenalty"
  | "presencePenalty"
  | "frequencyPenalty"
  | "penaltyWindow";

/** The file's metadata, {@link LoadOptions.sampling}, or the engine's default for every model. */
export type SamplingOrigin = "file" | "option" | "engine";

/**
 * How to sample, and when to stop. What is left out takes the model's default, which {@link ModelInfo.sampling} has. The
 * defaults named here are the engine's, for a model that has none of its own.
 */
export interface SamplingOptions {
  /** Most tokens to generate. Default: what is left of the context. */
  maxTokens?: number | undefined;
  /** Texts that end the answer; they are not part of it. At most 1024, and 4 MiB together. */
  stop?: string[] | undefined;
  /** The same seed and options give the same text. Default: random; see {@link GenerateResult.seed}. */
  seed?: number | undefined;
  /** 0 is greedy. Default 0.8. */
  temperature?: number | undefined;
  /** Keep the k likeliest tokens; 0 keeps all. Default 40. */
  topK?: number | undefined;
  /** Keep the likeliest tokens that make up this share of probability. Default 0.95. */
  topP?: number | undefined;
  /** Drop tokens below this share of the likeliest one's probability. Default 0.05. */
  minP?: number | undefined;
  /** Divides the score of recent tokens; 1 is off. Default 1. */
  repetitionPenalty?: number | undefined;
  /** Subtracted once from the score of each recent token. Default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted from a recent token's score for each time it occurred. Default 0. */
  frequencyPenalty?: number | undefined;
  /** How many of the latest tokens the penalties look at. Default 64. */
  penaltyWindow?: number | undefined;
  /** Added to the score of token ids. */
  logitBias?: Record<number, number> | undefined;
}

/** {@link SamplingOptions} and a way to cancel. */
export interface GenerateOptions extends SamplingOptions {
  /**
   * Cancels the request. While it still waits in the queue the request rejects with an
   * `AbortError`; once it runs, it resolves with the text so far and `finishReason: "aborted"`.
   */
  signal?: AbortSignal | undefined;
}

/** How a generation went. */
export interface GenerateResult {
  /** The whole text. */
  text: string;
  /** Why it ended: end of turn, a stop string, `maxTokens`, a full context, or the caller. */
  finishReason: "stop" | "stop-string" | "length" | "context-full" | "aborted";
  /** Which stop string was met. */
  stopString?: string | undefined;
  /** Tokens of the prompt. */
  promptTokens: number;
  /** Of these, tokens whose keys and values were still in the cache. */
  reusedTokens: number;
  /** Tokens generated. */
  generatedTokens: number;
  /** The seed that was used; give it again to get the same text. */
  seed: number;
  /** Times in milliseconds, rates in tokens per second, and counts per generated token. */
  stats: {
    prefillMs: number;
    timeToFirstTokenMs: number;
    decodeMs: number;
    prefillTokensPerSecond: number;
    decodeTokensPerSecond: number;
    dispatchesPerToken: number;
    submitsPerToken: number;
    readbacksPerToken: number;
    weightBytesPerToken: number;
    /** Drafts that were verified; 0 without {@link LoadOptions.draftTokens}. */
    draftedTokens: number;
    /** Of these, those that were right: tokens that cost no step of their own. */
    acceptedTokens: number;
    /** Threads that computed the last token; 1 on the GPU. */
    threads: number;
  };
}

/** A text that is being generated. Generation starts by itself; reading it is optional. */
export interface Generation extends AsyncIterable<string> {
  /**
   * Settles when the generation has ended.
   *
   * @throws {@link EmberglassError} with the engine's code; an `AbortError` only when the request was
   * cancelled before it began.
   */
  readonly result: Promise<GenerateResult>;
  /** The text so far. */
  readonly text: string;
  /** Stops it, as the caller's `AbortSignal` would. Leaving a `for await` loop early does the same. */
  abort(): void;
}

/** Steps of loading, in order. */
export type LoadPhase = "starting" | "header" | "device" | "weights" | "kernels" | "ready";

/** One report of how far loading is. */
export interface LoadProgress {
  phase: LoadPhase;
  /** Bytes of the model file(s) that have arrived. */
  loadedBytes: number;
  /** Bytes to load in all; 0 while unknown. */
  totalBytes: number;
  /** Rate over the last few seconds; 0 while unknown. */
  bytesPerSecond: number;
  /** Estimate for the remaining bytes, in seconds; null while unknown. */
  secondsLeft: number | null;
  /**
   * Why loading waits, for as long as it does: the connection was lost, or the server is busy. It goes on by itself:
   * see {@link NetworkOptions.retryTimeoutMs}.
   */
  waiting?: string | undefined;
}

/** How long loading waits for the network. Both times are in milliseconds, at most 2147483647. */
export interface NetworkOptions {
  /**
   * A connection on which nothing arrives for so long is given up, at least 1; default 30 000. A server that has sent
   * a part of the file before is asked again for the rest: the third silence in a row is an error. Slow is not silent.
   */
  stallTimeoutMs?: number | undefined;
  /**
   * After a lost connection the rest of the file is asked for again, at first after half a second and later every ten
   * seconds. Once these pauses add up to so much, loading fails; default 90 000. With 0 nothing is asked for again.
   * A server that was never reached, or that answers with an error, is asked three times more at most.
   */
  retryTimeoutMs?: number | undefined;
}

/**
 * A file in the forms that pages have one. A `Response` is read to its end first, without reports of progress and without
 * retries: give its address instead where that is possible.
 */
export type FileSource = Blob | ArrayBuffer | ArrayBufferView | Response | FileSystemFileHandle;

/**
 * Where a model comes from: an address, a model on a hub, a file, or several addresses or files of one model, in their order.
 * Relative addresses are resolved against the document. The address of the public hub's page about a file (`/blob/`) is taken
 * as that of the file.
 *
 * A model on a hub is a string: `hf:owner/repo:Q4_K_M` names a quantization, `hf:owner/repo/path/to/file.gguf` a file, and
 * `hf:owner/repo` takes Q4_K_M, else Q8_0, else the only model there is. `hf:owner/repo@revision`, with the same endings, names a branch, tag or
 * commit; a slash in it is written as `%2F`. The parts of a split file are found and loaded together.
 */
export type ModelSource =
  | string
  | URL
  | FileSource
  | { shards: readonly (string | URL)[] | readonly FileSource[] }
  /** One file at several addresses, at most 16, which are tried in this order. All have to have the same bytes. */
  | { mirrors: readonly (string | URL)[] }
  /** A model that is stored on this device, by its {@link StoredModel.id}. */
  | { stored: string };

/** How the files of a model are found, checked and kept. */
export interface SourceOptions {
  /**
   * `"auto"` (default) keeps a downloaded model on this device, where the browser has room for it, and loads it from there the
   * next time. `"none"` neither reads nor writes what is stored.
   */
  storage?: "auto" | "none" | undefined;
  /** SHA-256 of the file as 64 hexadecimal digits, or those of the files of a split model in their order. */
  sha256?: string | readonly string[] | undefined;
  /** Of an `hf:` source: a branch, tag or commit, where the source does not name it. Default `"main"`. */
  revision?: string | undefined;
  /**
   * Of an `hf:` source: an access token for gated and private models. It is sent to each hub that is asked, and not to servers
   * that a hub sends on to; it is not stored, and it is in no message.
   */
  accessToken?: string | undefined;
  /** Of an `hf:` source: addresses of hubs, at most 8, which are tried in this order. Default `["https://huggingface.co"]`. */
  hubs?: readonly (string | URL)[] | undefined;
}

/** Where the bytes of a loaded model came from, and where they are kept. */
export interface StorageReport {
  /**
   * Where they are kept: in the origin private file system, in the Cache API, or nowhere (`"none"`: the caller's wish, a file
   * that the page gave, no room, or a browser without either; {@link StorageReport.reason} says which).
   */
  kind: "opfs" | "cache" | "none";
  /** The model's id among those that are stored; undefined where it is not kept. */
  id?: string | undefined;
  /** Bytes that came from what was stored. */
  storedBytes: number;
  /** Bytes that came from the network. */
  networkBytes: number;
  /** Stored parts that were damaged, and were downloaded again: byte ranges `[from, to)` of the file of that number. */
  repaired: { file: number; from: number; to: number }[];
  /** Why the model is not kept, or not whole; undefined where it is. */
  reason?: string | undefined;
}

/** A model that is stored on this device, or a part of one. */
export interface StoredModel {
  /** Names the model for `models.delete` and for `{ stored: id }`. */
  id: string;
  /** The file's name, without folders. */
  name: string;
  /** What was loaded: an address without secrets, an `hf:` source, or the name of an imported file. */
  source: string;
  files: { name: string; bytes: number | undefined; storedBytes: number; sha256?: string | undefined }[];
  /** Bytes of all files; undefined while they are not known. */
  bytes: number | undefined;
  /** Of these, bytes that are stored. */
  storedBytes: number;
  /** Every byte is stored, so that it loads without a network. */
  complete: boolean;
  /** When it was loaded last, in milliseconds since 1970. */
  lastUsed: number;
}

/** How much room there is. */
export interface StorageUsage {
  /** Where models are kept; `"none"` in a browser that keeps nothing. */
  kind: "opfs" | "cache" | "none";
  /** Bytes of stored models. */
  modelBytes: number;
  /** Bytes that this origin uses, models and all else, as the browser estimates. */
  usedBytes: number | undefined;
  /** Bytes that this origin may use, as the browser estimates. */
  quotaBytes: number | undefined;
  /** The browser has promised not to delete anything by itself. */
  persisted: boolean;
}

/** What `models.verify` found. */
export interface VerifyResult {
  /** Byte ranges `[from, to)` that were damaged, and were deleted: the next load downloads them again. */
  damaged: { file: number; from: number; to: number }[];
  /** Bytes that were right. */
  verifiedBytes: number;
  /** Every byte is there, and right. */
  complete: boolean;
}

/** Steps of keeping a file, and of checking one that is kept. */
export type KeepingPhase = "checking" | "storing";

/** One report of how far `models.import` or `models.verify` is. Each phase begins at 0 bytes, or at what was stored before. */
export type KeepingProgress = Omit<LoadProgress, "phase" | "waiting"> & { phase: KeepingPhase };

/** Options of `models.verify`. */
export interface VerifyOptions extends EngineAddresses {
  /** Called on every change of phase, else at most ten times a second. */
  onProgress?: ((progress: KeepingProgress) => void) | undefined;
  /** Ends it; the promise rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** Options of `models.import`. */
export interface ImportOptions extends VerifyOptions {
  /** What the model shall be called. Default: the first file's name. */
  name?: string | undefined;
}

/** Options of `models.download`. */
export type DownloadOptions = NetworkOptions & EngineAddresses & Omit<SourceOptions, "storage"> & Pick<LoadOptions, "onProgress" | "signal">;

/** What the KV cache holds: f32, f16, or bytes with a scale for each 32 of them. */
export type KvType = "f32" | "f16" | "q8_0";

/**
 * Where the package's own files are, for a page where they are not beside the script that contains the package. Relative
 * addresses are resolved against the document. They may be of another origin that allows it (CORS).
 */
export interface EngineAddresses {
  /** Address of `emberglass-worker.js`. */
  workerUrl?: string | URL | undefined;
  /** Addresses of `emberglass-simd128.wasm` and `emberglass-relaxed.wasm`. A browser loads one of them. */
  wasmUrl?: { simd128: string | URL; relaxed: string | URL } | undefined;
}

/** Options of `loadTextModel`. */
export interface LoadOptions extends NetworkOptions, EngineAddresses, SourceOptions {
  /** Called on every change of phase, else at most ten times a second. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Cancels loading; the promise rejects with an `AbortError` and nothing is left behind. */
  signal?: AbortSignal | undefined;
  /** Capacity of the KV cache in tokens. Default: chosen by the engine for the model. */
  contextLength?: number | undefined;
  /**
   * What K and V of earlier tokens are kept as. `"f16"` (default) takes half the memory of `"f32"`, `"q8_0"` 28 % of
   * it; the README says what they cost in quality. A model whose K or V are beyond the range of f16 ends with the
   * error `kv-overflow`: it needs `"f32"`.
   */
  kvCache?: KvType | undefined;
  /** What to compute on. Default `"auto"`; what was chosen and why is in {@link ModelInfo.device}. */
  device?: DeviceChoice | undefined;
  /**
   * Threads on the CPU, 1 to 32; the GPU path ignores it. More than one needs a cross-origin isolated page;
   * elsewhere there is one, and {@link DeviceInfo.reason} says so. By default there is one for each core, at most 8, and how
   * many of them compute a token is found by timing; at first it is one less, so that a core is left for the page.
   */
  threads?: number | undefined;
  /**
   * Bits that activations are rounded to on the CPU before they meet quantized weights. Default: 8, and 16 in the blocks of
   * 32 that 8 would harm (mean KL divergence below 10⁻³ on the models that were measured). 16 throughout is as good as
   * f32, and up to 1.5 times as slow with four- and five-bit weights. 8 throughout costs a small model about as much
   * quality as in other CPU runtimes, which round so by default.
   */
  activationBits?: 8 | 16 | undefined;
  /**
   * Pins the variants of the GPU's kernels: what {@link DeviceInfo.kernels} said. Default: measured while loading, in some
   * 300 ms, and remembered for the next load on the same adapter. Rejects with `gpu` where they compute wrong numbers.
   */
  kernels?: string | undefined;
  /**
   * Speculative decoding by prompt lookup, 0 to 7: where the last tokens occurred before in prompt or answer, up to so
   * many of those that followed are verified in one step. The text is exactly the same; it is faster when the
   * answer repeats text from the prompt, as in editing, summaries and code. The CPU takes 3 at most; {@link ModelInfo.draftTokens} says
   * what is in use, 0 if this device would not compute exactly the same text. Not used with penalties,
   * `logitBias`, or a `topK` of 0 or above 128. Default 0: off.
   */
  draftTokens?: number | undefined;
  /**
   * The model's defaults of the sampling options, such as its card recommends: `{ temperature: 0.2, topP: 0.9 }`. What
   * is left out comes from the file's `general.sampling.*`, else from the engine. An option of a request comes before all.
   */
  sampling?: Pick<SamplingOptions, SamplingDefault> | undefined;
}

/** Options of `canRun`: those of the load that is planned. */
export type CanRunOptions = Omit<LoadOptions, "sampling">;

/** Why a model does not fit. */
export interface CanRunReason {
  /**
   * `"address-space"`: WebAssembly memory cannot be so large. `"out-of-memory"`: the browser or the GPU did not give so much.
   * `"device-limit"`: a part of the model is larger than a buffer of the GPU may be.
   */
  code: "address-space" | "out-of-memory" | "device-limit";
  /** For people: how much is needed and how much there is, what the cache takes of it, and what helps. */
  message: string;
}

/** What `canRun` found out. Bytes are exact; the estimate is measured on this device, with zeros for weights. */
export interface CanRun {
  /** Whether the device gave the memory that a load takes. */
  fits: boolean;
  /** Bytes that a load would download: all files, less what is stored. 0 for files that the page has. */
  downloadBytes: number;
  /** Bytes of the files that are stored on this device. */
  storedBytes: number;
  /**
   * Memory on the device for weights, KV cache and activations: GPU buffers, or WebAssembly memory of all threads together. If
   * the GPU refuses a part for its size, it is what the CPU would take.
   */
  deviceBytes: number;
  /** Of these, bytes of the KV cache for each token of `contextLength`. Layers with a window shorter than the context count 0. */
  contextBytesPerToken: number;
  /** What the file's header says. */
  header: ModelHeader;
  /** What a load would compute on, and why that. */
  device: DeviceInfo;
  /** Why the model does not fit; empty if it does. */
  reasons: CanRunReason[];
  /** What was measured; null where it could not be, and where the model does not fit. */
  estimate: {
    /**
     * Tokens of an answer a second, with 128 tokens before them, drawn with the default options and without speculation. Measured
     * with the threads that a load would have.
     */
    tokensPerSecond: number | null;
    /** From a prompt of 128 tokens to the first token of the answer. */
    firstTokenMs: number | null;
    /**
     * From the call of `loadTextModel` to its end. Null if the line's rate is not known: the header arrived too fast to tell, or
     * out of the browser's own cache. The time to read what is stored is not in it; it is some hundred megabytes a second.
     */
    loadSeconds: number | null;
  };
}

/** Options of `readModelHeader`: those of a load that count for the header. */
export type HeaderOptions = NetworkOptions & EngineAddresses & SourceOptions & Pick<LoadOptions, "contextLength" | "kvCache" | "onProgress" | "signal">;
