// From what the page was given to the files of a model: their addresses, and what is known of them before the download.
import type { WireError } from "../errors.js";
import type { FileRequest, WireSource } from "../protocol.js";
import type { Fetch } from "../wasm-surface.js";

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
  /** Called before each pause, with its reason. */
  onWait: (reason: string) => void;
  signal: AbortSignal;
}

/**
 * @throws `WireError`: `http-status`, `network`, `invalid-option`.
 */
export async function findFiles(
  source: Exclude<WireSource, { blobs: Blob[] } | { stored: string }>,
  request: FileRequest,
  _host: FinderHost,
): Promise<ModelFile[]> {
  if ("hub" in source) throw { code: "internal", message: "hf: sources are not there yet" } satisfies WireError;
  return source.addresses.map((addresses, i) => ({
    addresses: addresses as [string, ...string[]],
    ...(request.sha256?.[i] === undefined ? {} : { sha256: request.sha256[i] }),
  }));
}
