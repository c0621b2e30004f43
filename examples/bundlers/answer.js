// What every example does: it loads a model and lets it go on with a text.
import { loadTextModel } from "emberglass";

export async function answer(threads) {
  const model = await loadTextModel("/tiny.gguf", { device: "cpu", threads, contextLength: 64 });
  const { text } = await model.generate("a", { maxTokens: 8, temperature: 0 }).result;
  const { device } = model.info;
  await model.dispose();
  return { text, threads: device.threads, reason: device.reason };
}
