// The error banner. What else is on the page is never touched.
import type { EmberglassError } from "emberglass";
import { button, el, need } from "./dom.js";
import { type Fault, type Text, type Words, wordsFor } from "./error-words.js";
import { sentence } from "./format.js";
import { visible } from "./names.js";

export interface Action {
  label: string;
  run: () => void;
}

/** What a page says in place of the words for the error's code. */
export interface Said {
  title?: string;
  todo?: Text;
  /** A sentence behind what to do. */
  more?: string;
}

/** An error of the engine, in a visitor's words; the engine's own message is behind “Details”. */
export function showError(error: EmberglassError, actions: Action[] = [], said: Said = {}): void {
  const details = el(
    "details",
    { class: "banner-details" },
    el("summary", {}, "Details"),
    // It may hold names out of files and addresses.
    el("p", {}, el("bdi", {}, visible(sentence(error.message))), " ", el("code", {}, error.code)),
  );
  const words = wordsFor(error);
  show(error, actions, { ...words, ...said }, ...(words.isMessage ? [] : [details]));
}

/** Something that the page itself refuses. */
export function showRefusal(title: string, todo: Text, code: Fault["code"] = "invalid-option"): void {
  show({ code }, [], { title, todo });
}

function show({ code }: Fault, actions: Action[], { title, todo, more }: Words & Said, ...details: Node[]): void {
  const buttons = el("div", { class: "banner-actions" });
  for (const { label, run } of actions) {
    buttons.append(
      button(label, () => {
        clearError();
        run();
      }),
    );
  }
  buttons.append(button("Dismiss", clearError, { class: "button quiet" }));
  const said = [...(typeof todo === "string" ? [todo] : todo), ...(more === undefined ? [] : [" ", more])];
  const text = el("div", { class: "banner-text" }, el("strong", {}, title), el("p", {}, ...said), ...details);
  need("banner").replaceChildren(el("div", { class: "banner", "data-testid": "error", "data-code": code }, text, buttons));
}

export function clearError(): void {
  const root = need("banner");
  const hadFocus = root.contains(document.activeElement);
  root.replaceChildren();
  // The focus must not vanish with the button.
  if (hadFocus) document.querySelector<HTMLElement>("#scroll, #studio")?.focus({ preventScroll: true });
}
