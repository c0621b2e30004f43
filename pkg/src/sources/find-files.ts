// From what the page was given to the files of a model: their addresses, and what is known of them before the download.
import type { WireError } from "../errors.js";
import type { NetworkFault } from "../network-fault.js";
import type { FileRequest, HubModel, WireSource } from "../protocol.js";
import type { NetworkOptions } from "../types.js";
import type { Fetch } from "../wasm-surface.js";
import { type ListedFile, listFiles } from "./hub-listing.js";
import { patiently, type Refusal, Refused } from "./patience.js";
import { pickFiles } from "./pick-files.js";

/** One file of a model. */
export interface ModelFile {
  /** Where it is, in the order to try. All have the same bytes. */
  addresses: [string, ...string[]];
  /** Headers to send to the origin of `addresses`, such as an access token. */
  headers?: Record<string, string>;
  /** SHA-256 of the whole file, where the source gives one. */
  sha256?: string;
  /** Its size, where the source gives one. */
  bytes?: number;
}

/** What finding files needs. */
export interface FinderHost {
  fetch: Fetch;
  /** Finds out why `fetch` rejected. */
  explain: (url: string) => Promise<NetworkFault>;
  limits: NetworkOptions;
  /** Called before each pause, with its reason. */
  onWait: (reason: string) => void;
  signal: AbortSignal;
}

/**
 * @throws `WireError`: `http-status`, `network`, `invalid-option`, `split-mismatch`, `wrong-digest`, `aborted`.
 */
export async function findFiles(
  source: Exclude<WireSource, { blobs: Blob[] } | { stored: string }>,
  request: FileRequest,
  host: FinderHost,
): Promise<ModelFile[]> {
  const files =
    "hub" in source
      ? await findOnHubs(source.hub, host)
      : source.addresses.map((addresses): ModelFile => ({ addresses: addresses as [string, ...string[]] }));
  return withDigests(files, request.sha256);
}

/** Asks the hubs in their order until one has the model. */
async function findOnHubs(model: HubModel, host: FinderHost): Promise<ModelFile[]> {
  const headers: Record<string, string> = model.accessToken === undefined ? {} : { Authorization: `Bearer ${model.accessToken}` };
  return patiently(host, async () => {
    const refusals: Refusal[] = [];
    for (const [at, hub] of model.hubs.entries()) {
      try {
        const files = pickFiles(model, await listFiles(hub, model, headers, host));
        // The hub that has answered comes first.
        const hubs = [...model.hubs.slice(at), ...model.hubs.slice(0, at)];
        return files.map((file) => onHubs(file, model, hubs, headers));
      } catch (thrown) {
        if (!(thrown instanceof Refused)) throw thrown;
        refusals.push(thrown.refusal);
      }
    }
    throw new Refused(allOf(refusals, model));
  });
}

function onHubs({ path, bytes, sha256 }: ListedFile, model: HubModel, hubs: string[], headers: Record<string, string>): ModelFile {
  const place = `${model.repository}/resolve/${encodeURIComponent(model.revision)}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return {
    addresses: hubs.map((hub) => `${hub}/${place}`) as [string, ...string[]],
    ...(Object.keys(headers).length > 0 ? { headers } : {}),
    bytes,
    ...(sha256 === undefined ? {} : { sha256 }),
  };
}

/** One refusal for those of all hubs. It may be asked again if one of them may. */
function allOf(refusals: Refusal[], model: HubModel): Refusal {
  const [first, ...others] = refusals as [Refusal, ...Refusal[]];
  if (others.length === 0) return first;
  const { kind, retryAfterS } = refusals.find(({ kind }) => kind !== "final") ?? first;
  const message = `no hub has ${model.name}: ${refusals.map(({ error }) => error.message).join("; ")}`;
  return { kind, ...(retryAfterS === undefined ? {} : { retryAfterS }), error: { ...first.error, message } };
}

/** The caller's digests beside those of the source. @throws `WireError` if they do not fit. */
function withDigests(files: ModelFile[], digests: string[] | undefined): ModelFile[] {
  if (digests === undefined) return files;
  checkCount(digests, files.length);
  return files.map((file, i) => {
    const sha256 = digests[i] as string;
    if (file.sha256 !== undefined && file.sha256 !== sha256) {
      const [url] = file.addresses;
      throw { code: "wrong-digest", message: `the hub has a file with the SHA-256 ${file.sha256} at ${url}, not ${sha256}`, url } satisfies WireError;
    }
    return { ...file, sha256 };
  });
}

/** @throws `WireError` where there is not one digest for each file. */
export function checkCount(digests: string[] | undefined, files: number): void {
  if (digests === undefined || digests.length === files) return;
  const message = `option sha256 has ${digests.length} for a model of ${files} ${files === 1 ? "file" : "files"}: give one for each`;
  throw { code: "invalid-option", message, detail: "sha256" } satisfies WireError;
}
