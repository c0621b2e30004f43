/**
 * Emberglass: small language models on WebGPU or the CPU, in a Web Worker.
 *
 * ```ts
 * const model = await loadTextModel("model.gguf", { onProgress: console.log });
 * const chat = model.createChat({ system: "You are terse." });
 * for await (const piece of chat.send("Hello!")) output.append(piece);
 * await model.dispose();
 * ```
 *
 * @packageDocumentation
 */
export { loadTextModel } from "./load.js";
export { supported, type Support } from "./supported.js";
export { EmberglassError, type ErrorCode } from "./errors.js";
// Types only: these are made by the functions above, never by `new`.
export type { TextModel } from "./model.js";
export type { Chat, ChatOptions } from "./chat.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletions,
  ChatCompletionStream,
  CompletionFinishReason,
  CompletionMessage,
  CompletionParams,
  CompletionUsage,
} from "./completions.js";
export type {
  ChatMessage,
  DeviceChoice,
  DeviceInfo,
  GenerateOptions,
  GenerateResult,
  Generation,
  LoadOptions,
  LoadPhase,
  LoadProgress,
  ModelInfo,
  ModelSource,
  SamplingOptions,
} from "./types.js";
