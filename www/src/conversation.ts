// The conversation. It outlives the model it is held with, and a reload of the page: a lost device, another file or a
// closed lid must not lose a word of it. With a model that has no chat template each of the visitor's messages is a text
// by itself, and what follows it is its continuation.
import type { ChatMessage, GenerateOptions, GenerateResult, Generation, TextModel } from "emberglass";
import { type Ending, loadTurns, saveTurns, type Turn } from "./history-store.js";

/** How often the answer under way is stored, in milliseconds. */
const SAVE_MS = 1000;

const ENDING_OF: Partial<Record<GenerateResult["finishReason"], Ending>> = {
  aborted: "stopped",
  length: "length",
  "context-full": "context-full",
};

/** An answer of nothing but spaces is none. */
export function isBlank(text: string): boolean {
  return text.trim() === "";
}

/** The answer under way. */
interface Running {
  readonly generation: Generation;
  /** The list that the answer belongs to: a new chat begins a new list. */
  readonly turns: Turn[];
  readonly asked: Turn;
  /** The former answer, which comes back if this one has no word. */
  readonly old: readonly Turn[];
}

export class Conversation {
  #model: TextModel | undefined;
  #turns: Turn[] = loadTurns();
  #running: Running | undefined;
  #ended: Promise<void> = Promise.resolve();
  readonly #onUnsaved: (why: string | undefined) => void;

  /** `onUnsaved` hears why the conversation cannot be stored, and `undefined` once it can. */
  constructor(onUnsaved: (why: string | undefined) => void) {
    this.#onUnsaved = onUnsaved;
    setInterval(() => this.#running && this.save(), SAVE_MS);
    addEventListener("pagehide", () => this.save());
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.save());
  }

  /** Messages and answers, in order, without the answer under way. */
  get turns(): readonly Turn[] {
    return this.#turns;
  }

  /** Settles once the last answer, or what there is of it, stands in {@link Conversation.turns}. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Goes on with this model from here. */
  attach(model: TextModel): void {
    this.#model = model;
  }

  /** The model has gone. */
  detach(): void {
    this.#model = undefined;
  }

  send(text: string, system: string, options: GenerateOptions): Generation {
    const asked: Turn = { role: "user", content: text };
    this.#turns.push(asked);
    return this.#answer(asked, [], system, options);
  }

  /** Answers the last message, again if it has an answer. */
  regenerate(system: string, options: GenerateOptions): Generation {
    const at = this.#turns.findLastIndex(({ role }) => role === "user");
    const asked = this.#turns[at];
    if (!asked) throw new Error("there is no message to answer");
    return this.#answer(asked, this.#turns.splice(at + 1), system, options);
  }

  /** Takes back the last message with its answer, and returns its text. */
  undo(): string | undefined {
    const at = this.#turns.findLastIndex(({ role }) => role === "user");
    const text = this.#turns[at]?.content;
    this.#turns = this.#turns.slice(0, Math.max(0, at));
    this.save();
    return text;
  }

  /** Takes out a message that has no answer. */
  remove(turn: Turn): void {
    this.#turns = this.#turns.filter((other) => other !== turn);
    this.save();
  }

  reset(): void {
    this.#turns = [];
    this.save();
  }

  /** Stores the turns, and of an answer under way what there is of it: after a reload that is all there will be. */
  save(): void {
    const running = this.#running;
    const turns = [...this.#turns];
    if (running && running.turns === this.#turns) {
      const { generation, asked, old } = running;
      const said: readonly Turn[] = isBlank(generation.text) ? old : [{ role: "assistant", content: generation.text, ended: "reload" }];
      turns.splice(turns.indexOf(asked) + 1, 0, ...said);
    }
    this.#onUnsaved(saveTurns(turns));
  }

  #answer(asked: Turn, old: readonly Turn[], system: string, options: GenerateOptions): Generation {
    const model = this.#model;
    if (!model) throw new Error("no model is attached");
    const turns = this.#turns;
    const generation = model.generate(model.info.hasChatTemplate ? this.#messages(asked, system) : asked.content, options);
    const running: Running = { generation, turns, asked, old };
    this.#running = running;
    const end = (content: string, ended?: Ending) => {
      if (this.#running === running) this.#running = undefined;
      const answer: Turn = ended === undefined ? { role: "assistant", content } : { role: "assistant", content, ended };
      // Not at the end: an engine that hung may answer after the next message.
      turns.splice(turns.indexOf(asked) + 1, 0, ...(isBlank(content) ? old : [answer]));
      this.save();
    };
    this.#ended = generation.result.then(
      ({ text, finishReason }) => end(text, ENDING_OF[finishReason]),
      () => end(generation.text, "failed"),
    );
    this.save();
    return generation;
  }

  /** What the model reads. A message without an answer is left out, and the page shows it as such. */
  #messages(asked: Turn, system: string): ChatMessage[] {
    const read = this.#turns.filter((turn, i) => turn === asked || turn.role === "assistant" || this.#turns[i + 1]?.role === "assistant");
    const said = read.map(({ role, content }) => ({ role, content }));
    return system.trim() === "" ? said : [{ role: "system", content: system.trim() }, ...said];
  }
}
