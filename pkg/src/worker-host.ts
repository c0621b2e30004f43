// The worker's half of the protocol: runs each request on the engine and answers it.
import { isTrap, toWire, type WireError } from "./errors.js";
import type { FromWorker, ToWorker, Verb, Verbs } from "./protocol.js";
import type { Engine, WasmTextModel } from "./wasm-surface.js";

/** The part of `DedicatedWorkerGlobalScope` that is used. */
export interface WorkerScope {
  postMessage(message: FromWorker): void;
  addEventListener(type: "message", listener: (event: { data: ToWorker }) => void): void;
  addEventListener(type: "error", listener: (event: { error?: unknown; message?: string }) => void): void;
  addEventListener(type: "unhandledrejection", listener: (event: { reason?: unknown }) => void): void;
}

type Handlers = {
  [V in Verb]: (
    args: Verbs[V]["args"],
    emit: (event: Verbs[V]["event"]) => void,
    signal: AbortSignal,
  ) => Promise<Verbs[V]["result"]>;
};

/** Answers requests for the life of the worker; `start` loads the wasm on the first of them. */
export function serve(scope: WorkerScope, start: () => Promise<Engine>): void {
  const running = new Map<number, AbortController>();
  const handlers = textModelHandlers(start);

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

function textModelHandlers(start: () => Promise<Engine>): Handlers {
  let model: WasmTextModel | undefined;

  const loaded = (): WasmTextModel => {
    if (model) return model;
    throw { code: "internal", message: "no model is loaded in this worker" } satisfies WireError;
  };

  return {
    async load({ source, contextLength }, emit, signal) {
      emit({ phase: "starting", loadedBytes: 0, totalBytes: 0 });
      const engine = await start().catch((cause: unknown) => {
        const { message } = toWire(cause);
        throw { code: "worker-failed", message: `the engine could not start: ${message}` } satisfies WireError;
      });
      if (signal.aborted) throw { code: "aborted", message: "cancelled by the caller" } satisfies WireError;
      model = await engine.TextModel.load(source, contextLength === undefined ? {} : { contextLength }, emit, signal);
      return { ...model.info(), wasmHeapBytes: engine.memory.buffer.byteLength };
    },
    generate: async (request, emit, signal) => loaded().generate(request, emit, signal),
    tokenize: async ({ text, special }) => loaded().tokenize(text, special),
    detokenize: async ({ ids }) => loaded().detokenize(ids),
    async dispose() {
      model?.free();
      model = undefined;
      return null;
    },
  };
}
