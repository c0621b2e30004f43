// The message box: Enter sends, Shift+Enter breaks the line, and an input method's Enter does neither.
import { need } from "./dom.js";
import { loadDraft, saveDraft } from "./history-store.js";

export class Composer {
  readonly #form = need<HTMLFormElement>("composer-form");
  readonly #input = need<HTMLTextAreaElement>("composer");
  readonly #send = need<HTMLButtonElement>("send");
  readonly #stop = need<HTMLButtonElement>("stop");
  #busy = false;
  #waiting = false;
  #continues = false;

  constructor(onSend: (text: string) => void, onStop: () => void) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = this.#input.value;
      if (typed.trim() === "" || this.#busy) return;
      // What is to be continued may end in a line break.
      const text = this.#continues ? typed : typed.trim();
      this.text = "";
      onSend(text);
    });
    this.#input.addEventListener("keydown", (event) => {
      // Safari ends a composition before the key event; 229 is what it leaves to tell by.
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#input.addEventListener("input", () => this.#fit());
    this.#stop.addEventListener("click", onStop);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && this.#busy && !document.querySelector("dialog[open]")) onStop();
    });
    // What is typed and not sent outlives a reload.
    addEventListener("pagehide", () => saveDraft(this.#input.value));
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && saveDraft(this.#input.value));
    this.text = loadDraft();
  }

  set text(text: string) {
    this.#input.value = text;
    this.#fit();
  }

  /** The text is to be sent as soon as a model is there. It can still be edited. */
  set waiting(waiting: boolean) {
    this.#waiting = waiting;
    need("waiting").hidden = !waiting;
  }

  /** Whether the model continues texts, rather than answer messages. The composer says so. */
  set continues(continues: boolean) {
    this.#continues = continues;
    need("continues").hidden = !continues;
    need("composer-label").textContent = continues ? "Text to continue" : "Message";
    this.#input.placeholder = continues ? "Begin a text…" : "Ask something…";
    const label = continues ? "Continue the text" : "Send";
    this.#send.setAttribute("aria-label", label);
    this.#send.title = `${label} (Enter)`;
  }

  modelReady(): void {
    this.focus();
    if (!this.#waiting) return;
    this.waiting = false;
    this.#form.requestSubmit();
  }

  focus(): void {
    this.#input.focus();
  }

  /** While an answer streams, Stop is where Send was. */
  set busy(busy: boolean) {
    const hadFocus = document.activeElement === this.#send || document.activeElement === this.#stop;
    this.#busy = busy;
    this.#send.hidden = busy;
    this.#stop.hidden = !busy;
    if (hadFocus) this.focus();
    // The button that asked for the answer is gone.
    else if (busy && document.activeElement === document.body) this.#stop.focus();
    this.#fit();
  }

  set enabled(enabled: boolean) {
    this.#form.hidden = !enabled;
  }

  #fit(): void {
    this.#send.disabled = this.#input.value.trim() === "";
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
