// The contestants.
import type { LoadOptions } from "emberglass";
import type { Engine } from "./contest.js";
import { compressedBytes, ownBytes } from "./download.js";
import { loadEmberglass } from "./emberglass.js";
import type { Device, Dtype } from "./onnx.js";

/** SmolLM2's ends of text: suppressed, so that every engine generates as many tokens. */
const ENDS = [0, 2, 4];

/** A GPU adapter, as far as the bench looks. */
export interface Adapter {
  /** Computes on the CPU. */
  software: boolean;
}

export async function findAdapter(): Promise<Adapter | undefined> {
  // The types of WebGPU are not in TypeScript's library yet.
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return adapter ? { software: adapter.info?.isFallbackAdapter ?? false } : undefined;
}

function cpu(id: string, label: string, rival: string, options: LoadOptions): Engine {
  return {
    id,
    label: `Emberglass, CPU, ${label}`,
    rival,
    gpu: false,
    slow: false,
    load: (model, context) => loadEmberglass(model, context, ENDS, { device: "cpu", ...options }),
    runtimeBytes: ownBytes,
  };
}

function webgpu({ software }: Adapter): Engine {
  return {
    id: "webgpu",
    label: "Emberglass, WebGPU",
    rival: "wllama-webgpu",
    gpu: true,
    slow: software,
    load: (model, context) => loadEmberglass(model, context, ENDS, { device: "webgpu" }),
    runtimeBytes: ownBytes,
  };
}

// Of the others, only who is measured is fetched.
const wllamaModule = () => import("./wllama.js");
const onnxModule = () => import("./onnx.js");

function wllama(id: string, place: string, { threads, adapter }: { threads: number; adapter?: Adapter }): Engine {
  const gpu = adapter !== undefined;
  return {
    id,
    label: `wllama 3.13.0, ${place}`,
    gpu,
    slow: adapter?.software ?? false,
    load: async (model, context) => (await wllamaModule()).loadWllama(model, context, { threads, gpu }),
    runtimeBytes: async () => compressedBytes((await wllamaModule()).RUNTIME),
  };
}

function onnx(device: Device, dtype: Dtype, slow: boolean): Engine {
  const place = device === "wasm" ? "wasm, 1 thread" : slow ? "WebGPU without subgroups" : "WebGPU";
  return {
    id: `onnx-${device}-${dtype}`,
    label: `transformers.js 4.3.1, ${place}, ${dtype}`,
    gpu: device === "webgpu",
    slow,
    load: async (model) => (await onnxModule()).loadOnnx(model, ENDS, { device, dtype, slow }),
    runtimeBytes: async () => compressedBytes((await onnxModule()).RUNTIME),
  };
}

/** All that can run here; transformers.js where its files are. */
export function engines(adapter: Adapter | undefined, withOnnx: boolean): Engine[] {
  const cores = crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  const many = cores > 1;
  return [
    cpu("cpu-1", "1 thread", "wllama-1", { threads: 1 }),
    ...(many ? [cpu("cpu-all", `${cores} threads`, "wllama-all", { threads: cores })] : []),
    cpu("cpu-8bit", "1 thread, 8-bit activations", "wllama-1", { threads: 1, activationBits: 8 }),
    ...(adapter ? [webgpu(adapter)] : []),
    ...(adapter ? [wllama("wllama-webgpu", "WebGPU", { threads: 1, adapter })] : []),
    wllama("wllama-1", "1 thread", { threads: 1 }),
    ...(many ? [wllama("wllama-all", `${cores} threads`, { threads: cores })] : []),
    ...(withOnnx && adapter ? [onnx("webgpu", "q4", adapter.software), onnx("webgpu", "int8", adapter.software)] : []),
    ...(withOnnx ? [onnx("wasm", "q4", false), onnx("wasm", "int8", false), onnx("wasm", "q8", false)] : []),
  ];
}
