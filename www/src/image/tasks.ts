// What the page is busy with: shown with its progress, and ended by the Cancel button.
import { announce } from "../announcer.js";
import { need } from "../dom.js";

export interface Running {
  readonly signal: AbortSignal;
  /** Says how far the task is; nothing once it has been cancelled. */
  progress(text: string, share?: number): void;
}

/** One task at a time: the next one cancels the one before. */
class Lane {
  #controller = new AbortController();
  state: { text: string; share?: number } | undefined;

  cancel(): void {
    this.#controller.abort();
  }

  async run(what: string, work: (running: Running) => Promise<void>, onError: (thrown: unknown) => void): Promise<void> {
    this.cancel();
    const mine = new AbortController();
    this.#controller = mine;
    const progress = (text: string, share?: number) => {
      if (this.#controller !== mine || mine.signal.aborted) return;
      this.state = share === undefined ? { text } : { text, share };
      render();
    };
    progress(what);
    announce(what);
    try {
      await work({ signal: mine.signal, progress });
    } catch (thrown) {
      if (!mine.signal.aborted) onError(thrown);
    } finally {
      if (this.#controller === mine) {
        this.state = undefined;
        render();
      }
    }
  }
}

/** A model is loaded beside the work on the one before, which goes on if the new one is refused. */
export const loading = new Lane();
/** Sampling, encoding and decoding. */
export const computing = new Lane();

need("cancel").addEventListener("click", () => (loading.state ? loading : computing).cancel());

function render(): void {
  const state = loading.state ?? computing.state;
  const root = need("progress");
  // The focus must not vanish with the button.
  if (!state && root.contains(document.activeElement)) need("studio").focus();
  root.hidden = !state;
  if (!state) return;
  const bar = need<HTMLProgressElement>("progress-bar");
  if (state.share === undefined) bar.removeAttribute("value");
  else bar.value = state.share;
  need("progress-text").textContent = state.text;
}
