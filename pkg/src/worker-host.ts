// The worker's half of the protocol: runs each request on the engine and answers it.
import { isTrap, toWire, type WireError } from "./errors.js";
import { type HelperLike, HelperTeam } from "./helper-team.js";
import type { FromWorker, LoadRequest, RawProgress, ToWorker, Verb, Verbs } from "./protocol.js";
import type { SimdLevel } from "./simd.js";
import { type Cores, threadCount } from "./threads.js";
import type { ModelInfo } from "./types.js";
import type { Engine, WasmLoadOptions, WasmTextModel } from "./wasm-surface.js";

/** The part of `DedicatedWorkerGlobalScope` that is used. */
export interface WorkerScope {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  addEventListener(type: "message", listener: (event: { data: ToWorker }) => void): void;
  addEventListener(type: "error", listener: (event: { error?: unknown; message?: string }) => void): void;
  addEventListener(type: "unhandledrejection", listener: (event: { reason?: unknown }) => void): void;
}

/** Where the worker runs, and the two things that only real wasm and real workers can do. */
export interface WorkerHost {
  simdLevel(): SimdLevel | undefined;
  cores(): Cores;
  /** Loads and starts a build of the engine. */
  start(level: SimdLevel): Promise<Engine>;
  /** A new nested worker of `helper.ts`. */
  spawnHelper(): HelperLike;
}

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
  const handlers = textModelHandlers(scope, host);

  // A trap inside a future that wasm spawned settles no promise: it only shows up as an uncaught
  // error of the worker. Without these two listeners the caller would wait for ever.
  scope.addEventListener("error", (event) => die(scope, event.error ?? event.message));
  scope.addEventListener("unhandledrejection", (event) => die(scope, event.reason));

  scope.addEventListener("message", async ({ data }) => {
    if (data.verb === "abort") {
      running.get(data.id)?.abort();
      return;
    }
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
}

function die(scope: WorkerScope, thrown: unknown): void {
  const error = toWire(thrown);
  if (error.code === "internal") error.code = "worker-failed";
  scope.postMessage({ kind: "fatal", error });
}

function textModelHandlers(scope: WorkerScope, host: WorkerHost): Handlers {
  const team = new HelperTeam({
    spawnHelper: () => host.spawnHelper(),
    sendLifeline: (port) => scope.postMessage({ kind: "lifeline", port }, [port]),
  });
  let model: WasmTextModel | undefined;

  const loaded = (): WasmTextModel => {
    if (model) return model;
    throw { code: "internal", message: "no model is loaded in this worker" } satisfies WireError;
  };

  return {
    async load(request, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const level = host.simdLevel();
      if (!level) throw NO_SIMD;
      const engine = await host.start(level).catch((cause: unknown) => {
        const { message } = toWire(cause);
        throw { code: "worker-failed", message: `the engine could not start: ${message}` } satisfies WireError;
      });
      if (signal.aborted) throw { code: "aborted", message: "cancelled by the caller" } satisfies WireError;
      const { threads, note } = threadCount(request.threads, host.cores());
      const spawnHelpers: WasmLoadOptions["spawnHelpers"] = (count, sharedBytes) =>
        team.start(count, sharedBytes, { level, module: engine.module });
      try {
        model = await loadModel(engine, request, { threads, spawnHelpers }, emit, signal);
        return withNote(model, engine, note);
      } catch (thrown) {
        team.end();
        throw thrown;
      }
    },
    generate: async (request, emit, signal) => loaded().generate(request, emit, signal),
    tokenize: async ({ text, special }) => loaded().tokenize(text, special),
    detokenize: async ({ ids }) => loaded().detokenize(ids),
    async dispose() {
      model?.free();
      model = undefined;
      team.end();
      return null;
    },
  };
}

const NO_SIMD: WireError = {
  code: "no-simd",
  message: "this browser's WebAssembly has no SIMD, which the engine needs: any current Chrome, Edge, Firefox or Safari has it",
};

function loadModel(
  { TextModel }: Engine,
  { source, contextLength, device, activationBits }: LoadRequest,
  team: Pick<WasmLoadOptions, "threads" | "spawnHelpers">,
  emit: (progress: RawProgress) => void,
  signal: AbortSignal,
): Promise<WasmTextModel> {
  const options: WasmLoadOptions = {
    ...team,
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(device === undefined ? {} : { device }),
    ...(activationBits === undefined ? {} : { activationBits }),
  };
  return TextModel.load(source, options, emit, signal);
}

/** What the engine says of the model, and what only this side knows: memory, and why there are fewer threads. */
function withNote(model: WasmTextModel, { memory }: Engine, note: string): ModelInfo {
  const { helperHeapBytes = 0, ...info } = model.info();
  const { device } = info;
  const reason = device.kind === "cpu" && note !== "" ? `${device.reason} ${note}` : device.reason;
  return {
    ...info,
    device: { ...device, reason },
    wasmHeapBytes: memory.buffer.byteLength + helperHeapBytes,
  };
}
