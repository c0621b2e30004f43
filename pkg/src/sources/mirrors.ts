// One file at several addresses: a `fetch` for the first that asks the others, too. The engine, which retries, knows the first alone.
import type { WireError } from "../errors.js";
import { shownAddress } from "../storage/model-id.js";
import type { NetworkOptions } from "../types.js";
import type { Fetch } from "../wasm-surface.js";
import type { ModelFile } from "./find-files.js";
import { isBusy, limitsOf } from "./patience.js";
import { hubRefusal } from "./refusal.js";

/** What {@link mirroredFetch} needs besides. */
export interface MirrorsHost {
  limits: NetworkOptions;
  /**
   * Called when no address of a file gives it, with what each said, and with undefined when one does again. It tells more
   * than the error that the engine makes of the answer.
   */
  onFault: (fault: WireError | undefined) => void;
}

/**
 * For the first address of a file: sends the file's headers; and asks the next address where one cannot be reached, answers
 * with an error, has a file of another length, or breaks off. The last that worked is asked first. All other addresses go to
 * `fetch` as they are.
 */
export function mirroredFetch(files: readonly ModelFile[], fetch: Fetch, host: MirrorsHost): Fetch {
  // Files of one model have the same servers.
  const shared = { at: 0 };
  const byAddress = new Map(files.map((file) => [file.addresses[0], new MirroredFile(file, shared, fetch, host)]));
  return (url, init) => byAddress.get(url)?.fetch(init) ?? fetch(url, init);
}

/** Why a mirror did not give the file. */
interface Failure {
  address: string;
  /** As the end of a sentence. */
  said: string;
  /** What the engine gets of it where no mirror gives the file. */
  outcome: { response: Response } | { thrown: unknown };
  kind: "unreached" | "status" | "other-file";
  refusal?: WireError | undefined;
}

class MirroredFile {
  readonly #file: ModelFile;
  readonly #shared: { at: number };
  readonly #fetch: Fetch;
  readonly #host: MirrorsHost;
  /** Size of the whole file, once it is known for sure. */
  #bytes: number | undefined;
  /** The same, as the first answer lets it seem. */
  #likelyBytes: number | undefined;
  /** The first tag of each mirror. */
  readonly #tags = new Map<string, string>();
  /** The mirror whose tag the engine knows. Those of others differ for the same file. */
  #tagged: string | undefined;

  constructor(file: ModelFile, shared: { at: number }, fetch: Fetch, host: MirrorsHost) {
    this.#file = file;
    this.#shared = shared;
    this.#fetch = fetch;
    this.#host = host;
    this.#bytes = file.bytes;
  }

  async fetch(init: RequestInit): Promise<Response> {
    const { addresses } = this.#file;
    const start = this.#shared.at;
    const failures: Failure[] = [];
    for (let n = 0; n < addresses.length; n++) {
      const at = (start + n) % addresses.length;
      const outcome = await this.#ask(at, init, n + 1 < addresses.length);
      if (outcome instanceof Response) {
        this.#shared.at = at;
        this.#host.onFault(undefined);
        return outcome;
      }
      failures.push(outcome);
      if (init.signal?.aborted) break;
    }
    this.#host.onFault(faultOf(failures));
    const { outcome } = failures.find(mayBeMended) ?? (failures[0] as Failure);
    if ("response" in outcome) return outcome.response;
    throw outcome.thrown;
  }

  /** One mirror's answer. While there are `more`, it has no more than its share of the time that the engine waits. */
  async #ask(at: number, init: RequestInit, more: boolean): Promise<Response | Failure> {
    const { addresses, headers: own = {} } = this.#file;
    const address = addresses[at] as string;
    const headers = new Headers(init.headers);
    for (const [name, value] of Object.entries(own)) headers.set(name, value);
    const alone = addresses.length === 1;
    const ours = new AbortController();
    const signal = alone ? init.signal : init.signal ? AbortSignal.any([init.signal, ours.signal]) : ours.signal;
    const limitMs = limitsOf(this.#host).stallMs / addresses.length;
    const timer = more ? setTimeout(() => ours.abort(), limitMs) : undefined;
    let response: Response;
    try {
      response = await this.#fetch(address, { ...init, headers, ...(signal ? { signal } : {}) });
    } catch (thrown) {
      const silent = ours.signal.aborted || init.signal?.aborted;
      return { address, said: silent ? "sent nothing in time" : "could not be reached", outcome: { thrown }, kind: "unreached" };
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) {
      if (more) ours.abort();
      const refusal = hubRefusal(response, address, "Authorization" in own);
      return { address, said: `answered ${response.status}`, outcome: { response }, kind: "status", refusal };
    }
    const difference = alone ? this.#otherSize(response) : this.#difference(address, response, headers.get("Range"));
    if (difference === undefined) return alone ? response : this.#watched(at, response);
    ours.abort();
    if (alone) void response.body?.cancel();
    const thrown = Object.assign(new Error(`${shownAddress(address)} ${difference}`), { fatal: true });
    return { address, said: difference, outcome: { thrown }, kind: "other-file" };
  }

