// The list of a repository's files, as the hub's API gives it. What it says is not trusted.
import type { HubModel } from "../protocol.js";
import { faultOfPath } from "../hub-source.js";
import { shownAddress } from "../storage/model-id.js";
import type { FinderHost } from "./find-files.js";
import { ABORTED, isBusy, limitsOf, type Refusal, Refused, retryAfterOf } from "./patience.js";
import { hubRefusal } from "./refusal.js";

export interface ListedFile {
  path: string;
  bytes: number;
  /** Of files that the hub keeps by their digest, as it does with all large ones. */
  sha256?: string;
}

/** A page has a thousand files, with some 300 bytes each. */
const MOST = { pages: 50, pageBytes: 8 * 2 ** 20, entries: 50_000, path: 1000 };

/** All files of a repository. @throws {@link Refused}; `WireError` `aborted` */
export async function listFiles(hub: string, model: HubModel, headers: Record<string, string>, host: FinderHost): Promise<ListedFile[]> {
  const files: ListedFile[] = [];
  let entries = 0;
  let address: string | undefined = `${hub}/api/models/${model.repository}/tree/${encodeURIComponent(model.revision)}?recursive=true`;
  for (let page = 0; address !== undefined; page++) {
    if (page === MOST.pages) throw wrong(hub, model, `it has more than ${MOST.pages} pages`);
    const { text, next } = await ask(address, headers, host, (what) => wrong(hub, model, what));
    const listed = readPage(text, (what) => wrong(hub, model, what));
    entries += listed.entries;
    if (entries > MOST.entries) throw wrong(hub, model, `it has more than ${MOST.entries} files`);
    files.push(...listed.files);
    if (next !== undefined && new URL(next, address).origin !== new URL(hub).origin) {
      throw wrong(hub, model, `it goes on at another server, ${new URL(next, address).origin}`);
    }
    address = next === undefined ? undefined : new URL(next, address).href;
  }
  return files;
}

/** The text of one page, and the address of the next. */
async function ask(
  address: string,
  headers: Record<string, string>,
  host: FinderHost,
  wrong: (what: string) => Refused,
): Promise<{ text: string; next: string | undefined }> {
  const { stallMs } = limitsOf(host);
  const silence = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), stallMs);
  };
  try {
    listen();
    // A listing that the browser has kept may be of an older revision than the files.
    const response = await host.fetch(address, { headers, signal: AbortSignal.any([host.signal, silence.signal]), cache: "no-cache" });
    if (!response.ok) throw new Refused(refusalOf(response, address, "Authorization" in headers));
    const text = await readText(response, listen, wrong);
    return { text, next: nextOf(response.headers.get("Link")) };
  } catch (thrown) {
    if (thrown instanceof Refused) throw thrown;
    if (host.signal.aborted) throw ABORTED;
    if (silence.signal.aborted) throw lost("final", address, "stalled", `the server sent nothing for ${stallMs / 1000} seconds`);
    const { kind, reason } = await host.explain(address);
    throw lost(kind === "offline" || kind === "lost" ? kind : "final", address, kind, reason);
  } finally {
    clearTimeout(timer);
    // Where the answer was not read to its end, its connection is freed.
    silence.abort();
  }
}

async function readText(response: Response, listen: () => void, wrong: (what: string) => Refused): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = "";
  for (;;) {
    const chunk = await reader?.read();
    if (!chunk || chunk.done) return text + decoder.decode();
    listen();
    bytes += chunk.value.length;
    if (bytes > MOST.pageBytes) throw wrong(`a page of it has more than ${MOST.pageBytes} bytes`);
    text += decoder.decode(chunk.value, { stream: true });
  }
}

function refusalOf(response: Response, address: string, sentToken: boolean): Refusal {
  const { status } = response;
  const url = shownAddress(address);
  const error = hubRefusal(response, address, sentToken) ?? {
    code: "http-status",
    message: `the server answered ${status} for ${url}`,
    url,
    status,
  };
  const retryAfterS = retryAfterOf(response.headers);
  return { kind: isBusy(status) ? "busy" : "final", error, ...(retryAfterS === undefined ? {} : { retryAfterS }) };
}

function lost(kind: Refusal["kind"], address: string, detail: string, reason: string): Refused {
  const url = shownAddress(address);
  return new Refused({ kind, error: { code: "network", message: `the request for ${url} failed: ${reason}`, detail, url } });
}

function wrong(hub: string, { repository }: HubModel, what: string): Refused {
  const message = `${hub} answers wrongly: of its list of the files of ${repository}, ${what}`;
  return new Refused({ kind: "final", error: { code: "network", message, detail: "wrong-answer", url: hub } });
}

/** The address behind `rel="next"` in a `Link` header. */
function nextOf(link: string | null): string | undefined {
  for (const [, address, parameters] of (link ?? "").matchAll(/<([^<>]{1,4000})>([^,<]{0,400})/g)) {
    if (/;\s*rel="?next"?\s*(?:;|$)/i.test(parameters ?? "")) return address;
  }
  return undefined;
}

function readPage(text: string, wrong: (what: string) => Refused): { files: ListedFile[]; entries: number } {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw wrong("a page is no JSON");
  }
  if (!Array.isArray(list)) throw wrong("a page is no array");
  const files: ListedFile[] = [];
  for (const entry of list as unknown[]) {
    const file = readEntry(entry, wrong);
    if (file) files.push(file);
  }
  return { files, entries: list.length };
}

/** Undefined for a folder, and for a file whose path no source can name. */
function readEntry(entry: unknown, wrong: (what: string) => Refused): ListedFile | undefined {
  const { type, path, size, lfs } = object(entry) ?? {};
  if (typeof type !== "string" || typeof path !== "string") throw wrong("an entry has no type or no path");
  if (type !== "file" || path.length > MOST.path || faultOfPath(path) !== undefined) return undefined;
  if (!isSize(size)) throw wrong(`${path} has no size`);
  if (lfs === undefined || lfs === null) return { path, bytes: size };
  const { oid, size: stored } = object(lfs) ?? {};
  if (typeof oid !== "string" || !/^[0-9a-f]{64}$/i.test(oid)) throw wrong(`${path} has no SHA-256`);
  if (stored !== size) throw wrong(`${path} has two sizes`);
  return { path, bytes: size, sha256: oid.toLowerCase() };
}

function object(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
