// OpenAI's chat-completions shape over `TextModel.generate`, for programs already written for it.
import { abortError, EmberglassError } from "./errors.js";
import type { TextModel } from "./model.js";
import * as check from "./options.js";
import type { ChatMessage, GenerateOptions, GenerateResult, Generation } from "./types.js";

/**
 * A message as OpenAI's clients send it. Of content parts only text is taken, and `null` is an empty text. The members
 * behind `content` have to be empty: an answer that is sent back has some of them.
 */
export interface CompletionMessage {
  role: "system" | "developer" | "user" | "assistant";
  content: string | readonly TextPart[] | null;
  refusal?: null | undefined;
  annotations?: readonly never[] | null | undefined;
  audio?: null | undefined;
  tool_calls?: readonly never[] | null | undefined;
  function_call?: null | undefined;
  /** Who speaks, and of a tool's message which call it answers: chat templates have no place for either. */
  name?: null | undefined;
  tool_call_id?: null | undefined;
}

interface TextPart {
  type: "text";
  text: string;
}

/**
 * OpenAI's names; those it lacks (`top_k`, `min_p`, `repetition_penalty`) are named as other servers do. `null` means
 * "not given". Whatever would change the answer and is not there yet is `invalid-option`.
 */
export interface CompletionParams extends NeutralParams {
  messages: readonly CompletionMessage[];
  /** Only echoed back: one model is loaded. */
  model?: string | null | undefined;
  stream?: boolean | null | undefined;
  stream_options?: { include_usage?: boolean | null | undefined; include_obfuscation?: false | null | undefined } | null | undefined;
  /** Not together with `max_completion_tokens`, which means the same. */
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

/**
 * What programs for OpenAI send and what changes no answer here: values that ask for nothing, and names that only
 * OpenAI's service has a use for. Other values of these are `invalid-option`.
 */
export interface NeutralParams {
  n?: number | null | undefined;
  logprobs?: false | null | undefined;
  top_logprobs?: 0 | null | undefined;
  response_format?: { type: "text" } | null | undefined;
  modalities?: readonly "text"[] | null | undefined;
  verbosity?: "medium" | null | undefined;
  service_tier?: "auto" | "default" | null | undefined;
  store?: false | null | undefined;
  /** Without tools there is nothing to choose from. */
  tools?: readonly never[] | null | undefined;
  tool_choice?: "none" | "auto" | null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
  functions?: readonly never[] | null | undefined;
  function_call?: "none" | "auto" | null | undefined;
  /** The following name the request for OpenAI's records and cache. */
  user?: string | null | undefined;
  safety_identifier?: string | null | undefined;
  metadata?: Record<string, string> | null | undefined;
  prompt_cache_key?: string | null | undefined;
  prompt_cache_retention?: string | null | undefined;
}

const NEUTRAL: check.Kinds<NeutralParams> = {
  n: check.only(1),
  logprobs: check.only<false>(false),
  top_logprobs: check.only<0>(0),
  response_format: check.only<{ type: "text" }>({ type: "text" }),
  modalities: check.only<readonly "text"[]>(["text"]),
  verbosity: check.only<"medium">("medium"),
  service_tier: check.only<"auto" | "default">("auto", "default"),
  store: check.only<false>(false),
  tools: check.only<readonly never[]>([]),
  tool_choice: check.only<"none" | "auto">("none", "auto"),
  parallel_tool_calls: check.flag,
  functions: check.only<readonly never[]>([]),
  function_call: check.only<"none" | "auto">("none", "auto"),
  user: check.text,
  safety_identifier: check.text,
  metadata: check.textsByName,
  prompt_cache_key: check.text,
  prompt_cache_retention: check.text,
};

/** Known, so that the error says more than "not known"; there is no value under which nothing is left undone. */
const UNSUPPORTED: check.Kinds<Record<"audio" | "moderation" | "prediction" | "prompt_cache_options" | "reasoning_effort" | "web_search_options", never>> = {
  audio: check.only(),
  moderation: check.only(),
  prompt_cache_options: check.only(),
  prediction: check.only(),
  reasoning_effort: check.only(),
  web_search_options: check.only(),
};

const STREAM_OPTIONS: check.Kinds<NonNullable<CompletionParams["stream_options"]>> = {
  include_usage: check.flag,
  include_obfuscation: check.only<false>(false),
};

const PARAMS: check.Kinds<CompletionParams> = {
  ...NEUTRAL,
  ...UNSUPPORTED,
  messages: check.listOf(completionMessage),
  model: check.text,
  stream: check.flag,
  stream_options: (value, of) => check.members(value, STREAM_OPTIONS, { of, nullable: true }),
  max_tokens: check.number,
  max_completion_tokens: check.number,
  stop: (value, label) => (typeof value === "string" ? value : check.texts(value, label)),
  seed: check.number,
  temperature: check.number,
  top_p: check.number,
  top_k: check.number,
  min_p: check.number,
  presence_penalty: check.number,
  frequency_penalty: check.number,
  repetition_penalty: check.number,
  logit_bias: check.numbersByName,
};

/** OpenAI's name for each of this package's options. */
type Names = Record<keyof Omit<GenerateOptions, "signal" | "penaltyWindow">, keyof CompletionParams>;

const NAMES: Names = {
  maxTokens: "max_tokens",
  stop: "stop",
  seed: "seed",
  temperature: "temperature",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  repetitionPenalty: "repetition_penalty",
  logitBias: "logit_bias",
};

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

/** One piece of a streamed answer. No member is ever undefined, so that it is one of OpenAI's own type. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string };
    finish_reason: CompletionFinishReason | null;
    logprobs: null;
  }[];
  /** Only with `stream_options.include_usage`, on the last chunk, which has no choices. */
  usage?: CompletionUsage | null;
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
   * Answers a conversation. What is left out takes the model's defaults ({@link ModelInfo.sampling}), not OpenAI's.
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
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<ChatCompletion | ChatCompletionStream> {
    const { signal } = check.options("chat.completions.create", check.SIGNAL, options);
    const checked = checkedParams(params);
    if (signal?.aborted) throw abortError(signal);
    const common = {
      id: `chatcmpl-${randomId()}`,
      created: Math.floor(Date.now() / 1000),
      model: checked.model ?? this.#model.info.name,
    };
    const controller = new AbortController();
    const stop = signal ? AbortSignal.any([controller.signal, signal]) : controller.signal;
    // The messages have been checked, and are this package's now.
    const names: Names = checked.max_completion_tokens === undefined ? NAMES : { ...NAMES, maxTokens: "max_completion_tokens" };
    const generation = this.#model.generate(checked.messages as ChatMessage[], { ...toOptions(checked, names), signal: stop });
    if (checked.stream) {
      const withUsage = checked.stream_options?.include_usage === true;
      return { controller, [Symbol.asyncIterator]: () => chunks(generation, common, names, withUsage) };
    }
    const result = await generation.result.catch((error: unknown) => {
      throw inTheirNames(error, names);
    });
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
  names: Names,
  withUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void, undefined> {
  const chunk = (
    delta: { role?: "assistant"; content?: string },
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
    throw inTheirNames(error, names);
  } finally {
    generation.abort();
  }
}

function checkedParams(params: unknown): CompletionParams {
  const checked = check.members<CompletionParams>(params, PARAMS, {
    of: "chat.completions.create",
    noun: "option",
    required: ["messages"],
    nullable: true,
  });
  const { max_tokens, max_completion_tokens } = checked;
  if (max_tokens !== undefined && max_completion_tokens !== undefined && max_tokens !== max_completion_tokens) {
    const message = `options max_tokens = ${max_tokens} and max_completion_tokens = ${max_completion_tokens} mean the same: give one of them`;
    throw new EmberglassError("invalid-option", message);
  }
  return checked;
}

/** Declared as a function: the table above uses it. */
function completionMessage(value: unknown, of: string): ChatMessage {
  const kinds: check.Kinds<CompletionMessage> = {
    role: check.oneOf("system", "developer", "user", "assistant"),
    content: (given, label) => (check.isArray(given) ? textOfParts(given, label) : check.content(given, label)),
    refusal: check.only<null>(),
    annotations: check.only<readonly never[]>([]),
    audio: check.only<null>(),
    tool_calls: check.only<readonly never[]>([]),
    function_call: check.only<null>(),
    name: check.only<null>(),
    tool_call_id: check.only<null>(),
  };
  const { role, content } = check.members<CompletionMessage>(value, kinds, { of, required: ["role", "content"] });
  return { role: role === "developer" ? "system" : role, content: content as string };
}

function textOfParts(parts: readonly unknown[], of: string): string {
  const kinds: check.Kinds<TextPart> = { type: check.oneOf("text"), text: check.text };
  const textOf: check.Kind<string> = (part, label) =>
    check.members<TextPart>(part, kinds, { of: label, required: ["type", "text"] }).text;
  return check.listOf(textOf)(parts, of).join("");
}

function toOptions(params: CompletionParams, names: Names): GenerateOptions {
  const named = Object.entries(names).map(([ours, theirs]) => [ours, params[theirs]] as const);
  const given = Object.fromEntries(named.filter(([, value]) => value !== undefined));
  return typeof given.stop === "string" ? { ...given, stop: [given.stop] } : given;
}

/** The engine's errors have this package's names of options. */
function inTheirNames(error: unknown, names: Names): unknown {
  if (!(error instanceof EmberglassError) || error.code !== "invalid-option") return error;
  const theirs = (ours: string) => (Object.hasOwn(names, ours) ? names[ours as keyof Names] : ours);
  const message = error.message.replace(/^option (\w+)/, (_, ours: string) => `option ${theirs(ours)}`);
  return new EmberglassError(error.code, message, { cause: error, detail: error.detail && theirs(error.detail) });
}

/** 128 random bits in hexadecimal digits. Pages without https have no `crypto.randomUUID`. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
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
