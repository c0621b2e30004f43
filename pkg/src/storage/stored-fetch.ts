// The `fetch` of one load: it answers from what is stored, and from the network what is not, and stores that on the way.
import { toWire, type WireError } from "../errors.js";
import type { ModelFile } from "../sources/find-files.js";
import type { StorageReport } from "../types.js";
import type { Fetch } from "../wasm-surface.js";
import { type AnswerHead, areComparable, difference, type FileVersion, versionOf } from "./answer-head.js";
import { FatalError } from "./fatal-error.js";
import { type FileLoad, FileStream, type Wanted } from "./file-stream.js";
import { type FileRecord } from "./chunk-store.js";
import type { KeptModel } from "./kept-model.js";
import { canonicalAddress, isDownloaded, shownAddress } from "./model-id.js";
import { storageFull } from "./room.js";
import { listModels } from "./stored-models.js";
import { type TabMessage, Tabs, type TabsHost } from "./tabs.js";

/** Progress is told to other tabs at most so often. */
const TELL_MS = 500;
/**
 * Files whose answers may wait half read while another file is asked for. The engine reads the headers of all files first, and
 * browsers have six connections to a server of HTTP/1.1.
 */
const MOST_HOLDING = 3;
/** Another tab that was silent for this part of the engine's own limit is not waited for. */
const PATIENCE = 1 / 3;

/** The files of the model, and what asks their servers. */
export interface Located {
  files: ModelFile[];
  fetch: Fetch;
}

export interface StoredFetchOptions {
  /** Where the model is kept; undefined where nothing is, and `reason` says why. */
  kept: KeptModel | undefined;
  reason: string | undefined;
  /** The addresses that the engine asks, one for each file. */
  urls: string[];
  /** SHA-256 of each file, where the caller gives them. */
  digests: string[] | undefined;
  /** The caller names what is stored, and not where it comes from. */
  byId: boolean;
  /** What is known of the files, and a `fetch` for their first addresses. Asked only where the network is needed. */
  locate: () => Promise<Located>;
  tabs: TabsHost;
  /** The error of too little room for so many bytes more, if it is. */
  tooLittleRoom: (neededBytes: number) => Promise<WireError | undefined>;
  /** How long nothing may arrive. */
  stallMs: number;
  /** The whole model is read, and not its header alone. */
  readsAll: boolean;
  /** The model is downloaded only to be kept. */
  keepsOnly: boolean;
  signal: AbortSignal;
}

export class StoredFetch implements FileLoad {
  readonly kept: KeptModel | undefined;
  readonly stallMs: number;
  fault: WireError | undefined;
  /** What is stored belongs to the version that the server has, or nothing has been asked. */
  trusts = true;
  readonly #options: StoredFetchOptions;
  readonly #streams: FileStream[];
  readonly #tabs: Tabs | undefined;
  readonly #report: StorageReport;
  readonly #wasWhole: boolean;
  readonly #closed = new AbortController();
  #located: Promise<Located> | undefined;
  #files: ModelFile[] = [];
  #prepared = false;
  #preparing: Promise<Response | undefined> | undefined;
  #otherTab: { files: (FileVersion | null)[] } | undefined;
  #reopened: Promise<void> = Promise.resolve();
  /** Bytes of this load are with the engine. */
  #isInUse = false;
  #told = 0;
  /** Files of which this load has had an answer of the version that is noted. */
  readonly #admitted = new Set<number>();
  /** Files of which the engine has stored bytes. */
  readonly #usesStored = new Set<number>();
  /** The engine has bytes of what was stored and is deleted: the rest has to be of the same version. */
  #goesOnFromStored = false;
  /** The engine has bytes, or the promise of bytes, that another tab has found to be of an old version. */
  #isOutdated = false;
  /** What was wrong is deleted. */
  #cleared: Promise<void> = Promise.resolve();

  constructor(options: StoredFetchOptions) {
    this.#options = options;
    this.kept = options.kept;
    this.stallMs = options.stallMs;
    this.#streams = options.urls.map((_, number) => new FileStream(this, number));
    this.#report = { kind: "none", storedBytes: 0, networkBytes: 0, repaired: options.kept?.repaired ?? [] };
    this.#wasWhole = options.kept?.isWhole() ?? false;
    const { kept } = this;
    if (!kept) return;
    this.#tabs = new Tabs(kept.id, options.tabs, (message) => this.#hear(message), () => this.#lead());
    kept.onStored = (chunk) => this.#tabs?.tell({ kind: "stored", chunk });
    kept.onStop = () => this.#tabs?.tell({ kind: "stopped" });
  }

