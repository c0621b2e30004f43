// Models in the origin private file system: the folder `emberglass/<id>/` has a file for each chunk, and `record.json`.
import { CHUNK_BYTES, type ChunkName, type ChunkStore, type ModelFolder, type ModelRecord } from "./chunk-store.js";
import { whileFilesRest, whileFilesStay } from "./locks.js";
import { chunkOfName, isModelId, nameOfChunk, RECORD_NAME } from "./names.js";
import { MOST_RECORD_BYTES, readRecordText, writeRecordText } from "./record.js";

const TOP = "emberglass";
const PROBE = "probe";

/** What dedicated workers have; the library of TypeScript for pages does not know it. */
interface WorkerFile extends FileSystemFileHandle {
  createSyncAccessHandle?(options?: { mode: "read-only" | "readwrite" }): Promise<{
    getSize(): number;
    read(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
    write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
    truncate(bytes: number): void;
    close(): void;
  }>;
}

/** @throws a `DOMException` where the browser refuses it, as Firefox does in private windows. */
export async function openOpfs(): Promise<ChunkStore> {
  const root = await navigator.storage.getDirectory();
  const top = await root.getDirectoryHandle(TOP, { create: true });
  await probe(top);
  return new OpfsStore(root);
}

/** Writes and reads a file. Where only room is missing, what is stored can still be read. */
async function probe(top: FileSystemDirectoryHandle): Promise<void> {
  try {
    const file = await top.getFileHandle(PROBE, { create: true });
    await writeInPlace(file, Uint8Array.of(1));
    if ((await file.getFile()).size !== 1) throw new Error("a file that was written has another length");
    await top.removeEntry(PROBE);
  } catch (thrown) {
    // Another tab tries it at the same time, and may have removed the file.
    const isTried = isBusy(thrown) || nameOf(thrown) === "NotFoundError";
    if (!isTried && nameOf(thrown) !== "QuotaExceededError") throw thrown;
  }
}

class OpfsStore implements ChunkStore {
  readonly kind = "opfs";
  readonly #root: FileSystemDirectoryHandle;

  constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  async ids(): Promise<string[]> {
    const top = await found(this.#root.getDirectoryHandle(TOP));
    const ids = [];
    for (const { name, kind } of top ? await entriesOf(top) : []) if (kind === "directory" && isModelId(name)) ids.push(name);
    return ids;
  }

  folder(id: string): ModelFolder {
    return new OpfsFolder(id, this.#root);
  }

  async delete(id: string): Promise<void> {
    if (!isModelId(id)) return;
    await whileFilesRest(id, async () => {
      const top = await found(this.#root.getDirectoryHandle(TOP));
      if (top) await gone(top.removeEntry(id, { recursive: true }));
    });
  }
}

class OpfsFolder implements ModelFolder {
  readonly id: string;
  readonly #root: FileSystemDirectoryHandle;
  /** Kept once it is there: after a deletion nothing can be written through it. */
  #handle: FileSystemDirectoryHandle | undefined;

  constructor(id: string, root: FileSystemDirectoryHandle) {
    this.id = id;
    this.#root = root;
  }

  async readRecord(): Promise<ModelRecord | undefined> {
    const file = await this.#file(RECORD_NAME);
    // An open access handle would be in the way of a tab that writes a new record.
    const bytes = file && (await readSnapshot(file, MOST_RECORD_BYTES));
    return bytes && readRecordText(new TextDecoder().decode(bytes));
  }

  async writeRecord(record: ModelRecord): Promise<void> {
    const bytes = new TextEncoder().encode(writeRecordText(record));
    await whileFilesStay(this.id, () =>
      this.#writing(async (folder) => {
        const file = await folder.getFileHandle(RECORD_NAME, { create: true });
        // The old record stays until the new one is whole, where the browser can do that.
        await ("createWritable" in file ? writeAnew(file, bytes) : writeInPlace(file, bytes));
      }),
    );
  }

  async chunks(): Promise<(ChunkName & { bytes: number })[]> {
    const folder = await this.#existing();
    const chunks = folder ? await entriesOf(folder) : [];
    const sized = await Promise.all(
      chunks.map(async (entry) => {
        const chunk = chunkOfName(this.id, entry.name);
        if (!chunk || entry.kind !== "file") return undefined;
        const file = await found((entry as FileSystemFileHandle).getFile());
        return file && { ...chunk, bytes: file.size };
      }),
    );
    return sized.filter((chunk) => chunk !== undefined);
  }

  read(chunk: ChunkName): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return whileFilesStay(this.id, () => this.#read(chunk));
  }

  async blob(chunk: ChunkName): Promise<Blob | undefined> {
    const file = await this.#file(nameOfChunk(this.id, chunk));
    return file && found(file.getFile());
  }

  async write(chunk: ChunkName, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const write = () => this.#writing((folder) => writeChunk(folder, nameOfChunk(this.id, chunk), bytes));
    try {
      await whileFilesStay(this.id, write);
    } catch (thrown) {
      if (!isBusy(thrown)) throw thrown;
      // Another tab reads or writes this very chunk.
      await whileFilesRest(this.id, write);
    }
  }

  /** A folder that was deleted is `NotFoundError` in all browsers; Firefox has `UnknownError`. */
  async #writing(write: (folder: FileSystemDirectoryHandle) => Promise<void>): Promise<void> {
    const folder = await this.#made();
    try {
      await write(folder);
    } catch (thrown) {
      const top = await found(this.#root.getDirectoryHandle(TOP));
      if (top && (await found(top.getDirectoryHandle(this.id)))) throw thrown;
      throw new DOMException("the model was deleted", "NotFoundError");
    }
  }

  async remove(chunk: ChunkName, when?: (bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>): Promise<void> {
    await whileFilesRest(this.id, async () => {
      const folder = await this.#existing();
      if (!folder) return;
      const bytes = when && (await this.#read(chunk));
      if (when && bytes && !(await when(bytes))) return;
      await gone(folder.removeEntry(nameOfChunk(this.id, chunk)));
    });
  }

  async #read(chunk: ChunkName): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const file = await this.#file(nameOfChunk(this.id, chunk));
    return file && ((await readInPlace(file, CHUNK_BYTES)) ?? readSnapshot(file, CHUNK_BYTES));
  }

  async #file(name: string): Promise<FileSystemFileHandle | undefined> {
    const folder = await this.#existing();
    return folder && found(folder.getFileHandle(name));
  }

  async #existing(): Promise<FileSystemDirectoryHandle | undefined> {
    if (this.#handle || !isModelId(this.id)) return this.#handle;
    const top = await found(this.#root.getDirectoryHandle(TOP));
    this.#handle = top && (await found(top.getDirectoryHandle(this.id)));
    return this.#handle;
  }

  async #made(): Promise<FileSystemDirectoryHandle> {
    if (!isModelId(this.id)) throw new DOMException(`${this.id} is no id of a model`, "NotFoundError");
    const top = await this.#root.getDirectoryHandle(TOP, { create: true });
    return (this.#handle ??= await top.getDirectoryHandle(this.id, { create: true }));
  }
}

/** Undefined for what is not there, vanished meanwhile, is of another kind or cannot be read: none of that can be used. */
async function found<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    if (thrown instanceof DOMException) return undefined;
    throw thrown;
  }
}

/** Waits for a removal. What was gone before is gone, too. */
async function gone(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (thrown) {
    if (nameOf(thrown) !== "NotFoundError") throw thrown;
  }
}

/** Of a folder that vanishes meanwhile, what was seen until then. */
async function entriesOf(folder: FileSystemDirectoryHandle): Promise<FileSystemHandle[]> {
  const entries: FileSystemHandle[] = [];
  // The library of TypeScript for pages does not know `values`.
  const values = (folder as unknown as { values(): AsyncIterable<FileSystemHandle> }).values();
  try {
    for await (const entry of values) entries.push(entry);
  } catch (thrown) {
    if (!(thrown instanceof DOMException)) throw thrown;
  }
  return entries;
}

/** One that fails leaves no file. */
async function writeChunk(folder: FileSystemDirectoryHandle, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const file = await folder.getFileHandle(name, { create: true });
  try {
    await writeInPlace(file, bytes);
  } catch (thrown) {
    if (!isBusy(thrown)) await found(folder.removeEntry(name));
    throw thrown;
  }
}

/** Nearly twice as fast as {@link readSnapshot}. Undefined where the browser cannot, or another tab has the file open. */
async function readInPlace(file: WorkerFile, mostBytes: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (!file.createSyncAccessHandle) return undefined;
  const handle = await found(file.createSyncAccessHandle({ mode: "read-only" }));
  if (!handle) return undefined;
  try {
    if (handle.getSize() > mostBytes) return undefined;
    const bytes = new Uint8Array(handle.getSize());
    return handle.read(bytes, { at: 0 }) === bytes.length ? bytes : undefined;
  } catch (thrown) {
    if (thrown instanceof DOMException) return undefined;
    throw thrown;
  } finally {
    handle.close();
  }
}

async function readSnapshot(file: FileSystemFileHandle, mostBytes: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const snapshot = await found(file.getFile());
  if (!snapshot || snapshot.size > mostBytes) return undefined;
  const buffer = await found(snapshot.arrayBuffer());
  return buffer && new Uint8Array(buffer);
}

/** Directly where the browser can, else as {@link writeAnew}. */
async function writeInPlace(file: WorkerFile, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  if (!file.createSyncAccessHandle) return writeAnew(file, bytes);
  const handle = await file.createSyncAccessHandle();
  try {
    handle.truncate(0);
    // Chromium returns a number beyond the length where the disk is full.
    if (handle.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException("a part of the bytes was written", "QuotaExceededError");
  } finally {
    handle.close();
  }
}

/** Into a file beside it, which takes its place once it is whole. */
async function writeAnew(file: FileSystemFileHandle, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const writable = await file.createWritable();
  try {
    await writable.write(bytes);
    await writable.close();
  } catch (thrown) {
    await writable.abort().catch(() => {});
    throw thrown;
  }
}

/** The file is open elsewhere. */
function isBusy(thrown: unknown): boolean {
  return nameOf(thrown) === "NoModificationAllowedError";
}

function nameOf(thrown: unknown): string {
  return thrown instanceof DOMException ? thrown.name : "";
}
