// One message on the page.
import { copyText } from "./clipboard.js";
import { button, el } from "./dom.js";
import { type Drawing, GrowingText } from "./drawing.js";
import { count } from "./format.js";
import { GrowingMarkdown } from "./growing-markdown.js";
import { spokenMarkdown } from "./markdown.js";
import { Pace } from "./pace.js";
import { saveFile } from "./save-file.js";

export type AnswerState = "streaming" | "done" | "stopped" | "error";

/** A screen reader cannot pause what is announced, so a long answer is only begun. */
const LONGEST_SPOKEN = 3000;

/** What the user said: shown exactly as typed. */
export function userMessage(text: string): HTMLElement {
  const body = el("div", { class: "body" });
  const rest = new Rest(() => text);
  const drawing = new GrowingText(body);
  drawing.draw(text);
  if (drawing.isCut) rest.show(text.length - drawing.drawn);
  return el("article", { class: "message user", "data-testid": "message-user", "aria-label": "You" }, body, rest.element);
}

/** What the model says, growing while it streams. */
export class AnswerView {
  readonly element: HTMLElement;
  readonly #drawing: Drawing;
  readonly #rest = new Rest(() => this.#all);
  readonly #note = el("p", { class: "note", hidden: true });
  readonly #actions = el("div", { class: "actions" });
  readonly #onDraw: () => void;
  readonly #pace = new Pace(() => this.#draw());
  /** The text that the model continues; undefined where it answers. */
  readonly #start: string | undefined;
  #text = "";
  #isStreaming = true;

  constructor(onDraw: () => void, onRegenerate: () => void, start?: string) {
    this.#onDraw = onDraw;
    this.#start = start;
    const body = el("div", { class: start === undefined ? "body markdown" : "body continued" });
    if (start === undefined) this.#drawing = new GrowingMarkdown(body);
    else {
      const continuation = el("span");
      body.append(el("b", {}, start), continuation);
      this.#drawing = new GrowingText(continuation);
    }
    const copy = button("Copy", () => void copyText(this.#all, copy), { class: "link", "data-testid": "copy" });
    this.#actions.append(copy, button("Regenerate", onRegenerate, { class: "link regenerate", "data-testid": "regenerate" }));
    this.element = el(
      "article",
      { class: "message assistant", "data-testid": "message-assistant", "aria-label": start === undefined ? "Answer" : "Text and continuation" },
      body,
      this.#rest.element,
      this.#note,
      this.#actions,
    );
    this.setState("streaming");
  }

  get text(): string {
    return this.#text;
  }

  /** The text as a screen reader says it: without the marks of Markdown. */
  get spoken(): string {
    const begun = this.#text.slice(0, LONGEST_SPOKEN);
    const spoken = this.#start === undefined ? spokenMarkdown(begun) : begun;
    return begun.length < this.#text.length ? `${spoken} … The rest is in the conversation.` : spoken;
  }

  setText(text: string): void {
    this.#text = text;
    this.#pace.request();
  }

  setState(state: AnswerState, note = ""): void {
    this.#isStreaming = state === "streaming";
    this.element.dataset["state"] = state;
    this.element.setAttribute("aria-busy", String(this.#isStreaming));
    this.#actions.hidden = this.#isStreaming;
    this.#note.textContent = note;
    this.#note.hidden = note === "";
    if (!this.#isStreaming) this.#pace.now();
  }

  get #all(): string {
    return (this.#start ?? "") + this.#text;
  }

  #draw(): void {
    const text = this.#text.includes("\r") ? this.#text.replace(/\r\n?/g, "\n") : this.#text;
    const hasMore = this.#drawing.draw(text, !this.#isStreaming);
    if (this.#drawing.isCut) this.#rest.show(text.length - this.#drawing.drawn);
    this.#onDraw();
    if (hasMore) this.#pace.request();
  }
}

/** Says that the end of a text is not drawn, and saves all of it. */
class Rest {
  readonly element = el("div", { class: "rest row", "data-testid": "rest", hidden: true });
  readonly #words = el("p", { class: "note" });

  constructor(text: () => string) {
    const save = () => saveFile(new Blob([text()], { type: "text/plain" }), "emberglass.txt");
    this.element.append(this.#words, button("Save all of it", save, { class: "button small", "data-testid": "save-all" }));
  }

  show(characters: number): void {
    this.element.hidden = false;
    this.#words.textContent = `Too long to show here: ${count(characters)} more characters follow.`;
  }
}
