// Files that the visitor opens or drops: a picture, a model's weights, or latents.
import { need } from "../dom.js";

export type Opened =
  | { kind: "picture"; file: File }
  | { kind: "weights"; files: File[] }
  | { kind: "latents"; file: File };

/** Weights are far larger than latents: the smallest model here has 2 MB, latents of a 1024² picture half of one. */
const LATENTS_AT_MOST = 1_000_000;

export function sorted(files: File[]): Opened | undefined {
  const named = (end: string) => files.filter(({ name }) => name.toLowerCase().endsWith(end));
  const picture = files.find(({ type }) => type.startsWith("image/"));
  if (picture) return { kind: "picture", file: picture };
  const numpy = named(".npy")[0];
  if (numpy) return { kind: "latents", file: numpy };
  const tensors = named(".safetensors");
  const [first] = tensors;
  if (!first) return undefined;
  if (tensors.length === 1 && first.size <= LATENTS_AT_MOST && files.length === 1) return { kind: "latents", file: first };
  return { kind: "weights", files: [...tensors, ...named(".json")] };
}

/** Wires the two file pickers and dropping onto the page. */
export function openFiles(onFiles: (files: File[]) => void): void {
  for (const [button, input] of [
    ["open-files", "files"],
    ["open-picture", "picture-file"],
  ] as const) {
    const picker = need<HTMLInputElement>(input);
    need(button).addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      const files = [...(picker.files ?? [])];
      // So that choosing the same file again is a change.
      picker.value = "";
      if (files.length > 0) onFiles(files);
    });
  }
  const overlay = need("drop");
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFiles([...(event.dataTransfer?.files ?? [])]);
  });
}
