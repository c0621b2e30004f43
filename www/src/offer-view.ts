// The offer of a model: the button that loads it, what is known of it before, and the other ways to a model.
import type { StoredModel } from "emberglass";
import { button, el } from "./dom.js";
import { embedded } from "./embedded.js";
import type { Offer } from "./model-choice.js";
import { nameElement } from "./names.js";
import { isHere, type Known, loadLabel, offerDetails, offerLine } from "./offer-words.js";
import { storedOffer } from "./stored-models.js";

export interface OfferActions {
  onLoad: (offer: Offer) => void;
  onOpenFile: () => void;
  onAddress: () => void;
  /** Shows the models that are stored. */
  onStored: () => void;
  /** The visitor wants another model than the one offered. */
  onDecline: () => void;
  /** Loads the model again that had to go for one that was not loaded. */
  onFormer: () => void;
}

export class OfferView {
  readonly content: Node[];
  /** Where the focus goes when what had it is gone. */
  readonly first: HTMLElement;
  readonly #offer: Offer | undefined;
  readonly #onLoad: (offer: Offer) => void;
  readonly #load: HTMLButtonElement | undefined;
  readonly #line = el("p", { class: "offer-line", "data-testid": "offer-line", role: "status" });
  readonly #details = el("details", { class: "offer-details", "data-testid": "offer-details", hidden: true });
  readonly #facts = el("dl", {});
  readonly #starts = el("div", { class: "row", role: "group", "aria-label": "Models stored on this device" });
  readonly #stored: HTMLButtonElement;

  /** `former`: the name of the model that had to go for one that was not loaded. `isDefault`: the site offers the model. */
  constructor(offer: Offer | undefined, actions: OfferActions, former: string | undefined, isDefault: boolean) {
    this.#offer = offer;
    this.#onLoad = actions.onLoad;
    this.#details.append(el("summary", {}, "Details"), this.#facts);
    const open = button("Open a .gguf file…", actions.onOpenFile, { class: "button" });
    const address = button("From an address…", actions.onAddress, { class: "button", "data-testid": "from-address" });
    this.#stored = button("", actions.onStored, { class: "button", "data-testid": "stored-models", "aria-haspopup": "dialog", hidden: true });
    const others = el("div", { class: "row others" }, open, ...(embedded ? [] : [address]), this.#stored);
    const back = former === undefined || former === offer?.name ? [] : [button(["Back to ", nameElement(former)], actions.onFormer, { "data-testid": "former-model" })];
    if (!offer) {
      const words = el("p", {}, "There is no default model here. Open one from this device, or drop it onto the page.");
      this.content = [words, this.#starts, el("div", { class: "row" }, ...back), others];
      this.first = open;
      return;
    }
    const { askedHost } = offer;
    const label = askedHost === undefined ? loadLabel(offer, { isOnline: true }) : ["Load from ", el("bdi", {}, askedHost)];
    const load = button(label, () => actions.onLoad(offer), { class: "button primary", "data-testid": "load-button" });
    const decline = isDefault ? [] : [button("Use the default model", actions.onDecline, { "data-testid": "decline-model" })];
    this.first = load;
    if (askedHost === undefined) {
      this.#load = load;
      this.content = [el("div", { class: "row" }, ...back, load, ...decline), this.#line, this.#details, this.#starts, others];
      return;
    }
    // Whoever made the link chose the file's name. The page's own words are over before it begins.
    const asked = el("p", { class: "asked" }, "This link asks to load a model from ", el("strong", {}, el("bdi", {}, askedHost)), ". The file is called:");
    const file = el("p", { class: "asked-file", "data-testid": "asked-file" }, nameElement(offer.name));
    this.content = [asked, file, el("div", { class: "row" }, ...back, load, ...decline), this.#starts];
  }

  /** Says what is known by now. `starts` are stored models that can be started instead, of `count` stored models. */
  update(known: Known, starts: readonly StoredModel[], count: number): void {
    const offer = this.#offer;
    if (offer) this.#load?.firstElementChild?.replaceChildren(...loadLabel(offer, known));
    // Without a network, only what is stored can be started.
    const canStart = known.isOnline || isHere(offer, known);
    this.#load?.classList.toggle("primary", canStart || starts.length === 0);
    const { text, isProblem } = offerLine(offer, known);
    this.#line.replaceChildren(...text);
    this.#line.classList.toggle("problem", isProblem);
    const facts = offerDetails(known);
    this.#details.hidden = facts.length === 0;
    this.#facts.replaceChildren(
      ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, ...value)]),
    );
    this.#showStarts(starts, !canStart);
    this.#stored.hidden = count === 0;
    this.#stored.textContent = count === 1 ? "1 model on this device…" : `${count} models on this device…`;
  }

  #showStarts(starts: readonly StoredModel[], arePrimary: boolean): void {
    const ids = starts.map(({ id }) => id).join();
    // The same buttons keep the focus.
    if (this.#starts.dataset["ids"] !== ids) {
      const starting = (stored: StoredModel) => button(["Start ", nameElement(stored.name)], () => this.#onLoad(storedOffer(stored)), { "data-testid": "start-stored" });
      this.#starts.replaceChildren(...starts.map(starting));
    }
    this.#starts.dataset["ids"] = ids;
    for (const start of this.#starts.children) start.classList.toggle("primary", arePrimary);
  }
}
