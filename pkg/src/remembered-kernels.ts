// Which kernels were fastest on this adapter, for the next load: a few hundred bytes in localStorage, by
// DeviceInfo.kernelsKey. The engine tests what it is told and measures again where it does not hold.
import type { DeviceInfo } from "./types.js";

const ITEM = "emberglass-kernels";
/** A visitor has one or two adapters and a few models. */
const MOST = 16;
const MOST_CHARACTERS = 4096;

type Remembered = Record<string, string>;

/** The page's storage, where there is one: not in workers, not where the visitor forbids it. */
function storage(): Storage | undefined {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined;
  }
}

/** All that is remembered; nothing of what somebody else may have written there. */
export function rememberedKernels(): Remembered | undefined {
  try {
    const parsed: unknown = JSON.parse(storage()?.getItem(ITEM) ?? "");
    if (typeof parsed !== "object" || parsed === null) return undefined;
    const entries = Object.entries(parsed).filter((entry): entry is [string, string] => fits(entry));
    return entries.length > 0 ? Object.fromEntries(entries.slice(-MOST)) : undefined;
  } catch {
    return undefined;
  }
}

function fits([key, value]: [string, unknown]): boolean {
  return typeof value === "string" && value.length <= MOST_CHARACTERS && key.length <= MOST_CHARACTERS;
}

/** Puts a choice last; the oldest goes. */
export function rememberKernels({ kernels, kernelsKey }: DeviceInfo): void {
  if (kernels === undefined || kernelsKey === undefined || !fits([kernelsKey, kernels])) return;
  const { [kernelsKey]: _, ...others } = rememberedKernels() ?? {};
  const kept = [...Object.entries(others).slice(1 - MOST), [kernelsKey, kernels]];
  try {
    storage()?.setItem(ITEM, JSON.stringify(Object.fromEntries(kept)));
  } catch {
    // Full or forbidden: the next load measures again.
  }
}
