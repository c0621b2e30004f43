import { EngineClient, type FindWasm, type WorkerLike } from "./engine-client.js";
import { EngineFiles } from "./engine-files.js";
import { abortError, EmberglassError } from "./errors.js";
import { TextModel } from "./model.js";
import { progressMeter } from "./progress.js";
import * as check from "./options.js";
import { toWireSource } from "./source.js";
import { MOST_THREADS } from "./threads.js";
import { ImageDecoder } from "./image-decoder.js";
import type { ImageLoadOptions, Precision } from "./image-types.js";
import type { HelperLike } from "./helper-team.js";
import type { FileRequest, LoadRequest } from "./protocol.js";
import { askToPersist } from "./storage/room.js";
import type { CanRun, CanRunOptions, DeviceChoice, EngineAddresses, HeaderOptions, KvType, LoadOptions, ModelHeader, ModelSource, NetworkOptions, SourceOptions } from "./types.js";
import { rememberedKernels, rememberKernels } from "./remembered-kernels.js";

/** How long a cancelled worker may take to clean up before it is ended from outside. */
const GRACE_MS = 500;

/**
 * Loads a GGUF language model, in a Web Worker of its own, onto the GPU or for the CPU: see {@link LoadOptions.device}.
 *
 * @param source See {@link ModelSource}.
 * @throws {@link EmberglassError} `no-webgpu` and `no-adapter` (only with `device: "webgpu"`), `no-simd`,
 * `no-worker`, `worker-failed`, `out-of-memory`, `device-lost`, `network`, `http-status`, `not-gguf`, `truncated`, `unsupported-type`,
 * `unsupported-architecture` and others of {@link ErrorCode}; `invalid-option`; `aborted` (an `AbortError`) when `options.signal` fires.
 */
export async function loadTextModel(source: ModelSource, options: LoadOptions = {}): Promise<TextModel> {
  const checked = check.options("loadTextModel", LOAD, options);
  const files = new EngineFiles(checked);
  return openTextModel(source, checked, files.spawn, files.spawnHelper, files.findWasm);
}

/**
 * Reads the header of a GGUF language model and checks it as {@link loadTextModel} does, in a worker that ends
 * afterwards. No weights are read and no device is asked for. A page that replaces one model by another learns so
 * whether the new file is one that runs, before it lets go of the old one.
 *
 * @throws {@link EmberglassError} what a load would refuse for the header's sake: `not-gguf`, `truncated`,
 * `unsupported-type`, `unsupported-architecture`, `unsupported-model` and others; `network`, `http-status`, `no-simd`;
 * `invalid-option`, also for a `contextLength` that the model does not have; `aborted` when `options.signal` fires.
 */
export async function readModelHeader(source: ModelSource, options: HeaderOptions = {}): Promise<ModelHeader> {
  const checked = check.options("readModelHeader", HEADER, options);
  const files = new EngineFiles(checked);
  return openModelHeader(source, checked, files.spawn, files.findWasm);
}

/**
 * Finds out whether a GGUF language model would fit this device, and how fast it would be, before its weights are read: reads the
 * header by range, chooses the device as {@link loadTextModel} does with the same options, tries to allocate what the model takes,
 * and times its own computations with zeros for weights, in workers that end afterwards. It takes about as long as half a second of
 * answering, and on the CPU some 100 MB of memory.
 *
 * A model that does not fit is an answer, with the reason. A file that a load refuses for another reason, because it is damaged or
 * not supported, is the same error as there.
 *
 * @throws {@link EmberglassError} what {@link loadTextModel} would refuse, except for memory.
 */
export async function canRun(source: ModelSource, options: CanRunOptions = {}): Promise<CanRun> {
  const checked = check.options("canRun", CAN_RUN, options);
  const files = new EngineFiles(checked);
  return openCanRun(source, checked, files.spawn, files.spawnHelper, files.findWasm);
}

