// What the page offers to load, and what is found out about it: from what is stored, and by a check that begins after the
// page is drawn, ends when something is loaded, and asks no host that a link names.
import { canRun, type LoadOptions } from "emberglass";
import { coded } from "./coded.js";
import type { LoadPanel } from "./load-panel.js";
import { defaultOffer, type Offer, requestedOffer } from "./model-choice.js";
import { hereBytes, isHere, type Known } from "./offer-words.js";
import type { OfferView } from "./offer-view.js";
import { isPictureModel, storedModels, storedOf } from "./stored-models.js";

/** At most so many stored models are offered beside the one; all of them without a network. */
const MOST_STARTS = { online: 1, offline: 5 };

export class Offers {
  readonly #panel: LoadPanel;
  readonly #wishes: () => Pick<LoadOptions, "contextLength" | "device" | "threads">;
  #current: Offer | undefined;
  #isDefault = true;
  /** What is on the page, until it is withdrawn. */
  #shown: OfferView | undefined;
  #known: Known = { isOnline: true };
  #look = new AbortController();

  constructor(panel: LoadPanel, wishes: () => Pick<LoadOptions, "contextLength" | "device" | "threads">) {
    this.#panel = panel;
    this.#wishes = wishes;
    for (const event of ["online", "offline"]) addEventListener(event, () => this.refresh());
  }

  get current(): Offer | undefined {
    return this.#current;
  }

  /** Bytes of the current offer that are on this device, as far as is known; `Infinity` for all. */
  get hereBytes(): number {
    return this.#shown ? hereBytes(this.#current, this.#known) : 0;
  }

  /** Finds what the page's address asks for, or else the site offers. Returns why what it asks for is refused. */
  async find(query: string): Promise<string | undefined> {
    const asked = requestedOffer(query);
    if (typeof asked !== "object") {
      await this.#takeDefault();
      return asked;
    }
    this.propose(asked);
    return undefined;
  }

  /** This one from now on. */
  propose(offer: Offer): void {
    this.#current = offer;
    this.#isDefault = false;
  }

  async declined(): Promise<void> {
    await this.#takeDefault();
    this.show();
  }

  async #takeDefault(): Promise<void> {
    this.#current = await defaultOffer();
    this.#isDefault = true;
  }

  /** `former`: the name of the model that had to go for one that was not loaded. */
  show(former?: string): void {
    this.#shown = this.#panel.offer(this.#current, former, this.#isDefault);
    this.refresh();
  }

  /** Nothing is offered any more, and nothing looked up. */
  withdraw(): void {
    this.#shown = undefined;
    this.#look.abort();
  }

  /** Looks again. */
  refresh(): void {
    this.#look.abort();
    if (!this.#shown) return;
    this.#look = new AbortController();
    void this.#lookUp(this.#shown, this.#look.signal);
  }

  async #lookUp(view: OfferView, signal: AbortSignal): Promise<void> {
    const offer = this.#current;
    await drawn();
    const list = await storedModels();
    if (signal.aborted) return;
    const stored = offer && storedOf(offer, list);
    const { onLine } = navigator;
    const others = list.filter((model) => model.complete && model !== stored && !isPictureModel(model));
    const tell = (known: Known, isReached: boolean) => {
      this.#known = known;
      view.update(known, others.slice(0, isReached || isHere(offer, known) ? MOST_STARTS.online : MOST_STARTS.offline), list.length);
    };
    const known: Known = { stored, isOnline: onLine };
    if (!offer || offer.askedHost !== undefined || savesData() || (!onLine && !isHere(offer, known))) {
      tell(known, onLine);
      return;
    }
    tell({ ...known, isChecking: true }, true);
    const { source, sha256, accessToken } = offer;
    try {
      const check = await canRun(source, { ...this.#wishes(), signal, sha256, accessToken });
      if (!signal.aborted) tell({ ...known, check }, true);
    } catch (thrown) {
      if (!signal.aborted) tell({ ...known, failure: coded(thrown) }, false);
    }
  }
}

/** Resolves when the browser has drawn what is on the page. */
function drawn(): Promise<void> {
  return new Promise((resolve) => {
    // A page in the background draws nothing.
    if (document.hidden) setTimeout(resolve);
    else requestAnimationFrame(() => setTimeout(resolve));
  });
}

/** The visitor asks pages for less data. Not every browser tells. */
function savesData(): boolean {
  return (navigator as { connection?: { saveData?: unknown } }).connection?.saveData === true;
}
