// One file of a load. Each request of the engine is answered with one part: a stored chunk, bytes that are still in memory, or what
// the network sends up to the next stored chunk. The engine asks for the next part by itself.
import { type AnswerHead, type FileVersion, readHead, sizeOf416 } from "./answer-head.js";
import { throwIfFatal } from "./fatal-error.js";
import { bodyOf, nothingThere, partOf, serversAnswer } from "./engine-answer.js";
import type { KeptModel } from "./kept-model.js";
import { NetworkRun } from "./network-run.js";
import { WholeDigest } from "./whole-digest.js";
import { within } from "../within.js";

/** Chunks that are read and digested before they are asked for. */
const AHEAD = 2;
/** Parts of chunks that are kept in memory where the engine jumps. */
const MOST_PARTIALS = 4;

/** Which bytes to ask for. */
export interface Wanted {
  start: number;
  /** Undefined: to the end. */
  to: number | undefined;
}

/** What a file needs of its load. */
export interface FileLoad {
  readonly kept: KeptModel | undefined;
  /** New chunks are written by this load. */
  readonly writes: boolean;
  /** What is stored may be handed out: see `prepare`. */
  readonly trusts: boolean;
  /** Another load downloads the model. */
  readonly follows: boolean;
  /** How long to wait for the network, or for another tab. */
  readonly stallMs: number;
  /** SHA-256 that the source gives; undefined once the stored file had it. */
  digestOf(file: number): string | undefined;
  /** Compares what is stored with what the server has, once; with the server's refusal where it does not answer. */
  prepare(file: FileStream, wanted: Wanted, signal: AbortSignal): Promise<Response | undefined>;
  ask(file: number, wanted: Wanted, signal: AbortSignal): Promise<Response>;
  /** Compares an answer with what is known; true if what was stored has been deleted. @throws where bytes of another version are in use. */
  admit(file: number, head: AnswerHead): Promise<boolean>;
  /** @throws where there is too little room. */
  checkRoom(): Promise<void>;
  /** @throws where the model is downloaded only to be kept, and cannot be. */
  checkKept(): Promise<void>;
  /** Bytes came by up to this one. @throws where the hub's listing says that the file ends before. */
  checkEnd(file: number, end: number): void;
  /** The whole file came by, with this digest. @throws where it is another than the source's. */
  checkDigest(file: number, digest: string): void;
  /** The file cannot be kept. @throws where bytes of what was stored are in use, and these may be of another version. */
  cannotKeep(file: number, reason: string): Promise<void>;
  /** Waits for another tab; false where it was silent for too long. */
  otherTab(): Promise<boolean>;
  countStored(file: number, bytes: number): void;
  countNetwork(bytes: number): void;
  /** What another tab knows of the file; null where that is nothing yet. */
  versionInOtherTab(file: number): FileVersion | null;
  goAlone(): void;
}

/** A chunk that has arrived in part. */
interface OpenChunk {
  bytes: Uint8Array<ArrayBuffer>;
  /** Offset in the file of the byte behind the last that is there. */
  end: number;
}

/** A request that was made before its bytes are needed. */
interface Opened extends Wanted {
  response: Response;
  head: AnswerHead;
  controller: AbortController;
}

export class FileStream {
  readonly #load: FileLoad;
  readonly #number: number;
  readonly #partials = new Map<number, OpenChunk>();
  /** By index and digest: meanwhile another tab may have stored another version. */
  readonly #ahead = new Map<string, Promise<Uint8Array<ArrayBuffer> | undefined>>();
  #run: NetworkRun | undefined;
  #paused: NetworkRun | undefined;
  /** Where the answer that {@link #run} reads ends; undefined where it does not say that. */
  #runEnd: number | undefined;
  #opened: Opened | undefined;
  #digest: WholeDigest | undefined;
  #isDigested = false;
  /** Where a body from the first byte on ended, of a file whose size no answer told. */
  #endSeen: number | undefined;
  #hasRoom = false;
  /** What the last answer said, where nothing is kept. */
  #served: FileVersion = {};
  readonly #closed = new AbortController();
  /** The file goes without storage from now on. */
  #isPlain = false;

