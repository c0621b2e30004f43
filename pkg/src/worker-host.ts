// The worker's half of the protocol: runs each request on the engine and answers it.
import { isTrap, toWire, type WireError } from "./errors.js";
import { answerOf } from "./can-run.js";
import { LineRate } from "./line-rate.js";
import { openModelFiles } from "./model-files.js";
import { boundedFetch } from "./sources/bounded-fetch.js";
import type { NetworkFault } from "./network-fault.js";
import type { DecodeReply, FileRequest, FromWorker, LoadRequest, RawProgress, ToWorker, Verb, Verbs, WasmPlace, WireSource } from "./protocol.js";
import { type HelperOrder, type HelperPlace, markDead } from "./helper-instance.js";
import type { SimdLevel } from "./simd.js";
import type { ChunkStore } from "./storage/chunk-store.js";
import { importFiles, nothingKept } from "./storage/import-files.js";
import { deleteModel, exportModel, listModels, storageUsage, storedModel, throwIfAborted, verifyModel } from "./storage/stored-models.js";
import { type Cores, type ThreadCount, threadCount } from "./threads.js";
import type { DeviceInfo, ModelInfo, NetworkOptions, StorageReport } from "./types.js";
import type { Engine, EngineSource, Fetch, WasmImageModel, WasmLoadOptions, WasmNetworkOptions, WasmTextModel } from "./wasm-surface.js";
import { within } from "./within.js";

/** The part of `DedicatedWorkerGlobalScope` that is used. */
export interface WorkerScope {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  addEventListener(type: "message", listener: (event: { data: ToWorker }) => void): void;
  addEventListener(type: "error", listener: (event: { error?: unknown; message?: string }) => void): void;
  addEventListener(type: "unhandledrejection", listener: (event: { reason?: unknown }) => void): void;
}

/** Where the worker runs, and what only a real browser can do. */
export interface WorkerHost {
  simdLevel(): SimdLevel | undefined;
  cores(): Cores;
  /** Loads and starts a build of the engine. `ask` tells where it is. */
  start(level: SimdLevel, ask: AskForWasm): Promise<Engine>;
  /** Finds out why `fetch` rejected. */
  explain(url: string): Promise<NetworkFault>;
  fetch: Fetch;
  /** Where models are kept; undefined in a browser that keeps nothing. */
  openStore(): Promise<ChunkStore | undefined>;
}

/** Asks the page where the wasm is; `failed` says why its last answer was of no use. Rejects when there is no other place. */
export type AskForWasm = (failed: string | undefined) => Promise<WasmPlace>;

/** How long the engine's own files may take to arrive and to compile. They have about a megabyte. */
const START_LIMIT_MS = 300_000;
/** How long the page may take to start helpers: longer than its own limit, so that it is the one to end them. */
const HELPERS_LIMIT_MS = 40_000;

/** How long the end of a load may take to write what has arrived: at most a few chunks. */
const CLOSE_LIMIT_MS = 10_000;

type Handlers = {
  [V in Verb]: (
    args: Verbs[V]["args"],
    emit: (event: Verbs[V]["event"]) => void,
    signal: AbortSignal,
  ) => Promise<Verbs[V]["result"]>;
};

/** Answers requests for the life of the worker; the wasm is loaded on the first of them. */
export function serve(scope: WorkerScope, host: WorkerHost): void {
  const running = new Map<number, AbortController>();
  // Started by the first model that is loaded, for all of them.
  let engine: Promise<Engine> | undefined;
  const wasm = new WasmOfThePage(scope);
  const start = () => (engine ??= startEngine(host, wasm));
  const measureGpu = async () => (await start()).measureGpu();
  const helpers = new HelpersOfThePage(scope);
  const handlers: Handlers = {
    ...textModelHandlers(helpers, host, start),
    ...imageModelHandlers(helpers, host, start),
    ...keepingHandlers(host, start),
    measureGpu,
  };

  // A trap inside a future that wasm spawned settles no promise: it only shows up as an uncaught
  // error of the worker. Without these two listeners the caller would wait for ever.
  scope.addEventListener("error", (event) => die(scope, event.error ?? event.message));
  scope.addEventListener("unhandledrejection", (event) => die(scope, event.reason));

  scope.addEventListener("message", async ({ data }) => {
    if (data.verb === "abort") {
      running.get(data.id)?.abort();
      return;
    }
    if (data.verb === "helpers") {
      helpers.settle(data.failed);
      return;
    }
    if (data.verb === "lost") {
      helpers.lose(data.dead);
      return;
    }
    if (data.verb === "wasm") {
      wasm.settle(data);
      return;
    }
    // That one makes the worker a helper: helper-host.ts takes it.
    if (data.verb === "help") return;
    const { id, verb, args } = data;
    const controller = new AbortController();
    running.set(id, controller);
    const emit = (value: Verbs[Verb]["event"]) => scope.postMessage({ kind: "event", id, value });
    // The table of handlers is typed per verb; TypeScript cannot follow one verb through the lookup.
    const handle = handlers[verb] as (a: typeof args, e: typeof emit, s: AbortSignal) => Promise<Verbs[Verb]["result"]>;
    try {
      const value = await handle(args, emit, controller.signal);
      scope.postMessage({ kind: "result", id, value });
    } catch (thrown) {
      if (isTrap(thrown)) die(scope, thrown);
      else scope.postMessage({ kind: "error", id, error: toWire(thrown) });
    } finally {
      running.delete(id);
    }
  });
  scope.postMessage({ kind: "started" });
}

