// What the GPU bundle measures in a page of the npm package: frames while a text is generated, and decodes to a canvas.
// The runner calls these (xtask/src/gpu_web.rs); each returns what its table shows.
import { loadImageDecoder, loadTextModel, measureGpu } from "./dist/index.js";

/** The gaps between frames while something runs, in ms, beside what it returns. */
async function watched(run) {
  const gaps = [];
  let last = performance.now();
  let ended = false;
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    if (!ended) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const result = await run();
  ended = true;
  // The first gap began before anything ran.
  const sorted = gaps.slice(1).sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
  return { result, frames: { count: sorted.length, medianMs: at(0.5), p99Ms: at(0.99), worstMs: at(1) } };
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/** SmolLM2's ends of text: suppressed, so that a text has as many tokens as are asked for. */
const ON_AND_ON = { 0: -1000, 2: -1000, 4: -1000 };

let model;

/** Loads the default model on the GPU; the adapter's rates. */
export async function load() {
  const rates = await measureGpu();
  const { default: offered } = await (await fetch("/models/manifest.json")).json();
  const begun = performance.now();
  model = await loadTextModel(`/${offered.url}`, { device: "webgpu", contextLength: 1024 });
  const { kind, adapter, isFallbackAdapter, kernels, features } = model.info.device;
  return { loadSeconds: (performance.now() - begun) / 1000, kind, adapter, isFallbackAdapter, kernels, features, rates };
}

/** Time to the first token of short prompts, and the frames while a longer text is generated. */
export async function generate(tokens) {
  const first = [];
  for (let run = 0; run < 6; run++) {
    // 30 words are about as many tokens; the number keeps the cache from knowing the prompt.
    const prompt = `${run} ${"The old lighthouse keeper counted ships along the grey coast. ".repeat(3)}`;
    const { promptTokens, stats } = await model.generate(prompt, { temperature: 0, maxTokens: 2 }).result;
    if (run > 0) first.push({ promptTokens, ms: stats.timeToFirstTokenMs });
  }
  const { result, frames } = await watched(
    () => model.generate("The old lighthouse keeper", { temperature: 0, maxTokens: tokens, logitBias: ON_AND_ON }).result,
  );
  const { stats, generatedTokens, text } = result;
  if (generatedTokens !== tokens) throw new Error(`${generatedTokens} tokens, not ${tokens}`);
  return {
    firstToken: { promptTokens: first[0].promptTokens, ms: median(first.map(({ ms }) => ms)) },
    generatedTokens,
    decodeTokensPerSecond: stats.decodeTokensPerSecond,
    dispatchesPerToken: stats.dispatchesPerToken,
    submitsPerToken: stats.submitsPerToken,
    readbacksPerToken: stats.readbacksPerToken,
    frames,
    text: text.slice(0, 60),
  };
}

/** Decodes of a side in pixels to a canvas, and to an ImageData. */
export async function decode(side, runs) {
  const vae = await loadImageDecoder("/emoji/emoji-vae.safetensors", { device: "webgpu", shareWith: model });
  const [canvas, cells] = [document.body.appendChild(document.createElement("canvas")), side / 16];
  const data = Float32Array.from({ length: 16 * cells * cells }, (_, i) => Math.sin(i * 0.37));
  const latents = { channels: 16, height: cells, width: cells, data };
  const times = async (work) => {
    const all = [];
    for (let run = 0; run <= runs; run++) {
      const begun = performance.now();
      await work();
      if (run > 0) all.push(performance.now() - begun);
    }
    return median(all);
  };
  const { result: canvasMs, frames } = await watched(() => times(() => vae.decodeTo(canvas, latents)));
  const readMs = await times(() => vae.decode(latents));
  await vae.dispose();
  canvas.remove();
  return { side, canvasMs, readMs, precision: vae.info.precision ?? null, frames };
}
