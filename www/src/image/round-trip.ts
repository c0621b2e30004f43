// A picture of the visitor's: encoded, decoded, compared.
import type { ImageDecoder } from "emberglass";
import { need } from "../dom.js";
import { bytes } from "../format.js";
import { draw } from "./canvas.js";
import { psnr } from "./latents.js";

/** Larger pictures are made smaller: what the visitor's processor or graphics card can do in a few seconds. */
const MAX_SIDE = { cpu: 512, webgpu: 1024 };

export async function roundTrip(vae: ImageDecoder, file: File, signal: AbortSignal): Promise<void> {
  const { sampleSize, scale, device } = vae.info;
  const largest = MAX_SIDE[device.kind];
  const whole = await squared(file, sampleSize);
  const begun = performance.now();
  const maxSide = Math.max(scale, Math.min(largest, sampleSize ?? largest));
  const latents = await vae.encode(whole, { signal, maxSide });
  const encoded = performance.now() - begun;
  const picture = await vae.decode(latents, { signal });
  const original = await scaledTo(whole, picture.width, picture.height, largest);
  need("trip").hidden = false;
  draw(need<HTMLCanvasElement>("original"), original);
  draw(need<HTMLCanvasElement>("decoded"), picture.image);
  need("original-text").textContent = `${picture.width} × ${picture.height} pixels, ${bytes(picture.width * picture.height * 3)}; the file has ${bytes(file.size)}`;
  const { channels, height, width } = latents;
  need("decoded-text").textContent =
    `${channels} × ${height} × ${width} latents, ${bytes(2 * latents.data.length)} as f16 · PSNR ${psnr(original.data, picture.data).toFixed(1)} dB · ` +
    `encoded in ${encoded.toFixed(0)} ms, decoded in ${picture.stats.ms.toFixed(0)} ms`;
}

/** A model of one size gets the picture as a square of that size, on white, nothing cut off. */
async function squared(file: File, side: number | undefined): Promise<Blob | ImageBitmap> {
  if (side === undefined) return file;
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d");
  if (!context) return bitmap;
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  const shrink = side / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * shrink, bitmap.height * shrink];
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  bitmap.close();
  return canvas.transferToImageBitmap();
}

/** The picture as the encoder saw it: the same scaling and cut. */
async function scaledTo(source: Blob | ImageBitmap, width: number, height: number, largest: number): Promise<ImageData> {
  const bitmap = await createImageBitmap(source);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  const grow = Math.max(width / bitmap.width, height / bitmap.height);
  const shrink = Math.min(1, largest / Math.max(bitmap.width, bitmap.height));
  const factor = Math.max(grow, shrink);
  const [w, h] = [bitmap.width * factor, bitmap.height * factor];
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}
