// What a server's answer promises: which bytes of the file it has, and of which version. The same rules as the engine's
// (src/weights/answer.rs), since both must come to the same end.
import type { FileRecord } from "./chunk-store.js";

/** What identifies one version of a file on a server. */
export type FileVersion = Pick<FileRecord, "bytes" | "etag" | "lastModified">;

/** An answer whose place in the file is proven. */
export interface AnswerHead {
  /** Offset of its first byte. */
  start: number;
  /** Offset behind its last byte, where that is announced. */
  end: number | undefined;
  version: FileVersion;
  /** It calls itself a web page. */
  isPage: boolean;
}

/**
 * The head of an answer of status 200 or 206 to a request for the bytes from `asked` on; or, as a phrase, why it does not prove
 * which bytes it has.
 */
export function readHead({ status, headers, type }: Response, asked: number): AnswerHead | string {
  const encoding = headers.get("Content-Encoding")?.trim() ?? "";
  const isEncoded = encoding !== "" && encoding.toLowerCase() !== "identity";
  const length = wholeNumber(headers.get("Content-Length"));
  if (Number.isNaN(length)) return `its Content-Length is ${shown(headers.get("Content-Length"))}`;
  const isPage = headers.get("Content-Type")?.trimStart().toLowerCase().startsWith("text/html") ?? false;
  const validators = { etag: isEncoded ? null : headers.get("ETag"), lastModified: headers.get("Last-Modified") };
  if (status === 200) {
    // Another origin may hide Content-Encoding; the length is then that of the encoded body.
    const isExact = !isEncoded && (type !== "cors" || encoding !== "");
    const total = isExact ? length : undefined;
    return { start: 0, end: total, version: versionOf({ bytes: total, ...validators }), isPage };
  }
  if (isEncoded) return `it is a part of a file in the encoding ${shown(encoding)}`;
  if (headers.get("Content-Type")?.trimStart().startsWith("multipart/")) return "it has several parts";
  const text = headers.get("Content-Range");
  if (text === null) return "it has no Content-Range that this page may read";
  const range = contentRange(text);
  if (range === undefined) return `its Content-Range is ${shown(text)}`;
  const { start, end, total } = range;
  if (start > asked) return `it begins at byte ${start} instead of ${asked}`;
  if (length !== undefined && length !== end - start) return `its Content-Length and its Content-Range (${shown(text)}) differ`;
  return { start, end, version: versionOf({ bytes: total, ...validators }), isPage };
}

/** The size of the file that an answer of status 416 names. */
export function sizeOf416({ headers }: Response): number | undefined {
  const [, total] = /^bytes \*\/(\d+)$/.exec(headers.get("Content-Range")?.trim() ?? "") ?? [];
  const size = wholeNumber(total ?? null);
  return Number.isNaN(size) ? undefined : size;
}

/** What differs between two versions, as a phrase; undefined if they may be the same. */
export function difference(known: FileVersion, later: FileVersion): string | undefined {
  if (known.bytes !== undefined && later.bytes !== undefined && known.bytes !== later.bytes) {
    return `it had ${known.bytes} bytes and now has ${later.bytes}`;
  }
  if (known.etag !== undefined && later.etag !== undefined) {
    return opaque(known.etag) === opaque(later.etag) ? undefined : `its ETag was ${shown(known.etag)} and is ${shown(later.etag)}`;
  }
  if (known.lastModified !== undefined && later.lastModified !== undefined && known.lastModified !== later.lastModified) {
    return `its Last-Modified was ${shown(known.lastModified)} and is ${shown(later.lastModified)}`;
  }
  return undefined;
}

/** Whether anything of two versions can be compared at all. */
export function areComparable(one: FileVersion, other: FileVersion): boolean {
  return (["bytes", "etag", "lastModified"] as const).some((key) => one[key] !== undefined && other[key] !== undefined);
}

/** What both say; what one leaves open, the other may fill. */
export function joined(known: FileVersion, later: FileVersion): FileVersion {
  return versionOf({ ...later, ...versionOf(known) });
}

/** Without the members that are not known. */
export function versionOf({ bytes, etag, lastModified }: { [Key in keyof FileVersion]?: FileVersion[Key] | null | undefined }): FileVersion {
  return {
    ...(bytes === undefined || bytes === null ? {} : { bytes }),
    ...(etag === undefined || etag === null ? {} : { etag }),
    ...(lastModified === undefined || lastModified === null ? {} : { lastModified }),
  };
}

/** A tag without what marks another form of the same file: `W/` in front, and behind it the encoding. */
function opaque(tag: string): string {
  const inner = tag.trim().replace(/^(W\/)+/, "").replace(/^"+|"+$/g, "");
  return inner.replace(/-(gzip|br|zstd|deflate)$/, "");
}

function contentRange(text: string): { start: number; end: number; total: number | undefined } | undefined {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(text.trim()) ?? [];
  if (first === undefined || last === undefined || total === undefined) return undefined;
  const range = { start: wholeNumber(first), end: wholeNumber(last) + 1, total: total === "*" ? undefined : wholeNumber(total) };
  const isRight = range.end > range.start && (range.total === undefined || range.end <= range.total);
  return isRight ? range : undefined;
}

/** NaN for what is none, or beyond what is exact. */
function wholeNumber(text: string): number;
function wholeNumber(text: string | null): number | undefined;
function wholeNumber(text: string | null): number | undefined {
  if (text === null) return undefined;
  const value = /^\d+$/.test(text.trim()) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : NaN;
}

/** A header's text is as long as the server likes. */
function shown(text: string | null): string {
  return text !== null && text.length > 100 ? `${text.slice(0, 100)}…` : String(text);
}
