// The stored part of one model during a load: which chunks are there, reading them with a check, and writing new ones behind the
// stream that brings them.
import { difference, type FileVersion, joined } from "./answer-head.js";
import { CHUNK_BYTES, type ChunkName, type ChunkStore, type FileRecord, type ModelFolder } from "./chunk-store.js";
import { sha256 } from "./digest.js";
import type { StorageReport } from "../types.js";

/** Chunks that are digested and written at a time. More wait in the network. */
const MOST_SETTLING = 2;

export interface KeptFile {
  record: FileRecord;
  /** By their index. Their bytes are checked when they are read. */
  chunks: Map<number, ChunkName>;
  /** Chunks that are being written. */
  settling: Map<number, Promise<void>>;
}

/** What a load begins with. */
export interface Keeping {
  store: ChunkStore;
  id: string;
  /** What the caller loads the model as; undefined for whatever is stored under the id. */
  source: string | undefined;
  /** How many files it has, where that is known. */
  fileCount: number | undefined;
  /** Bytes of a chunk, {@link CHUNK_BYTES} but for tests. */
  chunkBytes?: number;
}

export class KeptModel {
  readonly store: ChunkStore;
  readonly id: string;
  readonly chunkBytes: number;
  files: KeptFile[] = [];
  /** What was loaded, as the record has it, or will have it. */
  source = "";
  /** There is a record that fits. */
  isKnown = false;
  /** New chunks are written. */
  isWriting = false;
  /** Why they are not. */
  reason: string | undefined;
  /** It is want of room. */
  isFull = false;
  readonly repaired: StorageReport["repaired"] = [];
  /** The same: file and offset of each. */
  readonly #isRepaired = new Set<string>();
  /** Called when a chunk has been written, and when there will be no more. */
  onStored: (chunk: ChunkName) => void = () => {};
  onStop: () => void = () => {};
  readonly #begun: Keeping;
  #folder: ModelFolder;
  /** Of two chunks for one place nobody knows which is right, so neither is used. */
  #doubtful: ChunkName[] = [];
  /** Damaged chunks that are being deleted. */
  readonly #removals = new Set<Promise<void>>();
  #isDirty = false;
  #recordWritten: Promise<void> = Promise.resolve();

  private constructor(keeping: Keeping) {
    this.#begun = keeping;
    this.store = keeping.store;
    this.id = keeping.id;
    this.chunkBytes = keeping.chunkBytes ?? CHUNK_BYTES;
    this.#folder = this.store.folder(this.id);
  }

  static async open(keeping: Keeping): Promise<KeptModel> {
    const kept = new KeptModel(keeping);
    await kept.reopen();
    return kept;
  }

