import { Chat, type ChatOptions } from "./chat.js";
import { ChatCompletions } from "./completions.js";
import type { EngineClient } from "./engine-client.js";
import { EmberglassError } from "./errors.js";
import { attempted, StreamedGeneration } from "./generation.js";
import * as check from "./options.js";
import type { GenerateRequest, Verb, Verbs } from "./protocol.js";
import { SerialQueue } from "./serial-queue.js";
import { within } from "./within.js";
import type { ChatMessage, GenerateOptions, GenerateResult, Generation, ModelInfo } from "./types.js";

/** `MAX_TEXT_BYTES` of `src/text/tokenizer.rs`. A text has at least as many bytes as `length` counts. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;

/** How long the worker may take to free its memory before it is ended from outside. */
const DISPOSE_GRACE_MS = 2000;

/** The prompt of one generation, made when its turn comes, and told how it went. */
export interface Turn {
  /** Called when the queue reaches the request: what the model shall read, as of then. */
  begin(): Pick<GenerateRequest, "messages" | "prompt">;
  /** Called before the result reaches the caller, and before the next request begins. */
  end?(result: GenerateResult): void;
  /** The same, when the request failed after `begin`. */
  fail?(error: unknown): void;
}

const GENERATE: check.Kinds<GenerateOptions> = {
  maxTokens: check.number,
  stop: check.texts,
  seed: check.number,
  ...check.SAMPLING,
  logitBias: check.numbersByName,
  signal: check.signal,
};

/** How to read a text. */
export interface TokenizeOptions {
  /** Read special-token text such as `<|im_end|>` as control tokens. Default false. */
  special?: boolean | undefined;
  /** Cancels; the promise rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

const TOKENIZE: check.Kinds<TokenizeOptions> = { special: check.flag, signal: check.signal };

/** Token ids have 32 bits; the engine knows how many tokens there are. */
const tokenIdList = check.listOf(check.wholeNumber(0, 2 ** 32 - 1));

const tokenIds: check.Kind<Uint32Array> = (value, label) => {
  if (check.kindOf(value) !== "Uint32Array") return Uint32Array.from(tokenIdList(value, label));
  try {
    return (value as Uint32Array).slice();
  } catch {
    throw check.invalid(label, value, "without content: its buffer was transferred");
  }
};

/**
 * A loaded language model. Made by `loadTextModel`.
 *
 * Requests are computed one after another in the order they were made; those that wait can be
 * cancelled. All methods reject with {@link EmberglassError}: `disposed` after {@link TextModel.dispose},
 * `wasm-trap` or `worker-failed` once the worker has died, `device-lost` once the GPU has gone.
 */
export class TextModel {
  /** What was loaded, and what it runs on. */
  readonly info: ModelInfo;
  /** OpenAI's shape: `model.chat.completions.create({ messages, stream: true })`. */
  readonly chat: { readonly completions: ChatCompletions };

  readonly #client: EngineClient;
  readonly #queue = new SerialQueue();
  readonly #lifetime = new AbortController();
  #disposing: Promise<void> | undefined;

  /** @internal The worker, for image decoders that share it. */
  get client(): EngineClient {
    return this.#client;
  }

  /** @internal */
  constructor(client: EngineClient, info: ModelInfo) {
    this.#client = client;
    this.info = info;
    this.chat = { completions: new ChatCompletions(this) };
  }

  /**
   * Continues a text, as every model can, or answers messages by way of the file's chat template. Special-token text
   * in a text to continue, such as `<|im_end|>`, acts as a control token. The result's `text` is the continuation alone.
   *
   * @throws (through the returned generation) {@link EmberglassError} `context-overflow`; `empty-prompt` where there is
   * no text at all; `invalid-option`, `no-chat-template`, `template`, `device-lost`, `out-of-memory`.
   */
  generate(input: string | readonly ChatMessage[], options: GenerateOptions = {}): Generation {
    return attempted(() => {
      if (typeof input !== "string" && !check.isArray(input)) {
        throw check.invalid("argument input", input, "neither a text to continue nor an array of messages");
      }
      const prompt = typeof input === "string" ? { prompt: input } : { messages: check.messages(input, "messages") };
      return this.start({ begin: () => prompt }, "generate", options);
    });
  }

