// Putting pictures onto canvases.

/** Shows a picture at its own resolution; CSS gives the size on the page. */
export function draw(canvas: HTMLCanvasElement, image: ImageData): void {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}