/**
 * Loads an image autoencoder: one safetensors file with decoder, encoder or both, or several files as
 * `{ shards: [...] }`, a `config.json` among them if there is one.
 *
 * @param options `shareWith`: a language model whose worker, and GPU device, the decoder shall share. Without it the
 * decoder has a worker of its own.
 * @throws {@link EmberglassError} `malformed`, `truncated`, `missing-tensor`, `shape-mismatch`, `unsupported-model`,
 * `no-webgpu` and `no-adapter` (only with `device: "webgpu"`), `no-simd`, `out-of-memory`, `device-lost`, `network`,
 * `http-status`; `invalid-option`; `aborted` (an `AbortError`) when `options.signal` fires.
 */
export async function loadImageDecoder(
  source: ModelSource,
  options: ImageLoadOptions & { shareWith?: TextModel | undefined } = {},
): Promise<ImageDecoder> {
  const checked = check.options("loadImageDecoder", IMAGE_LOAD, options);
  const files = new EngineFiles(checked);
  return openImageDecoder(source, checked, files.spawn, files.spawnHelper, files.findWasm);
}

let imageModels = 0;

const IMAGE_LOAD: check.Kinds<ImageLoadOptions & { shareWith?: TextModel | undefined }> = {
  ...check.NETWORK,
  ...check.ENGINE,
  ...check.SOURCE,
  onProgress: check.callback,
  signal: check.signal,
  device: check.text as check.Kind<DeviceChoice>,
  threads: check.wholeNumber(1, MOST_THREADS),
  precision: check.text as check.Kind<Precision>,
  shareWith: (value, label) => {
    if (check.isGenuine(value, TextModel, "client")) return value as TextModel;
    throw check.invalid(label, value, "not a model that loadTextModel has loaded");
  },
};

/** {@link loadImageDecoder} over any worker. Not public: the seam for tests. */
export async function openImageDecoder(
  source: ModelSource,
  options: ImageLoadOptions & { shareWith?: TextModel | undefined },
  spawn: () => WorkerLike,
  spawnHelper?: () => HelperLike,
  findWasm?: FindWasm,
): Promise<ImageDecoder> {
  const { onProgress, signal, shareWith, workerUrl, wasmUrl, ...rest } = check.options("loadImageDecoder", IMAGE_LOAD, options);
  const { network, files, hub, wishes } = divided(rest);
  if (signal?.aborted) throw abortError(signal);
  const model = ++imageModels;
  const request = { model, source: await orAborted(toWireSource(source, hub), signal), files, network, ...wishes };
  if (mayKeep(request)) askToPersist();
  const client = shareWith?.client ?? new EngineClient(spawn, spawnHelper, findWasm);
  const loading = client.call("loadImage", request, { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) });
  try {
    return new ImageDecoder(client, model, await orAborted(loading, signal), shareWith === undefined);
  } catch (error) {
    const end = () => {
      if (shareWith === undefined) client.close(new EmberglassError("disposed", "the image decoder was not loaded"));
      else client.call("disposeImage", { model }).catch(() => {});
    };
    const timer = setTimeout(end, GRACE_MS);
    loading.then(end, end).finally(() => clearTimeout(timer));
    throw error;
  }
}

const LOAD: check.Kinds<LoadOptions> = {
  ...check.NETWORK,
  ...check.ENGINE,
  ...check.SOURCE,
  onProgress: check.callback,
  signal: check.signal,
  contextLength: check.number,
  kvCache: check.text as check.Kind<KvType>,
  device: check.text as check.Kind<DeviceChoice>,
  threads: check.wholeNumber(1, MOST_THREADS),
  activationBits: check.number as check.Kind<8 | 16>,
  kernels: check.text,
  draftTokens: check.number,
  sampling: (value) => check.members(value, check.SAMPLING, { of: "sampling" }),
};

type LoadWishes = Omit<LoadOptions, "onProgress" | "signal" | keyof EngineAddresses>;

/** What the worker is asked for a load, or for a check whether that would fit. */
async function loadRequest(given: ModelSource, options: check.Given<LoadWishes>, signal: AbortSignal | undefined): Promise<LoadRequest> {
  const { network, files, hub, wishes } = divided(options);
  if (signal?.aborted) throw abortError(signal);
  const remembered = rememberedKernels();
  const source = await orAborted(toWireSource(given, hub), signal);
  return { source, files, network, ...wishes, ...(remembered ? { rememberedKernels: remembered } : {}) };
}

