import type { ModelFile } from "../sources/find-files.js";
import type { Fetch } from "../wasm-surface.js";
import type { Wanted } from "./file-stream.js";

/**
 * Asks for bytes of a file: without a range for the whole, since caches and service workers store only such an answer. The
 * addresses are tried in their order; where none gives the bytes, the answer is that of the last.
 */
export async function askFile(fetch: Fetch, file: ModelFile, { start, to }: Wanted, signal: AbortSignal): Promise<Response> {
  const headers = new Headers(file.headers);
  if (start > 0 || to !== undefined) headers.set("Range", `bytes=${start}-${to === undefined ? "" : to - 1}`);
  const last = file.addresses.length - 1;
  for (const address of file.addresses.slice(0, last)) {
    try {
      const answer = await fetch(address, { headers, signal });
      if (answer.ok || answer.status === 416) return answer;
      await answer.body?.cancel();
    } catch (thrown) {
      if (signal.aborted) throw thrown;
    }
  }
  return fetch(file.addresses[last] ?? file.addresses[0], { headers, signal });
}
