// wllama: llama.cpp in wasm, on the CPU.
import { LoggerWithoutDebug, Wllama } from "@wllama/wllama";
import wasm from "@wllama/wllama/esm/wasm/wllama.wasm?url";
import type { Figures, Work } from "./engines.js";
import { PROMPT } from "./prompt.js";

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** The same work as the other engines': a warm-up, then timed passes from an empty cache, as tokens arrive. */
export async function runWllama({ model, tokens, passes }: Work, threads: number, context: number): Promise<Figures> {
  const start = performance.now();
  const wllama = new Wllama(
    { default: new URL(wasm, location.href).href },
    { logger: LoggerWithoutDebug, suppressNativeLog: true },
  );
  try {
    const response = await fetch(model);
    if (!response.ok) throw new Error(`the server answered ${response.status} for the model`);
    await wllama.loadModel([await response.blob()], { n_threads: threads, n_gpu_layers: 0, n_parallel: 1, n_ctx: context });
    const loadSeconds = (performance.now() - start) / 1000;
    const prefill: number[] = [];
    const decode: number[] = [];
    const first: number[] = [];
    let promptTokens = 0;
    let text = "";
    for (let pass = 0; pass <= passes; pass++) {
      const arrivals: number[] = [];
      text = "";
      let timings = { prompt_n: 0, cache_n: 0, predicted_n: 0 };
      const asked = performance.now();
      await wllama.createCompletion({
        prompt: PROMPT,
        max_tokens: pass === 0 ? 2 : tokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        onData(chunk) {
          if (chunk.usage) {
            timings = chunk.timings ?? timings;
            return;
          }
          arrivals.push(performance.now());
          text += chunk.choices[0]?.text ?? "";
        },
      });
      if (timings.cache_n !== 0) throw new Error(`${timings.cache_n} prompt tokens came from the cache`);
      promptTokens = timings.prompt_n;
      if (pass === 0) continue;
      if (timings.predicted_n !== tokens) throw new Error(`${timings.predicted_n} tokens, not ${tokens}`);
      const [begin, end] = [arrivals[0] ?? Number.NaN, arrivals.at(-1) ?? Number.NaN];
      first.push(begin - asked);
      prefill.push((promptTokens / (begin - asked)) * 1000);
      decode.push(((tokens - 1) / (end - begin)) * 1000);
    }
    return {
      device: "llama.cpp, CPU",
      threads: wllama.getNumThreads(),
      passes,
      promptTokens,
      text,
      loadSeconds,
      prefillTokensPerSecond: median(prefill),
      decodeTokensPerSecond: median(decode),
      firstTokenMs: median(first),
    };
  } finally {
    await wllama.exit();
  }
}
