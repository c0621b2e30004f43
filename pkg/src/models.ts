// What a page can do with the models that are stored on this device.
import { EngineClient, type FindWasm, type WorkerLike } from "./engine-client.js";
import { EngineFiles } from "./engine-files.js";
import { abortError, EmberglassError } from "./errors.js";
import { divided, orAborted } from "./load.js";
import * as check from "./options.js";
import { progressMeter } from "./progress.js";
import type { ImportRequest, Verb, Verbs } from "./protocol.js";
import { toWireSource } from "./source.js";
import { isModelId } from "./storage/names.js";
import { askToPersist } from "./storage/room.js";
import type {
  DownloadOptions,
  EngineAddresses,
  FileSource,
  ImportOptions,
  ModelSource,
  StorageUsage,
  StoredModel,
  VerifyOptions,
  VerifyResult,
} from "./types.js";

/**
 * The models that are stored on this device, for this site. Each call has a worker of its own, which ends with it. Every method
 * rejects with an {@link EmberglassError}: `invalid-option` for what is no id or no option, `no-worker`, `worker-failed`.
 */
export interface Models {
  /** All of them, those that were used last first; none in a browser that keeps nothing. */
  list(options?: EngineAddresses): Promise<StoredModel[]>;
  /** How much room models take, and how much there is. */
  usage(options?: EngineAddresses): Promise<StorageUsage>;
  /**
   * Deletes a model, and resolves with whether there was one. Models that are loaded go on. A tab that downloads the model
   * finishes its load, and keeps nothing of it.
   */
  delete(id: string, options?: EngineAddresses): Promise<boolean>;
  /**
   * Downloads a model and keeps it, without loading it. What is stored already is not downloaded again.
   *
   * @throws {@link EmberglassError} `storage` where this browser keeps nothing, `storage-full` where there is too little room;
   * `network`, `http-status`, `wrong-digest`; `aborted`: what has arrived stays.
   */
  download(source: ModelSource, options?: DownloadOptions): Promise<StoredModel>;
  /**
   * Reads the whole of a model, and deletes the parts that are damaged: the next load downloads them again.
   *
   * @throws {@link EmberglassError} `not-stored`, `aborted`.
   */
  verify(id: string, options?: VerifyOptions): Promise<VerifyResult>;
  /**
   * Keeps files that the visitor has, as if they had been downloaded: `{ stored: id }` loads them. The same files under the
   * same names are the same model. Where it fails nothing is left.
   *
   * @throws {@link EmberglassError} `storage`, `storage-full`, `io` for a file that cannot be read, `truncated` for an empty one, `aborted`.
   */
  import(source: FileSource | { shards: readonly FileSource[] }, options?: ImportOptions): Promise<StoredModel>;
  /**
   * The files of a model, to save or to send. They are not read into memory: their bytes come from what is stored, so they can
   * be read until the model is deleted.
   *
   * @throws {@link EmberglassError} `not-stored`, also for a model that is not stored whole.
   */
  export(id: string, options?: EngineAddresses): Promise<File[]>;
}

/** How long the worker may take to clean up after an abort. */
const CLEAN_UP_MS = 10_000;
const LONGEST_NAME = 200;

const DOWNLOAD: check.Kinds<DownloadOptions> = {
  ...check.NETWORK,
  ...check.ENGINE,
  sha256: check.SOURCE.sha256,
  revision: check.SOURCE.revision,
  accessToken: check.SOURCE.accessToken,
  hubs: check.SOURCE.hubs,
  onProgress: check.callback,
  signal: check.signal,
};

const VERIFY: check.Kinds<VerifyOptions> = { ...check.ENGINE, onProgress: check.callback, signal: check.signal };

const modelName: check.Kind<string> = (value, label) => {
  const name = plainName(check.text(value, label));
  if (name !== "" && name.length <= LONGEST_NAME) return name;
  throw check.invalid(label, value, `not a name: give 1 to ${LONGEST_NAME} characters`);
};

const IMPORT: check.Kinds<ImportOptions> = { ...VERIFY, name: modelName };

/** Where the worker of a call comes from. */
interface Home {
  spawn: () => WorkerLike;
  findWasm?: FindWasm | undefined;
}

