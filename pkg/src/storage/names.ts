// Names that stored things have, and the check of names that are read back.
import type { ChunkName } from "./chunk-store.js";

/** What holds the record of a model. */
export const RECORD_NAME = "record.json";

const ID = /^[0-9a-f]{32}$/;
/** At most 10 000 files of 4 TiB. */
const CHUNK = /^(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,5})-([0-9a-f]{64})$/;

/** Whether a text is an id, as `modelId` makes them. */
export function isModelId(text: string): boolean {
  return ID.test(text);
}

export function nameOfChunk({ file, index, sha256 }: ChunkName): string {
  return `${file}-${index}-${sha256}`;
}

/** Undefined for a name that {@link nameOfChunk} does not make. */
export function chunkOfName(name: string): ChunkName | undefined {
  const [, file, index, sha256] = CHUNK.exec(name) ?? [];
  return sha256 === undefined ? undefined : { file: Number(file), index: Number(index), sha256 };
}