  constructor(load: FileLoad, number: number) {
    this.#load = load;
    this.#number = number;
  }

  /** Answers the engine's request, with as much of what it asks for as is at one place. */
  async answer(wanted: Wanted, signal: AbortSignal): Promise<Response> {
    await this.#endRun();
    await this.#makeDigest();
    const { kept } = this.#load;
    const { start: from } = wanted;
    while (kept && !this.#isPlain) {
      if (!kept.isWhole()) {
        const refused = await this.#load.prepare(this, wanted, signal);
        if (refused) return refused;
      }
      if (!this.#load.trusts) break;
      const total = kept.files[this.#number]?.record.bytes;
      if (total !== undefined && from >= total) return nothingThere(total);
      const index = Math.floor(from / kept.chunkBytes);
      await kept.files[this.#number]?.settling.get(index);
      if (kept.files[this.#number]?.chunks.has(index)) {
        const bytes = await this.#stored(index);
        if (bytes) return this.#partOfChunk(index, bytes, from);
        // It was damaged, or the model was deleted meanwhile.
        continue;
      }
      if (this.#load.follows) {
        const part = await this.#fromOtherTab(from, signal);
        if (part) return part;
        continue;
      }
      break;
    }
    return this.#fromMemory(from) ?? this.#fromNetwork(from, wanted.to, signal);
  }

  /** The chunk's bytes, checked; the next ones are read and checked while these are in use. */
  async #stored(index: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { kept } = this.#load;
    if (!kept) return undefined;
    const chunks = kept.files[this.#number]?.chunks;
    const before = new Map(this.#ahead);
    this.#ahead.clear();
    const read = (at: number) => {
      const key = `${at} ${chunks?.get(at)?.sha256}`;
      return { key, bytes: before.get(key) ?? kept.read(this.#number, at) };
    };
    const reading = read(index).bytes;
    for (let next = index + 1; next <= index + AHEAD; next++) {
      if (!chunks?.has(next)) continue;
      const { key, bytes } = read(next);
      this.#ahead.set(key, bytes);
    }
    return reading;
  }

  #partOfChunk(index: number, bytes: Uint8Array<ArrayBuffer>, from: number): Response {
    const start = index * (this.#load.kept?.chunkBytes ?? 0);
    this.#took(start, bytes);
    const part = bytes.subarray(from - start);
    this.#load.countStored(this.#number, part.length);
    return partOf(bodyFrom(part), from, from + part.length, this.#version());
  }

  /** What arrived of a chunk before the last connection broke. */
  #fromMemory(from: number): Response | undefined {
    const { kept } = this.#load;
    const index = kept && Math.floor(from / kept.chunkBytes);
    const partial = index === undefined ? undefined : this.#partials.get(index);
    if (!kept || index === undefined || !partial || from >= partial.end) return undefined;
    const start = index * kept.chunkBytes;
    return partOf(bodyFrom(partial.bytes.slice(from - start, partial.end - start)), from, partial.end, this.#version());
  }

  #version(): FileVersion {
    return this.#load.kept?.files[this.#number]?.record ?? this.#served;
  }

  /** Where a request has to begin so that what comes can be stored. */
  #wanted(from: number, until: number | undefined): Wanted {
    const { kept, writes, trusts } = this.#load;
    if (!kept || this.#isPlain) return { start: from, to: until };
    const index = Math.floor(from / kept.chunkBytes);
    const stored = trusts ? kept.nextStored(this.#number, index) : undefined;
    const inMemory = [...this.#partials.keys()].filter((other) => other > index);
    const next = Math.min(stored ?? Infinity, ...inMemory) * kept.chunkBytes;
    const to = Math.min(until ?? Infinity, next);
    const start = writes ? (this.#partials.get(index)?.end ?? index * kept.chunkBytes) : from;
    return { start: Math.min(start, from), to: to === Infinity ? undefined : to };
  }

  /** Asks for the bytes that the load needs first, and keeps the answer for when they are needed. */
  async open({ start: from, to: until }: Wanted, signal: AbortSignal): Promise<Response | AnswerHead | string> {
    const { kept } = this.#load;
    const index = kept?.firstMissing(this.#number, Math.floor(from / kept.chunkBytes));
    const start = kept && index !== undefined ? index * kept.chunkBytes : Infinity;
    if (start >= (until ?? Infinity)) return this.look(signal);
    this.#dropOpened();
    const wanted = this.#wanted(start, until);
    const { response, controller } = await this.#ask(wanted, signal);
    if (!isSuccess(response)) return response;
    const head = readHead(response, start);
    if (typeof head === "string") controller.abort();
    else this.#opened = { ...wanted, response, head, controller };
    return head;
  }

  /** What the server has of the file, by its first byte. */
  async look(signal: AbortSignal): Promise<Response | AnswerHead | string> {
    const { response, controller } = await this.#ask({ start: 0, to: 1 }, signal);
    if (!isSuccess(response)) return response;
    controller.abort();
    return readHead(response, 0);
  }

  /** The answer lives on when `signal`, which is of one request of the engine, fires later. */
  async #ask(wanted: Wanted, signal: AbortSignal): Promise<{ response: Response; controller: AbortController }> {
    const controller = new AbortController();
    const abort = () => controller.abort(signal.reason);
    if (signal.aborted || this.#closed.signal.aborted) abort();
    signal.addEventListener("abort", abort);
    this.#closed.signal.addEventListener("abort", abort);
    try {
      return { response: await this.#load.ask(this.#number, wanted, controller.signal), controller };
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** @param until Where to stop, if not at the next stored chunk. */
  async #fromNetwork(from: number, until: number | undefined, signal: AbortSignal): Promise<Response> {
    for (;;) {
      const { kept, writes } = this.#load;
      const wanted = this.#wanted(from, until);
      const { response, controller, head: known } = await this.#openedOr(wanted, signal);
      if (!isSuccess(response)) {
        if (response.status === 416) this.#endOf416(response, wanted.start);
        return response;
      }
      const head = known ?? readHead(response, wanted.start);
      if (typeof head === "string") {
        const fits = wanted.start === from && wanted.to === undefined;
        if (kept && !this.#isPlain) {
          this.#isPlain = true;
          await this.#load.cannotKeep(this.#number, `the server's answer does not prove which bytes of the file it has: ${head}`);
          if (!fits) {
            controller.abort();
            continue;
          }
        }
        // The engine says what is wrong with it, or takes it as it is.
        this.#start(response, from, undefined, controller, undefined);
        return serversAnswer(response, this.#body(from, signal));
      }
      if (kept && (await this.#load.admit(this.#number, head))) {
        controller.abort();
        continue;
      }
      if (kept && writes && !this.#hasRoom && this.#version().bytes !== undefined) {
        await this.#load.checkRoom();
        this.#hasRoom = true;
      }
      const isAsAsked = head.start === wanted.start;
      const to = isAsAsked && head.end !== undefined ? Math.min(head.end, wanted.to ?? Infinity) : undefined;
      this.#start(response, head.start, to === head.end ? undefined : to, controller, head);
      if (to !== undefined && to <= from && to > wanted.start) {
        // Less than the part of the chunk in front of it.
        while (await this.#run?.next());
        continue;
      }
      const isTheServers = !isAsAsked || to === undefined || (response.status === 200 && from === 0);
      if (isTheServers) return serversAnswer(response, this.#body(head.start, signal));
      return serversAnswer(response, this.#body(from, signal), { from, to, total: head.version.bytes });
    }
  }

  async #openedOr(wanted: Wanted, signal: AbortSignal): Promise<{ response: Response; controller: AbortController; head?: AnswerHead }> {
    const opened = this.#opened;
    if (opened && opened.start === wanted.start && opened.to === wanted.to) {
      this.#opened = undefined;
      return opened;
    }
    this.#dropOpened();
    return this.#ask(wanted, signal);
  }

  #start(response: Response, at: number, to: number | undefined, controller: AbortController, head: AnswerHead | undefined): void {
    this.#served = head?.version ?? {};
    this.#runEnd = to ?? head?.end;
    const wantsDigest = this.#digest !== undefined && !this.#isDigested;
    this.#run = new NetworkRun(response, at, controller, {
      to,
      holdsBack: wantsDigest && this.#version().bytes === undefined,
      take: async (offset, bytes) => {
        this.#load.countNetwork(bytes.length);
        this.#load.checkEnd(this.#number, offset + bytes.length);
        this.#took(offset, bytes);
        // What a server sends beyond what it announced may be anything.
        if (head) this.#keep(offset, bytes.subarray(0, Math.max(0, (head.end ?? Infinity) - offset)));
        await this.#load.kept?.room();
        await this.#load.checkKept();
      },
      // Only a body from the first byte on tells by its end how long the file is.
      onEnd: (end) => {
        if (response.status !== 200 || head?.start !== 0 || (head.end !== undefined && end < head.end)) return;
        this.#endSeen = end;
        if (this.#digest?.position === end) this.#endDigest();
      },
    });
  }

  /** What the run brings, from `from` on; after a pause the rest is asked for. */
  #body(from: number, signal: AbortSignal): ReadableStream<Uint8Array> {
    const [run, end] = [this.#run, this.#runEnd];
    let at = run?.at ?? 0;
    let rest: (() => Promise<Uint8Array | undefined>) | undefined;
    return bodyOf(async () => {
      if (end !== undefined && run === this.#paused) rest ??= await this.#rest(at, end, signal);
      const piece = rest ? await rest() : await run?.next();
      if (piece === undefined) return undefined;
      const skip = Math.min(Math.max(from - at, 0), piece.length);
      at += piece.length;
      return piece.subarray(skip);
    });
  }

  /** What another tab stores next; undefined where this one shall look again. */
  async #fromOtherTab(from: number, signal: AbortSignal): Promise<Response | undefined> {
    const load = this.#load;
    const { kept } = load;
    const version = load.versionInOtherTab(this.#number);
    if (!kept || (version !== null && version.bytes === undefined)) {
      load.goAlone();
      return undefined;
    }
    if (version === null) {
      if (!(await load.otherTab())) load.goAlone();
      return undefined;
    }
    const index = Math.floor(from / kept.chunkBytes);
    const start = index * kept.chunkBytes;
    const end = Math.min(start + kept.chunkBytes, version.bytes ?? 0);
    let rest: (() => Promise<Uint8Array | undefined>) | undefined;
    let at = from;
    const body = bodyOf(async () => {
      if (at >= end) return undefined;
      if (!rest && load.trusts && kept.files[this.#number]?.chunks.has(index)) {
        const bytes = await kept.read(this.#number, index);
        if (bytes) {
          this.#took(start, bytes);
          at = end;
          load.countStored(this.#number, bytes.length - (from - start));
          return bytes.subarray(from - start);
        }
        load.goAlone();
      }
      if (!rest && load.follows) {
        if (!(await load.otherTab())) load.goAlone();
        return new Uint8Array();
      }
      // The other tab has ended, or is silent.
      rest ??= await this.#rest(at, end, signal);
      const value = await rest();
      if (value === undefined) return undefined;
      const piece = value.subarray(0, end - at);
      at += piece.length;
      return piece;
    });
    return partOf(body, from, end, version);
  }

  /** Pieces of the file from `from` on. The server's answer may begin before. */
  async #rest(from: number, until: number, signal: AbortSignal): Promise<() => Promise<Uint8Array | undefined>> {
    const response = this.#fromMemory(from) ?? (await this.#fromNetwork(from, until, signal));
    const head = isSuccess(response) ? readHead(response, from) : `it has the status ${response.status}`;
    if (typeof head === "string" || !response.body) throw new Error(`the server does not answer with the rest of the file: ${String(head)}`);
    const reader = response.body.getReader();
    let at = head.start;
    return async () => {
      const { value } = await reader.read();
      if (value === undefined) return undefined;
      const skip = Math.min(Math.max(from - at, 0), value.length);
      at += value.length;
      return value.subarray(skip);
    };
  }

  #took(offset: number, bytes: Uint8Array): void {
    this.#digest?.take(offset, bytes);
    if (this.#digest && this.#digest.position === this.#version().bytes) this.#endDigest();
  }

  #endDigest(): void {
    const digest = this.#digest;
    this.#digest = undefined;
    this.#isDigested = true;
    if (digest) this.#load.checkDigest(this.#number, digest.end());
  }

  async #makeDigest(): Promise<void> {
    if (this.#digest || this.#isDigested || this.#load.digestOf(this.#number) === undefined) return;
    this.#digest = await WholeDigest.make();
  }

  /** Puts bytes of the network into their chunks. */
  #keep(offset: number, bytes: Uint8Array): void {
    const { kept, writes } = this.#load;
    if (!kept || !writes || this.#isPlain) return;
    const total = this.#version().bytes;
    const last = Math.min(offset + bytes.length, total ?? Infinity);
    for (let at = offset; at < last; ) {
      const index = Math.floor(at / kept.chunkBytes);
      const start = index * kept.chunkBytes;
      const stop = Math.min(start + kept.chunkBytes, last);
      if (!kept.has(this.#number, index)) {
        const partial = this.#partials.get(index) ?? (at === start ? this.#beginChunk(index) : undefined);
        if (partial && partial.end >= at && partial.end < stop) {
          partial.bytes.set(bytes.subarray(partial.end - offset, stop - offset), partial.end - start);
          partial.end = stop;
        }
        const length = kept.lengthOf(this.#number, index) ?? kept.chunkBytes;
        if (partial && partial.end - start === length) this.#endChunk(index, partial);
      }
      at = stop;
    }
  }

  #beginChunk(index: number): OpenChunk {
    const { kept } = this.#load;
    const partial = {
      bytes: new Uint8Array(kept?.lengthOf(this.#number, index) ?? kept?.chunkBytes ?? 0),
      end: index * (kept?.chunkBytes ?? 0),
    };
    for (const oldest of this.#partials.keys()) {
      if (this.#partials.size < MOST_PARTIALS) break;
      this.#partials.delete(oldest);
    }
    this.#partials.set(index, partial);
    return partial;
  }

  #endChunk(index: number, { bytes, end }: OpenChunk): void {
    const { kept } = this.#load;
    this.#partials.delete(index);
    kept?.keep(this.#number, index, bytes.subarray(0, end - index * kept.chunkBytes));
  }

  /** The server says that the file ends where the next byte was asked for. */
  #endOf416(response: Response, asked: number): void {
    if (sizeOf416(response) === asked) this.#endSeen = asked;
  }

  /** The whole file had the source's digest, or there is none. */
  get isChecked(): boolean {
    return this.#isDigested || this.#load.digestOf(this.#number) === undefined;
  }

  /**
   * Fetches what is missing, and digests what was not digested on the way. The engine has read what it needs, so this may read on
   * where its last request was.
   */
  async complete(signal: AbortSignal): Promise<void> {
    const { kept, stallMs } = this.#load;
    if (kept && !this.#isPlain && this.#load.writes && !kept.isFileWhole(this.#number)) {
      if (this.#goesOn()) await this.#drain().catch(throwIfFatal);
      this.#settleSize();
      await kept.settled();
      for (let index = kept.firstMissing(this.#number, 0); index !== undefined; index = kept.firstMissing(this.#number, index)) {
        if (!this.#load.writes || this.#isPlain || signal.aborted) break;
        const from = this.#partials.get(index)?.end ?? index * kept.chunkBytes;
        await this.#endRun();
        const response = await within(stallMs, this.#fromNetwork(from, undefined, signal), "the server sent nothing");
        if (response.status !== 416 && !isSuccess(response)) throw new Error(`the server answered ${response.status}`);
        await this.#drain();
        this.#settleSize();
        await kept.settled();
        const now = this.#partials.get(index)?.end ?? (kept.has(this.#number, index) ? Infinity : from);
        if (now <= from && response.status !== 416) throw new Error("the server does not send it");
        if (response.status === 416 && kept.firstMissing(this.#number, index) === index) throw new Error("the server does not send it");
      }
    }
    await this.#completeDigest(signal);
  }

  /** Reads the last answer to its end. */
  async #drain(): Promise<void> {
    const run = this.#run;
    while (run && (await within(this.#load.stallMs, run.next(), "the server sent nothing")));
  }

  /** What is left of the last answer is what is missing. */
  #goesOn(): boolean {
    const { kept } = this.#load;
    const at = this.#run?.at;
    if (!kept || at === undefined) return false;
    const index = Math.floor(at / kept.chunkBytes);
    return this.#partials.get(index)?.end === at || (at % kept.chunkBytes === 0 && !kept.has(this.#number, index));
  }

  /** The size is known now that the body has ended. The last chunk waited for that. */
  #settleSize(): void {
    const { kept } = this.#load;
    if (!kept || this.#endSeen === undefined || this.#version().bytes !== undefined) return;
    kept.adopt(this.#number, { bytes: this.#endSeen });
    for (const [index, partial] of [...this.#partials]) {
      const start = index * kept.chunkBytes;
      if (partial.end - start === kept.lengthOf(this.#number, index)) this.#endChunk(index, partial);
    }
  }

  async #completeDigest(signal: AbortSignal): Promise<void> {
    await this.#makeDigest();
    const { kept, stallMs } = this.#load;
    for (let digest = this.#digest; digest && !this.#isDigested && !signal.aborted; digest = this.#digest) {
      const { position } = digest;
      const index = kept && Math.floor(position / kept.chunkBytes);
      const bytes = kept && index !== undefined && this.#load.trusts ? await kept.read(this.#number, index) : undefined;
      if (kept && index !== undefined && bytes) {
        this.#took(index * kept.chunkBytes, bytes);
        continue;
      }
      if (this.#endSeen === position) {
        this.#endDigest();
        return;
      }
      // What is left of the last answer; or else it is asked for again.
      if (this.#run?.at === position && !this.#run.hasEnded) {
        await this.#drain().catch(throwIfFatal);
        if (this.#digest?.position !== position || this.#endSeen === position) continue;
      }
      await this.#endRun();
      const response = await within(stallMs, this.#fromNetwork(position, undefined, signal), "the server sent nothing");
      if (response.status === 416) {
        // There is no more; the digest says whether that is right.
        this.#endDigest();
        return;
      }
      if (!isSuccess(response)) throw new Error(`the server answered ${response.status}`);
      await this.#drain();
      if (this.#digest?.position === position) throw new Error("the server does not send what is left to check");
    }
  }

  /** Its answer holds a connection, and can be paused. */
  get holdsConnection(): boolean {
    return this.#runEnd !== undefined && this.#run?.canPauseBefore(this.#runEnd) === true;
  }

  /** Frees the connection of an answer that is not being read. Whoever reads on gets the rest all the same. */
  async pause(): Promise<void> {
    this.#paused = this.#run;
    await this.#endRun();
  }

  async #endRun(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    await run?.end();
  }

  #dropOpened(): void {
    this.#opened?.controller.abort();
    this.#opened = undefined;
  }

  /** Drops what was stored of another version. */
  forget(): void {
    this.#partials.clear();
    this.#ahead.clear();
    this.#endSeen = undefined;
    this.#dropOpened();
  }

  close(): void {
    this.#closed.abort();
    this.forget();
    void this.#run?.end();
  }
}

function bodyFrom(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let rest: Uint8Array | undefined = bytes;
  return bodyOf(async () => {
    const piece = rest;
    rest = undefined;
    return piece;
  });
}

function isSuccess({ status }: Response): boolean {
  return status === 200 || status === 206;
}
