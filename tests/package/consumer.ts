// What a user of the package may write. package.test.mjs compiles it with the oldest and the newest TypeScript.
import { EmberglassError, loadImageDecoder, loadTextModel, measureGpu, supported, type Latents, type LoadOptions, type TextModel } from "emberglass";
import * as inline from "emberglass/inline";

const unknown: undefined = undefined;
const options: LoadOptions = { signal: unknown, device: unknown, threads: unknown, onProgress: unknown, workerUrl: unknown, wasmUrl: unknown };

export async function chat(out: { append(text: string): void }): Promise<string> {
  const { simd, reason } = await supported();
  if (!simd) throw new Error(reason);
  const model: TextModel = await loadTextModel("model.gguf", options);
  const conversation = model.createChat({ system: unknown, messages: unknown });
  for await (const piece of conversation.send("Hello!", { temperature: unknown, signal: unknown, stop: unknown })) out.append(piece);
  const { usage } = await model.chat.completions.create({ messages: [{ role: "user", content: "Hello!" }], max_tokens: unknown });
  await model.dispose();
  return `${model.info.device.reason} ${usage.total_tokens}`;
}

export async function picture(latents: Latents, context: CanvasRenderingContext2D): Promise<void> {
  const decoder = await inline.loadImageDecoder(new Blob([]), { precision: unknown, shareWith: unknown });
  const { data, width, height } = await decoder.decode(latents, { onTile: unknown });
  context.putImageData(new ImageData(data, width, height), 0, 0);
}

export async function rates(): Promise<number | string> {
  try {
    return (await measureGpu()).copyBytesPerSecond;
  } catch (error) {
    return error instanceof EmberglassError ? error.code : String(error);
  }
}

void loadImageDecoder;