  /** For the engine. */
  readonly fetch: Fetch = async (url, init) => {
    const stream = this.#streams[this.#options.urls.indexOf(url)];
    const asked = askedFor(init);
    if (!stream || !asked) throw new FatalError({ code: "internal", message: "the engine asks for what is no file of the model" });
    try {
      // A listing may have a digest, which is to be made from the first byte on.
      if (!this.kept?.isWhole()) await this.#locate();
      const answer = await stream.answer(asked, init.signal ?? this.#closed.signal);
      this.#isInUse ||= answer.ok;
      return answer;
    } catch (thrown) {
      if (thrown instanceof FatalError) this.fault ??= thrown.wire;
      throw thrown;
    }
  };

  get writes(): boolean {
    return this.#leads && this.kept?.isWriting === true;
  }

  get #leads(): boolean {
    return this.#tabs?.role === "leads";
  }

  get follows(): boolean {
    return this.#tabs?.role === "follows";
  }

  digestOf(file: number): string | undefined {
    const record = this.kept?.files[file]?.record;
    const wanted = this.#options.digests?.[file] ?? this.#files[file]?.sha256 ?? record?.sha256;
    return wanted === undefined || (record?.verified && record.sha256 === wanted) ? undefined : wanted;
  }

  async ask(file: number, { start, to }: Wanted, signal: AbortSignal): Promise<Response> {
    const { files, fetch } = await this.#locate();
    const [address] = files[file]?.addresses ?? [];
    if (address === undefined) throw new FatalError({ code: "internal", message: `the model has no file ${file + 1}` });
    const holding = this.#streams.filter((stream, number) => number !== file && stream.holdsConnection);
    if (holding.length >= MOST_HOLDING) await holding[0]?.pause();
    // Caches and service workers store an answer only if it is to a request for the whole.
    const headers = new Headers();
    if (start > 0 || to !== undefined) headers.set("Range", `bytes=${start}-${to === undefined ? "" : to - 1}`);
    return fetch(address, { headers, signal });
  }

