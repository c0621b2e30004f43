// From what a caller may pass as a model, or as another file, to what can cross into the worker.
import { EmberglassError } from "./errors.js";
import { fileAddress, hubModel, type HubOptions, isHubSource, refuseHubOptions, refuseHubPage } from "./hub-source.js";
import * as check from "./options.js";
import type { WireSource } from "./protocol.js";
import { isModelId } from "./storage/names.js";
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

const MOST_MIRRORS = 16;

interface SourceObject {
  shards?: unknown[];
  mirrors?: (string | URL)[];
  stored?: string;
}

const OBJECT: check.Kinds<SourceObject> = {
  shards: check.listOf((part, label) => {
    if (part !== undefined && part !== null) return part;
    throw check.invalid(label, part, `no file that can be read: give an address or ${FILES}`);
  }),
  mirrors: check.listOf(check.address),
  stored: (value, label) => {
    if (typeof value === "string" && isModelId(value)) return value;
    throw check.invalid(label, value, "not the id of a stored model: models.list() tells them");
  },
};

/**
 * Reads a `Response` to its end, and opens a file handle. `options` count for `hf:` sources.
 *
 * @throws {@link EmberglassError} `invalid-option` for what is no source, an address that is none, mixed shards, or options
 * that do not fit; `http-status`, `network` and `io` for a response or a file that cannot be read.
 */
export async function toWireSource(source: unknown, options: HubOptions): Promise<WireSource> {
  const address = check.addressOf(source);
  if (address !== undefined && isHubSource(address)) return { hub: hubModel(address, "source", options) };
  refuseHubOptions(options);
  if (address !== undefined) return { addresses: [[absolute(address, "source")]] };
  if (check.kindOf(source) !== "Object") {
    const { blob, name } = await readFile(source, "source", "an address (a string or URL), ");
    return { blobs: [blob], names: [name] };
  }
  const { shards, mirrors, stored } = check.members<SourceObject>(source, OBJECT, { of: "source" });
  if ([shards, mirrors, stored].filter((member) => member !== undefined).length !== 1) {
    throw new EmberglassError("invalid-option", "source has to have one of shards, mirrors and stored");
  }
  if (mirrors !== undefined) return { addresses: [mirrorsOf(mirrors)] };
  if (stored !== undefined) return { stored };
  return shardsOf(shards ?? []);
}

async function shardsOf(shards: unknown[]): Promise<WireSource> {
  if (shards.length === 0) throw new EmberglassError("invalid-option", "source.shards is empty: give the files of the model in their order");
  const label = (i: number) => `source.shards[${i}]`;
  const addresses = shards.map((part, i) => {
    const address = check.addressOf(part);
    return address === undefined ? undefined : absolute(address, label(i));
  });
  const urls = addresses.filter((url) => url !== undefined);
  if (urls.length === shards.length) return { addresses: urls.map((url) => [url]) };
  if (urls.length > 0) throw new EmberglassError("invalid-option", "source.shards must be all addresses or all files");
  const files = await Promise.all(shards.map((part, i) => readFile(part, label(i), "")));
  return { blobs: files.map(({ blob }) => blob), names: files.map(({ name }) => name) };
}

function mirrorsOf(mirrors: (string | URL)[]): string[] {
  if (mirrors.length === 0 || mirrors.length > MOST_MIRRORS) {
    throw new EmberglassError("invalid-option", `source.mirrors has ${mirrors.length} addresses: give 1 to ${MOST_MIRRORS} of the same file`);
  }
  return mirrors.map((mirror, i) => absolute(String(mirror), `source.mirrors[${i}]`));
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

/** An address as the worker can use it, and of a file where it is that of the hub's page about one. */
function absolute(address: string, label: string): string {
  if (!isHubSource(address)) {
    refuseHubPage(address, label);
    return fileAddress(check.absolute(address, label));
  }
  throw check.invalid(label, address, "a whole model of a hub: give it alone, as the source, or give addresses of files");
}

/** For messages: user name, password, query and fragment may be secret. */
function withoutSecrets(address: string): string {
  return URL.canParse(address) ? new URL(address).origin + new URL(address).pathname : "";
}
