// Speaks to screen readers. A streaming answer read out word by word is unbearable, so the log itself
// is silent, and the whole answer is announced once it is there.
import { need } from "./dom.js";

export function announce(text: string): void {
  need("announcer").textContent = text;
}
