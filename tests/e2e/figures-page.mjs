// What figures.mjs measures inside a page: text and pictures by Emberglass and by others, one contestant a page.
import * as emberglass from "./pkg/dist/index.js";

/** No text ends early: SmolLM2's ends of text. */
const NEVER = { 0: -1000, 2: -1000, 4: -1000 };
const RIVER =
  "A river is never finished. Rain falls on the hills, gathers in the grass, and runs down through stones that it has been rounding " +
  "for thousands of years. In the valley it slows, drops its sand, and bends away from its own old bed. Farmers who live beside it " +
  "learn to read the colour of the water: brown after a storm, green in late summer, almost black under ice.\n\n";
const CHANNELS = 32;
const TAEF2 = "/taef2/taef2_decoder.safetensors";

let contestant;

/** Loads the page's one contestant; returns what `run` then measures. */
window.begin = async (kind, options) => {
  contestant = await { text, wllama, picture, ort }[kind](options);
  return contestant.facts;
};
window.run = (options) => contestant.run(options);
window.end = () => contestant.end();

/** The last so many tokens of a text; the numbers make places in it differ. */
window.prompt = async (address, tokens) => {
  const model = await emberglass.loadTextModel(address, { storage: "none", device: "cpu", threads: 1, contextLength: 64 });
  const rivers = Array.from({ length: Math.ceil(tokens / 70) }, (_, i) => `${i + 1}. ${RIVER}`).join("");
  const prompt = await model.detokenize((await model.tokenize(rivers)).subarray(-tokens));
  await model.dispose();
  return prompt;
};

async function text({ address, threads, context, ...more }) {
  const model = await emberglass.loadTextModel(address, { storage: "none", device: "cpu", contextLength: context, ...(threads && { threads }), ...more });
  return {
    facts: { threads: model.info.device.threads, wasmBytes: model.info.wasmHeapBytes, weightBytes: model.info.weightBytes },
    /** With `fresh` nothing of the prompt is in the cache before. */
    async run({ prompt, tokens, fresh = true }) {
      if (fresh) await model.generate("Another text.", { temperature: 0, maxTokens: 1, logitBias: NEVER }).result;
      const { text, promptTokens, reusedTokens, generatedTokens, stats } = await model.generate(prompt, { temperature: 0, maxTokens: tokens, logitBias: NEVER }).result;
      if (generatedTokens !== tokens) throw new Error(`${generatedTokens} tokens, not ${tokens}`);
      // Texts may begin alike.
      if (fresh && reusedTokens > 2) throw new Error(`${reusedTokens} tokens were in the cache`);
      return { result: text, prefill: promptTokens / (stats.timeToFirstTokenMs / 1000), decode: stats.decodeTokensPerSecond };
    },
    end: () => model.dispose(),
  };
}

async function wllama({ address, threads, context }) {
  const { LoggerWithoutDebug, Wllama } = await import("./wllama/index.js");
  const engine = new Wllama({ default: "/wllama/wasm/wllama.wasm" }, { logger: LoggerWithoutDebug, suppressNativeLog: true });
  const file = await (await fetch(address)).blob();
  await engine.loadModel([file], { n_threads: threads, n_gpu_layers: 0, n_parallel: 1, n_ctx: context });
  return {
    facts: { threads: engine.getNumThreads() },
    async run({ prompt, tokens }) {
      const [asked, times] = [performance.now(), []];
      let result = "";
      let counts;
      await engine.createCompletion({
        prompt,
        max_tokens: tokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        onData({ usage, timings, choices }) {
          if (usage) return (counts = timings ?? counts);
          times.push(performance.now());
          result += choices[0]?.text ?? "";
        },
      });
      if (counts?.cache_n !== 0 || counts.predicted_n !== tokens) throw new Error(`not the work that was asked for: ${JSON.stringify(counts)}`);
      const [first, last] = [times[0], times.at(-1)];
      return { result, prefill: (1000 * counts.prompt_n) / (first - asked), decode: (1000 * (tokens - 1)) / (last - first) };
    },
    end: () => engine.exit(),
  };
}

/** Smooth, so that the picture is one; the same everywhere. */
const latents = (side) =>
  Float32Array.from({ length: CHANNELS * side * side }, (_, i) => {
    const [c, y, x] = [Math.floor(i / side / side), Math.floor(i / side) % side, i % side];
    return 0.8 * (Math.sin(y * 0.31 + c) + Math.cos(x * 0.23 + c * 1.7));
  });

async function picture({ threads }) {
  const load = (options) => emberglass.loadImageDecoder(TAEF2, { storage: "none", device: "cpu", ...options });
  let refused = false;
  const vae = await load({ threads }).catch((error) => {
    if (error.code !== "invalid-option") throw error;
    refused = true;
    return load({});
  });
  return {
    facts: { threads: refused ? undefined : vae.info.device.threads },
    async run({ side }) {
      const asked = performance.now();
      const { data } = await vae.decode({ channels: CHANNELS, height: side, width: side, data: latents(side) }, { memoryBytes: 4e9 });
      return { ms: performance.now() - asked, result: [...data] };
    },
    end: () => vae.dispose(),
  };
}

async function ort({ threads }) {
  const library = await import("/ort/ort.wasm.min.mjs");
  library.env.wasm.numThreads = threads;
  library.env.wasm.wasmPaths = "/ort/";
  const sessions = {};
  return {
    facts: { threads },
    async run({ side }) {
      sessions[side] ??= await library.InferenceSession.create(`/onnx/taef2_decoder_${side}.onnx`, { executionProviders: ["wasm"] });
      const feed = { latents: new library.Tensor("float32", latents(side), [1, CHANNELS, side, side]) };
      const asked = performance.now();
      const values = await (await sessions[side].run(feed)).picture.getData();
      const ms = performance.now() - asked;
      const pixels = values.length / 3;
      const rgba = new Uint8ClampedArray(4 * pixels).fill(255);
      for (let p = 0; p < pixels; p++) for (let c = 0; c < 3; c++) rgba[4 * p + c] = Math.round(255 * values[c * pixels + p]);
      return { ms, result: [...rgba] };
    },
    end: () => Promise.all(Object.values(sessions).map((session) => session.release())),
  };
}
