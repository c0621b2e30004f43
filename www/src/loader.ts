// Loading as the visitor sees it: the panel, the offer, the errors, and the ways on from each.
import type { EmberglassError, LoadOptions, TextModel } from "emberglass";
import { announce } from "./announcer.js";
import { type Action, clearError, showError } from "./banner.js";
import { coded, retryMayHelp } from "./coded.js";
import { cpuMayHelp } from "./device-choice.js";
import { LoadPanel } from "./load-panel.js";
import type { Offer } from "./model-choice.js";
import { type ModelRequest, ModelSession } from "./model-session.js";
import { Offers } from "./offers.js";

export interface LoaderHooks {
  /** This browser can run models, as is known by now. */
  isUsable: () => boolean;
  wishes: () => Pick<LoadOptions, "contextLength" | "device" | "threads">;
  onOpenFile: () => void;
  /** Asks for an address; for an access token to this one, where it is given. */
  onAddress: (source?: string) => void;
  onStored: () => void;
  /** The model that is there goes after this. */
  onReplace: () => Promise<void>;
  onLoaded: (model: TextModel, request: ModelRequest) => void;
  /** A load ended without a model. */
  onAbandoned: () => void;
  /** A load that somebody began to go on after an error is over. */
  onMended: () => void;
}

export class Loader {
  readonly session = new ModelSession();
  readonly offers: Offers;
  readonly panel: LoadPanel;
  readonly #hooks: LoaderHooks;
  /** The model that went for one that was not loaded. */
  #former: ModelRequest | undefined;

  constructor(hooks: LoaderHooks) {
    this.#hooks = hooks;
    this.panel = new LoadPanel({
      onLoad: (offer) => void this.loadOffer(offer),
      onOpenFile: hooks.onOpenFile,
      onAddress: () => hooks.onAddress(),
      onStored: hooks.onStored,
      onCancel: () => this.session.cancel(),
      onDecline: () => void this.#decline(),
      onFormer: () => this.#former && void this.load(this.#former),
    });
    this.offers = new Offers(this.panel, hooks.wishes);
  }

  /** Offers a model, where none is loaded or loading. */
  offer(): void {
    if (!this.session.model && !this.session.isLoading) this.offers.show(this.#former?.name);
  }

  /** Offers this one, even beside a model that is loaded. */
  propose(offer: Offer): void {
    this.session.cancel();
    clearError();
    this.offers.propose(offer);
    this.offers.show(this.#former?.name);
  }

  loadOffer(offer: Offer): Promise<void> {
    const { source, name, sampling, sha256, accessToken } = offer;
    const hereBytes = offer.hereBytes ?? (this.offers.current === offer ? this.offers.hereBytes : 0);
    return this.load({ source, name, sampling, sha256, accessToken, hereBytes });
  }

  async load(request: ModelRequest): Promise<void> {
    const { session } = this;
    if (!this.#hooks.isUsable()) return;
    clearError();
    this.offers.withdraw();
    this.panel.loading(request);
    const onReplace = async () => {
      if (session.model) this.#former = session.last;
      await this.#hooks.onReplace();
    };
    try {
      const model = await session.load(request, this.#hooks.wishes(), { onReplace, onProgress: (progress) => this.panel.progress(progress) });
      if (!model) {
        // Cancelled; if by loading another model, that one's progress stays.
        if (session.isLoading) return;
        this.#abandon();
        announce("Loading is cancelled.");
        return;
      }
      this.#former = undefined;
      this.panel.hide();
      this.#hooks.onLoaded(model, request);
    } catch (thrown) {
      this.#abandon();
      this.#showFailure(coded(thrown), request);
    }
  }

  /** With the settings as they are now, whatever the last load had to fall back on. */
  reload(): void {
    if (!this.session.last) return;
    const { device: _, ...request } = this.session.last;
    void this.load(request);
  }

  /** The model is gone: another, or the same, can be loaded. */
  lost(): void {
    void this.session.release();
    this.offer();
  }

  /** Loads so as to go on after an error. */
  mend(label: string, request: ModelRequest): Action {
    return { label, run: () => void this.load(request).then(this.#hooks.onMended) };
  }

  /** What the GPU could not do, the CPU may: the same model, the same conversation. */
  cpuInstead(error: EmberglassError, request: ModelRequest): Action[] {
    return cpuMayHelp(error) ? [this.mend("Go on on the CPU", { ...request, device: "cpu" })] : [];
  }

  async #decline(): Promise<void> {
    if (this.session.model) {
      this.offers.withdraw();
      this.panel.hide();
      return;
    }
    await this.offers.declined();
  }

  #abandon(): void {
    if (this.session.model) this.panel.hide();
    else this.offer();
    this.#hooks.onAbandoned();
  }

  #showFailure(error: EmberglassError, request: ModelRequest): void {
    const { session } = this;
    const onCpu = (request.device ?? this.#hooks.wishes().device) === "cpu";
    const more = session.model ? { more: "The model that was loaded is still there." } : {};
    const actions = [
      ...(retryMayHelp(error) ? [this.mend("Try again", request)] : []),
      ...this.#aboutAccess(error, request),
      ...this.#aboutStorage(error, request),
      ...(onCpu ? [] : this.cpuInstead(error, request)),
      ...(this.#former && !session.model ? [this.mend("Load the former model", this.#former)] : []),
    ];
    showError(error, actions, more);
  }

  #aboutAccess({ code, detail }: EmberglassError, { source }: ModelRequest): Action[] {
    const wantsToken = code === "http-status" && detail === "gated" && typeof source === "string";
    return wantsToken ? [{ label: "Give an access token…", run: () => this.#hooks.onAddress(source) }] : [];
  }

  #aboutStorage({ code }: EmberglassError, request: ModelRequest): Action[] {
    const stored: Action = { label: "Models on this device…", run: this.#hooks.onStored };
    const without = this.mend("Load without keeping it", { ...request, storage: "none" });
    switch (code) {
      case "storage-full":
        return [stored, without];
      case "storage":
        return typeof request.source === "object" && "stored" in request.source ? [stored] : [stored, without];
      case "not-stored":
        return [stored];
      default:
        return [];
    }
  }
}
