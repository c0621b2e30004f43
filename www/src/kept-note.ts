// The line about keeping the loaded model: a file that was opened can be kept for the next time; a download that could not
// be kept, or was repaired, is told.
import { models, type StorageReport } from "emberglass";
import { announce } from "./announcer.js";
import { showError } from "./banner.js";
import { coded } from "./coded.js";
import { button, el, need } from "./dom.js";
import { sentence } from "./format.js";
import type { ModelRequest } from "./model-session.js";
import { visible } from "./names.js";
import { storedModels } from "./stored-models.js";

export class KeptNote {
  readonly #root = need("kept");
  #keeping = new AbortController();

  /** Of a model that was just loaded. */
  show({ kind, reason, repaired }: StorageReport, { source, storage }: ModelRequest): void {
    this.hide();
    const file = openedFile(source);
    if (file) void this.#offerToKeep(file);
    else if (kind === "none" && reason !== undefined && storage !== "none") this.#say("The model is not kept on this device: ", el("bdi", {}, visible(sentence(reason))));
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

  async #offerToKeep(file: File): Promise<void> {
    const { signal } = this.#keeping;
    const [{ kind }, list] = await Promise.all([models.usage().catch(() => ({ kind: "none" })), storedModels()]);
    const isKept = list.some(({ name, bytes, complete }) => complete && name === file.name && bytes === file.size);
    if (signal.aborted || kind === "none" || isKept) return;
    this.#say("Next time the file has to be opened again. ", button("Keep it on this device", () => void this.#keep(file), { class: "link", "data-testid": "keep-file" }));
  }

  async #keep(file: File): Promise<void> {
    const { signal } = this.#keeping;
    this.#say("Copying the file… ", button("Cancel", () => this.hide(), { class: "link" }));
    try {
      await models.import(file, { signal });
      if (signal.aborted) return;
      this.#say("The file is kept: it is there the next time.");
      announce("The file is kept.");
    } catch (thrown) {
      if (signal.aborted) return;
      this.hide();
      showError(coded(thrown));
    }
  }
}

/** The one file that was opened. */
function openedFile(source: ModelRequest["source"]): File | undefined {
  if (typeof source !== "object" || !("shards" in source) || source.shards.length !== 1) return undefined;
  const [file] = source.shards;
  return file instanceof File ? file : undefined;
}