  #locate(): Promise<Located> {
    this.#located ??= this.#options.locate().then(
      (located) => {
        this.#files = located.files;
        return located;
      },
      (thrown: unknown) => {
        throw new FatalError(toWire(thrown));
      },
    );
    return this.#located;
  }

  /** Undefined where the load may go on. */
  prepare(file: FileStream, wanted: Wanted, signal: AbortSignal): Promise<Response | undefined> {
    if (this.#prepared) return Promise.resolve(undefined);
    // Files that are asked for at once are prepared together; the refusal is that of the first.
    this.#preparing ??= this.#prepare(file, wanted, signal).finally(() => (this.#preparing = undefined));
    return this.#preparing;
  }

  async #prepare(stream: FileStream, wanted: Wanted, signal: AbortSignal): Promise<Response | undefined> {
    const { kept } = this;
    const tabs = this.#tabs;
    if (!kept || !tabs) return undefined;
    // A header is read beside a download, if there is one: whoever reads it may take long to go on.
    if (!this.#options.readsAll) {
      if (this.#isListedOtherwise((await this.#locate()).files)) kept.forget();
      const refused = await this.#compare(stream, wanted, signal);
      this.#prepared = refused === undefined;
      return refused;
    }
    await tabs.join();
    if (this.follows) await this.#meetOtherTab();
    if (!this.#leads) {
      this.#prepared = true;
      return undefined;
    }
    this.trusts = true;
    const inUse = this.#isInUse ? kept.files.map(({ record }) => record) : undefined;
    await kept.reopen();
    const { files } = await this.#locate();
    if (!kept.isKnown && inUse) {
      kept.begin(inUse);
      this.#goesOnFromStored = true;
      kept.stop("the stored model was deleted while it was loaded");
    } else if (!kept.isKnown || this.#isListedOtherwise(files)) {
      const isStored = kept.storedBytes() > 0;
      kept.forget();
      // What is stored is not used, and stays where the other file cannot be had.
      const refused = isStored ? await stream.look(signal) : undefined;
      if (refused instanceof Response) return refused;
      await this.#restart(files);
    }
    await kept.startWriting();
    const refused = kept.isWhole() ? undefined : await this.#compare(stream, wanted, signal);
    if (refused) return refused;
    this.#prepared = true;
    this.#tellState();
    return undefined;
  }

  /** Deletes what is stored, and begins anew. */
  async #restart(files: ModelFile[]): Promise<void> {
    const { kept } = this;
    if (!kept) return;
    if (this.#isInUse) throw await this.#changed(0, "the source names another one now");
    // Who reads the header alone, or beside a tab that stores, deletes nothing.
    if (!this.#options.readsAll || this.#tabs?.role === "alone") return kept.forget();
    for (const stream of this.#streams) stream.forget();
    this.#tellChanged();
    try {
      await kept.clear();
    } catch (thrown) {
      const message = `what is stored of another version of the model could not be deleted (${(thrown as Error).message}): load with storage: "none"`;
      throw new FatalError({ code: "storage", message });
    }
    kept.begin(files.map(toRecord));
  }

  /** The source says of its files what cannot be of those that are stored. */
  #isListedOtherwise(files: ModelFile[]): boolean {
    const records = this.kept?.files.map(({ record }) => record) ?? [];
    if (records.length !== files.length) return true;
    return files.some(({ bytes, sha256 }, i) => {
      const record = records[i];
      return (
        (bytes !== undefined && record?.bytes !== undefined && bytes !== record.bytes) ||
        (sha256 !== undefined && record?.sha256 !== undefined && sha256 !== record.sha256)
      );
    });
  }

  /** Compares what is stored with what the server has. */
  async #compare(asked: FileStream, wanted: Wanted, signal: AbortSignal): Promise<Response | undefined> {
    const { kept } = this;
    if (!kept) return undefined;
    for (const [number, stream] of this.#streams.entries()) {
      const file = kept.files[number];
      if (!file) continue;
      const { sha256 } = this.#files[number] ?? {};
      if (sha256 !== undefined && file.record.sha256 === undefined) kept.change(number, { sha256 });
      if (file.chunks.size === 0) {
        if (!this.#isInUse) kept.renew(number, this.#newRecord(number, file.record));
        continue;
      }
      const isAsked = stream === asked;
      // A model that was whole is of one time, so the file with the gap speaks for all.
      if (!isAsked && (this.#wasWhole || (sha256 !== undefined && file.record.verified))) continue;
      let found = await (isAsked ? stream.open(wanted, signal) : stream.look(signal));
      // The file ends before what is missing: it is shorter now, or its size was never told.
      if (found instanceof Response && found.status === 416) found = await stream.look(signal);
      if (found instanceof Response) {
        if (isAsked) return found;
        throw new Error(`the server answered ${found.status} for ${shownAddress(this.#options.urls[number] ?? "")}`);
      }
      const why = typeof found === "string" ? found : this.#otherwise(file.record, this.#comparable(number, found.version));
      if (why === undefined) continue;
      if (this.#isInUse) throw await this.#changed(number, why);
      if (typeof found !== "string" && found.isPage) throw this.#pageInstead(number);
      await this.#restart(this.#files);
      return undefined;
    }
    return undefined;
  }

  /** A server in trouble, or a network that wants a log-in, answers with a page. What is stored is not lost by that. */
  #pageInstead(number: number): FatalError {
    const url = shownAddress(this.#options.urls[number] ?? "");
    const remedy = `What is stored stays: load it again later, or delete it with models.delete("${this.kept?.id}")`;
    const message = `the download of ${url} failed: the server answers with a web page instead of the rest of the file. ${remedy}`;
    return new FatalError({ code: "network", detail: "wrong-answer", message, url });
  }

  /** What is known of a file of which nothing is stored. */
  #newRecord(number: number, { address }: FileRecord): FileRecord {
    return toRecord(this.#files[number] ?? { addresses: [address] });
  }

  /** Why a stored file is not known to be the server's. */
  #otherwise(stored: FileRecord, served: FileVersion): string | undefined {
    // Equal lengths say little where the server tells versions apart, and did not when the file was stored.
    const tells = ({ etag, lastModified }: FileVersion) => etag !== undefined || lastModified !== undefined;
    const canTell = areComparable(stored, served) && (tells(stored) || !tells(served));
    return canTell ? difference(stored, served) : "nothing tells whether it is the same";
  }

  /** Mirrors of one file have its size in common, and not what their servers say besides. */
  #comparable(number: number, { bytes, etag, lastModified }: FileVersion): FileVersion {
    const hasMirrors = (this.#files[number]?.addresses.length ?? 1) > 1;
    return versionOf(hasMirrors ? { bytes } : { bytes, etag, lastModified });
  }

  async admit(number: number, { version }: AnswerHead): Promise<boolean> {
    const { kept } = this;
    const file = kept?.files[number];
    if (!kept) return false;
    if (!file) {
      if (this.#isOutdated && !this.#admitted.has(number)) throw await this.#changed(number, "another tab has found that");
      return false;
    }
    const before = JSON.stringify(file.record);
    const isFirst = !this.#admitted.has(number);
    // Nothing is left of the version that is noted.
    const isNew = isFirst && file.chunks.size === 0 && !this.#isInUse;
    if (isNew) {
      if (Object.keys(versionOf(file.record)).length > 0) this.#tellChanged();
      kept.renew(number, this.#newRecord(number, file.record));
    }
    const { record } = file;
    const compared = this.#comparable(number, version);
    // The first answer has to prove that what is stored, or is in use, is of its version.
    const isUnproven = isFirst && !isNew && Object.keys(versionOf(record)).length > 0;
    const why = isUnproven ? this.#otherwise(record, compared) : difference(record, compared);
    if (why !== undefined) {
      if (this.#isInUse) throw await this.#changed(number, why);
      const listed = this.#files[number]?.bytes;
      // To begin anew would end here again.
      if (listed !== undefined && compared.bytes !== undefined && compared.bytes !== listed) throw this.#notAsListed(number, `has ${compared.bytes} bytes rather`, listed);
      await this.#restart(this.#files);
      return true;
    }
    this.#admitted.add(number);
    kept.adopt(number, compared);
    if (JSON.stringify(record) !== before && this.writes) this.#tellState();
    return false;
  }

  /** The file changed while it was loaded: what is stored of it is deleted. */
  async #changed(number: number, why: string): Promise<FatalError> {
    const { kept } = this;
    const url = shownAddress(this.#options.urls[number] ?? "");
    if (this.writes) {
      this.#tabs?.tell({ kind: "changed" });
      kept?.stop("the file changed on the server");
      await kept?.clear();
    }
    const message = `the download of ${url} failed: the file changed on the server during the download: ${why}. Load it again`;
    return new FatalError({ code: "network", detail: "changed", message, url });
  }

  async checkRoom(): Promise<void> {
    if (!this.#options.readsAll || !this.kept) return;
    const error = await this.#options.tooLittleRoom(this.kept.missingBytes());
    if (error) throw new FatalError(error);
  }

  async checkKept(): Promise<void> {
    const { kept } = this;
    const alone = this.#tabs?.role === "alone" ? "another tab downloads it, and does not go on: close that tab, or reload it" : undefined;
    const reason = this.#options.reason ?? kept?.reason ?? alone;
    if (!this.#options.keepsOnly || reason === undefined) return;
    const models = await listModels(kept?.store);
    this.fault ??= kept?.isFull
      ? storageFull(kept.missingBytes(), undefined, models)
      : { code: "storage", message: `the model cannot be kept: ${reason}` };
    throw new FatalError(this.fault);
  }

  checkDigest(number: number, digest: string): void {
    const { kept } = this;
    const wanted = this.digestOf(number);
    if (wanted === undefined || wanted === digest) {
      if (wanted !== undefined) kept?.change(number, { sha256: wanted, verified: true });
      return;
    }
    const url = shownAddress(this.#options.urls[number] ?? "");
    // An imported file is the visitor's: nothing would bring it back. Of a whole model that is named by its id the caller's digest
    // is wrong, not the file.
    const isImported = kept !== undefined && !isDownloaded(kept.files[number]?.record.address ?? url);
    const stays = isImported || (this.#options.byId && this.#wasWhole && this.#options.digests?.[number] === wanted);
    const what = stays ? "It stays stored: models.delete deletes it" : "What was stored of it is deleted";
    const message = `the file from ${url} is not the one that was meant: its SHA-256 is ${digest} instead of ${wanted}. ${what}`;
    if (stays) kept?.stop("its SHA-256 is wrong");
    else if (this.#leads || this.#tabs?.role === "none") {
      kept?.stop("its SHA-256 is wrong");
      this.#cleared = kept?.clear().catch(() => {}) ?? this.#cleared;
    }
    this.fault ??= { code: "wrong-digest", message, url };
    throw new FatalError(this.fault);
  }

  checkEnd(number: number, end: number): void {
    const listed = this.#files[number]?.bytes;
    if (listed === undefined || end <= listed) return;
    throw this.#notAsListed(number, "sends more bytes", listed);
  }

  #notAsListed(number: number, what: string, listed: number): FatalError {
    const url = shownAddress(this.#options.urls[number] ?? "");
    this.fault ??= { code: "network", detail: "wrong-answer", message: `the file at ${url} ${what} than the ${listed} that the hub lists`, url };
    return new FatalError(this.fault);
  }

  async cannotKeep(number: number, reason: string): Promise<void> {
    const isUnproven = this.#usesStored.has(number) && !this.#admitted.has(number);
    if (this.#goesOnFromStored || isUnproven) throw await this.#changed(number, reason);
    this.kept?.stop(reason);
  }

  countStored(number: number, bytes: number): void {
    this.#usesStored.add(number);
    this.#report.storedBytes += bytes;
  }

  countNetwork(bytes: number): void {
    this.#report.networkBytes += bytes;
    if (!this.writes || Date.now() - this.#told < TELL_MS) return;
    this.#told = Date.now();
    this.#tabs?.tell({ kind: "bytes", loaded: this.#report.networkBytes });
  }

  // Other tabs.

  get #patienceMs(): number {
    return this.stallMs * PATIENCE;
  }

  async #meetOtherTab(): Promise<void> {
    this.trusts = false;
    this.#tabs?.tell({ kind: "hello" });
    while (!this.#otherTab && this.follows) if (!(await this.otherTab())) this.goAlone();
    await this.#reopened;
  }

  #hear(message: TabMessage): void {
    const { kept } = this;
    const tabs = this.#tabs;
    if (!kept || !tabs) return;
    const leads = this.#leads;
    switch (message.kind) {
      case "hello":
        if (leads && this.#prepared && this.trusts) this.#tellState();
        break;
      case "state":
        if (!leads) this.#agree(message.files);
        break;
      case "stored":
        if (!leads && this.trusts) void this.#reopened.then(() => kept.files[message.chunk.file]?.chunks.set(message.chunk.index, message.chunk));
        break;
      case "stopped":
        tabs.goAlone();
        break;
      case "changed":
        this.#isOutdated ||= this.#isInUse;
        this.trusts = false;
        kept.forget();
        tabs.goAlone();
        break;
      case "bytes":
        break;
    }
  }

  /** The downloading tab has compared these versions with the server. */
  #agree(files: (FileVersion | null)[]): void {
    const { kept } = this;
    if (!kept || files.length !== this.#streams.length) return;
    const isFirst = this.#otherTab === undefined;
    this.#otherTab = { files };
    const adopt = () => files.forEach((version, number) => this.#follow(number, version));
    if (!isFirst) {
      void this.#reopened.then(adopt);
      return;
    }
    this.#reopened = kept.reopen().then(async () => {
      if (!kept.isKnown) kept.begin((await this.#locate()).files.map(toRecord));
      adopt();
      this.trusts = true;
    }, () => {});
  }

  /** From now on the file is what the downloading tab says; null where that knows nothing of it yet. */
  #follow(number: number, version: FileVersion | null): void {
    const file = this.kept?.files[number];
    if (!file) return;
    const isBlank = Object.keys(versionOf(file.record)).length === 0;
    const isSame = version !== null && this.#otherwise(file.record, version) === undefined;
    if (!isBlank && !isSame) {
      this.kept?.renew(number, this.#newRecord(number, file.record));
      this.#isOutdated ||= this.#isInUse;
    }
    if (version) this.kept?.adopt(number, version);
  }

  /** Tabs that were told of a version have to let go of it. */
  #tellChanged(): void {
    if (this.#prepared && this.#leads) this.#tabs?.tell({ kind: "changed" });
  }

  #tellState(): void {
    const files = this.kept?.files.map(({ record: { bytes, etag, lastModified }, chunks }) => {
      const version = versionOf({ bytes, etag, lastModified });
      return Object.keys(version).length === 0 && chunks.size === 0 ? null : version;
    });
    if (files) this.#tabs?.tell({ kind: "state", files });
  }

  /** The lock has come from another tab; false where this one cannot go on for it. */
  async #lead(): Promise<boolean> {
    const { kept } = this;
    if (!this.#prepared) return true;
    if (!kept || !this.trusts) return false;
    const versions = kept.files.map(({ record }) => record);
    await kept.reopen().catch(() => {});
    if (!kept.isKnown) kept.begin(versions);
    versions.forEach((version, number) => kept.adopt(number, version));
    await kept.startWriting();
    this.#tellState();
    return true;
  }

  async otherTab(): Promise<boolean> {
    return (await this.#tabs?.change(this.#patienceMs)) ?? false;
  }

  versionInOtherTab(number: number): FileVersion | null {
    return this.#otherTab?.files[number] ?? null;
  }

  goAlone(): void {
    this.#tabs?.goAlone();
  }

  // The end of a load.

  /** @throws where a SHA-256 that was given is wrong, or cannot be checked; as {@link checkKept}. */
  async finish(): Promise<StorageReport> {
    const { kept } = this;
    const { signal } = this.#options;
    try {
      for (const stream of this.#streams) await stream.complete(signal);
      await kept?.settled();
      if (kept && (this.writes || kept.isWhole())) await kept.writeRecord({ lastUsed: true });
    } catch (thrown) {
      await this.#cleared;
      if (thrown instanceof FatalError && thrown.wire.code === "wrong-digest") throw thrown.wire;
      const { message } = thrown as Error;
      const unchecked = this.#streams.findIndex((stream) => !stream.isChecked);
      if (unchecked >= 0 && !signal.aborted) {
        const url = shownAddress(this.#options.urls[unchecked] ?? "");
        const why = "the rest of the file, without which its SHA-256 cannot be checked, could not be downloaded";
        throw { code: "network", message: `the download of ${url} failed: ${why} (${message})`, url, detail: "lost" } satisfies WireError;
      }
      if (kept) kept.reason ??= `the rest could not be downloaded (${message})`;
    }
    await this.checkKept();
    return this.#said();
  }

  /** The engine says that the file is no model: what is stored of it is deleted, so that the next load asks for it again. */
  async discard(): Promise<void> {
    const { kept } = this;
    const role = this.#tabs?.role;
    if (!kept || (role !== "leads" && role !== "none")) return;
    // What was meant, or what nothing would bring back, stays.
    if (!kept.files.every(({ record }) => isDownloaded(record.address) && record.verified !== true)) return;
    kept.stop("it is no model");
    this.#cleared = kept.clear().catch(() => {});
    await this.#cleared;
  }

  #said(): StorageReport {
    const { kept } = this;
    const reason = this.#options.reason ?? (kept?.isWhole() ? undefined : (kept?.reason ?? "another tab downloads it"));
    const holds = kept?.files.some(({ chunks }) => chunks.size > 0) ?? false;
    return {
      ...this.#report,
      ...(kept && holds ? { kind: kept.store.kind, id: kept.id } : {}),
      ...(reason === undefined ? {} : { reason }),
    };
  }

  /** Resolves when nothing of the load is under way any more. */
  async close(): Promise<void> {
    this.#closed.abort();
    for (const stream of this.#streams) stream.close();
    this.#tabs?.stopListening();
    await Promise.all([this.kept?.settled(), this.#cleared]);
    this.#tabs?.leave();
  }
}

function toRecord({ addresses: [address], bytes, sha256 }: Pick<ModelFile, "addresses" | "bytes" | "sha256">): FileRecord {
  return { address: canonicalAddress(address), ...(bytes === undefined ? {} : { bytes }), ...(sha256 === undefined ? {} : { sha256 }) };
}

/** The engine asks for the bytes from some place on, and sometimes for a part of them; undefined for a request that is none of its. */
function askedFor({ headers }: RequestInit): Wanted | undefined {
  const range = new Headers(headers).get("Range");
  if (range === null) return { start: 0, to: undefined };
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? [];
  if (first === undefined) return undefined;
  return { start: Number(first), to: last === undefined || last === "" ? undefined : Number(last) + 1 };
}
