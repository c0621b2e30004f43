// wllama: llama.cpp in wasm, on the CPU or the GPU.
import { LoggerWithoutDebug, Wllama } from "@wllama/wllama";
import wasm from "@wllama/wllama/esm/wasm/wllama.wasm?url";
import { Arrivals } from "./arrivals.js";
import type { Contestant } from "./contest.js";

/** Its code and this file, which are one in the built page, and its wasm. */
export const RUNTIME = [import.meta.url, new URL(wasm, location.href).href];

/** All layers of a model; on the CPU there are none to move to the GPU. */
const ALL_LAYERS = 999;

export async function loadWllama(
  model: string,
  context: number,
  { threads, gpu }: { threads: number; gpu: boolean },
): Promise<Contestant> {
  const wllama = new Wllama(
    { default: new URL(wasm, location.href).href },
    { logger: LoggerWithoutDebug, suppressNativeLog: true },
  );
  const response = await fetch(model);
  if (!response.ok) throw new Error(`the server answered ${response.status} for the model`);
  const layers = gpu ? ALL_LAYERS : 0;
  await wllama.loadModel([await response.blob()], { n_threads: threads, n_gpu_layers: layers, n_parallel: 1, n_ctx: context });
  return {
    device: gpu ? "llama.cpp, WebGPU" : "llama.cpp, CPU",
    threads: wllama.getNumThreads(),
    async generate(prompt, tokens) {
      let text = "";
      let timings = { prompt_n: 0, cache_n: 0, predicted_n: 0 };
      const arrivals = new Arrivals();
      await wllama.createCompletion({
        prompt,
        max_tokens: tokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        onData(chunk) {
          if (chunk.usage) {
            timings = chunk.timings ?? timings;
            return;
          }
          arrivals.note();
          text += chunk.choices[0]?.text ?? "";
        },
      });
      if (timings.cache_n !== 0) throw new Error(`${timings.cache_n} prompt tokens came from the cache`);
      if (timings.predicted_n !== tokens) throw new Error(`${timings.predicted_n} tokens, not ${tokens}`);
      return {
        promptTokens: timings.prompt_n,
        text,
        firstTokenMs: arrivals.firstMs,
        decodeTokensPerSecond: arrivals.rate(tokens),
      };
    },
    holdings: () => ({}),
    dispose: () => wllama.exit(),
  };
}
