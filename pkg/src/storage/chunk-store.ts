// Where parts of model files are kept. A file is kept in chunks of 4 MiB, each under its SHA-256, so that the list of what is
// there is the journal, and so that every chunk can be checked before it is used.

/** Bytes of a chunk. The last of a file may be shorter. */
export const CHUNK_BYTES = 4 * 2 ** 20;

/** A part of a file that is kept. */
export interface ChunkName {
  /** Which file of the model. */
  file: number;
  /** Which chunk: the file's bytes from `index * CHUNK_BYTES` on. */
  index: number;
  /** SHA-256 of its bytes, as 64 hexadecimal digits. */
  sha256: string;
}

/** What is known of a file of a model. */
export interface FileRecord {
  /** Address without user, password, fragment and signatures; or the name of an imported file. */
  address: string;
  /** Bytes of the whole file, once they are known. */
  bytes?: number;
  /** Of the server's answer; a later answer with another one is another file. */
  etag?: string;
  lastModified?: string;
  /** SHA-256 of the whole file, where the source gave one. */
  sha256?: string;
  /** The whole file had this digest when its last byte came. */
  verified?: boolean;
}

/** What is known of a model. */
export interface ModelRecord {
  /** What the caller loads it as. */
  source: string;
  files: FileRecord[];
  /** Milliseconds since 1970. */
  lastUsed: number;
}

/** The place of one model. Nothing is thrown for what is not there, or was deleted meanwhile: it is undefined. */
export interface ModelFolder {
  readonly id: string;
  /** Undefined also where what is stored is not a record. */
  readRecord(): Promise<ModelRecord | undefined>;
  /** @throws as {@link write}. */
  writeRecord(record: ModelRecord): Promise<void>;
  /** Names of the chunks that are there, with their sizes in bytes as stored. */
  chunks(): Promise<(ChunkName & { bytes: number })[]>;
  /** Not checked. */
  read(chunk: ChunkName): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** The same without reading it, for a download of the whole. */
  blob(chunk: ChunkName): Promise<Blob | undefined>;
  /**
   * @throws a `DOMException` named `QuotaExceededError` where there is no room, `NotFoundError` where the model was deleted since
   * its record was read or written here. Then nothing of it shall be kept.
   */
  write(chunk: ChunkName, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** With `when`, only if that says so of the bytes that are there. Nobody writes meanwhile. */
  remove(chunk: ChunkName, when?: (bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>): Promise<void>;
}

/** All models of this origin. */
export interface ChunkStore {
  readonly kind: "opfs" | "cache";
  /** Ids of the models. */
  ids(): Promise<string[]>;
  /** Makes the folder when the first thing is written to it. */
  folder(id: string): ModelFolder;
  /** With all that is in it. A tab that downloads the model goes on, and keeps nothing more of it. */
  delete(id: string): Promise<void>;
}
