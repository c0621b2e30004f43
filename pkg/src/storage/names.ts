// Names that stored things have, and the check of names that are read back.
import type { ChunkName } from "./chunk-store.js";

/** What holds the record of a model. */
export const RECORD_NAME = "record.json";

const ID = /^[0-9a-f]{32}$/;
/** At most 10 000 files of 4 TiB. */
const CHUNK = /^(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,5})-([0-9a-f]{64})-[0-9a-f]{8}$/;

/** Whether a text is an id, as `modelId` makes them. */
export function isModelId(text: string): boolean {
  return ID.test(text);
}

/** Which file and which chunk of it, its SHA-256, and a sum over these and the model: a chunk that was moved elsewhere has no name there. */
export function nameOfChunk(id: string, { file, index, sha256 }: ChunkName): string {
  const name = `${file}-${index}-${sha256}`;
  return `${name}-${sumOf(`${id}/${name}`)}`;
}

/** Undefined for a name that {@link nameOfChunk} does not make for this model. */
export function chunkOfName(id: string, name: string): ChunkName | undefined {
  const [, file, index, sha256] = CHUNK.exec(name) ?? [];
  if (sha256 === undefined) return undefined;
  const chunk = { file: Number(file), index: Number(index), sha256 };
  return nameOfChunk(id, chunk) === name ? chunk : undefined;
}

/** FNV-1a, as 8 hexadecimal digits. */
function sumOf(text: string): string {
  let sum = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return sum.toString(16).padStart(8, "0");
}
