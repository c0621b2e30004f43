// The list of models that are stored on this device: load, check, save as a file, delete.
import { type KeepingProgress, models, type StorageUsage, type StoredModel } from "emberglass";
import { announce } from "./announcer.js";
import { coded } from "./coded.js";
import { button, el, need } from "./dom.js";
import { wordsFor } from "./error-words.js";
import { ago, bytes } from "./format.js";
import type { Offer } from "./model-choice.js";
import { nameElement, plainName } from "./names.js";
import { saveFile } from "./save-file.js";
import { isPictureModel, listModels, storedOffer } from "./stored-models.js";

export interface StoredDialogActions {
  onLoad: (offer: Offer) => void;
  /** The list has changed, or may have. */
  onChange: () => void;
}

export class StoredDialog {
  readonly #dialog = need<HTMLDialogElement>("stored");
  readonly #actions: StoredDialogActions;
  readonly #done = button("Done", () => this.#dialog.close(), { "data-testid": "stored-close", autofocus: true });
  readonly #usage = el("p", { class: "hint", "data-testid": "stored-usage", role: "status" }, "Reading…");
  /** Ends what the closed dialog is still busy with. */
  #closed = new AbortController();
  readonly #list = el("ul", { class: "stored-list", "data-testid": "stored-list" });

  constructor(actions: StoredDialogActions) {
    this.#actions = actions;
    this.#dialog.replaceChildren(
      el("div", { class: "settings-bar" }, el("h2", { id: "stored-title" }, "Models on this device"), this.#done),
      el("div", { class: "settings-body" }, this.#usage, this.#list),
    );
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      this.#closed.abort();
      actions.onChange();
    });
  }

  readonly open = (): void => {
    this.#closed = new AbortController();
    this.#dialog.showModal();
    void this.#render();
  };

  async #render(): Promise<void> {
    try {
      const [list, usage] = await Promise.all([listModels(), models.usage()]);
      this.#usage.textContent = usageWords(usage, list.length);
      this.#list.replaceChildren(...list.map((model) => this.#item(model)));
      this.#list.hidden = list.length === 0;
    } catch (thrown) {
      const { title, todo } = wordsFor(coded(thrown));
      this.#usage.replaceChildren(`${title}. `, ...(typeof todo === "string" ? [todo] : todo));
      this.#list.hidden = true;
    }
  }

  #item(model: StoredModel): HTMLElement {
    const { id, name, complete, storedBytes, source } = model;
    const said = el("p", { class: "stored-said", role: "status", "data-testid": "stored-said" });
    const actions = el("div", { class: "row" });
    const item = el(
      "li",
      { class: "stored-model", "data-testid": "stored-model" },
      el("h3", {}, nameElement(name)),
      el("p", { class: "hint" }, figures(model)),
      ...(source === name ? [] : [el("p", { class: "hint" }, nameElement(source))]),
      actions,
      said,
    );
    /** One thing at a time: its buttons wait for it. */
    const work = async (what: string, done: () => Promise<string>) => {
      const buttons = [...actions.querySelectorAll("button")];
      for (const each of buttons) each.disabled = true;
      said.classList.remove("problem");
      said.textContent = what;
      try {
        said.textContent = await done();
      } catch (thrown) {
        const { title, todo } = wordsFor(coded(thrown));
        said.classList.add("problem");
        said.replaceChildren(`${title}. `, ...(typeof todo === "string" ? [todo] : todo));
      }
      for (const each of buttons) each.disabled = false;
    };
    const named = (label: string) => ({ class: "button small", "aria-label": `${label}: ${plainName(name)}` });
    const load = button(complete ? "Load" : "Continue", () => (this.#dialog.close(), this.#actions.onLoad(storedOffer(model))), { ...named(complete ? "Load" : "Continue"), "data-testid": "load-stored" });
    const verify = async () => {
      const onProgress = ({ loadedBytes, totalBytes }: KeepingProgress) => (said.textContent = `Checking: ${bytes(loadedBytes)} of ${bytes(totalBytes)}`);
      return verified(await models.verify(id, { signal: this.#closed.signal, onProgress }));
    };
    const check = button("Check", () => void work("Checking…", verify).then(() => check.focus()), { ...named("Check"), "data-testid": "check-stored" });
    const toFiles = async () => {
      for (const file of await models.export(id)) saveFile(file, plainName(file.name));
      return "The browser saves it among the downloads.";
    };
    const save = button("Save as file", () => void work("Opening it…", toFiles).then(() => save.focus()), { ...named("Save as file"), "data-testid": "export-stored" });
    const remove = button("Delete…", () => ask(), { ...named("Delete"), "data-testid": "delete-stored" });
    const usual = [...(isPictureModel(model) ? [] : [load]), check, ...(complete ? [save] : []), remove];
    const ask = () => {
      const yes = button(`Delete ${bytes(storedBytes)}`, () => void this.#delete(model, work), { class: "button small danger", "data-testid": "confirm-delete" });
      const no = button("Keep it", () => (actions.replaceChildren(...usual), remove.focus()), { class: "button small", "data-testid": "keep-stored" });
      const then = source === name ? "The file has to be opened again then." : "It has to be downloaded again then.";
      actions.replaceChildren(el("span", {}, then), yes, no);
      no.focus();
    };
    actions.append(...usual);
    return item;
  }

  async #delete({ id, name, storedBytes }: StoredModel, work: (what: string, done: () => Promise<string>) => Promise<void>): Promise<void> {
    await work("Deleting…", async () => {
      await models.delete(id);
      await this.#render();
      announce(`${plainName(name)} is deleted: ${bytes(storedBytes)} are free again.`);
      this.#done.focus();
      return "";
    });
  }
}

function usageWords({ kind, modelBytes, usedBytes, quotaBytes, persisted }: StorageUsage, count: number): string {
  if (kind === "none") return "This browser keeps no models. Each is downloaded anew, or opened from a file.";
  if (count === 0) return "No model is stored here. A model that is downloaded is kept, and loads without a network the next time.";
  const room = usedBytes === undefined || quotaBytes === undefined ? "" : `; ${bytes(usedBytes)} of the ${bytes(quotaBytes)} that this page may use`;
  const promise = persisted ? "The browser keeps them until you delete them." : "The browser may delete them when space is short.";
  return `${bytes(modelBytes)} of models${room}. ${promise}`;
}

function figures({ bytes: all, storedBytes, complete, lastUsed }: StoredModel): string {
  const size = complete ? bytes(storedBytes) : `${bytes(storedBytes)}${all === undefined ? "" : ` of ${bytes(all)}`}, not complete`;
  return lastUsed > 0 ? `${size} · used ${ago(lastUsed)}` : size;
}

function verified({ damaged, verifiedBytes, complete }: Awaited<ReturnType<typeof models.verify>>): string {
  if (damaged.length === 0) return complete ? `All ${bytes(verifiedBytes)} are right.` : `The ${bytes(verifiedBytes)} that are here are right. The rest is not downloaded yet.`;
  const lost = damaged.reduce((sum, { from, to }) => sum + to - from, 0);
  return `${damaged.length === 1 ? "One part was" : `${damaged.length} parts were`} damaged (${bytes(lost)}) and deleted. The next load downloads that again.`;
}
