// What can be done with stored models besides loading them.
import type { WireError } from "../errors.js";
import type { RawKeeping } from "../protocol.js";
import type { StorageUsage, StoredModel, VerifyResult } from "../types.js";
import { CHUNK_BYTES, type ChunkName, type ChunkStore, type FileRecord, type ModelFolder, type ModelRecord } from "./chunk-store.js";
import { sha256 } from "./digest.js";
import { isDownloaded } from "./model-id.js";
import { estimateRoom } from "./room.js";

type StoredChunk = ChunkName & { bytes: number };
export type ReportKeeping = (progress: RawKeeping) => void;

/** The latest first. */
export async function listModels(store: ChunkStore | undefined): Promise<StoredModel[]> {
  if (!store) return [];
  const models = await Promise.all((await store.ids()).map((id) => storedModel(store.folder(id))));
  return models.filter((model) => model !== undefined).sort((a, b) => b.lastUsed - a.lastUsed);
}

/** Undefined where nothing is stored. Chunks without a record that can be read are a model, too, so that they can be deleted. */
export async function storedModel(folder: ModelFolder): Promise<StoredModel | undefined> {
  const [record, chunks] = await Promise.all([folder.readRecord(), folder.chunks()]);
  if (!record && chunks.length === 0) return undefined;
  const { source, files, lastUsed } = record ?? unknownModel(folder.id, chunks);
  const described = files.map((file, number) => {
    const stored = chunksOf(file, number, chunks);
    const storedBytes = sum([...stored.values()].map(({ bytes }) => bytes));
    return { name: fileName(file), bytes: file.bytes, storedBytes, ...(file.sha256 === undefined ? {} : { sha256: file.sha256 }) };
  });
  const bytes = described.every((file) => file.bytes !== undefined) ? sum(described.map((file) => file.bytes ?? 0)) : undefined;
  const storedBytes = sum(described.map((file) => file.storedBytes));
  const name = isDownloaded(source) || source.startsWith("hf:") ? (described[0]?.name ?? source) : source;
  return { id: folder.id, name, source, files: described, bytes, storedBytes, complete: storedBytes === bytes, lastUsed };
}

export async function storageUsage(store: ChunkStore | undefined): Promise<StorageUsage> {
  const room = await estimateRoom();
  if (!store) return { kind: "none", modelBytes: 0, ...room, persisted: false };
  const chunks = await Promise.all((await store.ids()).map((id) => store.folder(id).chunks()));
  const persisted = await navigator.storage.persisted().catch(() => false);
  return { kind: store.kind, modelBytes: sum(chunks.flat().map(({ bytes }) => bytes)), ...room, persisted };
}

/** Whether there was such a model. */
export async function deleteModel(store: ChunkStore | undefined, id: string): Promise<boolean> {
  if (!store || !(await store.ids()).includes(id)) return false;
  await store.delete(id);
  return true;
}

/**
 * Reads all chunks of a model, and deletes those that are not what they were.
 *
 * @throws `WireError` `not-stored`, `aborted`.
 */
export async function verifyModel(
  store: ChunkStore | undefined,
  id: string,
  report: ReportKeeping,
  signal: AbortSignal,
): Promise<VerifyResult> {
  const folder = store?.folder(id);
  const model = folder && (await storedModel(folder));
  if (!model) throw notStored(id);
  const record = await folder.readRecord();
  const chunks = (await folder.chunks()).sort((a, b) => a.file - b.file || a.index - b.index);
  const totalBytes = sum(chunks.map(({ bytes }) => bytes));
  const result: VerifyResult = { damaged: [], verifiedBytes: 0, complete: false };
  const isWrong = async (chunk: ChunkName, bytes: Uint8Array<ArrayBuffer>) =>
    !fits(chunk, bytes.length, record?.files) || (await sha256(bytes)) !== chunk.sha256;
  let loadedBytes = 0;
  report({ phase: "checking", loadedBytes, totalBytes });
  for (const chunk of chunks) {
    throwIfAborted(signal);
    const bytes = await folder.read(chunk);
    if (bytes && !(await isWrong(chunk, bytes))) result.verifiedBytes += bytes.length;
    else if (bytes || (await isStored(folder, chunk))) {
      // A tab that found the same may have mended it meanwhile.
      await folder.remove(chunk, (now) => isWrong(chunk, now));
      const from = chunk.index * CHUNK_BYTES;
      result.damaged.push({ file: chunk.file, from, to: from + (sizeOf(chunk, record?.files) ?? chunk.bytes) });
    }
    loadedBytes += chunk.bytes;
    report({ phase: "checking", loadedBytes, totalBytes });
  }
  const after = await storedModel(folder);
  return { ...result, complete: after?.complete === true };
}

