/**
 * Emberglass: small language models and image decoders on WebGPU or the CPU, in a Web Worker.
 *
 * ```ts
 * const model = await loadTextModel("model.gguf", { onProgress: console.log });
 * const chat = model.createChat({ system: "You are terse." });
 * for await (const piece of chat.send("Hello!")) output.append(piece);
 * await model.dispose();
 *
 * const vae = await loadImageDecoder("decoder.safetensors");
 * context.putImageData((await vae.decode(latents)).image, 0, 0);
 * ```
 *
 * @packageDocumentation
 */
export { canRun, loadImageDecoder, loadTextModel, readModelHeader } from "./load.js";
export { models } from "./models.js";
export { readLatents, writeLatents } from "./latent-file.js";
export { type GpuRates, measureGpu } from "./measure.js";
export { supported, type Support } from "./supported.js";
export { EmberglassError, type ErrorCode, type KnownErrorCode } from "./errors.js";
// Types only: these are made by the functions above, never by `new`.
export type { Models } from "./models.js";
export type { TextModel, TokenizeOptions } from "./model.js";
export type { Chat, ChatOptions } from "./chat.js";
export type { ImageDecoder } from "./image-decoder.js";
export type { DecodedPicture, PictureSource } from "./picture.js";
export type { DecodeOptions, DecodeStats, EncodeOptions, ImageDecoderInfo, ImageLoadOptions, Latents, Precision, ShownPicture } from "./image-types.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletions,
  ChatCompletionStream,
  CompletionFinishReason,
  CompletionMessage,
  CompletionParams,
  CompletionUsage,
  NeutralParams,
} from "./completions.js";
export type {
  CanRun,
  CanRunOptions,
  CanRunReason,
  ChatMessage,
  DeviceChoice,
  DeviceInfo,
  DownloadOptions,
  EngineAddresses,
  FileSource,
  GenerateOptions,
  GenerateResult,
  Generation,
  HeaderOptions,
  ImportOptions,
  KeepingPhase,
  KeepingProgress,
  KvType,
  LoadOptions,
  LoadPhase,
  LoadProgress,
  ModelHeader,
  ModelInfo,
  ModelSource,
  NetworkOptions,
  SamplingDefault,
  SamplingOptions,
  SamplingOrigin,
  SourceOptions,
  StorageReport,
  StorageUsage,
  StoredModel,
  VerifyOptions,
  VerifyResult,
} from "./types.js";
