// A quiet line at the head of the page that offers something and may be ignored.
import { announce } from "./announcer.js";
import { button, el } from "./dom.js";

let shown: HTMLElement | undefined;

/** Shows the line, in place of the one before. */
export function showNotice(text: string, label: string, run: () => void): void {
  shown?.remove();
  const close = button("Later", () => line.remove(), { class: "button quiet small" });
  const line = el("div", { class: "notice", "data-testid": "notice" }, el("span", {}, text), button(label, run, { class: "button small" }), close);
  shown = line;
  document.querySelector(".top")?.append(line);
  announce(text);
}
