// A load through storage without a browser: a store in memory, a scripted server, tabs of one process, and a reader that asks as
// the engine does (src/weights/http.rs).
import { createHash } from "node:crypto";
import type { WireError } from "../src/errors.js";
import { type FilesHost, type ModelFiles, openModelFiles } from "../src/model-files.js";
import type { FileRequest, WireSource } from "../src/protocol.js";
import type { ChunkName, ChunkStore, ModelFolder, ModelRecord } from "../src/storage/chunk-store.js";
import { nameOfChunk } from "../src/storage/names.js";
import type { TabsHost } from "../src/storage/tabs.js";
import type { StorageReport } from "../src/types.js";

export const CHUNK = 1000;
export const URL_1 = "http://server.test/m.gguf";

export function bytesOf(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

interface Stored {
  record: ModelRecord | undefined;
  chunks: Map<string, { name: ChunkName; bytes: Uint8Array<ArrayBuffer> }>;
}

export class MemoryStore implements ChunkStore {
  readonly kind = "opfs";
  readonly models = new Map<string, Stored>();
  /** Chunks that may still be written. */
  room = Infinity;
  /** A write waits for it. */
  beforeWrite: () => Promise<void> = async () => {};
  reads = 0;
  deletions = 0;

  async ids(): Promise<string[]> {
    return [...this.models.keys()];
  }

  folder(id: string): ModelFolder {
    const there = () => this.models.get(id);
    const made = () => {
      const model = there() ?? { record: undefined, chunks: new Map() };
      this.models.set(id, model);
      return model;
    };
    return {
      id,
      readRecord: async () => structuredClone(there()?.record),
      writeRecord: async (record) => void (made().record = structuredClone(record)),
      chunks: async () => [...(there()?.chunks.values() ?? [])].map(({ name, bytes }) => ({ ...name, bytes: bytes.length })),
      read: async (chunk) => {
        this.reads++;
        return there()?.chunks.get(nameOfChunk(id, chunk))?.bytes.slice();
      },
      blob: async () => undefined,
      write: async (name, bytes) => {
        await this.beforeWrite();
        if (this.room <= 0) throw new DOMException("full", "QuotaExceededError");
        this.room--;
        made().chunks.set(nameOfChunk(id, name), { name, bytes: bytes.slice() });
      },
      remove: async (chunk, when) => {
        const bytes = there()?.chunks.get(nameOfChunk(id, chunk))?.bytes;
        if (bytes && (!when || (await when(bytes)))) there()?.chunks.delete(nameOfChunk(id, chunk));
      },
    };
  }

  async delete(id: string): Promise<void> {
    this.deletions++;
    this.models.delete(id);
  }

  /** The only model. */
  get model(): Stored {
    const [model, ...others] = this.models.values();
    if (!model || others.length > 0) throw new Error(`${this.models.size} models are stored`);
    return model;
  }

  /** Indices of the chunks of a file that are there. */
  indices(file = 0): number[] {
    return [...(this.models.values().next().value?.chunks.values() ?? [])]
      .filter(({ name }) => name.file === file)
      .map(({ name }) => name.index)
      .sort((a, b) => a - b);
  }

  chunk(index: number, file = 0): { name: ChunkName; bytes: Uint8Array<ArrayBuffer> } {
    const found = [...this.model.chunks.values()].find(({ name }) => name.index === index && name.file === file);
    if (!found) throw new Error(`no chunk ${index}`);
    return found;
  }

  drop(index: number, file = 0): void {
    for (const [key, { name }] of this.model.chunks) if (name.index === index && name.file === file) this.model.chunks.delete(key);
  }
}

/** How the server answers. Each member is one fault. */
export interface Faults {
  /** Bytes of a body after which the connection breaks; per request, in their order. */
  breaks?: number[];
  /** Bytes of a body after which nothing comes any more; per request. */
  silences?: number[];
  ignoresRanges?: boolean;
  startsAtZero?: boolean;
  /** Most bytes of an answer, of status 206. */
  cap?: number;
  /** The body is encoded: its length and tag are not the file's. */
  gzip?: boolean;
  noLength?: boolean;
  /** Another origin that shows the length and Last-Modified alone. */
  hides?: boolean;
  status?: number;
  headers?: Record<string, string>;
  /** Waits before each piece. */
  beforePiece?: (at: number) => Promise<void>;
}

export class Server {
  bytes: Uint8Array<ArrayBuffer>;
  etag: string | undefined = '"1"';
  lastModified: string | undefined;
  faults: Faults;
  isGone = false;
  piece = 100;
  /** `Range` of each request, or "whole". */
  readonly log: string[] = [];
  /** How often each byte was sent. */
  sent: Uint8Array;

  constructor(bytes: Uint8Array<ArrayBuffer>, faults: Faults = {}) {
    this.bytes = bytes;
    this.faults = faults;
    this.sent = new Uint8Array(bytes.length);
  }

  readonly fetch = async (_url: string, { headers, signal }: RequestInit): Promise<Response> => {
    if (signal?.aborted) throw signal.reason;
    if (this.isGone) throw new TypeError("Failed to fetch");
    const { faults, bytes } = this;
    const range = new Headers(headers).get("Range");
    this.log.push(range ?? "whole");
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    const from = Number(first ?? 0);
    const head = new Headers(faults.headers);
    if (faults.status !== undefined) return new Response("no", { status: faults.status, headers: head });
    if (this.etag !== undefined && !faults.hides) head.set("ETag", faults.gzip && range === null ? this.etag.replace(/"$/, '-gzip"') : this.etag);
    if (this.lastModified !== undefined) head.set("Last-Modified", this.lastModified);
    if (range !== null && from >= bytes.length) {
      if (!faults.hides) head.set("Content-Range", `bytes */${bytes.length}`);
      return new Response(null, { status: 416, headers: head });
    }
    const isPart = (range !== null && !faults.ignoresRanges) || faults.cap !== undefined;
    const start = isPart && !faults.startsAtZero ? from : 0;
    const asked = isPart && last !== undefined && last !== "" ? Number(last) + 1 : Infinity;
    const end = Math.min(bytes.length, asked, start + (faults.cap ?? Infinity));
    if (isPart && !faults.hides) head.set("Content-Range", `bytes ${start}-${end - 1}/${bytes.length}`);
    if (!faults.noLength) head.set("Content-Length", String(faults.gzip && !isPart ? 7 : end - start));
    if (faults.gzip && !isPart && !faults.hides) head.set("Content-Encoding", "gzip");
    const breaksAt = start + (faults.breaks?.shift() ?? Infinity);
    const silentAt = start + (faults.silences?.shift() ?? Infinity);
    let at = start;
    const pull = async (body: ReadableStreamDefaultController<Uint8Array>) => {
      await faults.beforePiece?.(at);
      if (signal?.aborted) throw signal.reason;
      if (at >= breaksAt) throw new TypeError("network error");
      if (at >= silentAt) await new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
      if (at >= end) return body.close();
      const to = Math.min(at + this.piece, end, breaksAt, silentAt);
      for (let i = at; i < to; i++) this.sent[i]!++;
      const piece = bytes.slice(at, to);
      at = to;
      body.enqueue(piece);
    };
    const answer = new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { status: isPart ? 206 : 200, headers: head });
    return faults.hides ? Object.defineProperty(answer, "type", { value: "cors" }) : answer;
  };
}

/** Locks and channels of one process. */
export class Browser implements TabsHost {
  readonly #channels = new Map<string, Set<FakeChannel>>();
  readonly #queues = new Map<string, (() => void)[]>();
  readonly #held = new Set<string>();

  channel = (name: string) => {
    const members = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, members);
    const channel = new FakeChannel(members);
    members.add(channel);
    return channel as unknown as BroadcastChannel;
  };

  get open(): number {
    return [...this.#channels.values()].reduce((sum, { size }) => sum + size, 0);
  }

  get held(): string[] {
    return [...this.#held];
  }

  readonly locks = {
    request: async (name: string, options: LockOptions, run: (lock: Lock | null) => unknown) => {
      if (options.ifAvailable && this.#held.has(name)) return run(null);
      await new Promise<void>((resolve, reject) => {
        if (!this.#held.has(name)) return resolve();
        const queue = this.#queues.get(name) ?? [];
        this.#queues.set(name, queue);
        queue.push(resolve);
        options.signal?.addEventListener("abort", () => {
          queue.splice(queue.indexOf(resolve) >>> 0, 1);
          reject(options.signal?.reason);
        });
      });
      this.#held.add(name);
      try {
        return await run({ name, mode: "exclusive" });
      } finally {
        this.#held.delete(name);
        this.#queues.get(name)?.shift()?.();
      }
    },
  } as unknown as LockManager;
}

class FakeChannel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  readonly #members: Set<FakeChannel>;

  constructor(members: Set<FakeChannel>) {
    this.#members = members;
  }

  postMessage(message: unknown): void {
    const data = structuredClone(message);
    for (const other of this.#members) if (other !== this) setImmediate(() => other.onmessage?.({ data }));
  }

  close(): void {
    this.#members.delete(this);
  }
}

export interface Setup {
  source?: WireSource;
  request?: FileRequest;
  store?: MemoryStore | undefined;
  browser?: TabsHost;
  stallMs?: number;
  readsAll?: boolean;
  keepsOnly?: boolean;
  signal?: AbortSignal;
  tooLittleRoom?: FilesHost["tooLittleRoom"];
}

/** A load by one tab. */
export async function open(servers: Server | Record<string, Pick<Server, "fetch">>, setup: Setup): Promise<ModelFiles> {
  const byUrl: Record<string, Pick<Server, "fetch">> = servers instanceof Server ? { [URL_1]: servers } : servers;
  const fetch = (url: string, init: RequestInit) => {
    const server = byUrl[url];
    return server ? server.fetch(url, init) : Promise.reject(new TypeError(`nobody is at ${url}`));
  };
  const host = {
    fetch,
    onWait: () => {},
    explain: async () => ({ kind: "lost" as const, reason: "it is gone" }),
    signal: setup.signal ?? new AbortController().signal,
    limits: { stallTimeoutMs: setup.stallMs ?? 30_000 },
    readsAll: setup.readsAll ?? true,
    keepsOnly: setup.keepsOnly ?? false,
    openStore: async () => setup.store,
    tabs: setup.browser ?? new Browser(),
    chunkBytes: CHUNK,
    tooLittleRoom: setup.tooLittleRoom ?? (async () => undefined),
  };
  return openModelFiles(setup.source ?? { addresses: Object.keys(byUrl).map((url) => [url]) }, setup.request ?? {}, host);
}

/** What the engine would say. */
export class EngineError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Reads one file as the engine does. One reader for a file and load, as there. */
export class Reader {
  readonly #files: ModelFiles;
  readonly #url: string;
  #version: { total?: number; etag?: string } = {};
  retries = 0;
  /** Lengths of the pieces that came. */
  readonly pieces: number[] = [];
  answers = 0;
  mostRetries = 8;

  constructor(files: ModelFiles, file = 0) {
    this.#files = files;
    this.#url = (files.source as { urls: string[] }).urls[file] as string;
  }

  /** The bytes from `from` to `to`, which may lie behind the end. */
  async read(from = 0, to = Infinity): Promise<Uint8Array> {
    const got: number[] = [];
    const at = () => from + got.length;
    while (at() < Math.min(to, this.#version.total ?? Infinity)) {
      const controller = new AbortController();
      const asked = at();
      try {
        const answer = await this.#files.fetch(this.#url, {
          headers: new Headers(asked > 0 ? { Range: `bytes=${asked}-` } : {}),
          signal: controller.signal,
        });
        this.answers++;
        // As the engine finds the end of a file whose size nobody tells.
        if (answer.status === 416 && asked > 0) { if (this.#version.total !== undefined) throw new EngineError("network", "416 inside the file"); break; }
        if (answer.status !== 200 && answer.status !== 206) throw new EngineError("http-status", String(answer.status));
        const { start, end } = this.#head(answer, asked);
        let place = start;
        const reader = answer.body!.getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          this.pieces.push(value.length);
          for (const byte of value) if (place++ >= asked && at() < to) got.push(byte);
          if (at() >= to) return Uint8Array.from(got);
        }
        if (end !== undefined && place < end) throw new Error("it closed too soon");
        if (answer.status === 200) break;
        if (place <= asked) throw new Error("wrong answer");
      } catch (thrown) {
        if (thrown instanceof EngineError) throw thrown;
        if ((thrown as { fatal?: boolean }).fatal) throw thrown;
        if (++this.retries > this.mostRetries) throw thrown;
      } finally {
        controller.abort();
      }
    }
    return Uint8Array.from(got);
  }

  /** As `Answer::read` and `Version::difference` in src/weights/answer.rs. */
  #head({ status, headers, type }: Response, asked: number): { start: number; end: number | undefined } {
    const wrong = (what: string) => new EngineError("network", `wrong-answer: ${what}`);
    const length = headers.get("Content-Length");
    const encoded = headers.has("Content-Encoding");
    let version: { total?: number | undefined; etag?: string | undefined } = { etag: encoded ? undefined : (headers.get("ETag") ?? undefined) };
    let span: { start: number; end: number | undefined };
    if (status === 200) {
      const end = length === null || encoded ? undefined : Number(length);
      span = { start: 0, end: type === "cors" ? undefined : end };
      version.total = span.end;
    } else {
      const text = headers.get("Content-Range");
      if (text === null && type !== "cors") throw wrong("no Content-Range");
      if (text === null) span = { start: asked, end: length === null ? undefined : asked + Number(length) };
      else {
        const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(text) ?? [];
        if (last === undefined) throw wrong(text);
        span = { start: Number(first), end: Number(last) + 1 };
        if (total !== "*") version.total = Number(total);
        if (span.start > asked) throw wrong(`from ${span.start} instead of ${asked}`);
        if (length !== null && Number(length) !== Number(span.end) - span.start) throw wrong("lengths differ");
      }
    }
    for (const key of ["total", "etag"] as const) {
      const [known, later] = [this.#version[key], version[key]];
      if (known !== undefined && later !== undefined && known !== later) throw new EngineError("network", `changed: ${key} ${known} ${later}`);
    }
    const { total = this.#version.total, etag = this.#version.etag } = version;
    this.#version = { ...(total === undefined ? {} : { total }), ...(etag === undefined ? {} : { etag }) };
    return span;
  }
}

export interface Outcome {
  bytes: Uint8Array;
  report: StorageReport;
  reader: Reader;
}

/** Loads the whole of one file, as a tab does from its start to its end. */
export async function load(server: Server, setup: Setup): Promise<Outcome> {
  const files = await open(server, setup);
  try {
    const reader = new Reader(files);
    const bytes = await reader.read();
    return { bytes, report: await files.finish(), reader };
  } catch (thrown) {
    throw files.fault ?? thrown;
  } finally {
    await files.close();
  }
}

/** The error of a load that fails. */
export async function failure(loading: Promise<unknown>): Promise<WireError> {
  try {
    await loading;
  } catch (thrown) {
    return thrown as WireError;
  }
  throw new Error("it did not fail");
}
