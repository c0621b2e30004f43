import type { WireError } from "../errors.js";
import { checkCount } from "../sources/find-files.js";
import { WholeDigest } from "./whole-digest.js";

/** @throws `WireError` `wrong-digest`, `invalid-option`, `io`, `aborted`. */
export async function checkBlobs({ blobs, names }: { blobs: Blob[]; names: string[] }, digests: string[], signal: AbortSignal): Promise<void> {
  checkCount(digests, blobs.length);
  for (const [i, blob] of blobs.entries()) {
    const digest = await digestOf(blob, names[i] ?? "the file", signal);
    if (digest === digests[i]) continue;
    throw { code: "wrong-digest", message: `${names[i]} is not the file that was meant: its SHA-256 is ${digest} instead of ${digests[i]}` } satisfies WireError;
  }
}

async function digestOf(blob: Blob, name: string, signal: AbortSignal): Promise<string> {
  const digest = await WholeDigest.make();
  const reader = blob.stream().getReader();
  for (;;) {
    if (signal.aborted) throw { code: "aborted", message: "cancelled by the caller" } satisfies WireError;
    let piece;
    try {
      piece = await reader.read();
    } catch (thrown) {
      throw { code: "io", message: `reading ${name} failed: ${(thrown as Error).message}` } satisfies WireError;
    }
    if (piece.done) return digest.end();
    digest.take(digest.position, piece.value);
  }
}