  /**
   * A conversation that keeps its own history. Any number may share one model.
   *
   * @throws {@link EmberglassError} `no-chat-template` where {@link ModelInfo.hasChatTemplate} is false; `invalid-option`
   * for two system prompts, one in the middle, and for what is not known in the options or messages.
   */
  createChat(options: ChatOptions = {}): Chat {
    if (!this.info.hasChatTemplate) {
      const message = "this model has no chat template, so it holds no conversation: continue a text with generate(text)";
      throw new EmberglassError("no-chat-template", message);
    }
    return new Chat(this, options);
  }

  /**
   * Token ids of a text. Waits for its turn behind running generations.
   *
   * @throws {@link EmberglassError} `text-too-long` above 8 MiB; `invalid-option`.
   */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Uint32Array> {
    check.text(text, "argument text");
    const { special = false, signal } = check.options("tokenize", TOKENIZE, options);
    // Refused here, before the text is copied into the worker.
    if (text.length > MAX_TEXT_BYTES) {
      const message = `the text has more than the ${MAX_TEXT_BYTES} bytes that are made tokens at once: divide it`;
      throw new EmberglassError("text-too-long", message);
    }
    return this.#enqueue("tokenize", { text, special }, signal);
  }

  /**
   * The text of token ids.
   *
   * @throws {@link EmberglassError} `invalid-option` for an id that is not in the vocabulary.
   */
  async detokenize(ids: Uint32Array | readonly number[], options: { signal?: AbortSignal | undefined } = {}): Promise<string> {
    const checked = tokenIds(ids, "argument ids");
    const { signal } = check.options("detokenize", check.SIGNAL, options);
    return this.#enqueue("detokenize", { ids: checked }, signal);
  }

  /** How many tokens a text takes. */
  async countTokens(text: string, options: TokenizeOptions = {}): Promise<number> {
    return (await this.tokenize(text, options)).length;
  }

  /**
   * Stops what runs, rejects what waits with code `disposed`, frees the memory and ends the workers.
   * Calling it again does nothing more. Never rejects.
   */
  dispose(): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  /** `await using model = …`. Browsers without the symbol ignore it; call {@link TextModel.dispose} there. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** Names the object in consoles, and tells frameworks such as Vue that it is no plain object to make reactive. */
  get [Symbol.toStringTag](): string {
    return "TextModel";
  }

  /** @internal Queues one generation. @throws {@link EmberglassError} `invalid-option`. */
  start(turn: Turn, of: string, options: GenerateOptions, ...signals: AbortSignal[]): Generation {
    const { signal, ...sampling } = check.options(of, GENERATE, options);
    const stops = [this.#lifetime.signal, ...signals];
    if (signal) stops.push(signal);
    return new StreamedGeneration(
      (push, stop) =>
        this.#queue.run(async () => {
          const request = { ...sampling, ...turn.begin() };
          try {
            this.#checkLength(request);
            const result = await this.#client.call("generate", request, { signal: stop, onEvent: push });
            this.info.device.threads = result.stats.threads;
            turn.end?.(result);
            return result;
          } catch (error) {
            turn.fail?.(error);
            throw error;
          }
        }, stop),
      stops,
    );
  }

  /** Refuses a prompt that is too long for any context, before it is copied into the worker. */
  #checkLength({ prompt, messages }: Pick<GenerateRequest, "messages" | "prompt">): void {
    const length = (messages ?? []).reduce((sum, { content }) => sum + (content?.length ?? 0), prompt?.length ?? 0);
    if (length <= MAX_TEXT_BYTES) return;
    const message = `the prompt has more than ${MAX_TEXT_BYTES} bytes, and the context holds ${this.info.contextLength} tokens: shorten it`;
    throw new EmberglassError("context-overflow", message);
  }

  #enqueue<V extends Verb>(verb: V, args: Verbs[V]["args"], signal?: AbortSignal): Promise<Verbs[V]["result"]> {
    return this.#queue.run(() => this.#client.call(verb, args, { signal }), signal);
  }

  async #dispose(): Promise<void> {
    const reason = new EmberglassError("disposed", "the model was disposed");
    // Closed before the abort, so that waiting requests learn the true reason. The running request
    // must end first: memory in use cannot be freed.
    const idle = this.#queue.close(reason);
    this.#lifetime.abort(reason);
    const freed = idle.then(() => this.#client.call("dispose", null));
    // The worker ends either way, and its memory with it.
    await within(DISPOSE_GRACE_MS, freed, "the memory was not freed").catch(() => {});
    this.#client.close(reason);
  }
}
