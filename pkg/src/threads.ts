// How many threads compute on the CPU.

/** More workers than this wait for memory, not for one another. One core is left to the page, which draws the answer. */
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

/** As many as asked for, or one less than there are cores. `note` says why, if it is not the number that was asked for. */
export function threadCount(asked: number | undefined, { cores, canShare }: Cores): { threads: number; note: string } {
  if (canShare && asked !== undefined) return { threads: asked, note: "" };
  if (canShare) {
    const threads = Math.max(1, Math.min(cores - 1, MOST_BY_DEFAULT));
    return { threads, note: `Threads by default: ${threads}, one less than the ${cores} cores and at most ${MOST_BY_DEFAULT}.` };
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
