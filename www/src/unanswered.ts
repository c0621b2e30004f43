// A message without an answer: it was stopped before the first word, it failed, or the page was reloaded.
import { button, el } from "./dom.js";

export function unanswered({ onAnswer, onRemove }: { onAnswer: () => void; onRemove: () => void }): HTMLElement {
  return el(
    "div",
    { class: "message unanswered", "data-testid": "unanswered" },
    el("p", { class: "note" }, "Not answered. Other messages are sent without this one."),
    el(
      "div",
      { class: "actions" },
      // Only the last message can be answered: the style sheet hides the button elsewhere.
      button("Answer it", onAnswer, { class: "link regenerate", "data-testid": "answer-it" }),
      button("Remove", onRemove, { class: "link", "data-testid": "remove-message" }),
    ),
  );
}
