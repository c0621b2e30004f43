// Offers a model and shows how far loading is. It sits in the middle of the empty page, and above the
// message box once there is a conversation.
import type { LoadPhase, LoadProgress } from "emberglass";
import { button, el, need } from "./dom.js";
import { bytes, seconds } from "./format.js";
import type { Offer } from "./model-choice.js";
import type { ModelRequest } from "./model-session.js";
import { nameElement, plainName, visible } from "./names.js";
import { type OfferActions, OfferView } from "./offer-view.js";

const PHASES: Record<LoadPhase, string> = {
  starting: "Starting the engine",
  header: "Reading the model’s header",
  device: "Choosing the device",
  weights: "Loading weights",
  kernels: "Warming up",
  ready: "Ready",
};

export interface LoadPanelActions extends OfferActions {
  onCancel: () => void;
}

export class LoadPanel {
  readonly #root = el("div", { class: "loader" });
  readonly #actions: LoadPanelActions;
  #bar: { fill: HTMLElement; bar: HTMLElement; phase: HTMLElement; detail: HTMLElement; hereBytes: number } | undefined;

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

  /** Returns the offer, to be told what is known of it. See {@link OfferView}. */
  offer(offer: Offer | undefined, former: string | undefined, isDefault: boolean): OfferView {
    this.#bar = undefined;
    const view = new OfferView(offer, this.#actions, former, isDefault);
    this.#show(view.content, view.first);
    return view;
  }

  loading({ name, hereBytes = 0 }: Pick<ModelRequest, "name" | "hereBytes">): void {
    const fill = el("div", { class: "fill" });
    const bar = el("div", { class: "track", role: "progressbar", "aria-label": `Loading ${plainName(name)}`, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const phase = el("span", { class: "phase" }, PHASES.starting);
    const detail = el("span", { class: "detail" });
    this.#bar = { fill, bar, phase, detail, hereBytes };
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
    const { fill, bar, hereBytes } = this.#bar;
    const isHere = loadedBytes < hereBytes;
    const known = totalBytes > 0;
    const percent = known ? Math.min(100, (100 * loadedBytes) / totalBytes) : 0;
    bar.classList.toggle("unknown", !known || phase === "kernels");
    fill.style.transform = `scaleX(${percent / 100})`;
    const parts = known ? [`${bytes(loadedBytes)} of ${bytes(totalBytes)}`] : [];
    const arriving = phase === "weights" && waiting === undefined;
    if (arriving && !isHere && bytesPerSecond > 0) parts.push(`${bytes(bytesPerSecond)}/s`);
    if (arriving && secondsLeft !== null) parts.push(`${seconds(secondsLeft)} left`);
    // It may hold what a server answered.
    if (waiting !== undefined) parts.push(visible(waiting));
    const title = waiting !== undefined ? "Waiting for the network" : isHere && phase === "weights" ? "Reading from this device" : PHASES[phase];
    this.#bar.phase.textContent = title;
    this.#bar.detail.textContent = parts.join(" · ");
    if (known) bar.setAttribute("aria-valuenow", String(Math.round(percent)));
    bar.setAttribute("aria-valuetext", [title, ...parts].join(", "));
  }
}
