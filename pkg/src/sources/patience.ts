// Asking again: the same patience with a hub's listing that the engine has with a file (src/weights/http.rs).
import type { WireError } from "../errors.js";
import type { FinderHost } from "./find-files.js";

/** Why an attempt failed, and whether another may succeed. */
export interface Refusal {
  /** `offline` may end by itself, `lost` and `busy` by asking again; `final` does not. */
  kind: "offline" | "lost" | "busy" | "final";
  error: WireError;
  /** After how many seconds the server wants to be asked again. */
  retryAfterS?: number;
}

/** Carries a {@link Refusal} up. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.error.message);
    this.refusal = refusal;
  }
}

/** Pauses before the first retries. All later pauses are as long as the last. */
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 10_000];
/** Retries where a server cannot be reached or has too much to do. */
const FEW = 3;
const DEFAULTS = { stallTimeoutMs: 30_000, retryTimeoutMs: 90_000 };
/** The longest time that a timer takes. */
const MOST_MS = 2 ** 31 - 1;

/** The limits in force. What is out of range the engine refuses, which sees them later. */
export function limitsOf({ limits }: Pick<FinderHost, "limits">): { stallMs: number; retryMs: number } {
  const within = (value: number, least: number) => Math.min(Math.max(Number.isNaN(value) ? least : value, least), MOST_MS);
  const { stallTimeoutMs, retryTimeoutMs } = { ...DEFAULTS, ...limits };
  return { stallMs: within(stallTimeoutMs ?? DEFAULTS.stallTimeoutMs, 1), retryMs: within(retryTimeoutMs ?? DEFAULTS.retryTimeoutMs, 0) };
}

/** Statuses after which asking again may help. */
export function isBusy(status: number): boolean {
  return [408, 425, 429, 500, 502, 503, 504].includes(status) || (status >= 520 && status <= 530);
}

/** The value of `Retry-After` in seconds from now: seconds, or a date. Browsers show it only where the server allows that. */
export function retryAfterOf(headers: Headers): number | undefined {
  const text = headers.get("Retry-After")?.trim() ?? "";
  if (/^\d+$/.test(text)) return Number(text);
  const seconds = Math.ceil((Date.parse(text) - Date.now()) / 1000);
  return Number.isNaN(seconds) ? undefined : Math.max(seconds, 0);
}

/** Runs `attempt` until it does not throw {@link Refused}, or there is no use in another. @throws `WireError` */
export async function patiently<T>(host: Pick<FinderHost, "limits" | "onWait" | "signal">, attempt: () => Promise<T>): Promise<T> {
  const { retryMs } = limitsOf(host);
  let paused = 0;
  for (let retries = 0; ; retries++) {
    try {
      return await attempt();
    } catch (thrown) {
      if (!(thrown instanceof Refused)) throw thrown;
      const { kind, error, retryAfterS } = thrown.refusal;
      const left = retryMs - paused;
      const step = BACKOFF_MS[Math.min(retries, BACKOFF_MS.length - 1)] as number;
      // A server that asks for more patience than there is left would be asked too early.
      const pause = retryAfterS === undefined ? Math.min(step, left) : Math.max(retryAfterS * 1000, BACKOFF_MS[0] as number);
      const allowed = kind === "offline" || (kind !== "final" && retries < FEW);
      if (!allowed || left <= 0 || pause > left) throw retries === 0 ? error : told(error, retries);
      paused += pause;
      host.onWait(error.message);
      await sleep(pause, host.signal);
    }
  }
}

function told(error: WireError, retries: number): WireError {
  return { ...error, message: `${error.message}, and ${retries} ${retries === 1 ? "retry" : "retries"} did not help` };
}

/** Ends early when the network comes back. @throws `WireError` `aborted` */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      globalThis.removeEventListener?.("online", end);
      if (signal.aborted) reject(ABORTED);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    globalThis.addEventListener?.("online", end);
    if (signal.aborted) end();
  });
}

export const ABORTED: WireError = { code: "aborted", message: "cancelled by the caller" };
