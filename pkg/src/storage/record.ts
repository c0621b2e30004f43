// The record of a model as text. What is read back may have been cut short or edited, so nothing of it is taken unchecked.
import type { FileRecord, ModelRecord } from "./chunk-store.js";

/** Longest text of a record. A split model has some 200 bytes for each file. */
export const MOST_RECORD_BYTES = 4 * 2 ** 20;
const MOST_FILES = 10_000;
const MOST_TEXT = 16_384;
/** Bytes of all files, as many as names of chunks can count for one. */
const MOST_BYTES = 4 * 2 ** 40;
const SHA256 = /^[0-9a-f]{64}$/;

export function writeRecordText(record: ModelRecord): string {
  return JSON.stringify(record);
}

/** Undefined for a text that is no record, in whole or in part. Members that a later version may have are left out. */
export function readRecordText(text: string): ModelRecord | undefined {
  if (text.length > MOST_RECORD_BYTES) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  const { source, files, lastUsed } = value;
  if (!isText(source) || !isCount(lastUsed) || !Array.isArray(files) || files.length === 0 || files.length > MOST_FILES) return undefined;
  const checked = files.map(readFile).filter((file) => file !== undefined);
  const bytes = checked.reduce((sum, file) => sum + (file.bytes ?? 0), 0);
  return checked.length < files.length || bytes > MOST_BYTES ? undefined : { source, files: checked, lastUsed };
}

function readFile(value: unknown): FileRecord | undefined {
  if (!isObject(value)) return undefined;
  const { address, bytes, etag, lastModified, sha256, verified } = value;
  if (!isText(address)) return undefined;
  if (bytes !== undefined && !isCount(bytes)) return undefined;
  if (etag !== undefined && !isHeader(etag)) return undefined;
  if (lastModified !== undefined && !isHeader(lastModified)) return undefined;
  if (sha256 !== undefined && !(isText(sha256) && SHA256.test(sha256))) return undefined;
  if (verified !== undefined && typeof verified !== "boolean") return undefined;
  return {
    address,
    ...(bytes === undefined ? {} : { bytes }),
    ...(etag === undefined ? {} : { etag }),
    ...(lastModified === undefined ? {} : { lastModified }),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(verified === undefined ? {} : { verified }),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value.length <= MOST_TEXT;
}

/** What the value of a header can be. */
function isHeader(value: unknown): value is string {
  return isText(value) && /^[\t\x20-\x7e\x80-\xff]*$/.test(value);
}

/** Bytes, or milliseconds. */
function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
