// OpenAI's chat-completions shape over `TextModel.generate`, for programs already written for it.
import { abortError, EmberglassError } from "./errors.js";
import type { TextModel } from "./model.js";
import type { ChatMessage, GenerateOptions, GenerateResult, Generation } from "./types.js";

/** A message as OpenAI's clients send it; of content parts only text is taken. */
export interface CompletionMessage {
  role: "system" | "developer" | "user" | "assistant";
  content: string | readonly { type: "text"; text: string }[];
}

/** OpenAI's names; those it lacks (`top_k`, `min_p`, `repetition_penalty`) are named as other servers do. */
export interface CompletionParams {
  messages: readonly CompletionMessage[];
  /** Only echoed back: one model is loaded. */
  model?: string | undefined;
  stream?: boolean | null | undefined;
  stream_options?: { include_usage?: boolean | undefined } | null | undefined;
  /** Only 1. */
  n?: number | null | undefined;
  max_tokens?: number | null | undefined;
  max_completion_tokens?: number | null | undefined;
  stop?: string | string[] | null | undefined;
  seed?: number | null | undefined;
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  top_k?: number | null | undefined;
  min_p?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  repetition_penalty?: number | null | undefined;
  logit_bias?: Record<string, number> | null | undefined;
}

/** Tokens read and written. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** `length` stands for a full context too. */
export type CompletionFinishReason = "stop" | "length";

/** A whole answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: 0;
    message: { role: "assistant"; content: string; refusal: null };
    finish_reason: CompletionFinishReason;
    logprobs: null;
  }[];
  usage: CompletionUsage;
}

/** One piece of a streamed answer. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: 0;
    delta: { role?: "assistant" | undefined; content?: string | undefined };
    finish_reason: CompletionFinishReason | null;
    logprobs: null;
  }[];
  /** Only with `stream_options.include_usage`, on the last chunk, which has no choices. */
  usage?: CompletionUsage | null | undefined;
}

/** A streamed answer; `controller.abort()` or leaving the loop stops it. */
export interface ChatCompletionStream extends AsyncIterable<ChatCompletionChunk> {
  readonly controller: AbortController;
}

/** `model.chat.completions`. */
export class ChatCompletions {
  readonly #model: TextModel;

  /** @internal */
  constructor(model: TextModel) {
    this.#model = model;
  }

  /**
   * Answers a conversation. What is left out takes this engine's defaults, not OpenAI's.
   *
   * @throws {@link EmberglassError} as `TextModel.generate`; `invalid-option` for what is not supported;
   * an `AbortError` when `signal` fires. A stream that is stopped ends without an error and without a
   * `finish_reason`, as with OpenAI's client.
   */
  create(params: CompletionParams & { stream: true }, options?: { signal?: AbortSignal | undefined }): Promise<ChatCompletionStream>;
  create(params: CompletionParams & { stream?: false | null | undefined }, options?: { signal?: AbortSignal | undefined }): Promise<ChatCompletion>;
  create(params: CompletionParams, options?: { signal?: AbortSignal | undefined }): Promise<ChatCompletion | ChatCompletionStream>;
  async create(
    params: CompletionParams,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<ChatCompletion | ChatCompletionStream> {
    if (signal?.aborted) throw abortError(signal);
    if ((params.n ?? 1) !== 1) throw invalid("n", params.n, "only 1 is supported");
    const messages = params.messages.map(toMessage);
    const common = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model: params.model ?? this.#model.info.name,
    };
    const controller = new AbortController();
    const stop = signal ? AbortSignal.any([controller.signal, signal]) : controller.signal;
    const generation = this.#model.generate(messages, { ...toOptions(params), signal: stop });
    if (params.stream) {
      const withUsage = params.stream_options?.include_usage === true;
      return { controller, [Symbol.asyncIterator]: () => chunks(generation, common, withUsage) };
    }
    const result = await generation.result;
    // OpenAI's shape cannot say "stopped by the caller", so a stopped answer is no answer.
    if (result.finishReason === "aborted") throw abortError(stop);
    return {
      ...common,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: result.text, refusal: null },
          finish_reason: finishReason(result),
          logprobs: null,
        },
      ],
      usage: usage(result),
    };
  }
}

async function* chunks(
  generation: Generation,
  common: { id: string; created: number; model: string },
  withUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void, undefined> {
  const chunk = (
    delta: { role?: "assistant" | undefined; content?: string | undefined },
    finish: CompletionFinishReason | null = null,
  ): ChatCompletionChunk => ({
    ...common,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, finish_reason: finish, logprobs: null }],
    ...(withUsage ? { usage: null } : {}),
  });
  try {
    yield chunk({ role: "assistant", content: "" });
    for await (const content of generation) yield chunk({ content });
    const result = await generation.result;
    if (result.finishReason === "aborted") return;
    yield chunk({}, finishReason(result));
    if (withUsage) yield { ...common, object: "chat.completion.chunk", choices: [], usage: usage(result) };
  } catch (error) {
    if (error instanceof EmberglassError && error.code === "aborted") return;
    throw error;
  } finally {
    generation.abort();
  }
}

function toMessage({ role, content }: CompletionMessage): ChatMessage {
  const roles: Record<string, ChatMessage["role"]> = { system: "system", developer: "system", user: "user", assistant: "assistant" };
  const known = roles[role];
  if (!known) throw invalid("messages[].role", role, "system, developer, user or assistant");
  if (typeof content === "string") return { role: known, content };
  const texts = content.map((part) => {
    if (part.type !== "text") throw invalid("messages[].content[].type", part.type, "text");
    return part.text;
  });
  return { role: known, content: texts.join("") };
}

function toOptions(params: CompletionParams): GenerateOptions {
  const named: Record<keyof Omit<GenerateOptions, "signal" | "penaltyWindow">, unknown> = {
    maxTokens: params.max_completion_tokens ?? params.max_tokens,
    stop: typeof params.stop === "string" ? [params.stop] : params.stop,
    seed: params.seed,
    temperature: params.temperature,
    topP: params.top_p,
    topK: params.top_k,
    minP: params.min_p,
    presencePenalty: params.presence_penalty,
    frequencyPenalty: params.frequency_penalty,
    repetitionPenalty: params.repetition_penalty,
    logitBias: params.logit_bias,
  };
  // OpenAI's clients send null for "not given".
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined && value !== null));
}

function finishReason({ finishReason: reason }: GenerateResult): CompletionFinishReason {
  return reason === "length" || reason === "context-full" ? "length" : "stop";
}

function usage(result: GenerateResult): CompletionUsage {
  return {
    prompt_tokens: result.promptTokens,
    completion_tokens: result.generatedTokens,
    total_tokens: result.promptTokens + result.generatedTokens,
    prompt_tokens_details: { cached_tokens: result.reusedTokens },
  };
}

function invalid(option: string, value: unknown, range: string): EmberglassError {
  return new EmberglassError("invalid-option", `option ${option} = ${String(value)} is out of range (${range})`);
}
