// Streams one generation into its view, the status line and the announcer.
import type { EmberglassError, GenerateResult, Generation } from "emberglass";
import { announce } from "./announcer.js";
import { coded } from "./coded.js";
import { ENDINGS } from "./history-store.js";
import type { AnswerView } from "./message-view.js";
import type { StatusLine } from "./status-line.js";

const NOTES: Partial<Record<GenerateResult["finishReason"], string>> = {
  aborted: ENDINGS.stopped,
  length: ENDINGS.length,
  "context-full": ENDINGS["context-full"],
};
/** Milliseconds between two figures of the speed. */
const FIGURES_MS = 250;

/** Resolves with the error if there was one. Never rejects. */
export async function streamAnswer(generation: Generation, view: AnswerView, status: StatusLine): Promise<EmberglassError | undefined> {
  const sentAt = performance.now();
  let firstAt = 0;
  let shownAt = 0;
  let pieces = 0;
  let text = "";
  try {
    for await (const piece of generation) {
      const now = performance.now();
      firstAt ||= now;
      pieces++;
      view.setText((text += piece));
      if (document.hidden || now - shownAt < FIGURES_MS) continue;
      shownAt = now;
      status.setLive(firstAt - sentAt, ((pieces - 1) * 1000) / Math.max(1, now - firstAt));
    }
    const result = await generation.result;
    view.setText(result.text);
    // After New chat these figures are of a conversation that is gone.
    if (view.element.isConnected) status.setResult(result);
    const note = NOTES[result.finishReason] ?? "";
    view.setState(result.finishReason === "aborted" ? "stopped" : "done", note);
    if (view.element.isConnected) announce([view.spoken, note].filter(Boolean).join(" — ") || "The model said nothing.");
    return undefined;
  } catch (thrown) {
    const error = coded(thrown);
    if (error.code === "aborted") {
      view.setState("stopped", "Stopped");
      return undefined;
    }
    view.setState("error", ENDINGS.failed);
    return error;
  }
}
