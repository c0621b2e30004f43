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
  }

  place(where: "welcome" | "dock"): void {
    need(`${where}-loader`).append(this.#root);
  }

  hide(): void {
    this.#bar = undefined;
    this.#root.replaceChildren();
  }

  /** `former`: the name of the model that had to go for one that was not loaded. */
  offer(offer: Offer | undefined, former?: string): void {
    this.#bar = undefined;
    const open = button("Open a .gguf file…", this.#actions.onOpenFile, { class: "button" });
    const back = former === undefined || former === offer?.name ? [] : [button(["Back to ", nameElement(former)], this.#actions.onFormer, { "data-testid": "former-model" })];
    if (!offer) {
      this.#root.replaceChildren(
        el("p", {}, "There is no default model here. Open one from this device, or drop it onto the page."),
        el("div", { class: "row" }, ...back, open),
      );
      return;
    }
    const size = offer.bytes > 0 ? ` · ${bytes(offer.bytes)}` : "";
    const load = (label: (string | Node)[]) =>
      button(label, () => this.#actions.onLoad(offer), { class: "button primary", "data-testid": "load-button" });
    if (offer.askedHost === undefined) {
      this.#root.replaceChildren(el("div", { class: "row" }, ...back, load(["Load ", nameElement(offer.name), size]), open));
      return;
    }
    this.#root.replaceChildren(
      // Whoever made the link chose the file's name. The page's own words are over before it begins.
      el("p", { class: "asked" }, "This link asks to load a model from ", el("strong", {}, el("bdi", {}, offer.askedHost)), ". The file is called:"),
      el("p", { class: "asked-file", "data-testid": "asked-file" }, nameElement(offer.name)),
      el(
        "div",
        { class: "row" },
        ...back,
        load(["Load from ", el("bdi", {}, offer.askedHost)]),
        button("Use the default model", this.#actions.onDecline, { "data-testid": "decline-model" }),
      ),
    );
  }

  loading(name: string): void {
    const fill = el("div", { class: "fill" });
    const bar = el("div", { class: "track", role: "progressbar", "aria-label": `Loading ${plainName(name)}`, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const phase = el("span", { class: "phase" }, PHASES.starting);
    const detail = el("span", { class: "detail" });
    this.#bar = { fill, bar, phase, detail };
    this.#root.replaceChildren(
      el(
        "div",
        { class: "progress", "data-testid": "progress" },
        el("div", { class: "progress-name" }, nameElement(name)),
        bar,
        el("div", { class: "progress-text" }, phase, detail),
      ),
      el("div", { class: "row" }, button("Cancel", this.#actions.onCancel, { "data-testid": "cancel-load" })),
    );
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