/** {@link loadTextModel} over any workers. Not public: the seam for tests. */
export async function openTextModel(
  source: ModelSource,
  options: LoadOptions,
  spawn: () => WorkerLike,
  spawnHelper?: () => HelperLike,
  findWasm?: FindWasm,
): Promise<TextModel> {
  const { onProgress, signal, workerUrl, wasmUrl, ...rest } = check.options("loadTextModel", LOAD, options);
  const request = await loadRequest(source, rest, signal);
  if (mayKeep(request)) askToPersist();
  const client = new EngineClient(spawn, spawnHelper, findWasm);
  const loading = client.call(
    "load",
    request,
    { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) },
  );
  try {
    const info = await orAborted(loading, signal);
    if (rest.kernels === undefined) rememberKernels(info.device);
    return new TextModel(client, info);
  } catch (error) {
    // The caller need not wait for the clean-up, but the worker must not outlive it.
    const end = () => client.close(new EmberglassError("disposed", "the model was not loaded"));
    const timer = setTimeout(end, GRACE_MS);
    loading.then(end, end).finally(() => clearTimeout(timer));
    throw error;
  }
}

const { sampling: _, ...CAN_RUN } = LOAD;

/** {@link canRun} over any workers. Not public: the seam for tests. */
export async function openCanRun(
  source: ModelSource,
  options: CanRunOptions,
  spawn: () => WorkerLike,
  spawnHelper?: () => HelperLike,
  findWasm?: FindWasm,
): Promise<CanRun> {
  const { onProgress, signal, workerUrl, wasmUrl, ...rest } = check.options("canRun", CAN_RUN, options);
  const request = await loadRequest(source, rest, signal);
  const client = new EngineClient(spawn, spawnHelper, findWasm);
  try {
    const asking = client.call("canRun", request, { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) });
    const answer = await orAborted(asking, signal);
    if (rest.kernels === undefined) rememberKernels(answer.device);
    return answer;
  } finally {
    client.close(new EmberglassError("disposed", "the question is answered"));
  }
}

const HEADER: check.Kinds<HeaderOptions> = {
  ...check.NETWORK,
  ...check.ENGINE,
  ...check.SOURCE,
  onProgress: LOAD.onProgress,
  signal: LOAD.signal,
  contextLength: LOAD.contextLength,
  kvCache: LOAD.kvCache,
};

/** {@link readModelHeader} over any worker. Not public: the seam for tests. */
export async function openModelHeader(
  source: ModelSource,
  options: HeaderOptions,
  spawn: () => WorkerLike,
  findWasm?: FindWasm,
): Promise<ModelHeader> {
  const { onProgress, signal, workerUrl, wasmUrl, ...rest } = check.options("readModelHeader", HEADER, options);
  const { network, files, hub, wishes } = divided(rest);
  if (signal?.aborted) throw abortError(signal);
  const request = { source: await orAborted(toWireSource(source, hub), signal), files, network, ...wishes };
  const client = new EngineClient(spawn, undefined, findWasm);
  try {
    const reading = client.call("inspect", request, { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) });
    return await orAborted(reading, signal);
  } finally {
    client.close(new EmberglassError("disposed", "the header has been read"));
  }
}

/** Options of a load in the groups that the worker takes. */
export function divided<T extends NetworkOptions & SourceOptions>(options: T) {
  const { stallTimeoutMs, retryTimeoutMs, storage, sha256, revision, accessToken, hubs, ...wishes } = options;
  const network = given<NetworkOptions>({ stallTimeoutMs, retryTimeoutMs });
  const digests = typeof sha256 === "string" ? [sha256] : sha256;
  const files = given<FileRequest>({ storage, sha256: digests && [...digests] });
  return { network, files, hub: { revision, accessToken, hubs }, wishes };
}

/** Whether the load may keep the model on this device. */
function mayKeep({ source, files }: Pick<LoadRequest, "source" | "files">): boolean {
  return !("blobs" in source) && files.storage !== "none";
}

/** Without the members that are not given. */
function given<T extends object>(members: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as T;
}

/** Rejects as soon as the signal fires, whatever `promise` does. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(abortError(signal));
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
