// What went wrong, in a visitor's words: what failed, what the engine says, and what one can do.
import { type Action, showError } from "../banner.js";
import { coded, isFatal } from "../coded.js";

const NETWORKS = "This page runs TAESD’s family, AutoencoderTiny and AutoencoderKL.";
const RELOAD: Action = { label: "Reload the page", run: () => location.reload() };

const ADVICE: Record<string, string> = {
  network: "Check the connection and reload the page.",
  truncated: "The file ends early: get it once more.",
  malformed: "The file is damaged, or it is not what its name says.",
  "missing-tensor": NETWORKS,
  "shape-mismatch": NETWORKS,
  "unsupported-model": NETWORKS,
  "unsupported-type": "Weights have to be f32, f16 or bf16; latents f16, f32 or f64.",
  "out-of-memory": "Close other tabs, or take something smaller.",
  "device-limit": "Take something smaller.",
  "device-lost": "After a reload, ?device=cpu at the end of the address computes without the graphics card.",
};

/** `title` says what failed. What a visitor cancelled is no error. */
export function report(thrown: unknown, title: string): void {
  const error = coded(thrown);
  if (error.code === "aborted" || error.code === "disposed") return;
  showError(error, isFatal(error) ? [RELOAD] : [], { title, advice: ADVICE[error.code] });
}
