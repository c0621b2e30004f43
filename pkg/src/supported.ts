import type { ErrorCode } from "./errors.js";

/** What {@link supported} found. */
export interface Support {
  /** Whether models can be loaded. */
  webgpu: boolean;
  /** Why not, in words to show to a visitor. */
  reason?: string;
  /** Why not, as an error code: `no-webgpu` or `no-adapter`. */
  code?: ErrorCode;
}

interface Gpu {
  requestAdapter(): Promise<object | null>;
}

/** Asks whether this browser offers WebGPU, without loading the engine. Never rejects. */
export async function supported(): Promise<Support> {
  const gpu = (globalThis.navigator as { gpu?: Gpu } | undefined)?.gpu;
  if (!gpu) {
    const insecure = globalThis.isSecureContext === false;
    const reason = insecure
      ? "WebGPU needs a secure page: open it over https or on localhost"
      : "this browser has no WebGPU";
    return { webgpu: false, code: "no-webgpu", reason };
  }
  try {
    if (await gpu.requestAdapter()) return { webgpu: true };
    return { webgpu: false, code: "no-adapter", reason: "the browser has WebGPU but offers no graphics adapter" };
  } catch (cause) {
    return { webgpu: false, code: "no-adapter", reason: `the graphics adapter could not be asked for: ${String(cause)}` };
  }
}
