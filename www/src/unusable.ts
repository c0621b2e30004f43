// What a visitor sees whose browser can run no model at all, neither on the GPU nor on the CPU.
import type { Support } from "emberglass";
import { button, el, need } from "./dom.js";
import { sentence } from "./format.js";
import { browserList } from "./gpu-advice.js";

export function showUnusable({ reason = "", code = "no-simd" }: Support, onCheckAgain: () => void): void {
  const section = need("unusable");
  section.replaceChildren(
    el("img", { class: "hero dim", src: "./favicon.svg", alt: "", width: 72, height: 72 }),
    el("h1", {}, "This browser cannot run a model"),
    el("p", { class: "lead" }, "Emberglass is built with WebAssembly’s SIMD, whatever it computes on, and that is missing here."),
    el("p", { class: "reason" }, sentence(reason), " ", el("code", {}, code)),
    el(
      "div",
      { class: "card" },
      el("h2", {}, "What you can do"),
      el("p", {}, "Open this page in a current browser. Any Chrome, Edge, Firefox or Safari of the last years runs it on the CPU; these run it on the graphics card:"),
      browserList(),
    ),
    button("Check again", onCheckAgain, { class: "button primary" }),
  );
  section.hidden = false;
  need("welcome").hidden = true;
}

export function hideUnusable(): void {
  need("unusable").hidden = true;
}
