// Keeps files that the visitor has, as a download keeps those of a server.
import type { WireError } from "../errors.js";
import type { StoredModel } from "../types.js";
import { CHUNK_BYTES, type ChunkName, type ChunkStore, type ModelFolder } from "./chunk-store.js";
import { sha256 } from "./digest.js";
import { downloadLock } from "./locks.js";
import { importId } from "./model-id.js";
import { storageFull, tooLittleRoom } from "./room.js";
import { listModels, type ReportKeeping, storedModel, sum, throwIfAborted } from "./stored-models.js";

/** A file to import. */
export interface FileToKeep {
  name: string;
  blob: Blob;
}

/**
 * Reads the files twice, in pieces of 4 MiB: to learn the id, which their bytes give, and to keep them. What an import that was
 * killed has left is used. One that fails leaves nothing.
 *
 * @param name What the model is called.
 * @throws `WireError` `storage`, `storage-full`, `io`, `aborted`.
 */
export async function importFiles(
  store: ChunkStore | undefined,
  name: string,
  files: readonly FileToKeep[],
  report: ReportKeeping,
  signal: AbortSignal,
): Promise<StoredModel> {
  if (!store) throw nothingKept();
  const empty = files.find(({ blob }) => blob.size === 0);
  if (empty) throw { code: "truncated", message: `${empty.name} is empty`, detail: "empty" } satisfies WireError;
  const chunks = await chunksOf(files, report, signal);
  const digests = (number: number) => chunks.filter(({ file }) => file === number).map(({ sha256 }) => sha256);
  const id = await importId(files.map((file, i) => ({ name: file.name, sha256: digests(i) })));
  const keep = () => keepFiles(store, id, name, files, chunks, report, signal);
  return navigator.locks.request(downloadLock(id), { signal }, keep);
}

async function keepFiles(
  store: ChunkStore,
  id: string,
  name: string,
  files: readonly FileToKeep[],
  chunks: readonly ChunkName[],
  report: ReportKeeping,
  signal: AbortSignal,
): Promise<StoredModel> {
  const folder = store.folder(id);
  const isNew = (await storedModel(folder)) === undefined;
  const stored = await folder.chunks();
  const there = await intact(folder, stored, chunks, files, signal);
  const totalBytes = sum(files.map(({ blob }) => blob.size));
  const missing = chunks.filter((chunk) => !there.has(chunk));
  const missingBytes = sum(missing.map((chunk) => piece(files, chunk).size));
  const full = await tooLittleRoom(missingBytes, () => listModels(store));
  if (full) throw full;
  const written: ChunkName[] = [];
  let loadedBytes = totalBytes - missingBytes;
  try {
    for (const other of stored) if (!chunks.some((chunk) => isSame(chunk, other))) await folder.remove(other);
    const records = files.map((file) => ({ address: file.name, bytes: file.blob.size }));
    await folder.writeRecord({ source: name, files: records, lastUsed: Date.now() });
    for (const chunk of missing) {
      throwIfAborted(signal);
      report({ phase: "storing", loadedBytes, totalBytes });
      const bytes = await readPiece(files, chunk);
      if ((await sha256(bytes)) !== chunk.sha256) throw changed(files[chunk.file]);
      await folder.write(chunk, bytes);
      written.push(chunk);
      loadedBytes += bytes.length;
    }
    report({ phase: "storing", loadedBytes, totalBytes });
    const model = await storedModel(folder);
    if (!model?.complete) throw { code: "storage", message: DELETED } satisfies WireError;
    return model;
  } catch (thrown) {
    if (isNew) await store.delete(id);
    else for (const chunk of written) await folder.remove(chunk);
    throw await explained(thrown, store, missingBytes);
  }
}

/** The chunks of the files, in their order. */
async function chunksOf(files: readonly FileToKeep[], report: ReportKeeping, signal: AbortSignal): Promise<ChunkName[]> {
  const totalBytes = sum(files.map(({ blob }) => blob.size));
  const chunks: ChunkName[] = [];
  let loadedBytes = 0;
  report({ phase: "checking", loadedBytes, totalBytes });
  for (const [file, { blob }] of files.entries()) {
    for (let index = 0; index * CHUNK_BYTES < blob.size; index++) {
      throwIfAborted(signal);
      const bytes = await readPiece(files, { file, index });
      chunks.push({ file, index, sha256: await sha256(bytes) });
      loadedBytes += bytes.length;
      report({ phase: "checking", loadedBytes, totalBytes });
    }
  }
  return chunks;
}

/** Those of the chunks that are stored already, and right. */
async function intact(
  folder: ModelFolder,
  stored: readonly (ChunkName & { bytes: number })[],
  chunks: readonly ChunkName[],
  files: readonly FileToKeep[],
  signal: AbortSignal,
): Promise<Set<ChunkName>> {
  const right = new Set<ChunkName>();
  for (const chunk of chunks) {
    throwIfAborted(signal);
    const bytes = piece(files, chunk).size;
    const isThere = stored.some((one) => isSame(one, chunk) && one.bytes === bytes);
    const found = isThere ? await folder.read(chunk) : undefined;
    if (found && (await sha256(found)) === chunk.sha256) right.add(chunk);
  }
  return right;
}

function isSame(a: ChunkName, b: ChunkName): boolean {
  return a.file === b.file && a.index === b.index && a.sha256 === b.sha256;
}

function piece(files: readonly FileToKeep[], { file, index }: Pick<ChunkName, "file" | "index">): Blob {
  const from = index * CHUNK_BYTES;
  return files[file]?.blob.slice(from, from + CHUNK_BYTES) ?? new Blob();
}

async function readPiece(files: readonly FileToKeep[], at: Pick<ChunkName, "file" | "index">): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await piece(files, at).arrayBuffer());
  } catch (thrown) {
    const message = `reading ${files[at.file]?.name} failed: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
    throw { code: "io", message } satisfies WireError;
  }
}

function changed(file: FileToKeep | undefined): WireError {
  return { code: "io", message: `${file?.name} changed while it was imported: import it again` };
}

const DELETED = "the model was deleted while it was imported";

/** What the store throws for want of room, and after a deletion, in words. */
async function explained(thrown: unknown, store: ChunkStore, neededBytes: number): Promise<unknown> {
  const name = thrown instanceof DOMException ? thrown.name : "";
  if (name === "QuotaExceededError") return storageFull(neededBytes, undefined, await listModels(store));
  if (name === "NotFoundError") return { code: "storage", message: DELETED } satisfies WireError;
  return thrown;
}

/** The error where nothing can be kept. */
export function nothingKept(): WireError {
  return {
    code: "storage",
    message:
      "this browser keeps nothing here: there is neither a private file system nor a Cache API, as on pages without https and in " +
      "some private windows. Load the model without keeping it",
  };
}
