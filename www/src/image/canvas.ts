// Putting pictures onto canvases.
import { need } from "../dom.js";

/** Shows a picture at its own resolution; CSS gives the size on the page. */
export function draw(canvas: HTMLCanvasElement, image: ImageData): void {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}

/** Puts an empty canvas in the place of one that may belong to a decoder already. */
export function fresh(id: string): HTMLCanvasElement {
  const old = need<HTMLCanvasElement>(id);
  const canvas = old.cloneNode() as HTMLCanvasElement;
  old.replaceWith(canvas);
  return canvas;
}
