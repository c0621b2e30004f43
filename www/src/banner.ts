// The error banner. What is shown on the page besides is never touched.
import type { EmberglassError } from "emberglass";
import { button, el, need } from "./dom.js";
import { sentence } from "./format.js";
import { visible } from "./names.js";

export interface Action {
  label: string;
  run: () => void;
}

const TITLES: Record<string, string> = {
  "no-webgpu": "No WebGPU",
  "no-adapter": "No graphics adapter",
  "device-request": "The graphics device was refused",
  "device-lost": "The graphics device went away",
  "out-of-memory": "Out of memory",
  "no-simd": "This browser is too old",
  network: "The download broke off",
  "http-status": "The server did not send the model",
  truncated: "The file is incomplete",
  "not-gguf": "Not a GGUF model",
  "unsupported-type": "This weight format is not supported",
  "unsupported-architecture": "This kind of model is not supported",
  "context-overflow": "The conversation no longer fits",
  "invalid-option": "A setting is out of range",
  "no-chat-template": "This model does not chat",
  "worker-failed": "The engine failed",
  "wasm-trap": "The engine stopped",
};

/** What a page says of an error in its own words. */
export interface Said {
  title?: string;
  /** What the visitor can do. */
  advice?: string | undefined;
}

/** A message may hold names out of files and addresses. */
export function showError(
  { message, code }: Pick<EmberglassError, "code"> & { message: string | (string | Node)[] },
  actions: Action[] = [],
  { title = TITLES[code] ?? "Something went wrong", advice }: Said = {},
): void {
  const banner = el(
    "div",
    { class: "banner", "data-testid": "error", "data-code": code },
    el(
      "div",
      { class: "banner-text" },
      el("strong", {}, title),
      ...(typeof message === "string" ? [el("p", {}, el("bdi", {}, visible(sentence(message))))] : [el("p", {}, ...message)]),
      ...(advice === undefined ? [] : [el("p", {}, advice)]),
      el("code", {}, code),
    ),
  );
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
  banner.append(buttons);
  need("banner").replaceChildren(banner);
}

export function clearError(): void {
  need("banner").replaceChildren();
}
