import { EngineClient, type FindWasm, type WorkerLike } from "./engine-client.js";
import { EngineFiles } from "./engine-files.js";
import { abortError, EmberglassError } from "./errors.js";
import { TextModel } from "./model.js";
import { progressMeter } from "./progress.js";
import type { LoadRequest } from "./protocol.js";
import { toWireSource } from "./source.js";
import { MOST_THREADS } from "./threads.js";
import { ImageDecoder } from "./image-decoder.js";
import type { HelperLike } from "./helper-team.js";
import type { ImageLoadOptions } from "./image-types.js";
import type { DeviceChoice, LoadOptions, ModelSource, NetworkOptions } from "./types.js";
import { rememberedKernels, rememberKernels } from "./remembered-kernels.js";

/** How long a cancelled worker may take to clean up before it is ended from outside. */
const GRACE_MS = 500;

/**
 * Loads a GGUF language model, in a Web Worker of its own, onto the GPU or for the CPU: see {@link LoadOptions.device}.
 *
 * @param source An address (relative ones are resolved against the document), a `Blob` or `File`,
 * or the shards of a split model in their order.
 * @throws {@link EmberglassError} `no-webgpu` and `no-adapter` (only with `device: "webgpu"`), `no-simd`,
 * `no-worker`, `worker-failed`, `out-of-memory`, `device-lost`, `network`, `http-status`, `not-gguf`, `truncated`, `unsupported-type`,
 * `unsupported-architecture` and others of {@link ErrorCode}; `invalid-option`; `aborted` (an `AbortError`) when `options.signal` fires.
 */
export async function loadTextModel(source: ModelSource, { workerUrl, wasmUrl, ...options }: LoadOptions = {}): Promise<TextModel> {
  const files = new EngineFiles({ workerUrl, wasmUrl });
  return openTextModel(source, options, files.spawn, files.spawnHelper, files.findWasm);
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
  { workerUrl, wasmUrl, ...options }: ImageLoadOptions & { shareWith?: TextModel | undefined } = {},
): Promise<ImageDecoder> {
  const files = new EngineFiles({ workerUrl, wasmUrl });
  return openImageDecoder(source, options, files.spawn, files.findWasm);
}

let imageModels = 0;

/** {@link loadImageDecoder} over any worker. Not public: the seam for tests. */
export async function openImageDecoder(
  source: ModelSource,
  { onProgress, signal, device, precision, shareWith, ...options }: ImageLoadOptions & { shareWith?: TextModel | undefined },
  spawn: () => WorkerLike,
  findWasm?: FindWasm,
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
  const client = shareWith?.client ?? new EngineClient(spawn, undefined, findWasm);
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
  findWasm?: FindWasm,
): Promise<TextModel> {
  if (signal?.aborted) throw abortError(signal);
  const remembered = rememberedKernels();
  const request = { source: toWireSource(source), ...checked(wishes), ...(remembered ? { rememberedKernels: remembered } : {}) };
  const client = new EngineClient(spawn, spawnHelper, findWasm);
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

/** The options that are sent to the worker. What is `undefined` means "the default", so it is not sent at all. */
function checked({
  contextLength,
  kvCache,
  device,
  threads,
  activationBits,
  draftTokens,
  kernels,
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
    ...(threads === undefined ? {} : { threads }),
  };
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
