import { EmberglassError } from "./errors.js";
import { attempted } from "./generation.js";
import type { TextModel, Turn } from "./model.js";
import * as check from "./options.js";
import type { ChatMessage, GenerateOptions, Generation } from "./types.js";

/** How a conversation begins. */
export interface ChatOptions {
  /** System prompt. Default: none, or what the model's template says by itself. */
  system?: string | undefined;
  /** Earlier messages to go on from; a leading system message counts as `system`. */
  messages?: readonly ChatMessage[] | undefined;
}

const CHAT: check.Kinds<ChatOptions> = { system: check.text, messages: check.messages };

/** Errors of a message that this model cannot read. It was not said then: the next one may be better. */
const UNREADABLE: readonly unknown[] = ["context-overflow", "empty-prompt", "invalid-option", "template", "text-too-long", "tokenizer"];

/**
 * A conversation with a {@link TextModel}. Made by `model.createChat`.
 *
 * What happens to the history ({@link Chat.messages}):
 * - the user's message is added when its generation begins (not while it waits in the queue);
 * - the answer is added when it is complete, and a partial one when it was stopped;
 * - a message that the model cannot read is taken out again: one that overflows the context (`context-overflow`), an empty
 *   one (`empty-prompt`), one with a wrong option. The conversation is as it was before, and goes on with the next message;
 * - after any other error, or a stop before the first word, the user's message stays, unanswered:
 *   {@link Chat.regenerate} answers it, {@link Chat.undo} takes it back, and {@link Chat.send} adds to it.
 *
 * Once a conversation fills the context, every message overflows. {@link Chat.undo} makes room for one of the size of the
 * last, {@link Chat.reset} for all; or load the model with a larger `contextLength` and go on with `createChat({ messages })`.
 */
export class Chat {
  readonly #model: TextModel;
  #system: string | undefined;
  #turns: ChatMessage[];
  #stop = new AbortController();

  /** @internal @throws {@link EmberglassError} `invalid-option` for two system prompts, or one in the middle. */
  constructor(model: TextModel, options: ChatOptions) {
    const { system, messages = [] } = check.options("createChat", CHAT, options);
    const [first, ...rest] = messages;
    const leads = first?.role === "system";
    this.#turns = leads ? rest : [...messages];
    if (leads && system !== undefined) throw invalid("a system prompt is given twice");
    if (this.#turns.some(({ role }) => role === "system")) throw invalid("a system message must come first");
    this.#model = model;
    this.#system = leads ? first.content : system;
  }

  /** System prompt of the messages to come; undefined for none. May be changed at any time. */
  get system(): string | undefined {
    return this.#system;
  }

  /** @throws {@link EmberglassError} `invalid-option` for what is no text. */
  set system(text: string | undefined) {
    this.#system = text === undefined ? undefined : check.text(text, "system");
  }

  /** The conversation so far, system prompt first. A copy: changing it changes nothing here. */
  get messages(): ChatMessage[] {
    const turns = this.#turns.map((turn) => ({ ...turn }));
    return this.system ? [{ role: "system", content: this.system }, ...turns] : turns;
  }

  /**
   * Says something and streams the answer. Only what is new is computed: the model keeps the rest.
   *
   * @throws (through the returned generation) {@link EmberglassError} `context-overflow` when the conversation no longer
   * fits with this message, which is not kept then; and what {@link TextModel.generate} throws.
   */
  send(text: string, options: GenerateOptions = {}): Generation {
    let turns: ChatMessage[] = [];
    let said: ChatMessage;
    return this.#answer("send", options, () => {
      said = { role: "user", content: check.text(text, "argument text") };
      return {
        begin: () => {
          turns = this.#turns;
          turns.push(said);
          return { messages: this.#request() };
        },
        end: (result) => addAnswer(turns, result.text),
        fail: (error) => {
          if (error instanceof EmberglassError && UNREADABLE.includes(error.code)) turns.splice(turns.indexOf(said), 1);
        },
      };
    });
  }

  /**
   * Answers the last user message again; the new answer takes the old one's place. The old one comes
   * back when the new one fails or is stopped before its first word.
   *
   * @throws (through the returned generation) {@link EmberglassError} `empty-prompt` when nothing was said yet.
   */
  regenerate(options: GenerateOptions = {}): Generation {
    let turns: ChatMessage[] = [];
    let old: ChatMessage[] = [];
    return this.#answer("regenerate", options, () => ({
      begin: () => {
        turns = this.#turns;
        const asked = lastUserTurn(turns);
        if (asked < 0) throw new EmberglassError("empty-prompt", "there is no message to answer yet");
        old = turns.splice(asked + 1);
        return { messages: this.#request() };
      },
      end: (result) => {
        if (!addAnswer(turns, result.text)) turns.push(...old);
      },
      fail: () => turns.push(...old),
    }));
  }

  /**
   * Takes back the last user message and what followed it, and stops answers still under way.
   * Returns the message's text; undefined if there is none, and then nothing is taken back.
   */
  undo(): string | undefined {
    const asked = lastUserTurn(this.#turns);
    const text = this.#turns[asked]?.content;
    this.#goOnFrom(asked < 0 ? [...this.#turns] : this.#turns.slice(0, asked));
    return text;
  }

  /** Forgets the conversation, keeps the system prompt, and stops answers still under way. */
  reset(): void {
    this.#goOnFrom([]);
  }

  /** See `TextModel`. */
  get [Symbol.toStringTag](): string {
    return "Chat";
  }

  /** The turns must be a new array: an answer that was under way is added to the old one. */
  #goOnFrom(turns: ChatMessage[]): void {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#turns = turns;
  }

  #answer(of: string, options: GenerateOptions, turn: () => Turn): Generation {
    return attempted(() => this.#model.start(turn(), of, options, this.#stop.signal));
  }

  /** The history as the model reads it: many templates refuse two user messages in a row. */
  #request(): ChatMessage[] {
    const messages: ChatMessage[] = [];
    for (const message of this.messages) {
      const last = messages.at(-1);
      if (last?.role === "user" && message.role === "user") last.content += `\n\n${message.content}`;
      else messages.push(message);
    }
    return messages;
  }
}

function addAnswer(turns: ChatMessage[], text: string): boolean {
  if (text === "") return false;
  turns.push({ role: "assistant", content: text });
  return true;
}

function lastUserTurn(turns: readonly ChatMessage[]): number {
  return turns.findLastIndex(({ role }) => role === "user");
}

function invalid(what: string): EmberglassError {
  return new EmberglassError("invalid-option", `createChat: ${what}`);
}
