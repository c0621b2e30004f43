// Emberglass, through its package.
import { type LoadOptions, loadTextModel } from "emberglass";
import type { Contestant } from "./contest.js";

/** @param suppressed ids of tokens that shall not come, so that no text ends early. */
export async function loadEmberglass(
  model: string,
  context: number,
  suppressed: number[],
  options: LoadOptions,
): Promise<Contestant> {
  const loaded = await loadTextModel(model, { storage: "none", ...options, contextLength: context });
  const logitBias = Object.fromEntries(suppressed.map((id) => [id, -1000]));
  const { device, layerParameters } = loaded.info;
  return {
    device: device.kind === "webgpu" ? `WebGPU, ${device.adapter}` : device.features.join(", "),
    threads: device.threads,
    async generate(prompt, tokens) {
      // Of the prompt before this one nothing may be left in the cache.
      await loaded.generate("Another text.", { temperature: 0, maxTokens: 1, logitBias }).result;
      const result = await loaded.generate(prompt, { temperature: 0, maxTokens: tokens, logitBias }).result;
      if (result.reusedTokens > 1) throw new Error(`${result.reusedTokens} prompt tokens came from the cache`);
      if (result.generatedTokens !== tokens) throw new Error(`${result.generatedTokens} tokens, not ${tokens}`);
      const { stats } = result;
      return {
        promptTokens: result.promptTokens,
        text: result.text,
        firstTokenMs: stats.timeToFirstTokenMs,
        decodeTokensPerSecond: stats.decodeTokensPerSecond,
        traffic: {
          dispatches: stats.dispatchesPerToken,
          submits: stats.submitsPerToken,
          readbacks: stats.readbacksPerToken,
          weightBytes: stats.weightBytesPerToken,
        },
      };
    },
    holdings: () => ({
      wasmBytes: loaded.info.wasmHeapBytes,
      ...(device.kind === "webgpu" ? { gpuBytes: loaded.info.gpuBytes } : {}),
      layerParameters,
    }),
    dispose: () => loaded.dispose(),
  };
}
