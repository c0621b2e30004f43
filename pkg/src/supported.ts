import { engineHome, whyNoHome } from "./engine-home.js";
import type { ErrorCode } from "./errors.js";
import { hasRelaxedSimd, hasSimd } from "./simd.js";
import { coresHere } from "./threads.js";
import { within } from "./within.js";

/** What {@link supported} found. */
export interface Support {
  /** Whether models can be loaded at all. It takes a browser, and WebAssembly SIMD, on the GPU as on the CPU. */
  simd: boolean;
  /** Whether there is a graphics adapter; it may be a software one. */
  webgpu: boolean;
  /** Whether the CPU path runs at its best speed. */
  relaxedSimd: boolean;
  /** Whether the CPU path may use several threads: the page is cross-origin isolated. */
  threads: boolean;
  /** The first thing that is missing, in words to show to a visitor: workers, SIMD or WebGPU. */
  reason?: string | undefined;
  /** The same as an error code: `no-worker`, `no-simd`, `no-webgpu` or `no-adapter`. */
  code?: ErrorCode | undefined;
}

/** How long the browser may take to offer an adapter. */
const ADAPTER_LIMIT_MS = 10_000;

interface Gpu {
  requestAdapter(): Promise<object | null>;
}

/**
 * Asks what this browser can compute with, without loading the engine. Never rejects. Where `simd` is
 * true, models can be loaded, with or without WebGPU.
 */
export async function supported(): Promise<Support> {
  if (!engineHome()) {
    return { simd: false, webgpu: false, relaxedSimd: false, threads: false, code: "no-worker", reason: whyNoHome() };
  }
  const missingGpu = await whyNoGpu();
  const simd = hasSimd();
  return {
    simd,
    webgpu: missingGpu === undefined,
    relaxedSimd: hasRelaxedSimd(),
    threads: coresHere().canShare,
    ...(simd ? missingGpu : { code: "no-simd", reason: "this browser's WebAssembly has no SIMD" }),
  };
}

/** What is missing of WebGPU; undefined when an adapter is offered. */
async function whyNoGpu(): Promise<{ code: ErrorCode; reason: string } | undefined> {
  const gpu = (globalThis.navigator as { gpu?: Gpu } | undefined)?.gpu;
  if (!gpu) {
    const insecure = globalThis.isSecureContext === false;
    const reason = insecure
      ? "WebGPU needs a secure page: open it over https or on localhost"
      : "this browser has no WebGPU";
    return { code: "no-webgpu", reason };
  }
  try {
    if (await within(ADAPTER_LIMIT_MS, gpu.requestAdapter(), "the browser did not answer")) return undefined;
    return { code: "no-adapter", reason: "the browser has WebGPU but offers no graphics adapter" };
  } catch (cause) {
    return { code: "no-adapter", reason: `the graphics adapter could not be asked for: ${String(cause)}` };
  }
}
