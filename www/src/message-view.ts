// One message on the page.
import { copyText } from "./clipboard.js";
import { button, el } from "./dom.js";
import { patchChildren, renderMarkdown } from "./markdown.js";

export type AnswerState = "streaming" | "done" | "stopped" | "error";

/** What the user said: shown exactly as typed. */
export function userMessage(text: string): HTMLElement {
  return el(
    "article",
    { class: "message user", "data-testid": "message-user", "aria-label": "You" },
    el("div", { class: "body" }, text),
  );
}

/** What the model says, growing while it streams. */
export class AnswerView {
  readonly element: HTMLElement;
  readonly #body: HTMLElement;
  readonly #note = el("p", { class: "note", hidden: true });
  readonly #actions = el("div", { class: "actions" });
  readonly #onRender: () => void;
  /** The text that the model continues; undefined where it answers. */
  readonly #start: string | undefined;
  #text = "";
  #frame = 0;
  #lastCost = 0;

  constructor(onRender: () => void, onRegenerate: () => void, start?: string) {
    this.#onRender = onRender;
    this.#start = start;
    this.#body = el("div", { class: start === undefined ? "body markdown" : "body continued" });
    const copy = button("Copy", () => void copyText((start ?? "") + this.#text, copy), { class: "link", "data-testid": "copy" });
    this.#actions.append(copy, button("Regenerate", onRegenerate, { class: "link regenerate", "data-testid": "regenerate" }));
    this.element = el(
      "article",
      { class: "message assistant", "data-testid": "message-assistant", "aria-label": start === undefined ? "Answer" : "Text and continuation" },
      this.#body,
      this.#note,
      this.#actions,
    );
    this.setState("streaming");
  }

  get text(): string {
    return this.#text;
  }

  setText(text: string): void {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => this.#renderSoon());
  }

  setState(state: AnswerState, note = ""): void {
    this.element.dataset["state"] = state;
    this.element.setAttribute("aria-busy", String(state === "streaming"));
    this.#actions.hidden = state === "streaming";
    this.#note.textContent = note;
    this.#note.hidden = note === "";
    if (state !== "streaming") this.#renderNow();
  }

  /** Keeps rendering to about a quarter of the time, however long the answer grows. */
  #renderSoon(): void {
    if (this.#lastCost < 4) {
      this.#renderNow();
      return;
    }
    const wait = this.#lastCost * 3;
    this.#lastCost = 0;
    setTimeout(() => this.#frame && this.#renderNow(), wait);
  }

  #renderNow(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const start = performance.now();
    if (this.#start === undefined) patchChildren(this.#body, renderMarkdown(this.#text));
    else this.#body.replaceChildren(el("b", {}, this.#start), el("span", {}, this.#text));
    this.#lastCost = performance.now() - start;
    this.#onRender();
  }
}
