import { EngineClient, type WorkerLike } from "./engine-client.js";
import { abortError, EmberglassError } from "./errors.js";
import { TextModel } from "./model.js";
import { progressMeter } from "./progress.js";
import type { LoadRequest } from "./protocol.js";
import { toWireSource } from "./source.js";
import { MOST_THREADS } from "./threads.js";
import { ImageDecoder } from "./image-decoder.js";
import type { ImageLoadOptions } from "./image-types.js";
import type { HelperLike } from "./helper-team.js";
import type { DeviceChoice, HeaderOptions, LoadOptions, ModelHeader, ModelSource, NetworkOptions, SamplingDefault } from "./types.js";
import { rememberedKernels, rememberKernels } from "./remembered-kernels.js";

/** How long a cancelled worker may take to clean up before it is ended from outside. */
const GRACE_MS = 500;

/**
 * Loads a GGUF language model, in a Web Worker of its own, onto the GPU or for the CPU: see {@link LoadOptions.device}.
 *
 * @param source An address (relative ones are resolved against the document), a `Blob` or `File`,
 * or the shards of a split model in their order.
 * @throws {@link EmberglassError} `no-webgpu` and `no-adapter` (only with `device: "webgpu"`), `no-simd`,
 * `out-of-memory`, `device-lost`, `network`, `http-status`, `not-gguf`, `truncated`, `unsupported-type`,
 * `unsupported-architecture` and others of {@link ErrorCode}; `invalid-option`; `aborted` (an `AbortError`) when `options.signal` fires.
 */
