// What a visitor without WebGPU sees: why, and what to do about it.
import type { Support } from "emberglass";
import { button, el, need } from "./dom.js";
import { sentence } from "./format.js";

const BROWSERS = [
  ["Chrome or Edge", "113 or newer on Windows, macOS and ChromeOS; 121 or newer on Android. On Linux it may have to be allowed at chrome://flags/#enable-unsafe-webgpu."],
  ["Safari", "26 or newer, on macOS, iPhone and iPad."],
  ["Firefox", "141 or newer on Windows; 145 or newer on Macs with Apple silicon."],
] as const;

export function showNoWebGpu({ reason = "", code = "no-webgpu" }: Support, onCheckAgain: () => void): void {
  const noAdapter = code === "no-adapter";
  const advice = noAdapter
    ? [
        bullets(
          "Turn on hardware acceleration (in Chrome and Edge: Settings → System → “Use graphics acceleration when available”), then restart the browser.",
          "Update the graphics driver and the browser.",
          "On a remote desktop or a virtual machine there may be no graphics card to use; try another device.",
        ),
      ]
    : [el("p", {}, "Open this page in a current browser:"), browserList()];
  const section = need("no-webgpu");
  section.replaceChildren(
    el("img", { class: "hero dim", src: "./favicon.svg", alt: "", width: 72, height: 72 }),
    el("h1", {}, noAdapter ? "No graphics adapter was offered" : "This browser cannot reach the GPU"),
    el("p", { class: "lead" }, "Emberglass computes on your graphics card through WebGPU, and that is not available here."),
    el("p", { class: "reason" }, sentence(reason), " ", el("code", {}, code)),
    el("div", { class: "card" }, el("h2", {}, "What you can do"), ...advice),
    button("Check again", onCheckAgain, { class: "button primary" }),
  );
  section.hidden = false;
  need("welcome").hidden = true;
}

export function hideNoWebGpu(): void {
  need("no-webgpu").hidden = true;
}

function bullets(...steps: string[]): HTMLElement {
  return el("ul", {}, ...steps.map((step) => el("li", {}, step)));
}

function browserList(): HTMLElement {
  return el("dl", {}, ...BROWSERS.flatMap(([name, versions]) => [el("dt", {}, name), el("dd", {}, versions)]));
}
