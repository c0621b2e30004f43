// The conversation, which outlives the model it is held with: a lost device or another file must not
// lose a word of it. With a model that has no chat template each of the user's messages is a text by itself,
// and what follows it is its continuation.
import type { Chat, ChatMessage, GenerateOptions, Generation, TextModel } from "emberglass";
import { loadHistory, saveHistory } from "./history-store.js";

export class Conversation {
  #chat: Chat | undefined;
  /** Instead of a chat: a model without a chat template. */
  #base: TextModel | undefined;
  #kept: ChatMessage[] = loadHistory();

  /** User and assistant messages, in order. */
  get turns(): ChatMessage[] {
    return this.#chat ? this.#chat.messages.filter(({ role }) => role !== "system") : this.#kept;
  }

  /** Goes on with this model from here. */
  attach(model: TextModel): void {
    if (model.info.hasChatTemplate) this.#chat = model.createChat({ messages: this.turns });
    else this.#base = model;
  }

  /** The model has gone. */
  detach(): void {
    this.#kept = this.turns;
    this.#chat = undefined;
    this.#base = undefined;
  }

  send(text: string, system: string, options: GenerateOptions): Generation {
    if (!this.#base) return this.#with(system).send(text, options);
    this.#kept.push({ role: "user", content: text });
    return this.#continue(this.#base, text, [], options);
  }

  regenerate(system: string, options: GenerateOptions): Generation {
    if (!this.#base) return this.#with(system).regenerate(options);
    const old = this.#kept.splice(this.#kept.findLastIndex(({ role }) => role === "user") + 1);
    return this.#continue(this.#base, this.#kept.at(-1)?.content ?? "", old, options);
  }

  undo(): string | undefined {
    let text = this.#chat?.undo();
    if (this.#base) {
      const last = this.#kept.findLastIndex(({ role }) => role === "user");
      text = this.#kept[last]?.content;
      this.#kept = this.#kept.slice(0, Math.max(0, last));
    }
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

  /** Adds what comes, or else `old`, to the turns as they are now: a new chat begins a new list. */
  #continue(model: TextModel, text: string, old: ChatMessage[], options: GenerateOptions): Generation {
    const turns = this.#kept;
    const generation = model.generate(text, options);
    const add = (continuation: string) => turns.push(...(continuation === "" ? old : [{ role: "assistant" as const, content: continuation }]));
    generation.result.then((result) => add(result.text), () => add(""));
    return generation;
  }

  #with(system: string): Chat {
    if (!this.#chat) throw new Error("no model is attached");
    this.#chat.system = system.trim() || undefined;
    return this.#chat;
  }
}
