// Something to begin with.
import { button, need } from "./dom.js";

const SUGGESTIONS = [
  "Explain why the sky is blue, in three sentences.",
  "Write a haiku about embers.",
  "Give me three ideas for a rainy afternoon.",
  "What is a language model?",
];

/** For a model that continues texts. */
const BEGINNINGS = [
  "Once upon a time, in a village by the sea,",
  "The capital of France is",
  "Three inventions that changed the nineteenth century are",
  "def fibonacci(n):\n",
];

export function suggestions(continues: boolean, onPick: (text: string) => void): void {
  need("suggestions").replaceChildren(
    ...(continues ? BEGINNINGS : SUGGESTIONS).map((text) => button(text, () => onPick(text), { class: "chip", "data-testid": "suggestion" })),
  );
}
