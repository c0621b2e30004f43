// The line about keeping the loaded model: a file that was opened can be kept for the next time; a download that could not
// be kept, or was repaired, is told.
import { models, type StorageReport } from "emberglass";
import { showError } from "./banner.js";
import { coded } from "./coded.js";
import { button, el, need } from "./dom.js";
import { bytes, sentence } from "./format.js";
import type { ModelRequest } from "./model-session.js";
import { visible } from "./names.js";
import { storedModels } from "./stored-models.js";

export class KeptNote {
  readonly #root = need("kept");
  readonly #onStored: () => void;
  #keeping = new AbortController();

  /** `onStored` shows the models that are stored. */
  constructor(onStored: () => void) {
    this.#onStored = onStored;
  }

  /** Of a model that was just loaded. */
  show({ kind, reason, repaired }: StorageReport, { source, storage }: ModelRequest): void {
    this.hide();
    if (typeof source === "object" && "shards" in source) void this.#offerToKeep(source.shards.filter((part) => part instanceof File));
    else if (reason !== undefined && storage !== "none") {
      const what = kind === "none" ? "The model is not kept on this device. " : "Not all of the model is kept on this device. ";
      this.#say(what, el("bdi", {}, visible(sentence(reason))));
    }
    else if (repaired.length > 0) this.#say(`${repaired.length === 1 ? "A damaged part" : `${repaired.length} damaged parts`} of the stored model came anew from the network.`);
  }

  hide(): void {
    this.#keeping.abort();
    this.#keeping = new AbortController();
    this.#root.hidden = true;
    this.#root.replaceChildren();
  }

  #say(...text: (Node | string)[]): void {
    const hadFocus = this.#root.contains(document.activeElement);
    this.#root.replaceChildren(...text);
    this.#root.hidden = false;
    if (hadFocus) (this.#root.querySelector("button") ?? need("composer")).focus();
  }

  async #offerToKeep(files: File[]): Promise<void> {
    const { signal } = this.#keeping;
    const [{ kind }, list] = await Promise.all([models.usage().catch(() => ({ kind: "none" })), storedModels()]);
    const all = files.reduce((sum, { size }) => sum + size, 0);
    const isKept = list.some(({ name, bytes, complete }) => complete && name === files[0]?.name && bytes === all);
    if (signal.aborted || kind === "none" || isKept) return;
    this.#say("Next time the file has to be opened again. ", button("Keep it on this device", () => void this.#keep(files), { class: "link", "data-testid": "keep-file" }));
  }

  async #keep(files: File[]): Promise<void> {
    const { signal } = this.#keeping;
    const far = el("span", {}, "Copying the file…");
    this.#say(far, " ", button("Cancel", () => this.hide(), { class: "link" }));
    try {
      await models.import({ shards: files }, {
        signal,
        onProgress: ({ loadedBytes, totalBytes }) => (far.textContent = `Copying the file: ${bytes(loadedBytes)} of ${bytes(totalBytes)}`),
      });
      if (signal.aborted) return;
      this.#say("The file is kept: it is there the next time.");
    } catch (thrown) {
      if (signal.aborted) return;
      this.hide();
      showError(coded(thrown), [{ label: "Models on this device…", run: this.#onStored }]);
    }
  }
}
