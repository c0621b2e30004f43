// Offers a model and shows how far loading is. It sits in the middle of the empty page, and above the
// message box once there is a conversation.
import type { LoadPhase, LoadProgress } from "emberglass";
import { button, el, need } from "./dom.js";
import { bytes, seconds } from "./format.js";
import type { Offer } from "./model-choice.js";
import { nameElement, plainName, visible } from "./names.js";

const PHASES: Record<LoadPhase, string> = {
  starting: "Starting the engine",
  header: "Reading the model’s header",
  device: "Choosing the device",
  weights: "Loading weights",
  kernels: "Warming up",
  ready: "Ready",
};

export interface LoadPanelActions {
  onLoad: (offer: Offer) => void;
  onOpenFile: () => void;
  onCancel: () => void;
  /** The visitor declines the model that a link asks for. */
  onDecline: () => void;
  /** Loads the model again that had to go for one that was not loaded. */
  onFormer: () => void;
}

export class LoadPanel {
  readonly #root = el("div", { class: "loader" });
  readonly #actions: LoadPanelActions;
  #bar: { fill: HTMLElement; bar: HTMLElement; phase: HTMLElement; detail: HTMLElement } | undefined;

  constructor(actions: LoadPanelActions) {
    this.#actions = actions;
    document.addEventListener("keydown", (event) => {
      const isTyped = event.isComposing || event.defaultPrevented;
      if (event.key === "Escape" && this.#bar && !isTyped && !document.querySelector("dialog[open]")) actions.onCancel();
    });
  }

  place(where: "welcome" | "dock"): void {
    const target = need(`${where}-loader`);
    if (this.#root.parentElement === target) return;
    // What is moved loses the focus.
    const focused = this.#root.contains(document.activeElement) ? (document.activeElement as HTMLElement) : undefined;
    target.append(this.#root);
    focused?.focus();
  }

  hide(): void {
    this.#bar = undefined;
    this.#root.replaceChildren();
  }

  /** Shows `content`. If the focus was in what goes, it goes to `next`. */
  #show(content: Node[], next: HTMLElement): void {
    const hadFocus = this.#root.contains(document.activeElement);
    this.#root.replaceChildren(...content);
    if (hadFocus) next.focus();
  }

  /** `former`: the name of the model that had to go for one that was not loaded. */
  offer(offer: Offer | undefined, former?: string): void {
    this.#bar = undefined;
    const open = button("Open a .gguf file…", this.#actions.onOpenFile, { class: "button" });
    const back = former === undefined || former === offer?.name ? [] : [button(["Back to ", nameElement(former)], this.#actions.onFormer, { "data-testid": "former-model" })];
    if (!offer) {
      const words = el("p", {}, "There is no default model here. Open one from this device, or drop it onto the page.");
      this.#show([words, el("div", { class: "row" }, ...back, open)], open);
      return;
    }
    const size = offer.bytes > 0 ? ` · ${bytes(offer.bytes)}` : "";
    const { name, askedHost, isInside } = offer;
    const label = askedHost === undefined ? ["Load ", nameElement(name), size, isInside ? ", in this file" : ""] : ["Load from ", el("bdi", {}, askedHost)];
    const load = button(label, () => this.#actions.onLoad(offer), { class: "button primary", "data-testid": "load-button" });
    if (askedHost === undefined) {
      this.#show([el("div", { class: "row" }, ...back, load, open)], load);
      return;
    }
    // Whoever made the link chose the file's name. The page's own words are over before it begins.
    const asked = el("p", { class: "asked" }, "This link asks to load a model from ", el("strong", {}, el("bdi", {}, askedHost)), ". The file is called:");
    const file = el("p", { class: "asked-file", "data-testid": "asked-file" }, nameElement(name));
    const decline = button("Use the default model", this.#actions.onDecline, { "data-testid": "decline-model" });
    this.#show([asked, file, el("div", { class: "row" }, ...back, load, decline)], load);
  }

  loading(name: string): void {
    const fill = el("div", { class: "fill" });
    const bar = el("div", { class: "track", role: "progressbar", "aria-label": `Loading ${plainName(name)}`, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const phase = el("span", { class: "phase" }, PHASES.starting);
    const detail = el("span", { class: "detail" });
    this.#bar = { fill, bar, phase, detail };
    const cancel = button("Cancel", this.#actions.onCancel, { "data-testid": "cancel-load", title: "Cancel (Escape)" });
    // The focus goes here and not to Cancel, which a key that is still held down would press.
    const progress = el(
      "div",
      { class: "progress", "data-testid": "progress", role: "group", "aria-label": "Loading the model", tabindex: -1 },
      el("div", { class: "progress-name" }, nameElement(name)),
      bar,
      el("div", { class: "progress-text" }, phase, detail),
    );
    this.#show([progress, el("div", { class: "row" }, cancel)], progress);
    bar.classList.add("unknown");
  }

  progress({ phase, loadedBytes, totalBytes, bytesPerSecond, secondsLeft, waiting }: LoadProgress): void {
    if (!this.#bar) return;
    const { fill, bar } = this.#bar;
    const known = totalBytes > 0;
    const percent = known ? Math.min(100, (100 * loadedBytes) / totalBytes) : 0;
    bar.classList.toggle("unknown", !known || phase === "kernels");
    fill.style.transform = `scaleX(${percent / 100})`;
    const parts = known ? [`${bytes(loadedBytes)} of ${bytes(totalBytes)}`] : [];
    const arriving = phase === "weights" && waiting === undefined;
    if (arriving && bytesPerSecond > 0) parts.push(`${bytes(bytesPerSecond)}/s`);
    if (arriving && secondsLeft !== null) parts.push(`${seconds(secondsLeft)} left`);
    // It may hold what a server answered.
    if (waiting !== undefined) parts.push(visible(waiting));
    const title = waiting === undefined ? PHASES[phase] : "Waiting for the network";
    this.#bar.phase.textContent = title;
    this.#bar.detail.textContent = parts.join(" · ");
    if (known) bar.setAttribute("aria-valuenow", String(Math.round(percent)));
    bar.setAttribute("aria-valuetext", [title, ...parts].join(", "));
  }
}