  /** Where the source gives the file's size. */
  #otherSize(response: Response): string | undefined {
    const { bytes, sure } = sizeOf(response, undefined);
    const known = this.#file.bytes;
    return sure && known !== undefined && bytes !== known ? `has another file, of ${bytes} bytes instead of ${known}` : undefined;
  }

  /** Why an answer cannot be taken; undefined where it may be the file, as far as its headers tell. */
  #difference(address: string, response: Response, range: string | null): string | undefined {
    const [, first = "0", last = ""] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    const from = Number(first);
    const { bytes, sure } = sizeOf(response, last === "" ? from : undefined);
    // The rest of another file would be mixed into this one.
    const goesOn = from > 0 && this.#tagged !== undefined && this.#tagged !== address;
    const known = this.#bytes ?? (goesOn ? this.#likelyBytes : undefined);
    if (bytes !== undefined && known !== undefined && bytes !== known && (sure || goesOn)) {
      return `has another file, of ${bytes} bytes instead of ${known}`;
    }
    if (goesOn && (bytes === undefined || known === undefined)) return "cannot go on with the file: one of both servers does not say its size";
    const tag = response.headers.get("ETag");
    const knownTag = this.#tags.get(address);
    if (tag !== null && knownTag !== undefined && opaque(tag) !== opaque(knownTag)) return "has another file than before";
    if (sure) this.#bytes ??= bytes;
    this.#likelyBytes ??= bytes;
    if (tag !== null && knownTag === undefined) this.#tags.set(address, tag);
    this.#tagged ??= address;
    return undefined;
  }

  /** The answer, whose mirror is left when its body breaks off or falls silent. */
  #watched(at: number, response: Response): Response {
    const reader = response.body?.getReader();
    if (!reader) return response;
    const announced = Number(response.headers.get("Content-Length") ?? 0);
    let arrived = 0;
    const body = new ReadableStream<Uint8Array>(
      {
        pull: async (out) => {
          try {
            const { done, value } = await reader.read();
            if (value) arrived += value.length;
            if (done && arrived < announced) this.#leave(at);
            if (done) out.close();
            else out.enqueue(value);
          } catch (error) {
            // Also where the engine waited in vain, and gave the request up.
            this.#leave(at);
            throw error;
          }
        },
        cancel: (reason) => reader.cancel(reason),
      },
      { highWaterMark: 0 },
    );
    const headers = new Headers(response.headers);
    if (this.#tagged !== this.#file.addresses[at]) {
      headers.delete("ETag");
      headers.delete("Last-Modified");
    }
    const { status, statusText, url, redirected, type } = response;
    const answer = new Response(body, { status, statusText, headers });
    // A response that a script makes says nothing of these.
    return Object.defineProperties(answer, { url: { value: url }, redirected: { value: redirected }, type: { value: type } });
  }

  #leave(at: number): void {
    if (this.#shared.at === at) this.#shared.at = (at + 1) % this.#file.addresses.length;
  }
}

/**
 * Size of the whole file, as an answer says it, and whether it is that for sure. The request was for all bytes from `from` on; undefined:
 * for a piece of the file.
 */
function sizeOf({ status, headers, type }: Response, from: number | undefined): { bytes: number | undefined; sure: boolean } {
  const total = /^bytes [^/]*\/(\d+)$/.exec(headers.get("Content-Range")?.trim() ?? "")?.[1];
  if (total !== undefined) return { bytes: Number(total), sure: true };
  const encoding = headers.get("Content-Encoding")?.trim().toLowerCase() ?? "";
  const length = headers.get("Content-Length") ?? "";
  if (!/^\d+$/.test(length) || (encoding !== "" && encoding !== "identity")) return { bytes: undefined, sure: false };
  // A part may end before the file does. Another origin may hide that the length is that of an encoded body.
  if (status === 206) return { bytes: from === undefined ? undefined : from + Number(length), sure: false };
  return { bytes: Number(length), sure: type !== "cors" || encoding !== "" };
}

/** A tag without what marks another form of the same file. */
function opaque(tag: string): string {
  return tag.replace(/^\s*W\//, "").replace(/-(?:gzip|br|zstd|deflate)"\s*$/, '"');
}

/** Whether the engine asks again after it. */
function mayBeMended({ kind, outcome }: Failure): boolean {
  return kind === "unreached" || ("response" in outcome && isBusy(outcome.response.status));
}

/** What all said; undefined where the engine's own error says as much. */
function faultOf(failures: Failure[]): WireError | undefined {
  const [first, ...others] = failures as [Failure, ...Failure[]];
  if (others.length === 0 && first.kind !== "other-file") return first.refusal;
  const url = shownAddress(first.address);
  const each = failures.map(({ address, said, refusal }) => refusal?.message ?? `${shownAddress(address)} ${said}`);
  const message = others.length === 0 ? `${each[0]}` : `no mirror gives the file: ${each.join("; ")}`;
  const kinds = failures.map(({ kind }) => kind);
  if (kinds.includes("unreached")) {
    return { code: "network", message, url, detail: globalThis.navigator?.onLine === false ? "offline" : "lost" };
  }
  if (kinds.includes("other-file")) return { code: "network", message, url, detail: "wrong-answer" };
  const status = "response" in first.outcome ? first.outcome.response.status : 0;
  return { code: "http-status", message, url, status, ...(first.refusal?.detail === undefined ? {} : { detail: first.refusal.detail }) };
}
