// The files of one load: found (sources/), kept and checked (storage/), and handed to the engine as addresses and a `fetch`.
import type { WireError } from "./errors.js";
import type { FileRequest, WireSource } from "./protocol.js";
import { checkCount, findFiles, type FinderHost, type ModelFile } from "./sources/find-files.js";
import { mirroredFetch } from "./sources/mirrors.js";
import { limitsOf } from "./sources/patience.js";
import type { ChunkStore } from "./storage/chunk-store.js";
import { checkBlobs } from "./storage/check-blobs.js";
import { KeptModel } from "./storage/kept-model.js";
import { canonicalAddress, isDownloaded, modelId } from "./storage/model-id.js";
import { tooLittleRoom } from "./storage/room.js";
import { listModels } from "./storage/stored-models.js";
import { type Located, StoredFetch } from "./storage/stored-fetch.js";
import { type TabsHost, tabsHere } from "./storage/tabs.js";
import type { StorageReport } from "./types.js";
import type { EngineSource, Fetch } from "./wasm-surface.js";

/** What of the browser the files need. */
export interface FilesHost extends FinderHost {
  openStore: () => Promise<ChunkStore | undefined>;
  /** The whole model is read, and not its header alone. */
  readsAll: boolean;
  /** The model is downloaded only to be kept: it ends where that fails. */
  keepsOnly?: boolean;
  /** Default: the browser's. */
  tabs?: TabsHost;
  /** Bytes of a chunk. Default: those of the store. */
  chunkBytes?: number;
  /** Default: as the browser estimates. */
  tooLittleRoom?: (neededBytes: number) => Promise<WireError | undefined>;
}

/** The files of a load that is under way. */
export interface ModelFiles {
  /** For the engine. */
  source: EngineSource;
  fetch: Fetch;
  /** What ended the load, where that was not the engine: it explains more than the engine's error. */
  readonly fault: WireError | undefined;
  /** Bytes of the files that are stored on this device. */
  storedBytes(): Promise<number>;
  /** Bytes of all files; undefined where that is not known yet. */
  allBytes(): number | undefined;
  /**
   * The engine has read all it needs: the rest is kept, too.
   *
   * @throws `WireError` where a SHA-256 that was given is wrong, or cannot be checked: `wrong-digest`, `network`; with
   * `keepsOnly` where the model is not kept: `storage-full`, `storage`. Nothing else.
   */
  finish(): Promise<StorageReport>;
  /** The engine says that this is no model. What is stored of it is deleted where it can be downloaded again. Never rejects. */
  discard(): Promise<void>;
  /**
   * Ends requests, and lets go of locks once what has arrived is written. Call it at the end, whatever the end was. Never rejects.
   */
  close(): Promise<void>;
}

/** @throws `WireError` */
export async function openModelFiles(source: WireSource, request: FileRequest, host: FilesHost): Promise<ModelFiles> {
  if ("blobs" in source) return givenFiles(source, request, host);
  if ("stored" in source && request.storage === "none") {
    const message = 'option storage = "none" reads nothing that is stored: leave it out to load a stored model';
    throw { code: "invalid-option", message, detail: "storage" } satisfies WireError;
  }
  const place = await openPlace(source, request, host);
  if ("stored" in source) return storedFiles(source.stored, place, request, host);
  const key = keyOf(source);
  const fileCount = "addresses" in source ? source.addresses.length : undefined;
  const opened = typeof place === "string" ? place : await openKept(place, { id: await modelId(key), source: key[0], fileCount }, host);
  const kept = typeof opened === "string" ? undefined : opened;
  // Another file than the one that is stored: it is deleted once this load may write.
  if (kept?.files.some(({ record: { sha256 } }, i) => isOther(sha256, request.sha256?.[i]))) kept.forget();
  const servers = new Servers(host, () => findFiles(source, request, host));
  // A model that is whole is not looked up: a hub's listing takes the network.
  const files = kept?.isWhole() && !("addresses" in source) ? undefined : (await servers.locate()).files;
  if (kept && !files) checkCount(request.sha256, kept.files.length);
  const urls = files?.map(({ addresses: [first] }) => first) ?? addressesOf(kept);
  return joined(urls, request.sha256, servers, opened, host);
}

function isOther(known: string | undefined, given: string | undefined): boolean {
  return known !== undefined && given !== undefined && known !== given;
}

/** Where models are kept; or why nothing is. */
async function openPlace(source: WireSource, { storage }: FileRequest, host: FilesHost): Promise<ChunkStore | string> {
  if (storage === "none") return "the caller wants it so";
  // The same file has another blob: address each time.
  if ("addresses" in source && !source.addresses.flat().every(isDownloaded)) return "only what has an http or https address is kept: models.import keeps a file";
  if (globalThis.crypto?.subtle === undefined) return "browsers keep models on secure pages only (https, or localhost)";
  try {
    return (await host.openStore()) ?? "this browser keeps nothing here: storage is missing or refused, as in some private windows";
  } catch (thrown) {
    return `the browser's storage cannot be used: ${(thrown as Error).message}`;
  }
}

