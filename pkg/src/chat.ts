import { EmberglassError } from "./errors.js";
import type { TextModel, Turn } from "./model.js";
import type { ChatMessage, GenerateOptions, Generation } from "./types.js";

/** How a conversation begins. */
export interface ChatOptions {
  /** System prompt. Default: none, or what the model's template says by itself. */
  system?: string | undefined;
  /** Earlier messages to go on from; a leading system message counts as `system`. */
  messages?: readonly ChatMessage[] | undefined;
}

/**
 * A conversation with a {@link TextModel}. Made by `model.createChat`.
 *
 * What happens to the history ({@link Chat.messages}):
 * - the user's message is added when its generation begins (not while it waits in the queue);
 * - the answer is added when it is complete, and a partial one when it was stopped;
 * - after an error, or a stop before the first word, the user's message stays, unanswered:
 *   {@link Chat.regenerate} answers it, {@link Chat.undo} takes it back, and {@link Chat.send} adds to it.
 */
export class Chat {
  /** System prompt of the messages to come; undefined for none. May be changed at any time. */
  system: string | undefined;

  readonly #model: TextModel;
  #turns: ChatMessage[];
  #stop = new AbortController();

  /** @internal @throws {@link EmberglassError} `invalid-option` for two system prompts, or one in the middle. */
  constructor(model: TextModel, { system, messages = [] }: ChatOptions) {
    const [first, ...rest] = messages;
    const leads = first?.role === "system";
    this.#turns = (leads ? rest : [...messages]).map(({ role, content }) => ({ role, content }));
    if (leads && system !== undefined) throw invalid("a system prompt is given twice");
    if (this.#turns.some(({ role }) => role === "system")) throw invalid("a system message must come first");
    this.#model = model;
    this.system = leads ? first.content : system;
  }

  /** The conversation so far, system prompt first. A copy: changing it changes nothing here. */
  get messages(): ChatMessage[] {
    const turns = this.#turns.map((turn) => ({ ...turn }));
    return this.system ? [{ role: "system", content: this.system }, ...turns] : turns;
  }

  /**
   * Says something and streams the answer. Only what is new is computed: the model keeps the rest.
   *
   * @throws (through the returned generation) {@link EmberglassError} `context-overflow` when the conversation
   * no longer fits, and what {@link TextModel.generate} throws.
   */
  send(text: string, options: GenerateOptions = {}): Generation {
    let turns: ChatMessage[] = [];
    return this.#answer(options, {
      begin: () => {
        turns = this.#turns;
        turns.push({ role: "user", content: text });
        return { messages: this.#request() };
      },
      end: (result) => addAnswer(turns, result.text),
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
    return this.#answer(options, {
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
    });
  }

  /**
   * Takes back the last user message and what followed it, and stops answers still under way.
   * Returns the message's text, undefined if there is none.
   */
  undo(): string | undefined {
    const asked = Math.max(0, lastUserTurn(this.#turns));
    const text = this.#turns[asked]?.content;
    this.#goOnFrom(this.#turns.slice(0, asked));
    return text;
  }

  /** Forgets the conversation, keeps the system prompt, and stops answers still under way. */
  reset(): void {
    this.#goOnFrom([]);
  }

  /** The turns must be a new array: an answer that was under way is added to the old one. */
  #goOnFrom(turns: ChatMessage[]): void {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#turns = turns;
  }

  #answer(options: GenerateOptions, turn: Turn): Generation {
    return this.#model.start(turn, options, this.#stop.signal);
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