/**
 * The files of a whole model, backed by the store.
 *
 * @throws `WireError` `not-stored`.
 */
export async function exportModel(store: ChunkStore | undefined, id: string): Promise<File[]> {
  const folder = store?.folder(id);
  const record = await folder?.readRecord();
  if (!folder || !record) throw notStored(id);
  const chunks = await folder.chunks();
  return Promise.all(
    record.files.map(async (file, number) => {
      const stored = chunksOf(file, number, chunks);
      const parts: Blob[] = [];
      for (let index = 0; index * CHUNK_BYTES < (file.bytes ?? 0); index++) {
        const chunk = stored.get(index);
        const part = chunk && (await folder.blob(chunk));
        if (part) parts.push(part);
      }
      if (file.bytes === undefined || sum(parts.map(({ size }) => size)) !== file.bytes) throw notWhole(id, fileName(file));
      return new File(parts, fileName(file), { lastModified: record.lastUsed });
    }),
  );
}

/** Whether it is there still, though it cannot be read. */
async function isStored(folder: ModelFolder, { file, index, sha256 }: ChunkName): Promise<boolean> {
  return (await folder.chunks()).some((one) => one.file === file && one.index === index && one.sha256 === sha256);
}

/** Bytes of a chunk of a file of `fileBytes` bytes. */
export function chunkBytes(fileBytes: number, index: number): number {
  return Math.max(0, Math.min(CHUNK_BYTES, fileBytes - index * CHUNK_BYTES));
}

/** Undefined where the model's record does not tell. */
function sizeOf({ file, index }: ChunkName, files: readonly FileRecord[] | undefined): number | undefined {
  const bytes = files?.[file]?.bytes;
  return bytes === undefined ? undefined : chunkBytes(bytes, index);
}

/** Whether a chunk of this size belongs to the files of the record. */
function fits(chunk: ChunkName, bytes: number, files: readonly FileRecord[] | undefined): boolean {
  if (files && chunk.file >= files.length) return false;
  const right = sizeOf(chunk, files);
  return right === undefined ? bytes > 0 && bytes <= CHUNK_BYTES : bytes > 0 && bytes === right;
}

/** Of one file, by their index. Of two for one place nobody knows which is right, so neither counts. */
function chunksOf(file: FileRecord, number: number, chunks: readonly StoredChunk[]): Map<number, StoredChunk> {
  const right = chunks.filter((chunk) => chunk.file === number && fits({ ...chunk, file: 0 }, chunk.bytes, [file]));
  const counts = new Map<number, number>();
  for (const { index } of right) counts.set(index, (counts.get(index) ?? 0) + 1);
  return new Map(right.filter(({ index }) => counts.get(index) === 1).map((chunk) => [chunk.index, chunk]));
}

/** What stands in for a record that is not there, or is none. */
function unknownModel(id: string, chunks: readonly StoredChunk[]): ModelRecord {
  const count = Math.max(...chunks.map(({ file }) => file)) + 1;
  return { source: id, files: Array.from({ length: count }, (_, i) => ({ address: `file ${i + 1}` })), lastUsed: 0 };
}

/** Without folders. */
function fileName({ address }: FileRecord): string {
  if (!isDownloaded(address) || !URL.canParse(address)) return address;
  const { pathname, host } = new URL(address);
  const last = pathname.split("/").at(-1) ?? "";
  return decoded(last) || host;
}

/** `%20` is a space. A name that is not encoded rightly stays. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw { code: "aborted", message: "cancelled by the caller" } satisfies WireError;
}

function notStored(id: string): WireError {
  return { code: "not-stored", message: `no model with the id ${id} is stored: models.list() tells those that are` };
}

function notWhole(id: string, name: string): WireError {
  return { code: "not-stored", message: `${name} of the model ${id} is not stored whole: download it again, or import it` };
}