/**
 * Helper threads. The page starts and ends them, not this worker: a worker that is ended while a worker of its own is
 * ending may never end in Chromium. Module and memory go through a channel, of which the page only passes on the helper's end.
 */
class HelpersOfThePage {
  readonly #scope: WorkerScope;
  #memory: WebAssembly.Memory | undefined;
  #asked: ((failed: string[]) => void) | undefined;

  constructor(scope: WorkerScope) {
    this.#scope = scope;
  }

  /** Resolves once helpers wait for work at these places, with a reason for each that could not be started. */
  async start({ module, memory }: Pick<Engine, "module" | "memory">, places: HelperPlace[]): Promise<string[]> {
    this.#memory = memory;
    const ports: MessagePort[] = [];
    const seats = places.map((place, index) => {
      const { port1, port2 } = new MessageChannel();
      port1.postMessage({ module, memory, place, index } satisfies HelperOrder);
      ports.push(port1);
      return { port: port2, dead: place.dead };
    });
    const answered = new Promise<string[]>((resolve) => {
      this.#asked = resolve;
      this.#scope.postMessage({ kind: "helpers", seats }, seats.map(({ port }) => port));
    });
    try {
      return await within(HELPERS_LIMIT_MS, answered, "the page did not start them");
    } finally {
      for (const port of ports) port.close();
    }
  }

  /** A helper is gone without having marked its place. */
  lose(dead: number): void {
    if (this.#memory) markDead(this.#memory, dead);
  }

  /** The page's answer. */
  settle(failed: string[]): void {
    this.#asked?.(failed);
    this.#asked = undefined;
  }
}

/** The engine's wasm. The page knows its address; the worker, which may come out of a text, does not. */
class WasmOfThePage {
  readonly #scope: WorkerScope;
  #asked: { resolve(place: WasmPlace): void; reject(error: WireError): void } | undefined;

  constructor(scope: WorkerScope) {
    this.#scope = scope;
  }

  ask(level: SimdLevel, failed: string | undefined): Promise<WasmPlace> {
    return new Promise((resolve, reject) => {
      this.#asked = { resolve, reject };
      this.#scope.postMessage({ kind: "wasm", level, failed });
    });
  }

