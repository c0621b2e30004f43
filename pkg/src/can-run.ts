// The answer of `canRun`: what the engine measured, in the caller's terms and in plain words.
import type { WasmCanRunReport } from "./wasm-surface.js";
import type { CanRun, CanRunReason } from "./types.js";

/** What is known outside the engine. */
export interface Surroundings {
  /** Time until the engine ran, in milliseconds. */
  startMs: number;
  /** Bytes of the files that are stored on this device. */
  storedBytes: number;
  /** The page gave the files themselves: no byte comes from the network. */
  isLocal: boolean;
  /** Of the line; null where it could not be measured. */
  bytesPerSecond: number | null;
}

/** A context shorter than this helps nobody. */
const LEAST_CONTEXT = 256;

export function answerOf(report: WasmCanRunReport, { startMs, storedBytes, isLocal, bytesPerSecond }: Surroundings): CanRun {
  const { header, device, fileBytes, deviceBytes, contextBytesPerToken, refusal, times } = report;
  const downloadBytes = isLocal ? 0 : Math.max(0, fileBytes - storedBytes);
  let estimate: CanRun["estimate"] = { tokensPerSecond: null, firstTokenMs: null, loadSeconds: null };
  if (times) {
    const { tokenMs, firstTokenMs, fillMs, prepareMs } = times;
    const downloadMs = downloadBytes === 0 ? 0 : bytesPerSecond === null ? null : (downloadBytes / bytesPerSecond) * 1000;
    // What has arrived is packed while the rest arrives.
    const loadMs = downloadMs === null ? null : startMs + prepareMs + Math.max(downloadMs, fillMs);
    estimate = { tokensPerSecond: measured(1000 / tokenMs), firstTokenMs: measured(firstTokenMs), loadSeconds: measured(loadMs && loadMs / 1000) };
  }
  return {
    fits: refusal === undefined,
    downloadBytes,
    storedBytes,
    deviceBytes,
    contextBytesPerToken,
    header,
    device,
    reasons: refusal ? [reasonOf(report, refusal)] : [],
    estimate,
  };
}

/** A measurement, or null: a clock that browsers blur may have stood still. */
function measured(value: number | null): number | null {
  return value !== null && Number.isFinite(value) && value > 0 ? value : null;
}

type Refusal = NonNullable<WasmCanRunReport["refusal"]>;

function reasonOf(report: WasmCanRunReport, refusal: Refusal): CanRunReason {
  const { kvBytes, contextLength, kvCache } = report.header;
  const share = kvBytes > 0 ? ` Of it the cache for a context of ${contextLength} tokens takes ${size(kvBytes)} (${kvCache}).` : "";
  const ofWhole = refusal.what === undefined ? share : "";
  return { code: refusal.code, message: `${said(report, refusal)}${ofWhole} What helps: ${helps(report, refusal).join(", or ")}.` };
}

function said({ device: { kind, adapter } }: WasmCanRunReport, { code, what, needed, allowed }: Refusal): string {
  if (code === "device-limit") return `${what} takes ${size(needed)}, and a buffer of the GPU (${adapter}) has at most ${size(allowed ?? 0)}.`;
  if (code === "address-space") return `The model takes ${size(needed)} of WebAssembly memory, which has at most ${size(allowed ?? 0)}.`;
  return kind === "webgpu"
    ? `The model takes ${size(needed)}, and the GPU (${adapter}) did not give so much.`
    : `The model takes ${size(needed)} of memory, and the browser did not give so much.`;
}

/** What the caller can do, the mildest first. */
function helps({ header, device, smallestKvBytes, contextBytesPerToken, cpuFits }: WasmCanRunReport, { what, needed, allowed }: Refusal): string[] {
  const { kvBytes, contextLength, kvCache } = header;
  const isCache = what?.endsWith("cache") === true;
  const list: string[] = [];
  if (what === undefined || isCache) {
    const saved = isCache ? needed * (1 - smallestKvBytes / Math.max(kvBytes, 1)) : kvBytes - smallestKvBytes;
    const isLarge = kvBytes > needed / 5;
    if (kvCache !== "q8_0" && (allowed === undefined ? isLarge : needed - saved <= allowed)) list.push(`kvCache: "q8_0" (${size(saved)} less)`);
    if (allowed === undefined) {
      if (isLarge) list.push("a shorter contextLength");
    } else {
      const perToken = isCache ? needed / contextLength : contextBytesPerToken;
      const context = perToken > 0 ? Math.floor((contextLength - (needed - allowed) / perToken) / LEAST_CONTEXT) * LEAST_CONTEXT : 0;
      if (context >= LEAST_CONTEXT) list.push(`a contextLength of at most ${context}`);
    }
  }
  if (list.length === 0) list.push("a file of the model with fewer bits a weight (such as Q4_K_M)", "a smaller model");
  if (device.kind === "webgpu" && cpuFits) list.push('device: "cpu"');
  if (device.kind === "cpu" && device.choice === "asked") list.push("a GPU (device: \"auto\")");
  return list;
}

/** Decimal, as file sizes are. */
function size(bytes: number): string {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : [1e6, "MB"];
  return `${Number((bytes / unit).toPrecision(3))} ${name}`;
}