  /** Looks again at what is stored: another tab may have written meanwhile. */
  async reopen(): Promise<void> {
    const { source, fileCount } = this.#begun;
    const record = await this.#folder.readRecord();
    const fits = record && (source === undefined || record.source === source) && (fileCount === undefined || record.files.length === fileCount);
    if (!fits) {
      this.forget();
      return;
    }
    const known = this.files;
    this.source = record.source;
    const files = record.files.map((one, i) => ({ record: one, chunks: new Map<number, ChunkName>(), settling: known[i]?.settling ?? new Map() }));
    this.#doubtful = [];
    for (const { file: number, index, sha256, bytes } of await this.#folder.chunks()) {
      const file = files[number];
      if (!file || index >= countOf(file, this.chunkBytes) || (file.record.bytes === undefined && bytes !== this.chunkBytes)) continue;
      const chunk = { file: number, index, sha256 };
      const other = file.chunks.get(index);
      if (other) this.#doubtful.push(chunk, other);
      file.chunks.set(index, chunk);
    }
    for (const { file, index } of this.#doubtful) files[file]?.chunks.delete(index);
    this.files = files;
    this.isKnown = true;
    for (const { file, from } of this.repaired) this.#lost(file, from / this.chunkBytes);
    this.files.forEach((file, number) => {
      // A file that was whole once has lost these.
      const count = file.record.verified && file.record.bytes !== undefined ? countOf(file, this.chunkBytes) : 0;
      for (let index = 0; index < count; index++) if (!file.chunks.has(index)) this.#lost(number, index);
    });
  }

  /** New chunks are written from now on, unless they could not be before. */
  async startWriting(): Promise<void> {
    if (this.reason !== undefined) return;
    for (const chunk of this.#doubtful) {
      this.#lost(chunk.file, chunk.index);
      await this.#folder.remove(chunk);
    }
    this.#doubtful = [];
    this.isWriting = true;
  }

  #lost(number: number, index: number): void {
    const from = index * this.chunkBytes;
    // What comes in its place is checked as a part of the whole again.
    if (this.files[number]?.record.verified) this.change(number, { verified: false });
    if (this.#isRepaired.has(`${number} ${from}`)) return;
    this.#isRepaired.add(`${number} ${from}`);
    this.repaired.push({ file: number, from, to: from + (this.lengthOf(number, index) ?? this.chunkBytes) });
  }

  /** Nothing is known of the model any more; what is stored stays. */
  forget(): void {
    this.isKnown = false;
    this.files = [];
    this.source = this.#begun.source ?? this.source;
  }

  /** The files of a model of which nothing is stored. */
  begin(records: FileRecord[]): void {
    this.files = records.map((record) => ({ record, chunks: new Map(), settling: new Map() }));
    this.#isDirty = true;
  }

  /** Deletes what is stored. The files, as far as they are known, have no chunk and no version any more. */
  async clear(): Promise<void> {
    await this.settled();
    await this.store.delete(this.id);
    // All is downloaded anew, which repairs nothing.
    this.repaired.length = 0;
    this.#isRepaired.clear();
    // After a deletion nothing can be written through the old folder.
    this.#folder = this.store.folder(this.id);
    this.isKnown = false;
    this.begin(this.files.map(({ record: { address, sha256: digest } }) => ({ address, ...(digest === undefined ? {} : { sha256: digest }) })));
  }

  /** Every chunk of every file is there. */
  isWhole(): boolean {
    return this.files.length > 0 && this.files.every((_, number) => this.isFileWhole(number));
  }

  isFileWhole(number: number): boolean {
    const file = this.files[number];
    if (file?.record.bytes === undefined) return false;
    const count = countOf(file, this.chunkBytes);
    for (let index = 0; index < count; index++) if (!file.chunks.has(index)) return false;
    return count > 0;
  }

  /** The chunk is there, or is being written. */
  has(number: number, index: number): boolean {
    const file = this.files[number];
    return file !== undefined && (file.chunks.has(index) || file.settling.has(index));
  }

  /** Bytes of a chunk; undefined where the file's size is not known. */
  lengthOf(number: number, index: number): number | undefined {
    const bytes = this.files[number]?.record.bytes;
    return bytes === undefined ? undefined : Math.max(0, Math.min(this.chunkBytes, bytes - index * this.chunkBytes));
  }

  /** The first chunk from `index` on that is not there; undefined where all are. */
  firstMissing(number: number, index: number): number | undefined {
    const file = this.files[number];
    const count = file ? countOf(file, this.chunkBytes) : Infinity;
    let at = index;
    while (at < count && this.has(number, at)) at++;
    return at < count ? at : undefined;
  }

  /** The first chunk behind `index` that is there. */
  nextStored(number: number, index: number): number | undefined {
    const { chunks, settling } = this.files[number] ?? { chunks: new Map(), settling: new Map() };
    const later = [...chunks.keys(), ...settling.keys()].filter((one) => one > index);
    return later.length === 0 ? undefined : later.reduce((a, b) => Math.min(a, b));
  }

  /** Takes over what an answer says of the file. The caller has compared it. */
  adopt(number: number, version: FileVersion): void {
    const file = this.files[number];
    if (!file || difference(file.record, version) !== undefined) return;
    const { bytes, etag, lastModified } = file.record;
    const now = joined(file.record, version);
    if (now.bytes === bytes && now.etag === etag && now.lastModified === lastModified) return;
    Object.assign(file.record, now);
    this.#isDirty = true;
  }

  /** A file of another version, of which nothing is stored. */
  renew(number: number, record: FileRecord): void {
    const file = this.files[number];
    if (!file) return;
    file.record = record;
    file.chunks.clear();
    this.#isDirty = true;
  }

  change(number: number, change: Partial<FileRecord>): void {
    const file = this.files[number];
    if (!file) return;
    Object.assign(file.record, change);
    this.#isDirty = true;
  }

  /**
   * The bytes of a chunk, if they are there and have the chunk's SHA-256. Others are deleted, and listed in `repaired`.
   * Never rejects.
   */
  async read(number: number, index: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const file = this.files[number];
    const chunk = file?.chunks.get(index);
    if (!file || !chunk) return undefined;
    const length = this.lengthOf(number, index) ?? this.chunkBytes;
    const isRight = async (bytes: Uint8Array<ArrayBuffer>) => bytes.length === length && (await sha256(bytes)) === chunk.sha256;
    const bytes = await this.#folder.read(chunk).catch(() => undefined);
    if (bytes && (await isRight(bytes))) return bytes;
    // Meanwhile the model may have been cleared.
    if (this.files[number] !== file || file.chunks.get(index) !== chunk) return undefined;
    file.chunks.delete(index);
    this.#lost(number, index);
    const removal = this.#folder.remove(chunk, async (now) => !(await isRight(now))).catch(() => {});
    this.#removals.add(removal);
    await removal;
    this.#removals.delete(removal);
    return undefined;
  }

  /** Digests and writes a chunk, in the background. Call {@link room} before the next. */
  keep(number: number, index: number, bytes: Uint8Array<ArrayBuffer>): void {
    const file = this.files[number];
    if (!file || !this.isWriting) return;
    const written = this.#write(file, number, index, bytes).finally(() => file.settling.delete(index));
    file.settling.set(index, written);
  }

  async #write(file: KeptFile, number: number, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      const chunk = { file: number, index, sha256: await sha256(bytes) };
      await this.writeRecord();
      if (!this.isWriting) return;
      await this.#folder.write(chunk, bytes);
      file.chunks.set(index, chunk);
      this.onStored(chunk);
    } catch (thrown) {
      this.isFull ||= (thrown as Partial<DOMException>).name === "QuotaExceededError";
      this.stop(whyNotWritten(thrown));
    }
  }

  /** The record comes before the first chunk: a chunk without one is of no use. @throws as a write does. */
  async writeRecord({ lastUsed = this.#isDirty }: { lastUsed?: boolean } = {}): Promise<void> {
    const before = this.#recordWritten;
    this.#recordWritten = (async () => {
      await before.catch(() => {});
      if (!this.#isDirty && !lastUsed) return;
      this.#isDirty = false;
      try {
        await this.#folder.writeRecord({ source: this.source, files: this.files.map(({ record }) => record), lastUsed: Date.now() });
        this.isKnown = true;
      } catch (thrown) {
        this.#isDirty = true;
        throw thrown;
      }
    })();
    return this.#recordWritten;
  }

  /** Waits until a further chunk may be written. */
  async room(): Promise<void> {
    for (;;) {
      const settling = this.files.flatMap((file) => [...file.settling.values()]);
      if (settling.length < MOST_SETTLING) return;
      await Promise.race(settling);
    }
  }

  /** Waits until all chunks that were to be kept are written, and damaged ones are deleted. */
  async settled(): Promise<void> {
    await Promise.all([...this.#removals, ...this.files.flatMap((file) => [...file.settling.values()])]);
  }

  /** What is there stays; no more is written. */
  stop(reason: string): void {
    this.reason ??= reason;
    if (!this.isWriting) return;
    this.isWriting = false;
    this.onStop();
  }

  /** Bytes that are there. */
  storedBytes(): number {
    const lengths = this.files.flatMap(({ chunks }, number) => [...chunks.keys()].map((index) => this.lengthOf(number, index) ?? this.chunkBytes));
    return lengths.reduce((a, b) => a + b, 0);
  }

  /** Undefined where the size of a file is not known. */
  allBytes(): number | undefined {
    const sizes = this.files.map(({ record: { bytes } }) => bytes);
    return sizes.length === 0 || sizes.includes(undefined) ? undefined : sizes.reduce<number>((all, bytes) => all + (bytes ?? 0), 0);
  }

  /** Bytes that are still to come, of the files whose size is known. */
  missingBytes(): number {
    const all = this.files.reduce((sum, { record, chunks }) => sum + (record.bytes ?? chunks.size * this.chunkBytes), 0);
    return all - this.storedBytes();
  }
}

/** Chunks of a file; without end where its size is not known. */
function countOf({ record: { bytes } }: KeptFile, chunkBytes: number): number {
  return bytes === undefined ? Infinity : Math.ceil(bytes / chunkBytes);
}

function whyNotWritten(thrown: unknown): string {
  const { name, message } = thrown as Partial<DOMException>;
  if (name === "QuotaExceededError") return "the browser's room for this site is full: what had arrived until then is kept";
  if (name === "NotFoundError") return "the stored model was deleted while it was loaded";
  return `writing failed (${message ?? String(thrown)}): what had arrived until then is kept`;
}
