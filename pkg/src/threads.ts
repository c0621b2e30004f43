// How many threads compute on the CPU.

/** More than this wait for memory, not for one another. */
const MOST_BY_DEFAULT = 8;
/** What may be asked for: the engine has no more places (src/cpu/team/control.rs). */
export const MOST_THREADS = 32;

/** What the browser lets this page have. */
export interface Cores {
  /** `navigator.hardwareConcurrency`. */
  cores: number;
  /** Whether memory can be shared between workers, which takes a cross-origin isolated page. */
  canShare: boolean;
}

/** How many threads there are. */
export interface ThreadCount {
  /** The most that compute. */
  threads: number;
  /** How many compute a token at first, where the engine finds the best number by timing. Without it all do, always. */
  startThreads?: number;
  /** Why, if it is not the number that was asked for. */
  note: string;
}

/** As many as asked for; or up to one for each core, and one less at first: the page needs a core to draw the answer. */
export function threadCount(asked: number | undefined, { cores, canShare }: Cores): ThreadCount {
  if (canShare && asked !== undefined) return { threads: asked, note: "" };
  if (canShare) {
    const threads = Math.max(1, Math.min(cores, MOST_BY_DEFAULT));
    const note = `Threads by default: up to ${threads}, of ${cores} cores; how many compute a token is found by timing.`;
    return { threads, startThreads: Math.max(1, Math.min(cores - 1, MOST_BY_DEFAULT)), note };
  }
  const note =
    asked !== undefined && asked > 1
      ? `${asked} threads were asked for, but the page has no shared memory (it is not cross-origin isolated, or the browser gives none), so there is one.`
      : "";
  return { threads: 1, note };
}

/** Of the page or worker this runs in. */
export function coresHere(): Cores {
  return {
    cores: globalThis.navigator?.hardwareConcurrency ?? 1,
    canShare: globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer === "function",
  };
}
