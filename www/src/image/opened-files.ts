// Files that the visitor opens or drops: a picture, a model's weights, or latents.
import { type Latents, readLatents } from "emberglass";
import { need } from "../dom.js";
import { droppedFiles, pickedFiles } from "../file-drop.js";

export type Opened =
  | { kind: "picture"; file: File }
  | { kind: "weights"; files: File[] }
  | { kind: "latents"; file: File; latents: Latents[] }
  /** `why` goes on where the file's name ends. */
  | { kind: "refused"; file: File; why: string };

const OTHERS: [pattern: RegExp, why: string][] = [
  [/\.gguf$/i, "is a language model. The chat page opens those."],
  [/\.(pth|pt|ckpt|bin)$/i, "may be weights of PyTorch. This page reads weights as .safetensors."],
  [/\.json$/i, "describes a model. Open it together with the model’s .safetensors."],
];

/** @throws EmberglassError for latents that cannot be read. */
export async function sorted(files: File[]): Promise<Opened> {
  const kindOf = ({ name, type }: File) =>
    type.startsWith("image/") ? "picture" : /\.npy$/i.test(name) ? "latents" : /\.safetensors$/i.test(name) ? "weights" : "other";
  const tensors = files.filter((file) => kindOf(file) === "weights");
  const stranger = files.find((file) => kindOf(file) === "other" && !(tensors.length > 0 && /\.json$/i.test(file.name)));
  if (stranger) {
    const why = OTHERS.find(([pattern]) => pattern.test(stranger.name))?.[1];
    return { kind: "refused", file: stranger, why: why ?? "is neither a picture nor weights (.safetensors) nor latents (.npy, .safetensors)." };
  }
  const single = files.find((file) => kindOf(file) === "picture" || kindOf(file) === "latents");
  if (single && files.length > 1) return { kind: "refused", file: single, why: "came with other files. Open one at a time." };
  if (single && kindOf(single) === "picture") return { kind: "picture", file: single };
  if (single) return { kind: "latents", file: single, latents: await readLatents(single) };
  const [first, ...more] = tensors;
  // Of a model this reads the header and no more.
  const latents = first && more.length === 0 && files.length === 1 ? await readLatents(first).catch(() => undefined) : undefined;
  return first && latents ? { kind: "latents", file: first, latents } : { kind: "weights", files };
}

/** Wires the file pickers, their buttons, and dropping onto the page. */
export function openFiles(onFiles: (files: File[]) => void): void {
  for (const [button, input] of [
    ["open-files", "files"],
    ["open-latents", "files"],
    ["open-picture", "picture-file"],
  ] as const) {
    need(button).addEventListener("click", () => need(input).click());
  }
  for (const input of ["files", "picture-file"]) pickedFiles(input, onFiles);
  droppedFiles(onFiles);
}