/** {@link models} over any worker. Not public: the seam for tests. */
export function modelsOver(homeOf: (addresses: EngineAddresses) => Home): Models {
  const ask = async <V extends Verb>(
    addresses: EngineAddresses,
    verb: V,
    args: Verbs[V]["args"],
    { signal, onEvent }: { signal?: AbortSignal | undefined; onEvent?: ((event: Verbs[V]["event"]) => void) | undefined } = {},
  ): Promise<Verbs[V]["result"]> => {
    const { spawn, findWasm } = homeOf(addresses);
    const client = new EngineClient(spawn, undefined, findWasm);
    try {
      return await cleanedUp(client.call(verb, args, { signal, ...(onEvent ? { onEvent } : {}) }), signal);
    } finally {
      client.close(new EmberglassError("disposed", "the call is over"));
    }
  };

  return {
    list: async (options) => ask(check.options("models.list", check.ENGINE, options), "listModels", null),
    usage: async (options) => ask(check.options("models.usage", check.ENGINE, options), "storageUsage", null),
    delete: async (id, options) => ask(check.options("models.delete", check.ENGINE, options), "deleteModel", { id: modelId(id) }),
    export: async (id, options) => ask(check.options("models.export", check.ENGINE, options), "exportModel", { id: modelId(id) }),

    async verify(id, options) {
      const { onProgress, signal, ...addresses } = check.options("models.verify", VERIFY, options);
      return ask(addresses, "verifyModel", { id: modelId(id) }, { signal, onEvent: onProgress && progressMeter(onProgress) });
    },

    async download(given, options) {
      const { onProgress, signal, workerUrl, wasmUrl, ...rest } = check.options("models.download", DOWNLOAD, options);
      const { network, files, hub } = divided(rest);
      if (signal?.aborted) throw abortError(signal);
      const source = await orAborted(toWireSource(given, hub), signal);
      if ("blobs" in source) throw new EmberglassError("invalid-option", "models.download takes addresses: keep a file with models.import");
      askToPersist();
      const onEvent = onProgress && progressMeter(onProgress);
      return ask({ workerUrl, wasmUrl }, "download", { source, files, network }, { signal, onEvent });
    },

    async import(given, options) {
      const { onProgress, signal, name, ...addresses } = check.options("models.import", IMPORT, options);
      if (signal?.aborted) throw abortError(signal);
      const source = await orAborted(toWireSource(given, {}), signal);
      if (!("blobs" in source)) throw new EmberglassError("invalid-option", "models.import takes files: keep what is at an address with models.download");
      askToPersist();
      return ask(addresses, "importModel", toKeep(source, name), { signal, onEvent: onProgress && progressMeter(onProgress) });
    },
  };
}

/** The models that are stored on this device, for this site. */
export const models: Models = /* @__PURE__ */ modelsOver((addresses) => new EngineFiles(addresses));

/** A model of one file has its name. */
function toKeep({ blobs, names }: { blobs: Blob[]; names: string[] }, name: string | undefined): ImportRequest {
  const plain = names.map((one, i) => plainName(one).slice(-LONGEST_NAME) || `file ${i + 1}`);
  const [first = "file 1"] = plain;
  return { blobs, name: name ?? first, names: name !== undefined && plain.length === 1 ? [name] : plain };
}

/** Without folders, and without characters that are none. */
function plainName(name: string): string {
  const last = name.split(/[/\\]/).at(-1) ?? "";
  return last.replaceAll(/\p{Cc}/gu, "").trim();
}

function modelId(id: unknown): string {
  if (typeof id === "string" && isModelId(id)) return id;
  throw check.invalid("id", id, "not the id of a model: models.list() tells them");
}

/** After an abort the worker answers when nothing is left. One that does not is not waited for. */
async function cleanedUp<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let giveUp = () => {};
  const late = new Promise<never>((_, reject) => {
    giveUp = () => {
      timer = setTimeout(() => reject(abortError(signal)), CLEAN_UP_MS);
    };
    signal.addEventListener("abort", giveUp, { once: true });
  });
  try {
    return await Promise.race([promise, late]);
  } catch (thrown) {
    throw thrown instanceof EmberglassError && thrown.code === "aborted" ? abortError(signal) : thrown;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
  }
}
