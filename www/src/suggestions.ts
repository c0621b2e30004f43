// Something to begin with.
import { button, need } from "./dom.js";

const SUGGESTIONS = [
  "Explain why the sky is blue, in three sentences.",
  "Write a haiku about embers.",
  "Give me three ideas for a rainy afternoon.",
  "What is a language model?",
];

export function suggestions(onPick: (text: string) => void): void {
  need("suggestions").replaceChildren(
    ...SUGGESTIONS.map((text) => button(text, () => onPick(text), { class: "chip", "data-testid": "suggestion" })),
  );
}
