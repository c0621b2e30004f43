// The buttons below a picture: save it, copy it, save its latents.
import { type Latents, writeLatents } from "emberglass";
import { coded } from "../coded.js";
import { button, el, need } from "../dom.js";
import { wordsFor } from "../error-words.js";
import { visible } from "../names.js";
import { saveFile } from "../save-file.js";

/** A picture on the page and what it was decoded from. */
export interface Shown {
  /** For the names of files, without an ending. */
  name: string;
  latents: Latents;
  image(): Promise<ImageData> | ImageData;
}

/**
 * Fills the element `id` with buttons for the picture that `title` names. `shown` is asked when one is pressed. What a
 * model encoded and cannot decode is `latentsOnly`.
 */
export function pictureActions(id: string, title: string, shown: () => Shown | undefined, latentsOnly = false): void {
  const outcome = el("span", { class: "outcome", role: "status", "data-testid": `${id}-outcome` });
  const action = (label: string, spoken: string, act: (shown: Shown) => Promise<string>) =>
    button(
      label,
      () => {
        const now = shown();
        outcome.textContent = "";
        if (!now) return;
        void act(now)
          .catch((thrown: unknown) => `That failed. ${wordsFor(coded(thrown)).title}.`)
          .then((said) => (outcome.textContent = visible(said)));
      },
      { class: "button small", "aria-label": spoken, "data-testid": `${id}-${label.toLowerCase()}` },
    );
  const save = action("Save", `Save ${title} as a PNG file`, savePicture);
  const copy = action("Copy", `Copy ${title}`, copyPicture);
  const latents = action("Latents", `Latents of ${title}: save them as a .npy file`, saveLatents);
  need(id).replaceChildren(...(latentsOnly ? [latents] : [save, copy, latents]), outcome);
}

async function savePicture({ name, image }: Shown): Promise<string> {
  return saved(await png(await image()), `${name}.png`);
}

async function saveLatents({ name, latents }: Shown): Promise<string> {
  return saved(writeLatents(latents), `${name}.npy`);
}

async function copyPicture({ image }: Shown): Promise<string> {
  const refused = "This browser did not let the page copy the picture. Save it instead.";
  if (typeof ClipboardItem === "undefined" || !navigator.clipboard) return refused;
  // A promise: Safari lets a page copy only right after the press, when the picture may not be there yet.
  const blob = Promise.resolve(image()).then(png);
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    return "Copied.";
  } catch {
    // If it was the picture that failed, that is the error.
    await blob;
    return refused;
  }
}

function png(image: ImageData): Promise<Blob> {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

function saved(blob: Blob, name: string): string {
  saveFile(blob, name);
  return `Saved as ${name}.`;
}