export function loadTextModel(source: ModelSource, options: LoadOptions = {}): Promise<TextModel> {
  // Written out in one expression: this is the form in which bundlers recognise a worker.
  return openTextModel(
    source,
    options,
    () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
    () => new Worker(new URL("./helper.js", import.meta.url), { type: "module" }),
  );
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
export function readModelHeader(source: ModelSource, options: HeaderOptions = {}): Promise<ModelHeader> {
  // Written out in one expression: this is the form in which bundlers recognise a worker.
  return openModelHeader(source, options, () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
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
export function loadImageDecoder(
  source: ModelSource,
  options: ImageLoadOptions & { shareWith?: TextModel } = {},
): Promise<ImageDecoder> {
  // Written out in one expression: this is the form in which bundlers recognise a worker.
  return openImageDecoder(source, options, () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
}

let imageModels = 0;

/** {@link loadImageDecoder} over any worker. Not public: the seam for tests. */
export async function openImageDecoder(
  source: ModelSource,
  { onProgress, signal, device, precision, shareWith, ...options }: ImageLoadOptions & { shareWith?: TextModel },
  spawn: () => WorkerLike,
): Promise<ImageDecoder> {
  if (signal?.aborted) throw abortError(signal);
  checkDevice(device);
  const model = ++imageModels;
  const request = {
    model,
    source: toWireSource(source),
    network: networkOptions(options),
    ...(device === undefined ? {} : { device }),
    ...(precision === undefined ? {} : { precision }),
  };
  const client = shareWith?.client ?? new EngineClient(spawn);
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

/** Equals the engine's limit: a verification takes eight tokens, the last drawn one and seven drafts. */
const MOST_DRAFTS = 7;

/** {@link loadTextModel} over any workers. Not public: the seam for tests. */
export async function openTextModel(
  source: ModelSource,
  { onProgress, signal, ...wishes }: LoadOptions,
  spawn: () => WorkerLike,
  spawnHelper?: () => HelperLike,
): Promise<TextModel> {
  if (signal?.aborted) throw abortError(signal);
  const remembered = rememberedKernels();
  const request = { source: toWireSource(source), ...checked(wishes), ...(remembered ? { rememberedKernels: remembered } : {}) };
  const client = new EngineClient(spawn, spawnHelper);
  const loading = client.call(
    "load",
    request,
    { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) },
  );
  try {
    const info = await orAborted(loading, signal);
    if (wishes.kernels === undefined) rememberKernels(info.device);
    return new TextModel(client, info);
  } catch (error) {
    // The caller need not wait for the clean-up, but the worker must not outlive it.
    const end = () => client.close(new EmberglassError("disposed", "the model was not loaded"));
    const timer = setTimeout(end, GRACE_MS);
    loading.then(end, end).finally(() => clearTimeout(timer));
    throw error;
  }
}

/** {@link readModelHeader} over any worker. Not public: the seam for tests. */
export async function openModelHeader(
  source: ModelSource,
  { onProgress, signal, ...wishes }: HeaderOptions,
  spawn: () => WorkerLike,
): Promise<ModelHeader> {
  if (signal?.aborted) throw abortError(signal);
  const request = { source: toWireSource(source), ...checked(wishes) };
  const client = new EngineClient(spawn);
  try {
    const reading = client.call("inspect", request, { signal, ...(onProgress ? { onEvent: progressMeter(onProgress) } : {}) });
    return await orAborted(reading, signal);
  } finally {
    client.close(new EmberglassError("disposed", "the header has been read"));
  }
}

/** The options that are sent to the worker. What is `undefined` means "the default", so it is not sent at all. */
function checked({
  contextLength,
  kvCache,
  device,
  threads,
  activationBits,
  draftTokens,
  kernels,
  sampling,
  ...others
}: LoadOptions): Omit<LoadRequest, "source"> {
  checkDevice(device);
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS)) {
    throw invalid("threads", threads, `a whole number from 1 to ${MOST_THREADS}`);
  }
  if (activationBits !== undefined && activationBits !== 8 && activationBits !== 16) {
    throw invalid("activationBits", activationBits, "8 or 16");
  }
  if (draftTokens !== undefined && !(Number.isInteger(draftTokens) && draftTokens >= 0 && draftTokens <= MOST_DRAFTS)) {
    throw invalid("draftTokens", draftTokens, `a whole number from 0 to ${MOST_DRAFTS}`);
  }
  if (kernels !== undefined && typeof kernels !== "string") throw invalid("kernels", kernels, "what info.device.kernels says");
  if (kvCache !== undefined && !["f32", "f16", "q8_0"].includes(kvCache)) {
    throw invalid("kvCache", kvCache, "f32, f16 or q8_0");
  }
  return {
    network: networkOptions(others),
    ...(activationBits === undefined ? {} : { activationBits }),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(kvCache === undefined ? {} : { kvCache }),
    ...(device === undefined ? {} : { device }),
    ...(draftTokens === undefined ? {} : { draftTokens }),
    ...(kernels === undefined ? {} : { kernels }),
    ...(sampling === undefined ? {} : { sampling: samplingDefaults(sampling) }),
    ...(threads === undefined ? {} : { threads }),
  };
}

/** Their names; the engine checks their values. */
const SAMPLING_DEFAULTS: { [Option in SamplingDefault]: true } = {
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  repetitionPenalty: true,
  presencePenalty: true,
  frequencyPenalty: true,
  penaltyWindow: true,
};

function samplingDefaults(sampling: NonNullable<LoadOptions["sampling"]>): NonNullable<LoadOptions["sampling"]> {
  if (typeof sampling !== "object" || sampling === null) throw invalid("sampling", sampling, "an object of sampling options");
  const given = Object.entries(sampling).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    if (!Object.hasOwn(SAMPLING_DEFAULTS, name)) {
      throw invalid(`sampling.${name}`, value, `the sampling options of a model are ${Object.keys(SAMPLING_DEFAULTS).join(", ")}`);
    }
    if (typeof value !== "number") throw invalid(`sampling.${name}`, value, "a number");
  }
  return Object.fromEntries(given);
}

/** The longest time that `setTimeout` takes. */
const MOST_MS = 2_147_483_647;

function networkOptions({ stallTimeoutMs, retryTimeoutMs }: NetworkOptions): NetworkOptions {
  const isTime = (ms: unknown, least: number) => typeof ms === "number" && ms >= least && ms <= MOST_MS;
  if (stallTimeoutMs !== undefined && !isTime(stallTimeoutMs, 1)) {
    throw invalid("stallTimeoutMs", stallTimeoutMs, `milliseconds, 1 to ${MOST_MS}`);
  }
  if (retryTimeoutMs !== undefined && !isTime(retryTimeoutMs, 0)) {
    throw invalid("retryTimeoutMs", retryTimeoutMs, `milliseconds, 0 to ${MOST_MS}`);
  }
  return {
    ...(stallTimeoutMs === undefined ? {} : { stallTimeoutMs }),
    ...(retryTimeoutMs === undefined ? {} : { retryTimeoutMs }),
  };
}

function checkDevice(device: DeviceChoice | undefined): void {
  if (device !== undefined && !["auto", "webgpu", "cpu"].includes(device)) {
    throw invalid("device", device, "auto, webgpu or cpu");
  }
}

function invalid(option: string, value: unknown, range: string): EmberglassError {
  return new EmberglassError("invalid-option", `option ${option} = ${String(value)} is out of range (${range})`);
}

/** Rejects as soon as the signal fires, whatever `promise` does. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(abortError(signal));
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
