import { within } from "../within.js";
import { openCache } from "./cache-store.js";
import type { ChunkStore } from "./chunk-store.js";
import { openOpfs } from "./opfs-store.js";

/** How long a store may take to show that it works. */
const LIMIT_MS = 10_000;

let opened: Promise<ChunkStore | undefined> | undefined;

/**
 * The best store that this browser has: the origin private file system, else the Cache API; undefined where both are missing or
 * refused. It is tried once, and stays the same in this worker.
 */
export function openChunkStore(): Promise<ChunkStore | undefined> {
  return (opened ??= firstThatWorks());
}

async function firstThatWorks(): Promise<ChunkStore | undefined> {
  for (const open of [openOpfs, openCache]) {
    try {
      return await within(LIMIT_MS, open(), "it did not answer");
    } catch {
      // Missing or refused; the next may work.
    }
  }
  return undefined;
}
