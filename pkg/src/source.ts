// From what a caller may pass as a model, or as another file, to what can cross into the worker.
import { EmberglassError } from "./errors.js";
import * as check from "./options.js";
import type { WireSource } from "./protocol.js";
import type { FileSource } from "./types.js";

const FILES = "a Blob, File, ArrayBuffer, typed array, DataView, Response or FileSystemFileHandle";

/** What to do instead, by the kind of what was given. */
const REMEDIES: Record<string, string> = {
  ReadableStream: "wrap it, new Response(stream)",
  Request: "fetch it, await fetch(request)",
  Promise: "await it first",
  Array: "files of one model are { shards: [...] }",
  FileList: "files of one model are { shards: [...files] }",
};

const SHARDS: check.Kinds<{ shards: unknown[] }> = {
  shards: check.listOf((part, label) => {
    if (part !== undefined && part !== null) return part;
    throw check.invalid(label, part, `no file that can be read: give an address or ${FILES}`);
  }),
};

/**
 * Reads a `Response` to its end, and opens a file handle.
 *
 * @throws {@link EmberglassError} `invalid-option` for what is no source, an address that is none, or mixed shards;
 * `http-status`, `network` and `io` for a response or a file that cannot be read.
 */
export async function toWireSource(source: unknown): Promise<WireSource> {
  const isList = check.kindOf(source) === "Object";
  const parts = isList ? check.members<{ shards: unknown[] }>(source, SHARDS, { of: "source", required: ["shards"] }).shards : [source];
  if (parts.length === 0) throw new EmberglassError("invalid-option", "source.shards is empty: give the files of the model in their order");
  const label = (i: number) => (isList ? `source.shards[${i}]` : "source");
  const addresses = parts.map((part, i) => {
    const address = check.addressOf(part);
    return address === undefined ? undefined : absolute(address, label(i));
  });
  const urls = addresses.filter((url) => url !== undefined);
  if (urls.length === parts.length) return { addresses: urls.map((url) => [url]) };
  if (urls.length > 0) throw new EmberglassError("invalid-option", "source.shards must be all addresses or all files");
  const addressToo = "an address (a string or URL), ";
  const files = await Promise.all(parts.map((part, i) => readFile(part, label(i), isList ? "" : addressToo)));
  return { blobs: files.map(({ blob }) => blob), names: files.map(({ name }) => name) };
}

/** The bytes of a file in whatever form a page has them. @throws as {@link toWireSource}. */
export async function toBlob(file: FileSource, label: string): Promise<Blob> {
  return (await readFile(file, label, "")).blob;
}

/** `also` names what the caller takes besides files. */
async function readFile(value: unknown, label: string, also: string): Promise<{ blob: Blob; name: string }> {
  const kind = check.kindOf(value);
  switch (kind) {
    case "Blob":
      if (!check.isGenuine(value, Blob, "size")) break;
      return { blob: value as Blob, name: "the given Blob" };
    case "File":
      if (!check.isGenuine(value, File, "name")) break;
      return { blob: value as File, name: Reflect.get(File.prototype, "name", value) };
    case "Response":
      if (!check.isGenuine(value, Response, "status")) break;
      return readResponse(value as Response, label);
    case "FileSystemFileHandle":
      return openFile(value as FileSystemFileHandle);
  }
  if (ArrayBuffer.isView(value) || kind === "ArrayBuffer" || kind === "SharedArrayBuffer") {
    return { blob: new Blob([bytesOf(value as ArrayBuffer | ArrayBufferView, label)]), name: `the given ${kind}` };
  }
  if (["Blob", "File", "Response", "URL"].includes(kind)) {
    throw check.invalid(label, value, "a copy or a proxy, which cannot be read: give the object itself");
  }
  const remedy = REMEDIES[kind] ?? `give ${also}${FILES}`;
  throw check.invalid(label, value, `no file that can be read: ${remedy}`);
}

function bytesOf(value: ArrayBuffer | ArrayBufferView, label: string): Uint8Array<ArrayBuffer> {
  try {
    const bytes = ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value);
    // A Blob takes no shared memory.
    const own = check.kindOf(bytes.buffer) === "SharedArrayBuffer" ? bytes.slice() : bytes;
    if (own.length > 0) return own as Uint8Array<ArrayBuffer>;
  } catch {
    // A buffer that was given away.
  }
  throw check.invalid(label, value, "without bytes: it is empty, or its buffer was transferred");
}

async function readResponse(response: Response, label: string): Promise<{ blob: Blob; name: string }> {
  const url = withoutSecrets(response.url);
  const name = url === "" ? "the given Response" : url;
  const bad = (why: string) => new EmberglassError("invalid-option", `${label} is a Response ${why}`);
  if (response.type === "error" || response.type.startsWith("opaque")) {
    throw bad(`of type ${response.type}, which pages cannot read: fetch it with CORS`);
  }
  const { status } = response;
  if (!response.ok) throw new EmberglassError("http-status", `the server answered ${status} for ${name}`, { url, status });
  if (status === 206) throw bad("with a part of a file (status 206): fetch it without a Range header");
  if (response.bodyUsed || response.body?.locked) throw bad("whose body has been read already: give it unread, or a clone()");
  try {
    return { blob: await response.blob(), name };
  } catch (cause) {
    throw new EmberglassError("network", `the download of ${name} failed: ${check.shown(cause)}`, { url, cause });
  }
}

async function openFile(handle: FileSystemFileHandle): Promise<{ blob: Blob; name: string }> {
  try {
    return { blob: await handle.getFile(), name: handle.name };
  } catch (cause) {
    throw new EmberglassError("io", `opening ${handle.name} failed: ${check.shown(cause)}`, { cause });
  }
}

/** The worker's script lives elsewhere than the document, so addresses are made absolute here. */
function absolute(address: string, label: string): string {
  const base = typeof document === "undefined" ? globalThis.location?.href : document.baseURI;
  // An empty address would be the page itself.
  if (address !== "" && URL.canParse(address, base)) return new URL(address, base).href;
  throw check.invalid(label, address, "not an address");
}

/** For messages: user name, password, query and fragment may be secret. */
function withoutSecrets(address: string): string {
  return URL.canParse(address) ? new URL(address).origin + new URL(address).pathname : "";
}
