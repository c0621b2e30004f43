// The contestants: each loads the model afresh, warms up, and is then timed on the same work.
import { loadTextModel, type LoadOptions } from "emberglass";
import type { Device, Dtype } from "./onnx.js";
import { PROMPT } from "./prompt.js";

/** What is asked of every engine. */
export interface Work {
  /** Absolute address of the GGUF file. */
  model: string;
  /** Tokens to generate. */
  tokens: number;
  /** Timed passes; the median counts. */
  passes: number;
}

export interface Figures {
  /** What computed, in the engine's own words. */
  device: string;
  threads: number;
  /** Timed passes, of which the median is given. */
  passes: number;
  promptTokens: number;
  /** The generated text, greedy. */
  text: string;
  loadSeconds: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** From the request to the first token, in ms. */
  firstTokenMs: number;
  /** Wasm memory of all threads after the work, in bytes, where the engine tells. */
  wasmBytes?: number;
  gpuBytes?: number;
  weightBytesPerToken?: number;
  dispatchesPerToken?: number;
  submitsPerToken?: number;
  readbacksPerToken?: number;
}

export interface Engine {
  id: string;
  label: string;
  /** Whether it is llama.cpp, which the others are compared with. */
  peer: boolean;
  threads: number;
  run(work: Work): Promise<Figures>;
}

const CONTEXT = 512;
/** SmolLM2's ends of text: suppressed, so that every engine generates as many tokens. */
const ENDS = [0, 2, 4];

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function emberglass(id: string, label: string, threads: number, options: LoadOptions): Engine {
  return {
    id,
    label,
    peer: false,
    threads,
    async run({ model: address, tokens, passes }) {
      const start = performance.now();
      const model = await loadTextModel(address, { ...options, contextLength: CONTEXT });
      const loadSeconds = (performance.now() - start) / 1000;
      try {
        const logitBias = Object.fromEntries(ENDS.map((id) => [id, -1000]));
        const generate = (prompt: string, maxTokens: number) =>
          model.generate(prompt, { temperature: 0, maxTokens, logitBias }).result;
        await generate(PROMPT, 2);
        const results = [];
        // A software adapter takes minutes for what others do in a second.
        const timed = model.info.device.isFallbackAdapter ? 1 : passes;
        for (let pass = 0; pass < timed; pass++) {
          // Nothing of the prompt may come from the cache.
          await generate("Another text, so that nothing of the prompt is left.", 1);
          const result = await generate(PROMPT, tokens);
          if (result.reusedTokens > 1) throw new Error(`${result.reusedTokens} prompt tokens came from the cache`);
          if (result.generatedTokens !== tokens) throw new Error(`${result.generatedTokens} tokens, not ${tokens}`);
          results.push(result);
        }
        const { device, gpuBytes, wasmHeapBytes } = model.info;
        const last = results.at(-1)!;
        return {
          device: device.kind === "webgpu" ? `WebGPU, ${device.adapter}` : device.features.join(", "),
          threads: device.threads,
          passes: timed,
          promptTokens: last.promptTokens,
          text: last.text,
          loadSeconds,
          prefillTokensPerSecond: median(results.map(({ stats }) => stats.prefillTokensPerSecond)),
          decodeTokensPerSecond: median(results.map(({ stats }) => stats.decodeTokensPerSecond)),
          firstTokenMs: median(results.map(({ stats }) => stats.timeToFirstTokenMs)),
          wasmBytes: wasmHeapBytes,
          gpuBytes,
          weightBytesPerToken: last.stats.weightBytesPerToken,
          dispatchesPerToken: last.stats.dispatchesPerToken,
          submitsPerToken: last.stats.submitsPerToken,
          readbacksPerToken: last.stats.readbacksPerToken,
        };
      } finally {
        await model.dispose();
      }
    },
  };
}

function wllama(id: string, label: string, threads: number): Engine {
  return {
    id,
    label,
    peer: true,
    threads,
    async run(work) {
      // Only who is measured is fetched.
      const { runWllama } = await import("./wllama.js");
      return runWllama(work, threads, CONTEXT);
    },
  };
}

function onnx(device: Device, dtype: Dtype): Engine {
  return {
    id: `onnx-${device}-${dtype}`,
    label: `transformers.js 4.3.1, ${device === "wasm" ? "wasm, 1 thread" : "WebGPU"}, ${dtype}`,
    peer: false,
    threads: 1,
    async run(work) {
      const { runOnnx } = await import("./onnx.js");
      return runOnnx(work, device, dtype, ENDS);
    },
  };
}

/** All that can run here; transformers.js where its files are. */
export async function engines(withOnnx: boolean): Promise<Engine[]> {
  const cores = crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  // The types of WebGPU are not in TypeScript's library yet.
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return [
    emberglass("cpu-1", "Emberglass, CPU, 1 thread", 1, { device: "cpu", threads: 1 }),
    ...(cores > 1 ? [emberglass("cpu-all", `Emberglass, CPU, ${cores} threads`, cores, { device: "cpu", threads: cores })] : []),
    emberglass("cpu-8bit", "Emberglass, CPU, 1 thread, 8-bit activations", 1, { device: "cpu", threads: 1, activationBits: 8 }),
    ...(adapter ? [emberglass("webgpu", "Emberglass, WebGPU", 1, { device: "webgpu" })] : []),
    wllama("wllama-1", "wllama 3.8.1, 1 thread", 1),
    ...(cores > 1 ? [wllama("wllama-all", `wllama 3.8.1, ${cores} threads`, cores)] : []),
    ...(withOnnx ? [onnx("wasm", "q4"), onnx("wasm", "int8"), onnx("wasm", "q8")] : []),
    ...(withOnnx && adapter ? [onnx("webgpu", "q4"), onnx("webgpu", "int8")] : []),
  ];
}
