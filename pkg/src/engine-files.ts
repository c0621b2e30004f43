// The engine's own files, as the page finds them: the worker's script and the two wasm builds. They are taken from beside
// this module. Where they do not arrive, the copy that is packed into JavaScript chunks takes their place.
import type { WorkerLike } from "./engine-client.js";
import { engineHome, noHome } from "./engine-home.js";
import { EmberglassError } from "./errors.js";
import type { HelperLike } from "./helper-team.js";
import type { WasmPlace } from "./protocol.js";
import type { SimdLevel } from "./simd.js";
import { type RawWorker, type StartOutcome, StartingWorker, type Way } from "./starting-worker.js";
import type { EngineAddresses } from "./types.js";
import { messageOf, watchPolicy, whyForbidden, whyNoScript } from "./worker-fault.js";

/** Each address is written out: bundlers that copy files know this form. Functions, since importing must do nothing. */
const BESIDE = {
  worker: () => complete(new URL("./emberglass-worker.js", import.meta.url)),
  simd128: () => complete(new URL("./emberglass-simd128.wasm", import.meta.url)),
  relaxed: () => complete(new URL("./emberglass-relaxed.wasm", import.meta.url)),
};

/** Turbopack puts an object in place of the URL that knows the path only. */
function complete(address: URL): URL {
  return new URL(address.href, location.href);
}

const REMEDY =
  "Put emberglass-worker.js and both emberglass-*.wasm of the package's dist folder beside the script that contains the package, " +
  "or give their addresses in the options workerUrl and wasmUrl";
const INSTEAD = "The copy inside the package runs instead; it takes longer to start.";

/** Whether the packed copy is used at once, without a look at the addresses: `emberglass/inline` asks for it. */
let packedFirst = false;
/** Whether the script beside this module did not start on this page. It is not tried again. */
let scriptIsMissing = false;
/** What was said on the console already. */
const told = new Set<string>();

/** @internal Uses the packed copy from now on. */
export function usePackedEngine(): void {
  packedFirst = true;
}

/** Starts workers and finds the wasm, for one model. */
export class EngineFiles {
  readonly #workerUrl: URL | undefined;
  readonly #wasmUrl: Record<SimdLevel, URL> | undefined;

  /** @throws {@link EmberglassError} `no-worker` where no engine can run; `invalid-option` for an address that is none. */
  constructor({ workerUrl, wasmUrl }: EngineAddresses) {
    if (!engineHome()) throw noHome();
    if (workerUrl !== undefined) this.#workerUrl = absolute("workerUrl", workerUrl);
    if (wasmUrl === undefined) return;
    this.#wasmUrl = { simd128: absolute("wasmUrl.simd128", wasmUrl.simd128), relaxed: absolute("wasmUrl.relaxed", wasmUrl.relaxed) };
  }

  /** Starts the engine's worker. */
  readonly spawn = (): WorkerLike => new StartingWorker(this.#ways(), this.#outcome);

  /** Starts a helper thread. Its script is the same: the first message says what it shall do. */
  readonly spawnHelper = (): HelperLike => {
    if (engineHome() === "here") throw new Error("this kind of worker cannot start workers");
    return new StartingWorker(this.#ways(), this.#outcome);
  };

  /**
   * Where a build of the engine is. `failed` says why the last answer was of no use.
   *
   * @throws {@link EmberglassError} `worker-failed` when there is no other place.
   */
  readonly findWasm = async (level: SimdLevel, failed: string | undefined): Promise<WasmPlace> => {
    if (failed !== undefined && this.#wasmUrl) {
      throw new EmberglassError("worker-failed", `${failed}. The address is from the option wasmUrl`);
    }
    if (this.#wasmUrl) return this.#wasmUrl[level].href;
    if (failed === undefined && !packedFirst) {
      const beside = found(BESIDE[level]);
      if (beside) return beside.href;
    }
    if (failed !== undefined) tellOnce(`${failed}. ${INSTEAD} ${REMEDY}.`);
    return packedWasm(level);
  };

  #ways(): Way[] {
    if (engineHome() === "here") return [inThisThread];
    const given = this.#workerUrl;
    if (given) return [scriptAt(() => given)];
    return packedFirst || scriptIsMissing ? [packedScript] : [scriptAt(BESIDE.worker), packedScript];
  }

  readonly #outcome: StartOutcome = {
    started: (failures) => {
      if (failures.length === 0) return;
      scriptIsMissing = true;
      tellOnce(`${failures.join("; ")}. ${INSTEAD} ${REMEDY}.`);
    },
    failed: (failures) => {
      const remedy = this.#workerUrl ? "The address is from the option workerUrl" : REMEDY;
      return new EmberglassError("worker-failed", `the engine's worker did not start: ${failures.join("; ")}. ${remedy}`);
    },
  };
}

/** The script at an address. */
function scriptAt(address: () => URL): Way {
  return {
    make: () => {
      watchPolicy();
      const url = address();
      if (url.origin === location.origin && url.protocol !== "data:") return new Worker(url, { type: "module" });
      // Browsers start no worker from another origin. One of this origin may import the script.
      return fromText(`import ${JSON.stringify(url.href)};`, "module");
    },
    why: async (failure) => {
      const url = found(address);
      if (!url) return "the address of the worker's script is not known, as in a bundle without import.meta.url";
      return whyNoScript(url, failure);
    },
  };
}

/** The script out of a chunk of this package. */
const packedScript: Way = {
  make: async () => {
    const { default: text } = await import("./packed-worker.js");
    watchPolicy();
    // Chromium starts no module out of a blob in a page of file:.
    return fromText(text, "classic");
  },
  why: async (failure) => {
    const why = (await whyForbidden()) ?? (messageOf(failure) || "the browser does not say why");
    return `the copy inside the package does not start either: ${why}`;
  },
};

/** No worker: the engine runs in the worker that called. */
const inThisThread: Way = {
  make: async () => (await import("./in-thread.js")).startInThisThread(),
  why: async (failure) => `the part of the package that runs in this worker did not start: ${messageOf(failure)}`,
};

function fromText(text: string, type: WorkerType): RawWorker {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(url, { type });
  const release = () => URL.revokeObjectURL(url);
  worker.addEventListener("message", release, { once: true });
  worker.addEventListener("error", release, { once: true });
  return worker;
}

async function packedWasm(level: SimdLevel): Promise<Blob> {
  const { default: text } = level === "relaxed" ? await import("./packed-relaxed.js") : await import("./packed-simd128.js");
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Blob([bytes]);
}

/** Undefined where a bundler left no address. */
function found(address: () => URL): URL | undefined {
  try {
    return address();
  } catch {
    return undefined;
  }
}

function absolute(option: string, address: string | URL): URL {
  try {
    return new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new EmberglassError("invalid-option", `option ${option} = ${String(address)} is not an address`, { cause });
  }
}

function tellOnce(text: string): void {
  if (told.has(text)) return;
  told.add(text);
  console.info(`emberglass: ${text}`);
}
