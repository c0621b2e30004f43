// wllama: llama.cpp in wasm, on the CPU.
import { LoggerWithoutDebug, Wllama } from "@wllama/wllama";
import wasm from "@wllama/wllama/esm/wasm/wllama.wasm?url";
import { Arrivals } from "./arrivals.js";
import type { Contestant } from "./contest.js";

/** Its code and this file, which are one in the built page, and its wasm. */
export const RUNTIME = [import.meta.url, new URL(wasm, location.href).href];

export async function loadWllama(model: string, context: number, threads: number): Promise<Contestant> {
  const wllama = new Wllama(
    { default: new URL(wasm, location.href).href },
    { logger: LoggerWithoutDebug, suppressNativeLog: true },
  );
  const response = await fetch(model);
  if (!response.ok) throw new Error(`the server answered ${response.status} for the model`);
  await wllama.loadModel([await response.blob()], { n_threads: threads, n_gpu_layers: 0, n_parallel: 1, n_ctx: context });
  return {
    device: "llama.cpp, CPU",
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
