// Turns the worker's byte counts into what a progress bar shows.
import type { LoadPhase } from "./types.js";

const INTERVAL_MS = 100;
/** Long enough to smooth out bursts, short enough to follow a changing connection. */
const WINDOW_MS = 4000;

interface Counts<Phase> {
  phase: Phase;
  loadedBytes: number;
  totalBytes: number;
  waiting?: string | undefined;
}

interface Rates {
  bytesPerSecond: number;
  secondsLeft: number | null;
}

/** Returns the function to feed; `report` gets every change of phase or of `waiting`, else ten reports a second at most. */
export function progressMeter<Phase extends string = LoadPhase>(
  report: (progress: Counts<Phase> & Rates) => void,
  now: () => number = () => performance.now(),
): (raw: Counts<Phase>) => void {
  let samples: { at: number; bytes: number }[] = [];
  let phase: string | undefined;
  let reportedAt = -Infinity;
  let waiting: string | undefined;

  return (raw) => {
    const at = now();
    samples = samples.filter((sample) => at - sample.at <= WINDOW_MS);
    samples.push({ at, bytes: raw.loadedBytes });

    const changed = raw.phase !== phase || raw.waiting !== waiting;
    const complete = raw.totalBytes > 0 && raw.loadedBytes >= raw.totalBytes;
    if (!changed && !complete && at - reportedAt < INTERVAL_MS) return;
    phase = raw.phase;
    waiting = raw.waiting;
    reportedAt = at;

    const first = samples[0] ?? { at, bytes: raw.loadedBytes };
    const elapsed = at - first.at;
    const bytesPerSecond = elapsed > 0 ? Math.max(0, ((raw.loadedBytes - first.bytes) * 1000) / elapsed) : 0;
    const left = Math.max(0, raw.totalBytes - raw.loadedBytes);
    const secondsLeft = raw.totalBytes > 0 && bytesPerSecond > 0 ? left / bytesPerSecond : null;
    report({ ...raw, bytesPerSecond, secondsLeft });
  };
}
