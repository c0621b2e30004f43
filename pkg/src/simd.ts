// Which WebAssembly SIMD this browser has, and so which build of the engine it gets.

/** A build of the engine: the name of its folder in `wasm/`. */
export type SimdLevel = "simd128" | "relaxed";

/** The best build this browser can run; undefined without SIMD, where none can. */
export function simdLevel(): SimdLevel | undefined {
  if (!hasSimd()) return undefined;
  return hasRelaxedSimd() ? "relaxed" : "simd128";
}

/** Fixed-width SIMD, which every build needs. */
export function hasSimd(): boolean {
  return runs([...ZEROS, ...POPCNT]);
}

/** Relaxed SIMD, with the two instructions the kernels live on: some engines had only the second for a while. */
export function hasRelaxedSimd(): boolean {
  return runs([...ZEROS, ...ZEROS, ...ZEROS, ...RELAXED_DOT, ...ZEROS, ...ZEROS, ...RELAXED_MADD]);
}

// Instructions as they stand in a module: 0xfd, then the SIMD opcode as LEB128.
/** i32.const 0, i8x16.splat: pushes a vector. */
const ZEROS = [0x41, 0x00, 0xfd, 0x0f];
/** i8x16.popcnt (0x62), one of the last that fixed-width SIMD got: one vector in, one out. */
const POPCNT = [0xfd, 0x62];
/** i32x4.relaxed_dot_i8x16_i7x16_add_s (0x113): three vectors in, one out. */
const RELAXED_DOT = [0xfd, 0x93, 0x02];
/** f32x4.relaxed_madd (0x105): three vectors in, one out. */
const RELAXED_MADD = [0xfd, 0x85, 0x02];

/**
 * Whether the engine accepts a function with this body that returns a vector. The module is
 * assembled by hand, since validating a few bytes costs nothing and fetches nothing.
 */
function runs(instructions: number[]): boolean {
  const body = [0x00, ...instructions, 0x0b]; // no locals, …, end
  const module = Uint8Array.of(
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
    ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b], // types: one, () -> v128
    ...[0x03, 0x02, 0x01, 0x00], // functions: one, of type 0
    ...[0x0a, body.length + 2, 0x01, body.length, ...body], // code: one body
  );
  return typeof WebAssembly === "object" && WebAssembly.validate(module);
}
