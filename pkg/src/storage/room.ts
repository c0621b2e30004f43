// How much room there is for models, and what to say where it is too little.
import type { WireError } from "../errors.js";
import type { StoredModel } from "../types.js";

/** What the browser says of its room; members that it does not tell are undefined. */
export interface Room {
  usedBytes: number | undefined;
  quotaBytes: number | undefined;
}

/**
 * An estimate. Chromium tells 10 GiB more than are used, whatever it will really give, so a write may fail where there seems to
 * be room.
 */
export async function estimateRoom(): Promise<Room> {
  try {
    const { usage, quota } = await navigator.storage.estimate();
    return { usedBytes: usage, quotaBytes: quota };
  } catch {
    return { usedBytes: undefined, quotaBytes: undefined };
  }
}

/** The error of a model that needs `neededBytes` more than is stored of it; undefined where they fit, or where that is not known. */
export async function tooLittleRoom(neededBytes: number, stored: () => Promise<StoredModel[]>): Promise<WireError | undefined> {
  const { usedBytes, quotaBytes } = await estimateRoom();
  if (usedBytes === undefined || quotaBytes === undefined) return undefined;
  const freeBytes = Math.max(0, quotaBytes - usedBytes);
  return neededBytes <= freeBytes ? undefined : storageFull(neededBytes, freeBytes, await stored());
}

/**
 * The error of `neededBytes` that do not fit into `freeBytes`, or, where these are undefined, of a write that failed. `stored` are
 * the models that could be deleted.
 */
export function storageFull(neededBytes: number, freeBytes: number | undefined, stored: readonly StoredModel[]): WireError {
  const there = freeBytes === undefined ? "the browser gives no more" : `the browser has room for ${inUnits(freeBytes)}`;
  const message = `too little room to keep the model: ${inUnits(neededBytes)} more are needed, and ${there}. ${remedy(stored)}`;
  return { code: "storage-full", message: `${message}, or load with storage: "none", which keeps nothing` };
}

/** At most so many models are named. */
const MOST_NAMED = 8;

function remedy(stored: readonly StoredModel[]): string {
  const largest = stored.filter(({ storedBytes }) => storedBytes > 0).sort((a, b) => b.storedBytes - a.storedBytes);
  if (largest.length === 0) return "No stored model could be deleted: free some of the disk";
  const named = largest.slice(0, MOST_NAMED).map(({ id, name, storedBytes }) => `${name} (${inUnits(storedBytes)}, id ${id})`);
  const more = largest.length > MOST_NAMED ? ` and ${largest.length - MOST_NAMED} more` : "";
  return `Delete stored models with models.delete(id): ${named.join(", ")}${more}`;
}

/** In decimal units, as browsers and disks count. */
export function inUnits(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

let asked = false;

/**
 * Asks the browser, once for a page, not to delete stored models by itself. It may ask the visitor, as Firefox does, so nobody waits
 * for the answer; without its promise models are kept just so. Workers cannot ask.
 */
export function askToPersist(): void {
  if (asked) return;
  asked = true;
  // Missing in workers, on pages without https, in Node.js.
  const storage = globalThis.navigator?.storage as Partial<StorageManager> | undefined;
  storage?.persist?.().catch(() => {});
}
