// Latents out of files: NumPy's .npy and safetensors.
// Formats: numpy.lib.format (NEP 1); the README of the safetensors format.
import { EmberglassError } from "./errors.js";
import type { Latents } from "./image-types.js";

/** Larger than latents of any picture that can be decoded. */
const MAX_BYTES = 1 << 30;
const MAX_HEADER = 1 << 20;

/**
 * Reads latents from a `.npy` file or the first tensor of a safetensors file: f16, f32 or f64, of shape
 * (channels, height, width) or (n, channels, height, width), which gives n of them.
 *
 * @throws {@link EmberglassError} `malformed`, `truncated`, `unsupported-type`, `shape-mismatch`.
 */
export async function readLatents(file: Blob): Promise<Latents[]> {
  if (file.size > MAX_BYTES) throw malformed(`${file.size} bytes are no latents`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isNumpy = bytes[0] === 0x93 && String.fromCharCode(...bytes.subarray(1, 6)) === "NUMPY";
  const { shape, type, data } = isNumpy ? numpy(bytes) : safetensors(bytes);
  return split(shape, floats(type, data));
}

interface Raw {
  shape: number[];
  type: "f2" | "f4" | "f8";
  data: Uint8Array;
}

function numpy(bytes: Uint8Array): Raw {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 12) throw truncated(12, bytes.length);
  const [length, start] = bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  if (length > MAX_HEADER) throw malformed(`a header of ${length} bytes`);
  if (bytes.length < start + length) throw truncated(start + length, bytes.length);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const type = /'descr':\s*'([<|]f[248])'/.exec(header)?.[1];
  if (!type) throw new EmberglassError("unsupported-type", "latents have to be little-endian floats (f2, f4 or f8)");
  if (!/'fortran_order':\s*False/.test(header)) throw malformed("column-major order is not supported");
  const dimensions = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (dimensions === undefined) throw malformed("no shape");
  const shape = dimensions.split(",").flatMap((d) => (d.trim() === "" ? [] : [Number(d)]));
  return { shape, type: type.slice(1) as Raw["type"], data: bytes.subarray(start + length) };
}

const TYPES: Record<string, Raw["type"]> = { F16: "f2", F32: "f4", F64: "f8" };

function safetensors(bytes: Uint8Array): Raw {
  if (bytes.length < 8) throw truncated(8, bytes.length);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER) throw malformed("neither a .npy nor a safetensors file");
  if (bytes.length < 8 + length) throw truncated(8 + length, bytes.length);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  } catch {
    throw malformed("neither a .npy nor a safetensors file");
  }
  const entries = typeof header === "object" && header !== null ? Object.entries(header) : [];
  const tensor: unknown = entries.find(([name]) => name !== "__metadata__")?.[1];
  if (!isTensor(tensor)) throw malformed("no tensor");
  const type = TYPES[tensor.dtype];
  if (!type) throw new EmberglassError("unsupported-type", `latents of type ${tensor.dtype} are not supported`);
  const [begin, end] = tensor.data_offsets;
  if (bytes.length < 8 + length + end) throw truncated(8 + length + end, bytes.length);
  return { shape: tensor.shape, type, data: bytes.subarray(8 + length + begin, 8 + length + end) };
}

interface Tensor {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

function isTensor(value: unknown): value is Tensor {
  const { dtype, shape, data_offsets: at } = (value ?? {}) as Partial<Tensor>;
  const wholes = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  return typeof dtype === "string" && wholes(shape) && wholes(at) && at.length === 2 && at[0] <= at[1];
}

function floats(type: Raw["type"], data: Uint8Array): Float32Array {
  const size = Number(type[1]);
  // A copy, so that any offset is aligned.
  const buffer = data.slice(0, data.length - (data.length % size)).buffer;
  if (type === "f4") return new Float32Array(buffer);
  if (type === "f8") return Float32Array.from(new Float64Array(buffer));
  return Float32Array.from(new Uint16Array(buffer), half);
}

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function split(shape: number[], values: Float32Array): Latents[] {
  const [count, channels, height, width] = shape.length === 3 ? [1, ...shape] : shape;
  const each = (channels ?? 0) * (height ?? 0) * (width ?? 0);
  if (shape.length < 3 || shape.length > 4 || !count || !each || !Number.isSafeInteger(count * each)) {
    throw new EmberglassError("shape-mismatch", `latents of shape (${shape.join(", ")}): (channels, height, width) is expected`);
  }
  if (values.length < count * each) throw truncated(count * each * 4, values.length * 4);
  return Array.from({ length: count }, (_, i) => ({
    channels: channels as number,
    height: height as number,
    width: width as number,
    data: values.slice(i * each, (i + 1) * each),
  }));
}

function malformed(what: string): EmberglassError {
  return new EmberglassError("malformed", `latents: ${what}`);
}

function truncated(needed: number, actual: number): EmberglassError {
  return new EmberglassError("truncated", `the latents end early: ${actual} bytes where ${needed} are needed`);
}
