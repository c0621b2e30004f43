// What went wrong on the picture page: what failed, and the words that both pages share.
import { type Action, showError } from "../banner.js";
import { coded, isFatal, retryMayHelp } from "../coded.js";
import { wordsFor } from "../error-words.js";

const NETWORKS = "This page runs TAESD’s family, AutoencoderTiny and AutoencoderKL.";
const RELOAD: Action = { label: "Reload the page", run: () => location.reload() };

const ON_CPU = "With ?device=cpu at the end of its address this page computes without the graphics card.";

/** What only this page can add. */
const MORE: Readonly<Record<string, string>> = {
  "missing-tensor": NETWORKS,
  "shape-mismatch": NETWORKS,
  "unsupported-model": NETWORKS,
  "unsupported-type": "Weights have to be f32, f16 or bf16; latents f16, f32 or f64.",
  "device-lost": ON_CPU,
  "no-adapter": ON_CPU,
  "no-webgpu": ON_CPU,
};

/** `title` says what failed. What a visitor cancelled is no error. */
export function report(thrown: unknown, title: string, actions: Action[] = []): void {
  const error = coded(thrown);
  if (error.code === "aborted" || error.code === "disposed") return;
  const { title: what, todo } = wordsFor(error);
  const more = Object.hasOwn(MORE, error.code) ? [" ", MORE[error.code] ?? ""] : [];
  showError(error, isFatal(error) ? [RELOAD] : retryMayHelp(error) ? actions : [], { title, todo: [`${what}. `, ...(typeof todo === "string" ? [todo] : todo), ...more] });
}
