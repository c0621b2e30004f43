// How fast one thread reads memory: the ceiling of decoding, which reads every weight once a token.

/** read.wat, assembled. */
const MODULE = "AGFzbQEAAAABBgFgAX8BfgMCAQAFBAEAgCAHEQIGbWVtb3J5AgAEcmVhZAAAClsBWQIBfwR7A0AgAiAB/QAEAP1RIQIgAyAB/QAEEP1RIQMgBCAB/QAEIP1RIQQgBSAB/QAEMP1RIQUgAUHAAGohASABIABJDQALIAIgA/1RIAQgBf1R/VH9HQAL";
const MIB = 1 << 20;
const SIZE = 256 * MIB;

/** GB/s of one thread reading 256 MiB in wasm; the best of five passes. */
export async function readBandwidth(): Promise<number> {
  const bytes = Uint8Array.from(atob(MODULE), (c) => c.charCodeAt(0));
  const { instance } = await WebAssembly.instantiate(bytes);
  const { memory, read } = instance.exports as { memory: WebAssembly.Memory; read(end: number): bigint };
  // Pages that were never written may all be one and the same page of zeros.
  new Uint32Array(memory.buffer).fill(0x9e3779b9);
  let best = 0;
  for (let pass = 0; pass < 5; pass++) {
    const start = performance.now();
    read(SIZE);
    best = Math.max(best, SIZE / (performance.now() - start) / 1e6);
    await new Promise((resolve) => setTimeout(resolve));
  }
  return best;
}
