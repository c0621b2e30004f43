// Reading headers: what asks for the rest of a file gets a piece of it, so that a server does not send more than is read.
import type { Fetch } from "../wasm-surface.js";

/** Bytes of one piece. */
export const PIECE_BYTES = 1 << 20;

/**
 * `fetch` for a reader that asks for all bytes from some place on: it asks for {@link PIECE_BYTES} of them. The reader takes the
 * answer for a short one, and asks again. A server that knows no ranges sends the whole file, as it would otherwise.
 */
export function boundedFetch(fetch: Fetch): Fetch {
  return (url, init) => {
    const headers = new Headers(init.headers);
    const asked = /^bytes=(\d+)-$/.exec(headers.get("range") ?? "bytes=0-");
    if (asked) {
      const from = Number(asked[1]);
      headers.set("range", `bytes=${from}-${from + PIECE_BYTES - 1}`);
    }
    return fetch(url, { ...init, headers });
  };
}