  /** The page's answer. */
  settle(answer: { place: WasmPlace } | { error: WireError }): void {
    if ("error" in answer) this.#asked?.reject(answer.error);
    else this.#asked?.resolve(answer.place);
    this.#asked = undefined;
  }
}

function die(scope: WorkerScope, thrown: unknown): void {
  const error = toWire(thrown);
  if (error.code === "internal") error.code = "worker-failed";
  scope.postMessage({ kind: "fatal", error });
}

/** @throws what crosses to the page: `no-simd`, `worker-failed`. */
async function startEngine(host: WorkerHost, wasm: WasmOfThePage): Promise<Engine> {
  const level = host.simdLevel();
  if (!level) throw NO_SIMD;
  try {
    return await within(START_LIMIT_MS, host.start(level, (failed) => wasm.ask(level, failed)), "its files did not arrive");
  } catch (cause) {
    const { message } = toWire(cause);
    throw { code: "worker-failed", message: `the engine could not start: ${message}` } satisfies WireError;
  }
}

/** What a load needs of its request, and of the page. */
interface Loading {
  /** The whole model is read, and not its header alone. */
  readsAll: boolean;
  /** It is read only to be kept. */
  keepsOnly?: boolean;
  request: { source: WireSource; files: FileRequest; network: NetworkOptions };
  emit: (progress: RawProgress) => void;
  signal: AbortSignal;
}

/** What the engine is given for its files. `report` passes its progress on. */
interface LoadingFiles {
  source: EngineSource;
  network: WasmNetworkOptions;
  report: (progress: RawProgress) => void;
  /** Keeps what the engine did not read, too, and says where the bytes came from. Rejects where a SHA-256 cannot be checked. */
  finish: () => Promise<StorageReport>;
  storedBytes: () => Promise<number>;
  allBytes: () => number | undefined;
}

/** The engine's codes for a file that is no model, or not the whole of one: a server in trouble sends such, and later the right one. */
const NO_MODEL = new Set<string>(["not-gguf", "malformed", "truncated"]);

/**
 * Finds the files of a load and lets `load` read them. While the network is waited for, the last progress is reported again with
 * the reason.
 */
async function withFiles<T>(
  host: Pick<WorkerHost, "fetch" | "explain" | "openStore">,
  { readsAll, keepsOnly = false, request, emit, signal }: Loading,
  load: (files: LoadingFiles) => Promise<T>,
): Promise<T> {
  let last: RawProgress = { phase: "starting", loadedBytes: 0, totalBytes: 0 };
  const report = (progress: RawProgress) => {
    last = progress;
    emit(progress);
  };
  const onWait = (waiting: string) => emit({ ...last, waiting });
  const { fetch } = host;
  const explain = (url: string) => host.explain(url);
  const limits = request.network;
  const surroundings = { fetch, explain, limits, onWait, signal, readsAll, keepsOnly, openStore: () => host.openStore() };
  const files = await openModelFiles(request.source, request.files, surroundings);
  const network = { ...request.network, onWait, explain, fetch: files.fetch };
  try {
    const { source } = files;
    return await load({ source, network, report, finish: () => files.finish(), storedBytes: () => files.storedBytes(), allBytes: () => files.allBytes() });
  } catch (thrown) {
    if (NO_MODEL.has(toWire(thrown).code)) await files.discard();
    throw isTrap(thrown) || signal.aborted ? thrown : (files.fault ?? thrown);
  } finally {
    // A worker that is ended now would lose what has arrived last.
    await within(CLOSE_LIMIT_MS, files.close(), "the last bytes were not written").catch(() => {});
  }
}

function textModelHandlers(
  helpers: HelpersOfThePage,
  host: WorkerHost,
  start: () => Promise<Engine>,
): Omit<Handlers, ImageVerb | KeepingVerb | "measureGpu"> {
  let model: WasmTextModel | undefined;

  const loaded = (): WasmTextModel => {
    if (model) return model;
    throw { code: "internal", message: "no model is loaded in this worker" } satisfies WireError;
  };

  const ofEngine = (engine: Engine): Pick<WasmLoadOptions, "mostMemoryBytes" | "spawnHelpers"> => ({
    mostMemoryBytes: engine.mostMemoryBytes,
    spawnHelpers: (places) => helpers.start(engine, places),
  });

  return {
    async load(request, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const engine = await start();
      throwIfAborted(signal);
      const count = threadCount(request.threads, host.cores());
      return withFiles(host, { readsAll: true, request, emit, signal }, async ({ source, network, report, finish }) => {
        const options = loadOptions(request, { network, ...ofThreads(count), ...ofEngine(engine) });
        model = await engine.TextModel.load(source, options, report, signal);
        try {
          return withNote(model, engine, count, await finish());
        } catch (thrown) {
          model.free();
          model = undefined;
          throw thrown;
        }
      });
    },
    async inspect(request, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const { TextModel } = await start();
      throwIfAborted(signal);
      const { contextLength, kvCache } = request;
      return withFiles(host, { readsAll: false, request, emit, signal }, ({ source, network, report }) => {
        report({ phase: "header", loadedBytes: 0, totalBytes: 0 });
        const options = {
          network: { ...network, fetch: boundedFetch(network.fetch) },
          ...(contextLength === undefined ? {} : { contextLength }),
          ...(kvCache === undefined ? {} : { kvCache }),
        };
        return TextModel.inspect(source, options, signal);
      });
    },
    async canRun(request, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const begun = performance.now();
      const engine = await start();
      const startMs = performance.now() - begun;
      throwIfAborted(signal);
      const line = new LineRate(request.network.stallTimeoutMs);
      const { explain, openStore } = host;
      const count = threadCount(request.threads, host.cores());
      return withFiles({ explain, openStore, fetch: line.over(host.fetch) }, { readsAll: false, request, emit, signal }, async ({ source, network, report, storedBytes }) => {
        report({ phase: "header", loadedBytes: 0, totalBytes: 0 });
        const options = loadOptions(request, {
          network: { ...network, fetch: boundedFetch(network.fetch) },
          ...ofThreads(count),
          ...ofEngine(engine),
        });
        const found = await engine.TextModel.canRun(source, options, signal);
        const isLocal = "blobs" in request.source;
        const { bytesPerSecond } = line;
        const noted = { ...found, device: withThreadNote(found.device, count) };
        return answerOf(noted, { startMs, storedBytes: await storedBytes(), isLocal, bytesPerSecond });
      });
    },
    generate: async (request, emit, signal) => loaded().generate(request, emit, signal),
    tokenize: async ({ text, special }, _emit, signal) => loaded().tokenize(text, special, signal),
    detokenize: async ({ ids }) => loaded().detokenize(ids),
    async dispose() {
      model?.free();
      model = undefined;
      return null;
    },
  };
}

type ImageVerb = "loadImage" | "imageInfo" | "attachCanvas" | "decode" | "encode" | "sample" | "disposeImage";

interface LoadedImageModel {
  model: WasmImageModel;
  /**
   * Contexts of the canvases that pictures are painted on here; a real GPU has its own. They are kept: Firefox gives the
   * context of a canvas that came from the page only once.
   */
  paper: Map<number, OffscreenCanvasRenderingContext2D> | undefined;
  storage: StorageReport;
  /** Says why there are so many threads. */
  note: (info: ReturnType<WasmImageModel["info"]>) => ReturnType<WasmImageModel["info"]>;
}

function paint(context: OffscreenCanvasRenderingContext2D | undefined, { width, height, data }: DecodeReply): void {
  if (!context || !data) throw { code: "internal", message: "a picture without a canvas" } satisfies WireError;
  context.canvas.width = width;
  context.canvas.height = height;
  const pixels = new Uint8ClampedArray(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  context.putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** Any number of image models, beside a language model or without one. */
function imageModelHandlers(
  helpers: HelpersOfThePage,
  host: WorkerHost,
  start: () => Promise<Engine>,
): Pick<Handlers, ImageVerb> {
  const models = new Map<number, LoadedImageModel>();
  const loaded = (number: number): LoadedImageModel => {
    const model = models.get(number);
    if (model) return model;
    throw { code: "internal", message: "no such image model is loaded in this worker" } satisfies WireError;
  };

  return {
    async loadImage(request, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const engine = await start();
      throwIfAborted(signal);
      const { device, precision } = request;
      const count = threadCount(request.threads, host.cores());
      return withFiles(host, { readsAll: true, request, emit, signal }, async ({ source, network, report, finish }) => {
        const options = {
          network,
          threads: count.threads,
          spawnHelpers: (places: HelperPlace[]) => helpers.start(engine, places),
          ...(device === undefined ? {} : { device }),
          ...(precision === undefined ? {} : { precision }),
        };
        const model = await engine.ImageModel.load(source, options, report, signal);
        const note = (info: ReturnType<WasmImageModel["info"]>) => ({ ...info, device: withThreadNote(info.device, count) });
        const info = model.info();
        // Chromium's process for software adapters ends at the first WebGPU canvas; and they have nothing to gain from one.
        const paints = info.device.kind === "cpu" || info.device.isFallbackAdapter;
        const storage = await finish().catch((thrown: unknown) => {
          model.free();
          throw thrown;
        });
        models.set(request.model, { model, paper: paints ? new Map() : undefined, storage, note });
        return { ...note(info), storage };
      });
    },
    async imageInfo({ model: number }) {
      const { model, storage, note } = loaded(number);
      return { ...note(model.info()), storage };
    },
    async attachCanvas({ model: number, number: canvas, canvas: offscreen }) {
      const { model, paper } = loaded(number);
      if (!paper) {
        model.attachCanvas(canvas, offscreen);
        return null;
      }
      const context = offscreen.getContext("2d");
      if (!context) throw { code: "invalid-option", message: "the canvas has a context of another kind" } satisfies WireError;
      paper.set(canvas, context);
      return null;
    },
    async decode({ model: number, latents: { data, ...shape }, scaled, preview, memoryBytes, canvas }, emit, signal) {
      const { model, paper } = loaded(number);
      const request = {
        ...shape,
        scaled,
        preview,
        ...(memoryBytes === undefined ? {} : { memoryBytes }),
        ...(canvas === undefined || paper ? {} : { canvas }),
      };
      const reply = await model.decode(data, request, emit, signal);
      if (!paper || canvas === undefined) return reply;
      paint(paper.get(canvas), reply);
      const { width, height, stats } = reply;
      return { width, height, stats };
    },
    async encode({ model, picture: { data, width, height }, seed, memoryBytes }, emit, signal) {
      const request = {
        width,
        height,
        ...(seed === undefined ? {} : { seed }),
        ...(memoryBytes === undefined ? {} : { memoryBytes }),
      };
      return loaded(model).model.encode(data, request, emit, signal);
    },
    sample: async ({ model, seed, spread }) => loaded(model).model.sample(seed, spread),
    async disposeImage({ model }) {
      models.get(model)?.model.free();
      models.delete(model);
      return null;
    },
  };
}

type KeepingVerb = "listModels" | "storageUsage" | "deleteModel" | "download" | "verifyModel" | "importModel" | "exportModel";

/** Stored models. Only a download takes the engine. */
function keepingHandlers(host: WorkerHost, start: () => Promise<Engine>): Pick<Handlers, KeepingVerb> {
  const stored = async <T>(run: (store: ChunkStore | undefined) => Promise<T>): Promise<T> => {
    try {
      return await run(await host.openStore());
    } catch (thrown) {
      if (!(thrown instanceof DOMException) || thrown.name === "AbortError") throw thrown;
      throw { code: "storage", message: `stored models could not be read or changed: ${thrown.message}` } satisfies WireError;
    }
  };
  return {
    listModels: () => stored(listModels),
    storageUsage: () => stored(storageUsage),
    deleteModel: ({ id }) => stored((store) => deleteModel(store, id)),
    async download(request, emit, signal) {
      const store = await host.openStore();
      if (!store) throw nothingKept();
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const { downloadFiles } = await start();
      throwIfAborted(signal);
      return withFiles(host, { readsAll: true, keepsOnly: true, request, emit, signal }, async ({ source, network, report, finish, allBytes }) => {
        // A server of another origin may not say how long a file is, where the hub's listing does.
        const reportAll = (progress: RawProgress) => report({ ...progress, totalBytes: progress.totalBytes || (allBytes() ?? 0) });
        await downloadFiles(source, { network }, reportAll, signal);
        const { id, reason = "it was deleted meanwhile" } = await finish();
        const model = id === undefined ? undefined : await storedModel(store.folder(id));
        if (model?.complete) return model;
        throw { code: "storage", message: `the model was downloaded, and could not be kept whole: ${reason}` } satisfies WireError;
      });
    },
    verifyModel: ({ id }, emit, signal) => stored((store) => verifyModel(store, id, emit, signal)),
    importModel({ name, names, blobs }, emit, signal) {
      const files = blobs.map((blob, i) => ({ blob, name: names[i] ?? name }));
      return stored((store) => importFiles(store, name, files, emit, signal));
    },
    exportModel: ({ id }) => stored((store) => exportModel(store, id)),
  };
}

const NO_SIMD: WireError = {
  code: "no-simd",
  message: "this browser's WebAssembly has no SIMD, which the engine needs: any current Chrome, Edge, Firefox or Safari has it",
};

/** What the engine is told of a request. */
function loadOptions(
  { contextLength, kvCache, device, activationBits, draftTokens, kernels, sampling, rememberedKernels }: Partial<LoadRequest>,
  surroundings: Pick<WasmLoadOptions, "network" | "threads" | "startThreads" | "mostMemoryBytes" | "spawnHelpers">,
): WasmLoadOptions {
  return {
    ...surroundings,
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(kvCache === undefined ? {} : { kvCache }),
    ...(device === undefined ? {} : { device }),
    ...(activationBits === undefined ? {} : { activationBits }),
    ...(draftTokens === undefined ? {} : { draftTokens }),
    ...(kernels === undefined ? {} : { kernels }),
    ...(sampling === undefined ? {} : { sampling }),
    ...(rememberedKernels === undefined ? {} : { rememberedKernels }),
  };
}

/** What the engine says of the model, and what only this side knows: memory, and why there are so many threads. */
function withNote(
  model: WasmTextModel,
  { memory }: Engine,
  count: ThreadCount,
  storage: StorageReport,
): ModelInfo {
  const info = model.info();
  return {
    ...info,
    device: withThreadNote(info.device, count),
    storage,
    wasmHeapBytes: memory.buffer.byteLength,
  };
}

/** Of the options of a load. */
function ofThreads({ threads, startThreads }: ThreadCount): Pick<WasmLoadOptions, "threads" | "startThreads"> {
  return { threads, ...(startThreads === undefined ? {} : { startThreads }) };
}

function withThreadNote(device: DeviceInfo, { threads, note }: ThreadCount): DeviceInfo {
  // Helpers that did not start leave one thread. The engine's reason says so, and the note would contradict it.
  const applies = device.kind === "cpu" && device.mostThreads === threads && note !== "";
  return applies ? { ...device, reason: `${device.reason} ${note}` } : device;
}
