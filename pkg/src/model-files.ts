// The files of one load: found (sources/), kept and checked (storage/), and handed to the engine as addresses and a `fetch`.
import type { WireError } from "./errors.js";
import type { FileRequest, WireSource } from "./protocol.js";
import { findFiles, type FinderHost } from "./sources/find-files.js";
import { mirroredFetch } from "./sources/mirrors.js";
import type { ChunkStore } from "./storage/chunk-store.js";
import type { StorageReport } from "./types.js";
import type { EngineSource, Fetch } from "./wasm-surface.js";

/** What of the browser the files need. */
export interface FilesHost extends FinderHost {
  openStore: () => Promise<ChunkStore | undefined>;
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
  /** The engine has read all it needs: the rest is kept, too. */
  finish(): Promise<StorageReport>;
  /** Lets go of locks and requests. Call it at the end, whatever the end was. */
  close(): void;
}

/** @throws `WireError` */
export async function openModelFiles(source: WireSource, request: FileRequest, host: FilesHost): Promise<ModelFiles> {
  const report: StorageReport = { kind: "none", storedBytes: 0, networkBytes: 0, repaired: [], reason: "not there yet" };
  const common = { fetch: host.fetch, fault: undefined, storedBytes: () => Promise.resolve(0), finish: () => Promise.resolve(report), close: () => {} };
  if ("blobs" in source) return { ...common, source };
  if ("stored" in source) throw { code: "internal", message: "storage is not there yet" } satisfies WireError;
  const files = await findFiles(source, request, host);
  let fault: WireError | undefined;
  const fetch = mirroredFetch(files, host.fetch, { limits: host.limits, onFault: (told) => (fault = told) });
  return {
    ...common,
    source: { urls: files.map(({ addresses: [first] }) => first) },
    fetch,
    get fault() {
      return fault;
    },
  };
}
