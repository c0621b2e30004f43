// Latents out of files, NumPy's .npy and safetensors, and into .npy.
// Formats: numpy.lib.format (NEP 1); the README of the safetensors format.
import { EmberglassError } from "./errors.js";
import type { Latents } from "./image-types.js";
import * as check from "./options.js";
import { toBlob } from "./source.js";
import type { FileSource } from "./types.js";

/** Larger than latents of any picture that can be decoded. */
const MAX_BYTES = 1 << 30;
const MAX_HEADER = 1 << 20;

/**
 * Reads latents from a `.npy` file or a safetensors file that holds nothing else: f16, f32 or f64, of shape
 * (channels, height, width) or (n, channels, height, width), which gives n of them.
 *
 * @throws {@link EmberglassError} `malformed`, `truncated`, `unsupported-type`, `shape-mismatch`; `invalid-option` for what
 * is no file.
 */
export async function readLatents(source: FileSource): Promise<[Latents, ...Latents[]]> {
  const file = await toBlob(source, "argument source");
  const magic = await read(file, 0, Math.min(6, file.size));
  const isNumpy = magic[0] === 0x93 && String.fromCharCode(...magic.subarray(1)) === "NUMPY";
  const { shape, type, begin, end } = isNumpy ? await numpy(file) : await safetensors(file);
  const [count, channels, height, width] = shape.length === 3 ? [1, ...shape] : shape;
  const each = (channels ?? 0) * (height ?? 0) * (width ?? 0);
  if (shape.length < 3 || shape.length > 4 || !count || !each || !Number.isSafeInteger(count * each)) {
    throw new EmberglassError("shape-mismatch", `latents of shape (${shape.join(", ")}): (channels, height, width) is expected`);
  }
  const needed = count * each * Number(type[1]);
  if (needed > MAX_BYTES) throw malformed(`${needed} bytes are more than any picture has`);
  if (end !== undefined && end - begin !== needed) throw malformed(`${end - begin} bytes for a shape of ${needed}`);
  const values = floats(type, await read(file, begin, begin + needed));
  const nth = (i: number): Latents => ({
    channels: channels as number,
    height: height as number,
    width: width as number,
    data: values.slice(i * each, (i + 1) * each),
  });
  return [nth(0), ...Array.from({ length: count - 1 }, (_, i) => nth(i + 1))];
}

/**
 * Latents as a `.npy` file: f32, of shape (1, channels, height, width). {@link readLatents}, NumPy's `load` and, by way of
 * `torch.from_numpy`, diffusers' `vae.decode` take it.
 *
 * @throws {@link EmberglassError} `shape-mismatch` for latents that are not as many as their shape says; `invalid-option`.
 */
export function writeLatents(latents: Latents): Blob {
  const { channels, height, width, data } = check.latents(latents, "argument latents");
  if (data.length !== channels * height * width) {
    throw new EmberglassError("shape-mismatch", `${data.length} latents for the shape (${channels}, ${height}, ${width})`);
  }
  const start = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, ${channels}, ${height}, ${width}), }`;
  // The format asks for a newline at the end of the header, and for values that begin at a multiple of 64 bytes.
  const header = `${start.padEnd(Math.ceil((start.length + 11) / 64) * 64 - 11)}\n`;
  const magic = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8);
  return new Blob([magic, header, data as Float32Array<ArrayBuffer>], { type: "application/octet-stream" });
}

/** Where the values lie and how. */
interface Layout {
  shape: number[];
  type: "f2" | "f4" | "f8";
  begin: number;
  /** Where the file says so. */
  end?: number;
}

/** @throws `truncated` where the file ends before `to`. */
async function read(file: Blob, from: number, to: number): Promise<Uint8Array> {
  if (file.size < to) throw truncated(to, file.size);
  return new Uint8Array(await file.slice(from, to).arrayBuffer());
}

async function numpy(file: Blob): Promise<Layout> {
  const head = await read(file, 0, 12);
  const view = new DataView(head.buffer);
  const [length, start] = head[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  if (length > MAX_HEADER) throw malformed(`a header of ${length} bytes`);
  const begin = start + length;
  const header = new TextDecoder("latin1").decode(await read(file, start, begin));
  const type = /'descr':\s*'([<|]f[248])'/.exec(header)?.[1];
  if (!type) throw new EmberglassError("unsupported-type", "latents have to be little-endian floats (f2, f4 or f8)");
  if (!/'fortran_order':\s*False/.test(header)) throw malformed("column-major order is not supported");
  const dimensions = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (dimensions === undefined) throw malformed("no shape");
  const shape = dimensions.split(",").flatMap((d) => (d.trim() === "" ? [] : [Number(d)]));
  return { shape, type: type.slice(1) as Layout["type"], begin };
}

const TYPES: Record<string, Layout["type"]> = { F16: "f2", F32: "f4", F64: "f8" };

async function safetensors(file: Blob): Promise<Layout> {
  const length = Number(new DataView((await read(file, 0, 8)).buffer).getBigUint64(0, true));
  if (length > MAX_HEADER) throw malformed("neither a .npy nor a safetensors file");
  const start = 8 + length;
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder().decode(await read(file, 8, start)));
  } catch (thrown) {
    throw thrown instanceof EmberglassError ? thrown : malformed("neither a .npy nor a safetensors file");
  }
  const entries = typeof header === "object" && header !== null ? Object.entries(header as Record<string, unknown>) : [];
  const named = entries.filter(([name]) => name !== "__metadata__");
  // ComfyUI marks its format by a second tensor, without values.
  const [first, ...others] = named.filter(([, tensor]) => !(isTensor(tensor) && tensor.shape.includes(0)));
  if (first && others.length > 0) {
    const names = named.slice(0, 4).map(([name]) => name);
    throw malformed(`${named.length} tensors (${names.join(", ")}${named.length > 4 ? ", …" : ""}), where one is expected`);
  }
  const tensor = first?.[1];
  if (!isTensor(tensor)) throw malformed("no tensor");
  const type = TYPES[tensor.dtype];
  if (!type) throw new EmberglassError("unsupported-type", `latents of type ${tensor.dtype} are not supported`);
  const [begin, end] = tensor.data_offsets.map((offset) => start + offset) as [number, number];
  if (file.size < end) throw truncated(end, file.size);
  return { shape: tensor.shape, type, begin, end };
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

function floats(type: Layout["type"], { buffer }: Uint8Array): Float32Array {
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

function malformed(what: string): EmberglassError {
  return new EmberglassError("malformed", `latents: ${what}`);
}

function truncated(needed: number, actual: number): EmberglassError {
  return new EmberglassError("truncated", `the latents end early: ${actual} bytes where ${needed} are needed`);
}