/** What is stored of a model; or why that cannot be used. */
async function openKept(
  store: ChunkStore,
  model: { id: string; source: string | undefined; fileCount: number | undefined },
  { chunkBytes }: FilesHost,
): Promise<KeptModel | string> {
  try {
    return await KeptModel.open({ store, ...model, ...(chunkBytes === undefined ? {} : { chunkBytes }) });
  } catch (thrown) {
    return `the browser's storage cannot be read: ${(thrown as Error).message}`;
  }
}

/** What tells models apart: what the caller loads, without secrets. The first part names the model. */
function keyOf(source: Exclude<WireSource, { blobs: Blob[] } | { stored: string }>): [string, ...string[]] {
  if ("hub" in source) return [source.hub.name, ...source.hub.hubs];
  return source.addresses.map(([first]) => canonicalAddress(first ?? "")) as [string, ...string[]];
}

function addressesOf(kept: KeptModel | undefined): string[] {
  return kept?.files.map(({ record: { address } }) => address) ?? [];
}

/** Files that the page has are not kept: it has them. */
async function givenFiles(source: { blobs: Blob[]; names: string[] }, request: FileRequest, host: FilesHost): Promise<ModelFiles> {
  if (request.sha256) await checkBlobs(source, request.sha256, host.signal);
  const reason = "the page gave the file: models.import keeps one";
  const report: StorageReport = { kind: "none", storedBytes: 0, networkBytes: 0, repaired: [], reason };
  return { source, fetch: host.fetch, fault: undefined, storedBytes: async () => 0, allBytes: () => undefined, finish: async () => report, discard: async () => {}, close: async () => {} };
}

/** A model by its id. What is missing of it comes from where it came from. */
async function storedFiles(id: string, place: ChunkStore | string, request: FileRequest, host: FilesHost): Promise<ModelFiles> {
  const kept = typeof place === "string" ? place : await openKept(place, { id, source: undefined, fileCount: undefined }, host);
  if (typeof kept === "string") throw { code: "not-stored", message: `the model ${id} cannot be loaded from storage: ${kept}` } satisfies WireError;
  if (!kept.isKnown) {
    throw { code: "not-stored", message: `no model with the id ${id} is stored: models.list() tells those that are` } satisfies WireError;
  }
  const addresses = addressesOf(kept);
  checkCount(request.sha256, addresses.length);
  const canGoOn = addresses.every(isDownloaded);
  const notWhole: WireError = {
    code: "not-stored",
    message: `the model ${id} is not stored whole, and nothing tells where to download the rest: import it again`,
  };
  if (!kept.isWhole() && !canGoOn) throw notWhole;
  const servers = new Servers(host, async () => {
    if (!canGoOn) throw notWhole;
    return findFiles({ addresses: addresses.map((address) => [address]) }, request, host);
  });
  return joined(addresses, request.sha256, servers, kept, host, { byId: true });
}

/** Where the files are, once that is asked for, and why they do not come. */
class Servers {
  fault: WireError | undefined;
  readonly #host: FilesHost;
  readonly #find: () => Promise<ModelFile[]>;
  #located: Promise<Located> | undefined;

  constructor(host: FilesHost, find: () => Promise<ModelFile[]>) {
    this.#host = host;
    this.#find = find;
  }

  locate(): Promise<Located> {
    return (this.#located ??= this.#locate());
  }

  async #locate(): Promise<Located> {
    const { fetch, limits } = this.#host;
    const files = await this.#find();
    return { files, fetch: mirroredFetch(files, fetch, { limits, onFault: (fault) => (this.fault = fault) }) };
  }
}

function joined(
  places: string[],
  digests: string[] | undefined,
  servers: Servers,
  opened: KeptModel | string,
  host: FilesHost,
  { byId = false } = {},
): ModelFiles {
  const [kept, reason] = typeof opened === "string" ? [undefined, opened] : [opened, undefined];
  // The engine tells files apart by their addresses; imported files may have one name.
  const urls = places.map((place, i) => (places.indexOf(place) === i ? place : `${place}#${i + 1}`));
  const fetch = new StoredFetch({
    kept,
    reason,
    urls,
    digests,
    byId,
    locate: () => servers.locate(),
    tabs: host.tabs ?? tabsHere(),
    tooLittleRoom: host.tooLittleRoom ?? ((bytes) => tooLittleRoom(bytes, () => listModels(kept?.store))),
    stallMs: limitsOf(host).stallMs,
    readsAll: host.readsAll,
    keepsOnly: host.keepsOnly ?? false,
    signal: host.signal,
  });
  return {
    source: { urls },
    fetch: fetch.fetch,
    get fault() {
      return fetch.fault ?? servers.fault;
    },
    storedBytes: async () => kept?.storedBytes() ?? 0,
    allBytes: () => kept?.allBytes(),
    finish: () => fetch.finish(),
    discard: () => fetch.discard(),
    close: () => fetch.close(),
  };
}
