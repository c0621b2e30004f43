// Measures wllama on one CPU thread. README.md says what each figure covers.

import { LoggerWithoutDebug, Wllama } from "./node_modules/@wllama/wllama/esm/index.js";

const PACKAGE = new URL("./node_modules/@wllama/wllama/", import.meta.url);

const seconds = (from, to) => (to - from) / 1000;

/**
 * Loads the model, decodes `promptText` and then `decodeTokens` tokens greedily, twice: the first pass warms up and records the
 * token ids, the second is timed.
 *
 * `promptTokens` is the number of tokens `promptText` must have: wllama takes text only, so the count is what can be checked.
 */
export async function runWllama({ modelUrl, promptText, promptTokens, decodeTokens }) {
  const { version } = await (await fetch(new URL("package.json", PACKAGE))).json();

  const loadStart = performance.now();
  const wllama = new Wllama({ default: new URL("esm/wasm/wllama.wasm", PACKAGE).href }, { logger: LoggerWithoutDebug, suppressNativeLog: true });
  try {
    const response = await fetch(modelUrl);
    if (!response.ok) throw new Error(`${modelUrl}: HTTP ${response.status}`);
    await wllama.loadModel([await response.blob()], {
      n_threads: 1,
      n_gpu_layers: 0,
      n_parallel: 1,
      n_ctx: Math.ceil((promptTokens + decodeTokens + 1) / 256) * 256,
    });
    const loadSeconds = seconds(loadStart, performance.now());

    /** One generation from an empty cache: when it started, when each token came, and the last chunk. */
    async function generate(options) {
      const arrivals = [];
      const chunks = [];
      let last;
      const start = performance.now();
      await wllama.createCompletion({
        prompt: promptText,
        max_tokens: decodeTokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        ...options,
        onData(chunk) {
          if (chunk.usage) last = chunk;
          else {
            arrivals.push(performance.now());
            chunks.push(chunk);
          }
        },
      });
      const { cache_n, prompt_n, predicted_n } = last.timings;
      if (cache_n !== 0 || prompt_n !== promptTokens) {
        throw new Error(`the prompt was ${prompt_n} tokens and ${cache_n} cached ones, not ${promptTokens} and none`);
      }
      if (predicted_n !== decodeTokens) throw new Error(`${predicted_n} tokens were generated, not ${decodeTokens}`);
      return { start, arrivals, chunks, timings: last.timings };
    }

    // Recording ids makes llama.cpp sort the whole vocabulary at each step, so the timed pass does without.
    const recorded = await generate({ n_probs: 1, logprobs: 1 });
    const tokens = recorded.chunks.flatMap((chunk) => chunk.choices[0].logprobs.content.map((token) => token.id));
    if (tokens.length !== decodeTokens) throw new Error(`${tokens.length} token ids were recorded, not ${decodeTokens}`);

    const { start, arrivals, chunks, timings } = await generate({});
    // A token that ends inside a character arrives with the next one. The first and last must be real arrivals.
    const text = (list) => list.map((chunk) => chunk.choices[0].text).join("");
    if (text(chunks) !== text(recorded.chunks)) throw new Error("the two passes gave different texts");
    if (arrivals.length !== decodeTokens) throw new Error(`${arrivals.length} chunks for ${decodeTokens} tokens: choose a prompt whose answer is plain text`);
    const prefillSeconds = seconds(start, arrivals[0]);
    const decodeSeconds = seconds(arrivals[0], arrivals.at(-1));

    return {
      version,
      llamaCpp: Wllama.getLibllamaVersion(),
      threads: wllama.getNumThreads(),
      loadSeconds,
      prefillTokensPerSecond: promptTokens / prefillSeconds,
      decodeTokensPerSecond: (decodeTokens - 1) / decodeSeconds,
      tokens,
      text: text(chunks),
      engine: { prefillTokensPerSecond: timings.prompt_per_second, decodeTokensPerSecond: timings.predicted_per_second },
    };
  } finally {
    await wllama.exit();
  }
}
