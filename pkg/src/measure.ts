import { EngineClient } from "./engine-client.js";
import { EngineFiles } from "./engine-files.js";
import { EmberglassError } from "./errors.js";
import type { EngineAddresses } from "./types.js";

/** What a GPU can do at best: the yardsticks that benches hold kernels against. */
export interface GpuRates {
  /** Vendor's name, as far as the browser tells. */
  adapter: string;
  /** A software adapter. */
  isFallbackAdapter: boolean;
  /** Bytes that a copy of 64 MiB reads and writes, together, a second. */
  copyBytesPerSecond: number;
  /** Fused multiply-adds of f32 a second; each counts as two floating-point operations. */
  fmaPerSecond: number;
}

/**
 * Measures the GPU with two kernels that do nothing else, in about half a second, in a worker of its own.
 *
 * @throws {@link EmberglassError} `no-webgpu`, `no-adapter`, `device-request`, `out-of-memory`, `device-lost`.
 */
export async function measureGpu(addresses: EngineAddresses = {}): Promise<GpuRates> {
  const files = new EngineFiles(addresses);
  const client = new EngineClient(files.spawn, files.spawnHelper, files.findWasm);
  try {
    return await client.call("measureGpu", null);
  } finally {
    client.close(new EmberglassError("disposed", "the measurement is over"));
  }
}
