// The conversation, which outlives the model it is held with: a lost device or another file must not
// lose a word of it.
import type { Chat, ChatMessage, GenerateOptions, Generation, TextModel } from "emberglass";
import { loadHistory, saveHistory } from "./history-store.js";

export class Conversation {
  #chat: Chat | undefined;
  #kept: ChatMessage[] = loadHistory();

  /** User and assistant messages, in order. */
  get turns(): ChatMessage[] {
    return this.#chat ? this.#chat.messages.filter(({ role }) => role !== "system") : this.#kept;
  }

  /** Goes on with this model from here. */
  attach(model: TextModel): void {
    this.#chat = model.createChat({ messages: this.turns });
  }

  /** The model has gone. */
  detach(): void {
    this.#kept = this.turns;
    this.#chat = undefined;
  }

  send(text: string, system: string, options: GenerateOptions): Generation {
    return this.#with(system).send(text, options);
  }

  regenerate(system: string, options: GenerateOptions): Generation {
    return this.#with(system).regenerate(options);
  }

  undo(): string | undefined {
    const text = this.#chat?.undo();
    this.save();
    return text;
  }

  reset(): void {
    this.#kept = [];
    this.#chat?.reset();
    this.save();
  }

  save(): void {
    saveHistory(this.turns);
  }

  #with(system: string): Chat {
    if (!this.#chat) throw new Error("no model is attached");
    this.#chat.system = system.trim() || undefined;
    return this.#chat;
  }
}
